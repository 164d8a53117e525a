import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import Settled, Trajectory, rollout
from unrolled.instruments import settling
from unrolled.toys import AR1, Hopfield, LinearMap, LogisticMap, QuadraticDescent

F64 = torch.float64


def scalar(x=0.3):
    return torch.tensor([x], dtype=F64)


def linear(values, steps, start=None, seed=0, b=None):
    """A linear map with these real eigenvalues and generic eigenvectors."""
    n = len(values)
    rng = torch.Generator().manual_seed(seed)
    P = torch.eye(n, dtype=F64) + 0.3 * torch.randn(n, n, generator=rng, dtype=F64)
    A = P @ torch.diag(torch.tensor(values, dtype=F64)) @ torch.linalg.inv(P)
    start = torch.randn(n, generator=rng, dtype=F64) if start is None else start
    return rollout(LinearMap(A, b), start, steps=steps)


# --- closed forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9, 0.99, -0.3, -0.9])
def test_one_mode(rate):
    """x_t = 1 + rate^t: the residual is |rate - 1| |rate|^t."""
    A = torch.tensor([[rate]], dtype=F64)
    path = rollout(LinearMap(A, 1 - scalar(rate)), scalar(2.0), steps=2000)
    reading = settling(path, tol=1e-6)
    t = torch.arange(2000, dtype=F64)
    torch.testing.assert_close(reading["residual"], (abs(rate - 1) * abs(rate) ** t), rtol=0, atol=1e-14)
    assert (reading["kind"], reading.status, reading.reason) == ("fixed point", "ok", "")
    assert reading["rate"] == pytest.approx(abs(rate), abs=1e-10)
    assert reading["period"] == (2.0 if rate < 0 else math.inf)
    # The first t with |rate - 1| |rate|^t <= tol.
    assert reading["settled_at"] == math.ceil(math.log(1e-6 / abs(rate - 1)) / math.log(abs(rate)))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("period", [2.5, 4.0, 17.3, 100.0])
def test_damped_oscillator(decay, period):
    path = rollout(LinearMap.oscillator(decay, period), torch.tensor([1.0, 0.5], dtype=F64), steps=400)
    reading = settling(path)
    assert reading["rate"] == pytest.approx(decay, abs=1e-10)
    assert reading["period"] == pytest.approx(period, rel=1e-10)
    assert reading.method == "linear recurrence of order 2"
    assert reading["kind"] == ("fixed point" if decay < 0.99 else "not settled")


def test_the_oscillator_seen_through_one_coordinate():
    """The rate is that of the envelope, though the residual itself swings through zero."""
    path = rollout(LinearMap.oscillator(0.9, 7.7), torch.tensor([1.0, 0.5], dtype=F64), steps=300)
    reading = settling(path, of=lambda x: x[0])
    assert reading["rate"] == pytest.approx(0.9, abs=1e-10)
    assert reading["period"] == pytest.approx(7.7, rel=1e-10)


@pytest.mark.parametrize(
    "values", [(0.9, 0.3), (0.9, 0.8), (0.95, -0.9), (0.6, 0.5, 0.4), (0.8, 0.7, 0.6, 0.5)]
)
def test_the_leading_eigenvalue_rules(values):
    reading = settling(linear(values, 600))
    assert reading["rate"] == pytest.approx(values[0], abs=1e-10)
    assert reading["kind"] == "fixed point"


def test_degroot_consensus_is_paced_by_the_second_eigenvalue():
    W = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.6, 0.2], [0.0, 0.3, 0.7]], dtype=F64)
    reading = settling(rollout(LinearMap(W), torch.tensor([0.0, 1.0, 5.0], dtype=F64), steps=200), tol=1e-8)
    second = sorted(torch.linalg.eigvals(W).abs().tolist())[-2]
    assert reading["rate"] == pytest.approx(second, abs=1e-10)
    # residual ~ c second^t: read c off one residual and predict the time to consensus.
    c = float(reading["residual"][30]) / second**30
    assert reading["settled_at"] == math.ceil(math.log(1e-8 / c) / math.log(second))


def test_gradient_descent_is_paced_by_the_smallest_eigenvalue():
    A = torch.diag(torch.tensor([0.5, 2.0, 8.0], dtype=F64))
    path = rollout(
        QuadraticDescent(A, torch.ones(3, dtype=F64), lr=0.1), torch.zeros(3, dtype=F64), steps=800
    )
    assert settling(path)["rate"] == pytest.approx(1 - 0.1 * 0.5, abs=1e-10)


def test_many_modes_of_one_modulus_fall_back_to_the_slope():
    """0.9 times an orthogonal matrix: no recurrence of order 2, but every norm shrinks by exactly 0.9."""
    rng = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(30, 30, generator=rng, dtype=F64)).Q
    reading = settling(rollout(LinearMap(0.9 * Q), torch.randn(30, generator=rng, dtype=F64), steps=300))
    assert reading.method == "slope of the log of the residual"
    assert reading["rate"] == pytest.approx(0.9, abs=1e-10)
    assert math.isnan(reading["period"])


