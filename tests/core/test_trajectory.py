import json
import pickletools
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import Stop, Trajectory, rollout, tree
from unrolled.toys import Hopfield


class Pair(NamedTuple):
    left: torch.Tensor
    right: object


@dataclass(frozen=True)
class Cell:
    x: torch.Tensor
    name: str


def states():
    shared = torch.arange(6.0).reshape(2, 3)
    return {
        "lone": torch.ones(2, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "dtypes": {
            "bool": torch.tensor([True, False]),
            "complex": torch.tensor([1 + 2j, -1j]),
            "conj": torch.tensor([1 + 2j]).conj(),
            "half": torch.ones(2, dtype=torch.bfloat16),
            "bytes": torch.tensor([255], dtype=torch.uint8),
            "scalar": torch.tensor(-0.0),
        },
        "views": [shared, shared.T, shared[0], shared[:, ::2]],
        "nested": {
            "a": [torch.ones(1), (torch.zeros(2), {"b": torch.ones(())})],
            7: torch.ones(1),
            "": torch.ones(1),
        },
        "plain": {"x": torch.ones(1), "n": 3, "s": "text", "none": None, "flag": True, "inf": float("inf")},
        "pair": Pair(torch.ones(1), Pair(torch.zeros(1), 2)),
        "cell": {"c": Cell(torch.ones(1), "soma")},
        "nothing": None,
        "empty containers": {"l": [], "t": (), "d": {}},
    }


def same(x, y):
    assert [p for p, _ in tree.leaves(x)] == [p for p, _ in tree.leaves(y)]
    for (_, a), (_, b) in zip(tree.leaves(x), tree.leaves(y)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a.resolve_conj(), b.resolve_conj())


@pytest.mark.parametrize("name", states())
def test_round_trip(name, tmp_path):
    state = states()[name]
    trajectory = Trajectory(
        torch.tensor([0, 5]),
        {"x": torch.randn(2, 3), "z/w": torch.tensor([1j, 2]), "b": torch.tensor([True, False])},
        state,
        Stop("halted", 5, "x", "hint"),
        {"note": [1, {"a": None}]},
    )
    loaded = Trajectory.load(trajectory.save(tmp_path / "t.safetensors"), like=state)
    same(loaded.records, trajectory.records)
    same(loaded.final, state)
    assert type(loaded.final) is type(state)
    assert tree.map(lambda x: 0, loaded.final) == tree.map(lambda x: 0, state)
    assert (loaded.stop, loaded.meta, loaded.t.tolist()) == (trajectory.stop, trajectory.meta, [0, 5])


def test_without_like_named_containers_become_dicts(tmp_path):
    path = Trajectory(torch.tensor([0]), {}, states()["pair"]).save(tmp_path / "t")
    loaded = Trajectory.load(path).final
    assert loaded["right"]["right"] == 2
    assert loaded["left"].tolist() == [1.0]


@pytest.mark.parametrize(
    "like", [{"z": torch.ones(1)}, [torch.ones(1)], {"x": torch.ones(1), "y": torch.ones(1)}]
)
def test_like_that_does_not_fit(like, tmp_path):
    path = Trajectory(torch.tensor([0]), {}, {"x": torch.ones(1)}).save(tmp_path / "t")
    with pytest.raises(ValueError, match="the saved state does not fit `like`"):
        Trajectory.load(path, like=like)


@pytest.mark.parametrize(
    ("saved", "like"),
    [
        ({"x": torch.ones(1)}, torch.ones(1)),
        (torch.ones(1), {"x": torch.ones(1)}),
        (torch.ones(1), torch.ones(2)),
        (torch.ones(1), 3),
        ({}, None),
        (None, {}),
    ],
)
def test_a_leaf_that_does_not_fit(saved, like, tmp_path):
    path = Trajectory(torch.tensor([0]), {}, {"s": saved}).save(tmp_path / "t")
    with pytest.raises(ValueError, match="does not fit"):
        Trajectory.load(path, like={"s": like})


def test_the_file_is_safetensors_and_holds_no_pickle(tmp_path):
    path = Trajectory(torch.tensor([0]), {"x": torch.ones(1)}, states()["nested"]).save(tmp_path / "t")
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert {"t", "records/x"} <= header.keys()
    assert json.loads(header["__metadata__"]["unrolled"])["version"] == 1
    with pytest.raises(ValueError, match="."):
        list(pickletools.genops(raw))


@pytest.mark.parametrize("size", [0, 4, 100, -8, -1])
def test_a_truncated_file(size, tmp_path):
    path = Trajectory(torch.tensor([0]), {"x": torch.ones(1, 100)}).save(tmp_path / "t")
    raw = path.read_bytes()
    path.write_bytes(raw[:size])
    with pytest.raises(ValueError, match="is no trajectory, or a truncated one"):
        Trajectory.load(path)


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trajectory at .*nowhere"):
        Trajectory.load(tmp_path / "nowhere")
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({"t": torch.ones(1)}, other)
    with pytest.raises(ValueError, match="is no trajectory"):
        Trajectory.load(other)


def test_saving_is_atomic(tmp_path, monkeypatch):
    """A failed write leaves the old file whole and no scraps."""
    path = Trajectory(torch.tensor([0]), {"x": torch.ones(1)}).save(tmp_path / "t")
    before = path.read_bytes()

    def full(tensors, file, **kwargs):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unrolled.core.trajectory.safetensors_torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        Trajectory(torch.tensor([0]), {"x": torch.zeros(1)}).save(path)
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("bad", [{"f": print}, [{1, 2}], {"o": object()}])
def test_a_state_that_cannot_be_saved(bad, tmp_path):
    with pytest.raises(TypeError, match="cannot save a"):
        Trajectory(torch.tensor([0]), {}, bad).save(tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_a_key_that_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="keys are neither strings nor ints"):
        Trajectory(torch.tensor([0]), {}, {(1, 2): torch.ones(1)}).save(tmp_path / "t")


def test_resuming_from_a_file_is_bit_equal(tmp_path):
    net = Hopfield(
        torch.sign(torch.randn(3, 30, generator=torch.Generator().manual_seed(0))), synchronous=False
    )
    cue = torch.sign(torch.randn(30, generator=torch.Generator().manual_seed(1)))
    half = rollout(net, cue, steps=20)
    loaded = Trajectory.load(half.save(tmp_path / "half"), like=half.final)
    rest = rollout(net, cue, steps=20, state=loaded.final)
    same(rest.final, rollout(net, cue, steps=40).final)


def test_window_is_half_open():
    path = Trajectory.from_records([0, 1, 2, 5, 9], {"x": [0.0, 1, 2, 5, 9]})
    assert path.window(1, 5)["x"].tolist() == [1.0, 2.0]
    assert path.window(2)["x"].tolist() == [2.0, 5.0, 9.0]
    assert path.window(None, 2).t.tolist() == [0, 1]
    assert path.window().t.tolist() == path.t.tolist()
    assert len(path.window(3, 4)) == 0
    assert path.window(1, 5).stop == path.stop


def test_delta_and_getitem():
    path = Trajectory.from_records([0, 1, 2], {"x": torch.tensor([[1.0, 2], [3, 5], [3, 1]])})
    assert path.delta("x").tolist() == [[2.0, 3.0], [0.0, -4.0]]
    assert len(path) == 3
    with pytest.raises(KeyError, match="no record 'y'; there are 'x'"):
        path["y"]
    with pytest.raises(KeyError, match="there are none"):
        Trajectory.from_records([0], {})["y"]


@pytest.mark.parametrize(
    ("t", "records", "message"),
    [
        ([0, 0], {}, "t must increase"),
        ([1, 0], {}, "t must increase"),
        ([0.0, float("nan")], {}, "t must increase"),
        ([[0, 1]], {}, "one-dimensional"),
        ([0, 1], {"x": [1.0]}, r"record 'x' has shape \(1,\): its first axis is time, of length 2"),
        ([0, 1], {"x": 3.0}, r"record 'x' has shape \(\)"),
    ],
)
def test_a_log_that_makes_no_sense(t, records, message):
    with pytest.raises(ValueError, match=message):
        Trajectory.from_records(t, records)


def test_a_log_of_ones_own():
    path = Trajectory.from_records([0.5, 1.5], {"loss": [2.0, 1.0]}, meta={"by": "hand"})
    assert path.stop == Stop("steps", 1)
    assert path.final is None
    assert path.meta == {"by": "hand"}
    assert len(Trajectory.from_records([], {})) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 1000), unique=True, min_size=1, max_size=30).map(sorted),
    st.integers(-10, 1010),
)
def test_windows_partition(times, cut):
    path = Trajectory.from_records(times, {"x": torch.tensor(times)})
    before, after = path.window(None, cut), path.window(cut, None)
    assert before["x"].tolist() + after["x"].tolist() == times
    assert all(t < cut for t in before.t.tolist())
