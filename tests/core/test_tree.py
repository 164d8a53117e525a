import dataclasses
from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import tree


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass(frozen=True)
class Cell:
    x: object
    name: str = "cell"


NESTED = {
    "a": torch.ones(2),
    "b": [torch.zeros(1), (torch.ones(1), 3)],
    "p": Pair(torch.ones(1), {"deep": torch.ones(1)}),
    "c": Cell(torch.ones(3)),
    "s": "text",
    "n": None,
}
PATHS = ["a", "b[0]", "b[1][0]", "p.left", "p.right.deep", "c.x"]


def test_leaves_and_paths():
    assert [path for path, _ in tree.leaves(NESTED)] == PATHS
    assert tree.leaves(torch.ones(1))[0][0] == ""
    assert tree.leaves([[torch.ones(1)]])[0][0] == "[0][0]"
    assert tree.leaves(3) == tree.leaves({}) == tree.leaves(None) == []


@pytest.mark.parametrize("path", PATHS)
def test_select_finds_what_leaves_lists(path):
    assert tree.select(NESTED, path) is dict(tree.leaves(NESTED))[path]


def test_select_a_lone_tensor_and_an_unknown_path():
    x = torch.ones(1)
    assert tree.select(x, "state") is x
    with pytest.raises(KeyError, match=r"no tensor 'z' in this state; it has a, b\[0\]"):
        tree.select(NESTED, "z")
    with pytest.raises(KeyError, match="it has no tensors at all"):
        tree.select({}, "z")


def test_map_keeps_containers_and_what_is_no_tensor():
    made = tree.map(lambda x: x + 1, NESTED)
    assert isinstance(made["p"], Pair)
    assert isinstance(made["c"], Cell)
    assert isinstance(made["b"], list)
    assert isinstance(made["b"][1], tuple)
    assert (made["s"], made["n"], made["b"][1][1], made["c"].name) == ("text", None, 3, "cell")
    assert made["p"].right["deep"].tolist() == [2.0]
    assert isinstance(tree.map(torch.neg, OrderedDict(a=torch.ones(1))), OrderedDict)


def test_map_over_several_trees():
    made = tree.map(lambda x, y, z: x + y + z, NESTED, NESTED, NESTED)
    assert made["c"].x.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("other", [{"a": torch.ones(1)}, [torch.ones(1)], torch.ones(1), None])
def test_map_over_trees_that_differ(other):
    with pytest.raises(ValueError, match="trees differ in structure"):
        tree.map(torch.add, {"a": torch.ones(1), "b": torch.ones(1)}, other)


def test_clone_shares_no_memory_and_keeps_the_graph():
    x = torch.ones(2, requires_grad=True)
    made = tree.clone({"x": x * 2, "same": x})
    assert made["x"].requires_grad
    assert made["same"].data_ptr() != x.data_ptr()
    made["x"].sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_detach_shares_memory_and_drops_the_graph():
    x = torch.ones(2, requires_grad=True)
    made = tree.detach((x,))
    assert not made[0].requires_grad
    assert made[0].data_ptr() == x.data_ptr()


def test_nbytes():
    assert tree.nbytes(NESTED) == 4 * (2 + 1 + 1 + 1 + 1 + 3)
    assert tree.nbytes(torch.zeros(3, dtype=torch.complex128)) == 48


def test_reader():
    state = {"x": torch.ones(2), "t": torch.zeros(())}
    assert tree.reader("x", state)(state) is state["x"]
    assert tree.reader(lambda s: s["t"], state)(state) is state["t"]
    alone = [torch.ones(1)]
    assert tree.reader(None, alone)(alone) is alone[0]
    assert tree.reader("state", torch.ones(1))(torch.zeros(1)).tolist() == [0.0]
    with pytest.raises(ValueError, match=r"the state has 2 tensors \(x, t\): say which with of="):
        tree.reader(None, state)
    with pytest.raises(TypeError, match="of= is a path or a function of the state, got int"):
        tree.reader(3, state)
    with pytest.raises(KeyError, match="no tensor 'y'"):
        tree.reader("y", state)


def tensors():
    return st.integers(0, 3).map(lambda n: torch.arange(n, dtype=torch.float64))


TREES = st.recursive(
    tensors() | st.integers() | st.none() | st.text(max_size=2),
    lambda below: (
        st.lists(below, max_size=3)
        | st.lists(below, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(st.characters(categories=["Ll"]), min_size=1, max_size=3), below, max_size=3
        )
        | st.tuples(below, below).map(lambda pair: Pair(*pair))
        | below.map(Cell)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_any_tree_keeps_its_structure(state):
    made = tree.clone(state)
    assert [path for path, _ in tree.leaves(made)] == [path for path, _ in tree.leaves(state)]
    assert tree.nbytes(made) == tree.nbytes(state)
    doubled = tree.map(torch.add, state, state)
    for (path, x), (_, y) in zip(tree.leaves(state), tree.leaves(doubled)):
        assert torch.equal(2 * x, y)
        assert tree.select(state, path or "state") is x
