import pytest
import torch

from unrolled.core import Halted, Settled, Stop


def test_the_sentence():
    assert str(Stop("steps", 10)) == "steps at step 10"
    assert str(Stop("nonfinite", 3, "x", "use float64")) == "nonfinite at step 3 in x: use float64"
    assert str(Stop("odd", 3, hint="look")) == "odd at step 3: look"
    assert [Stop(word, 0).ok for word in ("steps", "settled", "halted", "nonfinite")] == [
        True,
        True,
        True,
        False,
    ]


def pair(move):
    before = {"x": torch.zeros(3), "n": torch.zeros((), dtype=torch.long)}
    return before, {"x": torch.tensor([0.0, move, -move / 2]), "n": torch.ones((), dtype=torch.long)}


def test_settled_compares_the_largest_move_of_floating_leaves():
    assert Settled(0.5)(*pair(0.5), 7) == Stop("settled", 7)
    assert Settled(0.5)(*pair(0.51), 7) is None
    assert Settled(0.0)(*pair(0.0), 1) == Stop("settled", 1)


def test_settled_watches_what_it_is_told():
    assert Settled(0.0, of=lambda state: state["n"])(*pair(0.0), 1) is None
    assert Settled(0.1, of="x")(*pair(0.0), 1) is not None
    with pytest.raises(KeyError, match="no tensor 'y'"):
        Settled(0.1, of="y")(*pair(0.0), 1)


def test_settled_counts_steps_in_a_row():
    rule = Settled(0.1, patience=3)
    answers = [rule(*pair(move), step) for step, move in enumerate([0, 0, 1, 0, 0, 0])]
    assert [answer is not None for answer in answers] == [False] * 5 + [True]
    rule.reset()
    assert rule(*pair(0), 0) is None


def test_settled_on_nan_complex_and_empty():
    nan = torch.tensor([torch.nan])
    assert Settled(1e9)(nan, nan, 1) is None
    z = torch.tensor([1j])
    assert Settled(0.5)(z, z + 0.4j, 1) is not None
    assert Settled(0.5)(z, z + 0.6j, 1) is None
    empty = torch.zeros(0)
    assert Settled(0.5)(empty, empty, 1) is not None


def test_settled_with_nothing_to_watch():
    count = torch.ones(1, dtype=torch.long)
    with pytest.raises(ValueError, match="no floating-point tensor to watch"):
        Settled(0.5)(count, count, 1)


def test_settled_leaves_no_graph():
    x = torch.ones(1, requires_grad=True)
    assert Settled(5.0)(x, x * 2, 1) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tol": -1.0}, "tol is"), ({"tol": float("nan")}, "tol is"), ({"tol": 1.0, "patience": 0}, "patience")],
)
def test_settled_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Settled(**options)


def test_halted():
    rule = Halted(lambda state: state.sum() > 2)
    assert rule(None, torch.ones(2), 4) is None
    assert rule(None, torch.ones(3), 4) == Stop("halted", 4)