def test_logistic_fixed_point():
    """Multiplier 2 - r at 1 - 1/r."""
    reading = settling(rollout(LogisticMap(2.8), scalar(), steps=400))
    assert reading["kind"] == "fixed point"
    assert reading["rate"] == pytest.approx(0.8, abs=1e-10)
    assert reading["period"] == 2.0


@pytest.mark.parametrize(("r", "period"), [(3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3)])
def test_logistic_cycles(r, period):
    """The rate per step is the period-th root of the product of r (1 - 2 x) along the cycle."""
    path = rollout(LogisticMap(r), scalar(), steps=1500)
    reading = settling(path)
    assert (reading["kind"], reading["period"], reading.status) == ("limit cycle", period, "ok")
    cycle = path["state"][-period:, 0]
    multiplier = abs(float((r * (1 - 2 * cycle)).prod()))
    # Approaching a cycle is not linear: the reading is as good as it says, and it says it is good.
    assert abs(reading["rate"] - multiplier ** (1 / period)) < 3 * reading["rate_error"] < 1e-5
    k = int(reading["settled_at"])
    x = path["state"][:, 0]
    apart = (x[period:] - x[:-period]).abs()
    assert float(apart[k:].max()) <= reading["tol"] < float(apart[k - 1])
    torch.testing.assert_close(reading["return"][period - 1 :], apart)


def test_a_two_cycle_of_a_linear_map():
    """Eigenvalues -1 and 1/2: the cycle is approached at 1/2 per step."""
    reading = settling(linear((-1.0, 0.5), 200))
    assert (reading["kind"], reading["period"]) == ("limit cycle", 2.0)
    assert reading["rate"] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("r", [3.7, 3.9, 4.0])
def test_chaos_is_not_settled(r):
    reading = settling(rollout(LogisticMap(r), scalar(0.312), steps=1000))
    assert (reading["kind"], reading.status) == ("not settled", "not settled")
    assert "no cycle of up to 64 records returns within it" in reading.reason
    assert math.isnan(reading["rate"])
    assert "rate is NaN: the log of the residual follows no line" in reading.notes[0]


def test_noise_is_not_settled():
    reading = settling(rollout(AR1(0.9), torch.zeros(3, dtype=F64), steps=1000, rng=0))
    assert reading.status == "not settled"
    assert math.isnan(reading["rate"])
    assert math.isnan(reading["settled_at"])


def test_undamped_rotation_is_a_cycle_between_records():
    reading = settling(
        rollout(LinearMap.oscillator(1.0, 17.3), torch.tensor([1.0, 0.0], dtype=F64), steps=400)
    )
    assert reading["kind"] == "limit cycle"
    assert reading["period"] == pytest.approx(17.3, rel=1e-10)
    assert reading["rate"] == pytest.approx(1.0, abs=1e-10)
    assert math.isnan(reading["settled_at"])


class VanDerPol:
    """x'' = mu (1 - x^2) x' - x with mu = 1, by fourth-order Runge and Kutta."""

    h = 0.05

    def init(self, input, *, rng=None):
        return input

    def step(self, state, input, *, rng=None):
        def f(s):
            return torch.stack([s[1], (1 - s[0] ** 2) * s[1] - s[0]])

        h = self.h
        a = f(state)
        b = f(state + h / 2 * a)
        c = f(state + h / 2 * b)
        return state + h / 6 * (a + 2 * b + 2 * c + f(state + h * c))


def test_a_spiral_within_tolerance_of_itself_is_no_cycle():
    """Near its end x_(t+2) is within tol of x_t while x_(t+1) is not; the fit knows better."""
    path = rollout(LinearMap.oscillator(0.890625, 2.25), torch.tensor([1.0, 0.0], dtype=F64), steps=119)
    x = path["state"]
    assert (
        float((x[2:] - x[:-2]).abs().amax(1)[-2:].max())
        < 1e-6
        < float((x[1:] - x[:-1]).abs().amax(1)[-2:].max())
    )
    reading = settling(path, tol=1e-6)
    assert reading["kind"] == "not settled"
    assert reading["period"] == pytest.approx(2.25, rel=1e-10)


def test_van_der_pol():
    """The period at mu = 1 is 6.6632868593231301896996820305 (Andersen and Geer 1982)."""
    path = rollout(VanDerPol(), torch.tensor([0.1, 0.0], dtype=F64), steps=2000)
    reading = settling(path)
    assert reading["kind"] == "limit cycle"
    assert reading["period"] * VanDerPol.h == pytest.approx(6.66328686, rel=2e-5)


