"""ProsQA: is Alex a rorpus or a zhorpus? Only a search through the graph of what is what can tell."""

import math
import random

from unrolled.latent.tasks.problem import Graph, Problem, search

PEOPLE = ["Alex", "Bob", "Carol", "Davis", "Eva", "Fae", "Gabriel", "Jack", "Max", "Oliver", "Polly", "Rex", "Sally", "Sam", "Stella", "Tom", "Wren"]  # fmt: skip
CONCEPTS = ["bompus", "boompus", "brimpus", "chorpus", "dumpus", "felpus", "fompus", "gerpus", "gorpus", "grimpus", "gwompus", "hilpus", "impus", "jelpus", "jompus", "kerpus", "lempus", "lorpus", "numpus", "quimpus", "rempus", "rompus", "rorpus", "scrompus", "shumpus", "sterpus", "storpus", "terpus", "timpus", "tumpus", "vumpus", "worpus", "wumpus", "yerpus", "yimpus", "yumpus", "zhorpus", "zumpus"]  # fmt: skip

NODES = (23, 28)
"""Fewest and most nodes; the paper is silent, the released data have 22.8 on average."""
PARENTS = 1.6
"""Mean of the Poisson number of parents. Algorithm 1 says 1.5, which gives 1.48 edges a node where the released data
have 1.58; 1.6 gives 1.54, and path lengths as near."""
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


def grow(rng: random.Random, nodes: int, parents: float = PARENTS) -> list[tuple[int, int]]:
    """Edges of the random graph of algorithm 1; a label says what a node descends from (bit 1: node 0, bit 2: node 1)."""
    label, depth = [1, 2], [0, 0]
    edges: list[tuple[int, int]] = []
    for new in range(2, nodes):
        wanted, u = poisson(rng, parents), rng.random()
        barred = 2 if u <= 0.35 else 1 if u <= 0.70 else 0
        candidates = [node for node in range(new) if not label[node] & barred]
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
    return edges


def draw(rng: random.Random, nodes: tuple[int, int], parents: float, least: int) -> Graph | None:
    """A graph with a root, a target at the greatest depth below it, and a sink out of reach; None where it has none.

    The root is node 0 or 1, whichever has the deeper sink below it.
    """
    edges = grow(rng, rng.randint(*nodes), parents)
    sources, targets = {s for s, _ in edges}, {t for _, t in edges}
    linked, sinks = sorted(sources | targets), targets - sources
    founders = len(linked) - len(targets)
    if founders > len(PEOPLE) or len(targets) > len(CONCEPTS):
        return None
    found: list[tuple[int, int, dict[int, int], dict[int, int]]] = []
    for root in rng.sample((0, 1), 2):
        depth, parent = search(edges, root)
        deepest = max((depth[node] for node in sinks if node in depth), default=0)
        if deepest >= least and sinks - depth.keys():
            found.append((deepest, root, depth, parent))
    if not found:
        return None
    deepest, root, depth, parent = max(found, key=lambda candidate: candidate[0])
    target = rng.choice(sorted(node for node in sinks if depth.get(node) == deepest))
    other = rng.choice(sorted(sinks - depth.keys()))
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

    Nodes arrive one by one; each draws Poisson(`parents`) parents, with weight 1.5 depth + 1, from nodes that do not
    descend from node 1, from nodes that do not descend from node 0, or from all (35, 35 and 30 %). Nodes without
    parents are people, the others concepts. The other candidate is a sink out of the root's reach.

    The paper is silent on the number of nodes, on the choice of the root and on which sink becomes the target: the
    deeper root and its deepest sink give the path lengths of the released data (40, 43, 14, 2 % of 3, 4, 5, 6 hops).
    The released graphs have fewer nodes without parents than ours (2.6 against 4.4); how is not said.

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
