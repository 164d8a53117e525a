"""ProsQA against the statistics of the released data (latent fact sheet, c.1)."""

import statistics
from collections import Counter

import pytest

from unrolled.latent import tasks
from unrolled.latent.tasks.problem import search


@pytest.fixture(scope="module")
def problems():
    return tasks.prosqa(3000, seed=0)


def test_path_lengths_are_those_of_the_released_data(problems):
    """40.4, 43.4, 13.8 and 2.4 % of 3, 4, 5 and 6 hops, within 5 points."""
    lengths = Counter(problem.graph.hops for problem in problems)
    for hops, released in {3: 40.4, 4: 43.4, 5: 13.8, 6: 2.4}.items():
        assert abs(100 * lengths[hops] / len(problems) - released) < 5


def test_edges_per_node(problems):
    assert 1.50 <= statistics.mean(len(p.graph.edges) / p.graph.nodes for p in problems) <= 1.62
    assert 21.5 < statistics.mean(p.graph.nodes for p in problems) < 24


def test_every_problem_is_sound(problems):
    for problem in problems[:500]:
        graph = problem.graph
        depth, _ = search(graph.edges, graph.root)
        sources = {s for s, _ in graph.edges}
        assert depth[graph.target] == graph.hops == len(problem.steps)
        assert graph.other not in depth
        assert not {graph.target, graph.other} & sources
        assert len(set(graph.edges)) == len(graph.edges)
        assert all(s < t for s, t in graph.edges)
        assert all(edge in graph.edges for edge in zip(graph.path, graph.path[1:], strict=False))
        assert len(set(graph.names)) == graph.nodes
        assert graph.names[graph.root][0].isupper()
        facts, question = problem.question.rsplit(". ", 1)
        assert len(facts.split(". ")) == len(graph.edges)
        assert f"{graph.names[graph.root]} is a {graph.names[graph.target]}." == problem.answer
        assert all(f" {graph.names[node]}" in question for node in (graph.target, graph.other, graph.root))


def test_the_first_option_is_the_answer_half_the_time(problems):
    first = [p.question.split(" or ")[0].split()[-1] == p.graph.names[p.graph.target] for p in problems]
    assert abs(statistics.mean(first) - 0.5) < 0.04


def test_the_seed_decides(problems):
    assert tasks.prosqa(5, seed=0) == problems[:5]
    assert tasks.prosqa(5, seed=1) != problems[:5]


def test_bad_input():
    with pytest.raises(ValueError, match="nodes"):
        tasks.prosqa(1, seed=0, nodes=(9, 5))
    with pytest.raises(ValueError, match="hardly ever give 12 hops"):
        tasks.prosqa(1, seed=0, nodes=(14, 14), least=12)
