"""Every task: sound, decided by its seed, fast enough to make anew."""

import itertools
import re
import statistics

import pytest

from unrolled.latent import tasks
from unrolled.latent.tasks.problem import search

GENERATORS = ("arithmetic", "multiplication", "prontoqa", "prosqa", "reachability")


@pytest.mark.parametrize("name", GENERATORS)
def test_the_seed_decides(name):
    make = getattr(tasks, name)
    assert make(4, seed=5) == make(9, seed=5)[:4]
    assert make(4, seed=5) != make(4, seed=6)
    assert make(0, seed=0) == []
    with pytest.raises(ValueError, match="count -1"):
        make(-1, seed=0)


def test_reachability_is_a_graph_in_symbols():
    for problem in tasks.reachability(200, seed=0):
        facts, question = problem.question.split(" | [Q] ")
        edges = tuple(tuple(map(int, fact.split())) for fact in facts.split(" | "))
        assert edges == problem.graph.edges
        first, second, _, root = question.split()
        assert {int(first), int(second)} == {problem.graph.target, problem.graph.other}
        depth, _ = search(edges, int(root))
        assert depth[int(problem.answer)] == len(problem.steps) in (3, 4)
        assert problem.graph.other not in depth
        walk = [int(root), *map(int, problem.steps)]
        assert all(edge in edges for edge in itertools.pairwise(walk))
        assert all(0 <= node < 31 for edge in edges for node in edge)


def test_arithmetic_is_right():
    lengths = set()
    for problem in tasks.arithmetic(500, seed=0):
        value = int(re.search(r"has (\d+)", problem.question).group(1))
        for step in problem.steps:
            left, op, right, made = re.fullmatch(r"<<(\d+)([-+*])(\d+)=(\d+)>>", step).groups()
            assert int(left) == value
            value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[op](value, int(right))
            assert value == int(made)
            assert 0 <= value <= 999
        assert problem.answer == str(value)
        lengths.add(len(problem.steps))
    assert lengths == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("digits", [(1, 1), (4, 4), (3, 5)])
def test_multiplication_is_right(digits):
    lengths = set()
    for problem in tasks.multiplication(200, seed=0, digits=digits):
        a, b = (int("".join(reversed(x.split()))) for x in problem.question.split(" * "))
        assert int("".join(reversed(problem.answer.split()))) == a * b
        assert len(problem.steps) == digits[1]
        if digits[1] > 1:
            running = problem.steps[-1].split("( ")[1].rstrip(" )")
            assert int("".join(reversed(running.split()))) == a * b
        lengths.add(len(problem.text().split()))
    assert len(lengths) == 1, "problems of a size are equally long"


def test_prontoqa_is_a_deduction():
    answers = []
    for problem in tasks.prontoqa(500, seed=0):
        body, claim = problem.question.split(" True or false: ")
        rules = dict(re.findall(r"Every (\w+) is (not \w+|(?!a\b)\w+)\.", body))
        parents = {}
        for low, high in re.findall(r"Every (\w+) is a (\w+)\.", body):
            parents.setdefault(low, []).append(high)
        person, first = re.search(r"([A-Z]\w+) is a (\w+)\.$", body).groups()
        depth, _ = search(((low, high) for low, ups in parents.items() for high in ups), first)
        held = {rules[concept] for concept in depth if concept in rules}
        said = re.fullmatch(rf"{person} is (not \w+|\w+)\.", claim).group(1)
        bare = said.removeprefix("not ")
        [known] = [trait for trait in held if trait.removeprefix("not ") == bare]
        assert problem.answer == str(known == said)
        assert problem.steps[-1].endswith(f"{person} is {known}.")
        assert len(problem.steps) == 6
        answers.append(problem.answer == "True")
    assert abs(statistics.mean(answers) - 0.5) < 0.08


def test_bad_sizes():
    with pytest.raises(ValueError, match="ops"):
        tasks.arithmetic(1, seed=0, ops=(3, 2))
    with pytest.raises(ValueError, match="digits"):
        tasks.multiplication(1, seed=0, digits=(0, 3))
    with pytest.raises(ValueError, match="hops"):
        tasks.prontoqa(1, seed=0, hops=0)
    with pytest.raises(ValueError, match="symbols"):
        tasks.reachability(1, seed=0, nodes=(23, 40))
