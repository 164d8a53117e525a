import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import Trajectory, rollout
from unrolled.instruments import delta
from unrolled.toys import LinearMap

F64 = torch.float64


def ramp(n=10, **more):
    """x_t = (t, 2 t)."""
    t = torch.arange(n, dtype=F64)
    return Trajectory.from_records(range(n), {"x": torch.stack([t, 2 * t], 1), **more})


def test_two_windows():
    reading = delta(ramp(), minus=(0, 3), plus=(5, 7))
    # Means of t over {0, 1, 2} and {5, 6}.
    assert reading["minus"].tolist() == [1.0, 2.0]
    assert reading["plus"].tolist() == [5.5, 11.0]
    assert reading["delta"].tolist() == [4.5, 9.0]
    assert float(reading["norm"]) == pytest.approx(math.hypot(4.5, 9.0), abs=1e-14)
    assert (reading["n_minus"], reading["n_plus"], reading.status, reading.notes) == (3, 2, "ok", ())
    assert reading.definition == "mean of x over plus [5, 7) - mean over minus [0, 3)"


def test_open_windows():
    reading = delta(ramp(), minus=(None, 2), plus=(8, None))
    assert reading["delta"].tolist() == [8.0, 16.0]
    assert "[8, ...)" in reading.definition


def test_the_oscillator_against_its_closed_form():
    decay, period = 0.95, 12.0
    path = rollout(LinearMap.oscillator(decay, period), torch.tensor([1.0, 0.0], dtype=F64), steps=40)
    t = torch.arange(41, dtype=F64)
    angle = 2 * math.pi * t / period
    x = decay ** t[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    reading = delta(path, minus=(0, 6), plus=(6, 12))
    expected = x[6:12].mean(0) - x[:6].mean(0)
    torch.testing.assert_close(reading["delta"], expected, rtol=0, atol=1e-13)
    change = delta(path)
    torch.testing.assert_close(change["change"], x[1:] - x[:-1], rtol=0, atol=1e-13)
    # A rotation that shrinks moves by |decay e^{i angle} - 1| of its radius.
    ratio = abs(decay * complex(math.cos(2 * math.pi / period), math.sin(2 * math.pi / period)) - 1)
    torch.testing.assert_close(change["norm"], ratio * decay ** t[:-1], rtol=1e-10, atol=0)


def test_change_is_per_unit_of_t():
    log = Trajectory.from_records([0, 1, 3, 3.5], {"x": [0.0, 1.0, 5.0, 5.0]})
    reading = delta(log)
    assert reading["change"].tolist() == [1.0, 2.0, 0.0]
    assert reading.index[1].tolist() == [1.0, 3.0, 3.5]
    assert reading.units == "units of x per step"


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000), st.data())
def test_changes_telescope_and_windows_are_linear(n, seed, data):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    log = Trajectory.from_records(range(n), {"x": x, "y": 3 * x})
    total = delta(log, of="x")["change"].sum(0)
    torch.testing.assert_close(total, x[-1] - x[0], rtol=0, atol=1e-12)
    cut = data.draw(st.integers(1, n - 1))
    windows = ((0, cut), (cut, n))
    one, three = (delta(log, *windows, of=name)["delta"] for name in ("x", "y"))
    torch.testing.assert_close(three, 3 * one, rtol=1e-12, atol=1e-12)
    swapped = delta(log, *reversed(windows), of="x")["delta"]
    torch.testing.assert_close(swapped, -one, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_numbers_of_any_kind_are_averaged_in_float64(dtype):
    log = Trajectory.from_records(range(4), {"x": torch.tensor([0, 0, 1, 1], dtype=dtype)})
    assert delta(log, (0, 2), (2, 4))["delta"].dtype == F64
    assert float(delta(log, (0, 2), (2, 4))["delta"]) == 1.0
    assert delta(log)["change"].tolist() == [0.0, 1.0, 0.0]


def test_unsigned_bytes_do_not_wrap():
    log = Trajectory.from_records(range(2), {"x": torch.tensor([200, 100], dtype=torch.uint8)})
    assert delta(log)["change"].tolist() == [-100.0]


def test_complex_values():
    log = Trajectory.from_records(range(2), {"z": torch.tensor([1 + 1j, 4 + 5j])})
    reading = delta(log)
    assert reading["change"].tolist() == [3 + 4j]
    assert reading["norm"].tolist() == [5.0]
    delta(log, (0, 1), (1, 2)).plot()


def test_of_a_function():
    log = ramp(y=torch.arange(10.0))
    reading = delta(log, (0, 1), (9, 10), of=lambda state: state["x"][1] + state["y"])
    assert float(reading["delta"]) == 27.0
    alone = delta(ramp(), (0, 1), (9, 10), of=lambda x: x.sum())
    assert float(alone["delta"]) == 27.0
    assert delta(ramp(), (0, 1), (9, 10), of=lambda x: 2)["delta"] == 0


def test_overlapping_windows_are_noted():
    assert delta(ramp(), (0, 5), (4, 6)).notes == ("the windows overlap",)
    assert delta(ramp(), (0, 5), (5, 6)).notes == ()


def test_no_graph_is_kept():
    path = rollout(LinearMap(torch.eye(2, requires_grad=True)), torch.ones(2), steps=3, grad="full")
    assert not delta(path)["change"].requires_grad


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"minus": (0, 1)}, ValueError, "minus= was given without plus="),
        ({"plus": (0, 1)}, ValueError, "plus= was given without minus="),
        (
            {"minus": (0, 1), "plus": (20, 30)},
            ValueError,
            r"no records in the plus window \[20, 30\): t runs from 0 to 9",
        ),
        ({"minus": (3, 3), "plus": (5, 6)}, ValueError, r"no records in the minus window \[3, 3\)"),
        ({"minus": 3, "plus": (5, 6)}, ValueError, r"minus= is a window \(a, b\).* got 3"),
        ({"of": "y"}, KeyError, "no record 'y'; there are 'x'"),
        ({"of": 3}, TypeError, "of= is a record name or a function, got int: 3"),
        ({"of": lambda x: "word"}, TypeError, "of= returned a str at t = 0"),
        (
            {"of": lambda x: torch.zeros(int(x[0]) + 1)},
            ValueError,
            r"changed shape from \(1,\) to \(2,\) at t = 1",
        ),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        delta(ramp(), **options)


