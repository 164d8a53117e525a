"""ProsQA: is Alex a rorpus or a zhorpus? Only a search through the graph of what is what can tell."""

import math
import random

from unrolled.latent.tasks.problem import Graph, Problem, search

PEOPLE = ["Alex", "Bob", "Carol", "Davis", "Eva", "Fae", "Gabriel", "Jack", "Max", "Oliver", "Polly", "Rex", "Sally", "Sam", "Stella", "Tom", "Wren"]  # fmt: skip
CONCEPTS = ["bompus", "boompus", "brimpus", "chorpus", "dumpus", "felpus", "fompus", "gerpus", "gorpus", "grimpus", "gwompus", "hilpus", "impus", "jelpus", "jompus", "kerpus", "lempus", "lorpus", "numpus", "quimpus", "rempus", "rompus", "rorpus", "scrompus", "shumpus", "sterpus", "storpus", "terpus", "timpus", "tumpus", "vumpus", "worpus", "wumpus", "yerpus", "yimpus", "yumpus", "zhorpus", "zumpus"]  # fmt: skip

NODES = (28, 28)
"""Fewest and most nodes drawn; the paper is silent. 28 leave 22.8 +- 2.1 with an edge; the released data have 22.8 +- 2.0."""
PARENTS = 1.5
"""Mean of the Poisson number of parents (algorithm 1)."""
OWN = (0.35, 0.80)
"""Draws below the first take parents below node 0 alone, below the second below node 1 alone, above it any. Algorithm 1
says 0.35 and 0.70, and lets nodes that descend from neither into the first two. The released graphs say otherwise: of
their parentless nodes' children with further parents two thirds descend from both roots (others: 11 %), 52 % of all
nodes descend from node 1 alone, 39 % from node 0 alone and 6 % from both."""
LEAST = 3
"""Fewest hops from root to target in the released data."""


def poisson(rng: random.Random, mean: float) -> int:
    """A Poisson draw by inversion; the mean is small."""
    count, p = 0, rng.random()
    term = math.exp(-mean)
    while p > term:
        p -= term
        count += 1
        term *= mean / count
    return count


def grow(rng: random.Random, nodes: int, parents: float = PARENTS) -> tuple[list[tuple[int, int]], list[int]]:
    """Edges of a random graph, and a label of each node: what it descends from (bit 1: node 0, bit 2: node 1)."""
    label, depth = [1, 2], [0, 0]
    edges: list[tuple[int, int]] = []
    for new in range(2, nodes):
        wanted, u = poisson(rng, parents), rng.random()
        only = 1 if u <= OWN[0] else 2 if u <= OWN[1] else None
        candidates = [node for node in range(new) if only is None or label[node] == only]
        wanted = min(wanted, len(candidates))
        # Successive draws without replacement with weights w are the largest of log(u) / w (Efraimidis, Spirakis 2006).
        keyed = sorted((-math.log(rng.random()) / (1.5 * depth[node] + 1), node) for node in candidates)[
            :wanted
        ]
        drawn = sorted(node for _, node in keyed)
        edges += [(node, new) for node in drawn]
        mark = 0
        for node in drawn:
            mark |= label[node]
        label.append(mark)
        depth.append(1 + min(depth[node] for node in drawn) if drawn else 0)
    return edges, label