@pytest.mark.parametrize("steps", [60, 200])
def test_a_spiral_still_on_its_way_is_not_taken_for_a_cycle(steps):
    path = rollout(LinearMap.oscillator(0.9999, 17.3), torch.tensor([1.0, 0.0], dtype=F64), steps=steps)
    reading = settling(path)
    assert reading["kind"] == "not settled"
    assert reading["rate"] == pytest.approx(0.9999, abs=1e-10)
    assert reading["period"] == pytest.approx(17.3, rel=1e-10)


@pytest.mark.parametrize("rate", [1.05, -1.05, 1.5])
def test_growth_diverges(rate):
    reading = settling(rollout(LinearMap(torch.tensor([[rate]], dtype=F64)), scalar(), steps=80))
    assert (reading["kind"], reading.status) == ("diverging", "diverging")
    assert "over the last half the residual grew from" in reading.reason
    assert reading["rate"] == pytest.approx(abs(rate), abs=1e-10)


def test_a_growing_spiral_diverges():
    path = rollout(LinearMap.oscillator(1.05, 9.0), torch.tensor([1.0, 0.0], dtype=F64), steps=120)
    assert settling(path)["kind"] == "diverging"


@pytest.mark.filterwarnings("ignore:LogisticMap:RuntimeWarning")
def test_blowing_up_diverges():
    path = rollout(LogisticMap(5.0), scalar(), steps=100)
    reading = settling(path)
    assert reading["kind"] == "diverging"
    first = int((~torch.isfinite(path["state"][:, 0])).nonzero()[0])
    assert reading.reason == f"not finite from t = {first} on"


def test_growth_faster_than_any_rate_has_none():
    """x <- -5 x^2 from some point on: the logarithm of the residual doubles at every step."""
    reading = settling(rollout(LogisticMap(5.0), scalar(), steps=12))
    assert reading["kind"] == "diverging"
    assert math.isnan(reading["rate"])
    assert "rate is NaN" in reading.notes[0]


def test_remaining_is_the_rest_of_the_geometric_series():
    reading = settling(rollout(LinearMap(torch.tensor([[0.9]], dtype=F64)), scalar(1.0), steps=50))
    assert reading["remaining"] == pytest.approx(0.9**50, rel=1e-9)
    assert reading.status == "not settled"
    # residual 0.1 0.9^49 falls to tol = 1e-6 after this many steps more:
    more = math.ceil(math.log(1e-6 / (0.1 * 0.9**49)) / math.log(0.9))
    assert f"should it keep its rate of 0.9 per step, about {more} steps more will do" in reading.reason


def test_creeping_is_noted():
    reading = settling(
        rollout(LinearMap(torch.tensor([[0.9999]], dtype=F64)), scalar(1.0), steps=50), tol=1e-3
    )
    assert reading["kind"] == "fixed point"
    assert "it still creeps: at this rate its limit is 0.995 away" in reading.notes[0]


# --- how it reads ---------------------------------------------------------------------------------------------------


def test_it_agrees_with_the_stop_rule():
    start = torch.tensor([1.0, 0.5], dtype=F64)
    system = LinearMap.oscillator(0.8, 6.3)
    stop = rollout(system, start, steps=500, until=Settled(1e-5, patience=20)).stop
    reading = settling(rollout(system, start, steps=500), tol=1e-5)
    assert reading["settled_at"] == stop.step - 20


@pytest.mark.parametrize("every", [1, 2, 5])
def test_rates_are_per_step_however_often_one_records(every):
    path = rollout(
        LinearMap.oscillator(0.95, 30.0), torch.tensor([1.0, 0.0], dtype=F64), steps=400, every=every
    )
    reading = settling(path)
    assert reading["rate"] == pytest.approx(0.95, abs=1e-10)
    assert reading["period"] == pytest.approx(30.0, rel=1e-9)


def test_uneven_records_get_a_slope():
    t = torch.tensor([0, 1, 2, 4, 8, 9, 10, 20, 30, 40, 50, 60, 61, 62, 63], dtype=F64)
    # The mean step over a gap is not the step itself: only the order of magnitude of the decay can be read.
    reading = settling(Trajectory.from_records(t, {"x": 0.8**t}))
    assert reading.method == "slope of the log of the residual"
    assert 0.7 < reading["rate"] < 0.85
    assert any("not evenly spaced" in note for note in reading.notes)


def test_many_entries_and_few_steps():
    """More entries than steps: the same answer as from the few coordinates that matter."""
    path = rollout(LinearMap.oscillator(0.9, 11.0), torch.tensor([1.0, 0.0], dtype=F64), steps=60)
    wide = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0), dtype=F64)
    reading = settling(Trajectory.from_records(path.t, {"x": path["state"] @ wide}))
    assert reading["rate"] == pytest.approx(0.9, abs=1e-10)
    assert reading["period"] == pytest.approx(11.0, rel=1e-10)


