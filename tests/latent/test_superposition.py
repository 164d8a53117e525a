"""The constructed transformer against breadth-first search."""

import random

import pytest
import torch

from unrolled.latent import tasks
from unrolled.latent.superposition import Reasoner, position_code, separation, turn_back
from unrolled.latent.tasks.problem import search


def layers(edges, root, steps):
    depth, _ = search(edges, root)
    return [{node for node in depth if depth[node] <= c} for c in range(steps + 1)]


@pytest.fixture(scope="module")
def reasoner():
    return Reasoner(40)


@pytest.mark.parametrize("problem", tasks.prosqa(40, seed=11), ids=lambda p: f"{p.graph.hops}-hops")
def test_prosqa_is_solved_with_as_many_thoughts_as_hops_and_not_with_one_less(reasoner, problem):
    graph = problem.graph
    candidates = (graph.target, graph.other)
    for order in (candidates, candidates[::-1]):
        assert reasoner.solve(graph.edges, graph.root, order, graph.hops) == graph.target
        assert reasoner.solve(graph.edges, graph.root, order, graph.hops + 3) == graph.target
        assert reasoner.solve(graph.edges, graph.root, order, graph.hops - 1) is None
    assert reasoner.support(graph.edges, graph.root, graph.hops) == layers(
        graph.edges, graph.root, graph.hops
    )


@pytest.mark.parametrize("density", [0.05, 0.2, 1.0])
def test_any_graph_cycles_and_loops_and_doubled_edges_too(density):
    rng = random.Random(int(100 * density))
    n = 12
    edges = [(s, t) for s in range(n) for t in range(n) if rng.random() < density]
    edges += edges[:3]
    rng.shuffle(edges)
    reasoner = Reasoner(n)
    for root in range(0, n, 3):
        assert reasoner.support(edges, root, 5) == layers(edges, root, 5)


def test_a_complete_graph_has_the_faintest_messages():
    """Each target is one in n^2 edges of a set of n nodes, the faintest there can be."""
    n = 10
    edges = [(s, t) for s in range(n) for t in range(n - 1)] + [(n - 2, n - 1)]
    reasoner = Reasoner(n)
    assert reasoner.support(edges, 0, 3) == layers(edges, 0, 3)
    reasoner.eps = 1 / (4 * n)
    assert reasoner.support(edges, 0, 3) != layers(edges, 0, 3), "the paper's threshold is enough after all"


def test_thoughts_are_normalised_sums(reasoner):
    edges = [(0, 1), (0, 2), (2, 3)]
    thoughts = reasoner.think(reasoner.prompt(edges, 0), 2)
    torch.testing.assert_close(thoughts[1][:4], torch.tensor([1, 1, 1, 0]).double() / 3**0.5)
    torch.testing.assert_close(thoughts[2][:4], torch.ones(4).double() / 2)
    torch.testing.assert_close(thoughts.norm(dim=1), torch.ones(3).double())


def test_the_answer_is_the_paper_s(reasoner):
    """h = (2 u_reached + u_other + u_A + the rest of V_C) / sqrt(|V_C| + 5)."""
    edges = [(0, 1), (1, 2), (3, 4)]
    logits = reasoner.answer(edges, 0, (4, 2), 2)
    expected = torch.zeros(reasoner.vocabulary).double()
    expected[[0, 1, 4, reasoner.token["<A>"]]] = 1.0
    expected[2] = 2.0
    torch.testing.assert_close(logits, expected / (3 + 5) ** 0.5)


def test_none_where_no_candidate_leads(reasoner):
    edges = [(0, 1), (0, 2)]
    assert reasoner.solve(edges, 0, (1, 2), 1) is None
    assert reasoner.solve(edges, 0, (5, 6), 3) is None
    assert reasoner.solve(edges, 0, (1, 1), 1) is None
    assert reasoner.solve([], 0, (1, 2), 0) is None
    assert reasoner.solve([], 0, (0, 1), 0) == 0


def test_an_attention_chooser_needs_positions_that_turn():
    code = position_code(500)
    torch.testing.assert_close(code[5:] @ turn_back(5, code.shape[1]), code[:-5], atol=1e-12, rtol=0)
    assert separation(code) > 0.01
    torch.testing.assert_close(code.norm(dim=1), torch.ones(500).double())


def test_bad_input(reasoner):
    with pytest.raises(ValueError, match=r"node 40 is not in 0 .. 39"):
        reasoner.solve([(0, 40)], 0, (1, 2), 1)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        reasoner.support([(0, 1)], 0, -1)
    with pytest.raises(ValueError, match="two candidates, got 3"):
        reasoner.solve([(0, 1)], 0, (1, 2, 3), 1)
    with pytest.raises(ValueError, match="n_max must be at least 1"):
        Reasoner(0)
    with pytest.raises(ValueError, match="more than max_length = 10"):
        Reasoner(4, max_length=10).support([(0, 1), (1, 2)], 0, 1)