def test_what_is_no_trajectory():
    with pytest.raises(TypeError, match="delta reads a Trajectory, got Tensor: make one with rollout"):
        delta(torch.ones(3))
    with pytest.raises(ValueError, match="one record and there are 'x', 'y': say which with of="):
        delta(ramp(y=torch.zeros(10)))
    with pytest.raises(ValueError, match="there are none"):
        delta(Trajectory.from_records([0, 1], {}))
    with pytest.raises(ValueError, match="delta needs at least 2 records, got 1"):
        delta(ramp(1))


def test_nan_is_refused_where_it_is_read_and_only_there():
    x = torch.arange(10.0)
    x[7] = torch.nan
    log = Trajectory.from_records(range(10), {"x": x})
    assert float(delta(log, (0, 2), (2, 4))["delta"]) == 2.0
    with pytest.raises(ValueError, match="'x' is not finite at t = 7"):
        delta(log, (0, 2), (6, 9))
    with pytest.raises(ValueError, match="not finite at t = 7"):
        delta(log)


def test_frames():
    frame = delta(ramp(), (0, 3), (5, 7)).to_frame()
    assert list(frame.columns) == ["entry", "delta", "minus", "plus"]
    assert frame["delta"].tolist() == [4.5, 9.0]
    assert frame.attrs["n_minus"] == 3
    steps = delta(ramp()).to_frame()
    assert list(steps.columns) == ["t", "change[0]", "change[1]", "norm"]
    assert len(steps) == 9
    scalar = delta(Trajectory.from_records([0, 1], {"x": [1.0, 4.0]}), (0, 1), (1, 2)).to_frame()
    assert scalar["delta"].tolist() == [3.0]
    matrix = delta(Trajectory.from_records([0, 1], {"x": torch.ones(2, 2, 3)}), (0, 1), (1, 2)).to_frame()
    assert len(matrix) == 6


@pytest.mark.parametrize("shape", [(), (1,), (3,), (40,), (100,), (2, 3)])
@pytest.mark.parametrize("windows", [(), ((0, 5), (5, 10))])
def test_plots(shape, windows):
    log = Trajectory.from_records(range(10), {"x": torch.randn(10, *shape)})
    ax = delta(log, *windows).plot()
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == ("entry" if windows else "t")
    assert ax.get_ylabel()
