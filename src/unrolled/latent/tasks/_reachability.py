"""Reachability: ProsQA without its words. Which of two nodes can be reached from the root?"""

import random

from unrolled.latent.tasks._prosqa import NODES, PARENTS, draw
from unrolled.latent.tasks.problem import Graph, Problem

SYMBOLS = 31
"""Node tokens in the paper's vocabulary of 40."""


def reachability(
    count: int,
    *,
    seed: int,
    hops: tuple[int, int] = (3, 4),
    nodes: tuple[int, int] = NODES,
    symbols: int = SYMBOLS,
) -> list[Problem]:
    """Problems as "Reasoning by Superposition" trains on (2505.12514, section 5): 3 or 4 hops, nodes as numbers.

    The question is `s t | s t | ... [Q] c1 c2 [R] root`, tokens apart by spaces; a step is the next node of a shortest
    walk, and the answer its last. Graphs are ProsQA's, nodes renamed at random among `symbols`.

    Args:
        count: how many.
        seed: same seed, same problems.
        hops: fewest and most hops.
        nodes: fewest and most nodes drawn for a graph.
        symbols: node tokens to name nodes with.

    Raises:
        ValueError: a size that cannot be.

    Example:
        >>> [problem] = reachability(1, seed=0)
        >>> problem.answer == problem.steps[-1], problem.question.split()[-2]
        (True, '[R]')
    """
    if count < 0 or not 1 <= hops[0] <= hops[1] or not hops[0] + 2 <= nodes[0] <= nodes[1] <= symbols:
        raise ValueError(
            f"reachability: count {count} must be >= 0, hops {hops} a range from 1, nodes {nodes} a range from at least "
            f"{hops[0] + 2} to at most symbols = {symbols}"
        )
    rng = random.Random(seed)
    problems: list[Problem] = []
    failures = 0
    while len(problems) < count:
        graph = draw(rng, nodes, PARENTS, hops[0])
        if graph is None or graph.hops > hops[1]:
            failures += 1
            if failures > 1000 * (len(problems) + 1):
                raise ValueError(
                    f"reachability: nodes {nodes} hardly ever give {hops} hops; ask for other ones"
                )
            continue
        problems.append(relabel(graph, rng, symbols))
    return problems


def relabel(graph: Graph, rng: random.Random, symbols: int = SYMBOLS) -> Problem:
    """The same graph under new random names, its edges and candidates in a new random order: one draw of training."""
    names = rng.sample(range(symbols), graph.nodes)
    edges = [(names[s], names[t]) for s, t in graph.edges]
    rng.shuffle(edges)
    path = tuple(names[node] for node in graph.path)
    target, other = names[graph.target], names[graph.other]
    first, second = rng.sample((target, other), 2)
    facts = " | ".join(f"{s} {t}" for s, t in edges)
    return Problem(
        f"{facts} | [Q] {first} {second} [R] {path[0]}",
        tuple(str(node) for node in path[1:]),
        str(target),
        Graph(tuple(edges), path[0], target, other, path, symbols),
    )