def test_float32_is_known_to_be_coarse():
    path = rollout(LinearMap.oscillator(0.9, 11.0, torch.float32), torch.tensor([1.0, 0.0]), steps=400)
    reading = settling(path)
    assert reading["rate"] == pytest.approx(0.9, abs=1e-5)
    assert reading["kind"] == "fixed point"


def test_complex_states():
    z = (0.9 * torch.exp(torch.tensor(0.5j, dtype=torch.complex128))) ** torch.arange(300)
    reading = settling(Trajectory.from_records(range(300), {"z": z}))
    assert reading["rate"] == pytest.approx(0.9, abs=1e-10)
    assert reading["period"] == pytest.approx(2 * math.pi / 0.5, rel=1e-10)


def test_a_state_that_jumps_to_its_end():
    path = rollout(Hopfield(torch.tensor([[1.0, 1, 1, -1, -1]])), torch.tensor([-1.0, 1, 1, -1, -1]), steps=5)
    reading = settling(path, of="x")
    assert (reading["kind"], reading["settled_at"], reading["remaining"]) == ("fixed point", 1.0, 0.0)
    assert math.isnan(reading["rate"])
    assert "fewer than 3 steps" in reading.notes[0]


def test_a_state_that_never_moves():
    reading = settling(Trajectory.from_records(range(5), {"x": torch.zeros(5, 2)}))
    assert (reading["kind"], reading["settled_at"], reading["tol"]) == ("fixed point", 0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.2, 0.97),
    st.floats(2.2, 40.0),
    st.floats(0, 6.3),
    st.floats(-100, 100),
    st.floats(1e-6, 1e6),
)
def test_any_damped_oscillation(decay, period, phase, offset, amplitude):
    """Rate and period do not depend on phase, offset or units."""
    t = torch.arange(120, dtype=F64)
    x = amplitude * decay**t * torch.cos(2 * math.pi * t / period + phase)
    reading = settling(Trajectory.from_records(range(120), {"x": torch.stack([x, amplitude * decay**t * torch.sin(2 * math.pi * t / period + phase)], 1) + offset * amplitude}))  # fmt: skip
    assert reading["rate"] == pytest.approx(decay, abs=1e-7)
    assert reading["period"] == pytest.approx(period, rel=1e-6)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "options", "error", "message"),
    [
        (
            {"x": torch.arange(5)},
            {},
            TypeError,
            "floating-point values and 'x' is int64: read something else with of=",
        ),
        ({"x": torch.ones(5, dtype=torch.bool)}, {}, TypeError, "'x' is bool"),
        ({"x": torch.ones(5)}, {"of": "y"}, KeyError, "no record 'y'; there are 'x'"),
        ({"x": torch.ones(5), "y": torch.ones(5)}, {}, ValueError, "say which with of="),
        (
            {"x": torch.ones(5)},
            {"tol": -1.0},
            ValueError,
            "tol is a non-negative number in the units of 'x', got -1",
        ),
        ({"x": torch.ones(5)}, {"tol": math.nan}, ValueError, "tol is a non-negative number"),
        (
            {"x": torch.ones(5)},
            {"max_period": 1},
            ValueError,
            "max_period counts records and is at least 2, got 1",
        ),
        ({"x": torch.ones(5, 0)}, {}, ValueError, "'x' has no entries"),
        (
            {"x": torch.tensor([1, 2, torch.nan, 3, 4])},
            {},
            ValueError,
            "'x' is not finite at t = 2: only the end",
        ),
        ({"x": torch.tensor([1, 2, torch.inf, torch.nan, 4])}, {}, ValueError, "not finite at t = 2"),
        ({"x": torch.tensor([1, torch.nan])}, {}, ValueError, "at least 3 records, got 2"),
        ({"x": torch.full((5,), torch.nan)}, {}, ValueError, "not finite at t = 0"),
    ],
)
def test_bad_input(records, options, error, message):
    log = Trajectory.from_records(range(len(next(iter(records.values())))), records)
    with pytest.raises(error, match=message):
        settling(log, **options)


def test_frame_and_plot():
    reading = settling(rollout(LogisticMap(3.5), scalar(), steps=100))
    frame = reading.to_frame()
    assert list(frame.columns) == ["t", "residual", "norm", "return"]
    assert len(frame) == 100
    assert (frame.attrs["kind"], frame.attrs["period"]) == ("limit cycle", 4.0)


@pytest.mark.parametrize("r", [2.8, 3.5, 3.9, 0.0, 5.0])
def test_plots(r):
    ax = settling(rollout(LogisticMap(r), scalar(), steps=60 if r < 5 else 12)).plot()
    ax.figure.canvas.draw()
    assert ax.get_yscale() == "log"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "residual" in labels