def draw(rng: random.Random, nodes: tuple[int, int], parents: float, least: int) -> Graph | None:
    """A graph with its question; None where it has none.

    Candidates are sinks that descend from one of nodes 0 and 1 alone. The root is the one with the deeper candidate, which
    is the target; the other candidate is any of the other's.
    """
    edges, label = grow(rng, rng.randint(*nodes), parents)
    sources, targets = {s for s, _ in edges}, {t for _, t in edges}
    linked, sinks = sorted(sources | targets), sorted(targets - sources)
    founders = len(linked) - len(targets)
    if founders > len(PEOPLE) or len(targets) > len(CONCEPTS):
        return None
    pure = [[node for node in sinks if label[node] == root + 1] for root in (0, 1)]
    if not all(pure):
        return None
    found: list[tuple[int, int, dict[int, int], dict[int, int]]] = []
    for root in rng.sample((0, 1), 2):
        depth, parent = search(edges, root)
        found.append((max(depth[node] for node in pure[root]), root, depth, parent))
    deepest, root, depth, parent = max(found, key=lambda candidate: candidate[0])
    if deepest < least:
        return None
    target = rng.choice([node for node in pure[root] if depth[node] == deepest])
    other = rng.choice(pure[1 - root])
    path = [target]
    while path[-1] != root:
        path.append(parent[path[-1]])
    number = {node: k for k, node in enumerate(linked)}
    people, concepts = iter(rng.sample(PEOPLE, founders)), iter(rng.sample(CONCEPTS, len(targets)))
    return Graph(
        edges=tuple((number[s], number[t]) for s, t in edges),
        root=number[root],
        target=number[target],
        other=number[other],
        path=tuple(number[node] for node in reversed(path)),
        nodes=len(linked),
        names=tuple(next(concepts) if node in targets else next(people) for node in linked),
    )


def prosqa(
    count: int, *, seed: int, nodes: tuple[int, int] = NODES, parents: float = PARENTS, least: int = LEAST
) -> list[Problem]:
    """Problems of ProsQA (Coconut 2412.06769, appendix A.2, algorithm 1).

    Nodes arrive one by one; each draws Poisson(`parents`) parents, with weight 1.5 depth + 1, from nodes that descend from
    node 0 alone, from node 1 alone, or from all (35, 45 and 20 %). Nodes without parents are people, the others concepts;
    nodes without any edge are left out. The candidates are sinks below one of the two roots alone: the deepest of the
    deeper root is the target.

    The paper is silent on the number of nodes and on the choice of root and target, and its algorithm gives 4.4 nodes
    without parents where the released data have 2.6. What is done here was read off the released graphs (valid and test,
    800): there the target is the deepest such sink in every one, and weights, labels, numbers of parents and path lengths
    agree with these.

    Args:
        count: how many.
        seed: same seed, same problems.
        nodes: fewest and most nodes drawn, those that stay without an edge included.
        parents: mean number of parents.
        least: fewest hops from root to target.

    Raises:
        ValueError: a size that cannot be.

    Example:
        >>> [problem] = prosqa(1, seed=3)
        >>> problem.question.endswith("?"), problem.graph.hops == len(problem.steps)
        (True, True)
    """
    if count < 0 or least < 1 or nodes[0] > nodes[1] or nodes[0] < least + 2:
        raise ValueError(
            f"prosqa: count {count} must be >= 0, least {least} >= 1, and nodes {nodes} a range from at least least + 2"
        )
    rng = random.Random(seed)
    problems: list[Problem] = []
    failures = 0
    while len(problems) < count:
        graph = draw(rng, nodes, parents, least)
        if graph is None:
            failures += 1
            if failures > 1000 * (len(problems) + 1):
                raise ValueError(
                    f"prosqa: nodes {nodes} with {parents} parents hardly ever give {least} hops; ask for fewer"
                )
            continue
        problems.append(write(graph, rng))
    return problems


def write(graph: Graph, rng: random.Random) -> Problem:
    """The text of a graph: its edges in random order, then the question, the candidates in random order."""
    names = graph.names
    facts = [f"{sentence(names, s, t)}." for s, t in graph.edges]
    rng.shuffle(facts)
    first, second = rng.sample((names[graph.target], names[graph.other]), 2)
    steps = tuple(f"{sentence(names, s, t)}." for s, t in zip(graph.path, graph.path[1:], strict=False))
    name = names[graph.root]
    return Problem(
        f"{' '.join(facts)} Is {name} a {first} or {second}?",
        steps,
        f"{name} is a {names[graph.target]}.",
        graph,
    )


def sentence(names: tuple[str, ...], source: int, target: int) -> str:
    """An edge in words; it is always "a", whatever the vowel."""
    name = names[source]
    return f"{name} is a {names[target]}" if name[0].isupper() else f"Every {name} is a {names[target]}"
