"""Reasoning by superposition: a constructed transformer searches a graph breadth first, one thought a layer.

The theorem (2505.12514): a two-layer transformer whose parameters know nothing of the graph answers every reachability
question once it has as many thoughts as the answer is hops away, and each thought is the sum of all nodes reached so
far. Here that network is run on ProsQA graphs and on random graphs with cycles; beside it a walk that commits to one
node a step, as words do.
"""

import random
from dataclasses import dataclass
from typing import Any

from unrolled.instruments.reading import COLORS, axes
from unrolled.latent import tasks
from unrolled.latent.superposition import Reasoner
from unrolled.latent.tasks import Graph
from unrolled.latent.tasks.problem import search
from unrolled.runs import Claim, Run
from unrolled.studies import _latent_exhibits as exhibits

PAPER = {
    "title": "Reasoning by Superposition: A Theoretical Perspective on Chain of Continuous Thought",
    "authors": "Zhu, Hao, Hu, Jiao, Russell, Tian",
    "arxiv": "2505.12514",
    "year": 2025,
}


@dataclass(frozen=True)
class Config:
    """How many graphs."""

    preset: str = "tiny"
    seed: int = 0
    problems: int = 150
    """ProsQA problems"""
    graphs: int = 40
    """random graphs with cycles"""
    nodes: int = 14
    """nodes of those"""
    walks: int = 200
    """random walks a problem"""


def tiny() -> Config:
    """Seconds."""
    return Config()


def small() -> Config:
    """A thousand problems; a minute or two."""
    return Config(preset="small", problems=1000, graphs=300, nodes=20)


def study(config: Config, run: Run) -> list[Claim]:
    """Solve, look at what each thought holds, and let a walker try."""
    common = {"preset": config.preset, "hardware": run.hardware}
    problems = tasks.prosqa(config.problems, seed=config.seed)
    reasoner = Reasoner(40)
    rng = random.Random(config.seed)
    right = early = same = 0
    for k, problem in enumerate(problems):
        graph = problem.graph
        assert graph is not None
        pair = (graph.target, graph.other) if k % 2 else (graph.other, graph.target)
        solved = reasoner.solve(graph.edges, graph.root, pair, graph.hops) == graph.target
        before = reasoner.solve(graph.edges, graph.root, pair, graph.hops - 1)
        held = reasoner.support(graph.edges, graph.root, graph.hops)
        exact = held == reached(graph.edges, graph.root, graph.hops)
        walks = sum(walk(graph, rng) for _ in range(config.walks)) / config.walks
        right, early, same = right + solved, early + (before is None), same + exact
        run.log(step=k, hops=graph.hops, nodes=graph.nodes, held=len(held[-1]), solved=solved, early=before is None,
                exact=exact, walk=walks)  # fmt: skip
        run.progress(k + 1, len(problems) + config.graphs)
        if k == 0:
            thoughts = reasoner.think(reasoner.prompt(graph.edges, graph.root), graph.hops)[:, : graph.nodes]
            exhibits.show(run, graph, thoughts, reached(graph.edges, graph.root, graph.hops))
    rows = run.metrics()
    general = 0
    small_one = Reasoner(config.nodes)
    for k in range(config.graphs):
        density = rng.choice((0.08, 0.15, 0.4, 1.0))
        edges = [(s, t) for s in range(config.nodes) for t in range(config.nodes) if rng.random() < density]
        general += small_one.support(edges, 0, 6) == reached(edges, 0, 6)
        run.progress(len(problems) + k + 1, len(problems) + config.graphs)
    n = len(problems)
    walked = sum(row["walk"] for row in rows) / n
    held = sum(row["held"] for row in rows) / n
    nodes = sum(row["nodes"] for row in rows) / n
    return [
        Claim(
            "solved", "with as many thoughts as hops, every ProsQA question is answered (share)", paper=1.0, ours=right / n,
            status="reproduced" if right == n else "not reproduced", note=f"{n} problems, candidates in both orders", source="2505.12514, theorem 1", **common,
        ),
        Claim(
            "not-before", "with one thought less, neither candidate leads (share of questions left open)", paper=1.0, ours=early / n,
            status="reproduced" if early == n else "not reproduced", note="all targets lie exactly that deep; an answer here would be a guess", source="latent fact sheet, A5", **common,
        ),
        Claim(
            "support", "thought c holds exactly the nodes within c steps (share of problems, every thought)", paper=1.0, ours=same / n,
            status="reproduced" if same == n else "not reproduced", note=f"against breadth-first search; the last holds {held:.1f} of {nodes:.1f} nodes (released data: 13.2 of 22.8)", source="2505.12514, lemma 2", **common,
        ),
        Claim(
            "any-graph", "and so it does on graphs with cycles, loops and every edge there can be (share of graphs)", paper=1.0, ours=general / config.graphs,
            status="reproduced" if general == config.graphs else "not reproduced", note=f"{config.graphs} graphs of {config.nodes} nodes, 8 to 100 % of all edges; the MLP's step is at 1/(4 n^2); the paper's 1/(4 n) loses nodes with few edges into them", source="2505.12514, theorem 1", **common,
        ),
        Claim(
            "walk", "a walk that commits to one node a step finds the target in as many steps (share)", paper=0.09, ours=walked,
            status="reproduced" if 0.06 <= walked <= 0.14 else "not reproduced", note="a uniformly random next node, as a sampled word; fact sheet on the released data: 8.4-9.7 %; reproduced: 6 to 14 %", source="latent fact sheet, b.2", **common,
        ),
    ]  # fmt: skip


def reached(edges: Any, root: int, steps: int) -> list[set[int]]:
    """What is within 0, 1, ..., steps of the root."""
    depth, _ = search(edges, root)
    return [{node for node in depth if depth[node] <= c} for c in range(steps + 1)]


def walk(graph: Graph, rng: random.Random) -> bool:
    """Whether a random walk of as many steps ends at the target."""
    node = graph.root
    for _ in range(graph.hops):
        following = [t for s, t in graph.edges if s == node]
        if not following:
            return False
        node = rng.choice(following)
    return node == graph.target


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """One problem, thought by thought; and how often a walk arrives."""
    from matplotlib.figure import Figure

    config = run.config
    problem = tasks.prosqa(1, seed=config["seed"])[0]
    graph = problem.graph
    assert graph is not None
    reasoner = Reasoner(40)
    thoughts = reasoner.think(reasoner.prompt(graph.edges, graph.root), graph.hops)[:, : graph.nodes]
    depth, _ = search(graph.edges, graph.root)
    order = sorted(range(graph.nodes), key=lambda node: (depth.get(node, 99), node))
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    ax = axes(figure.add_subplot())
    image = ax.imshow(thoughts[:, order], aspect="auto", cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, ax=ax, label="amplitude of the node in the thought")
    ax.set(
        xticks=range(graph.nodes), yticks=range(graph.hops + 1), ylabel="thought", title="What each thought holds",
    )  # fmt: skip
    ax.set_xticklabels([graph.names[node] for node in order], rotation=90, fontsize=7)
    for label, node in zip(ax.get_xticklabels(), order, strict=True):
        if node in (graph.target, graph.other):
            label.set_color(COLORS[1] if node == graph.target else COLORS[0])
            label.set_fontweight("bold")
    rows = [row for row in run.metrics() if "walk" in row]
    other = Figure(figsize=(5.2, 3.2), layout="constrained")
    bx = axes(other.add_subplot())
    hops = sorted({row["hops"] for row in rows})
    share = [[row["walk"] for row in rows if row["hops"] == h] for h in hops]
    solved = [[row["solved"] for row in rows if row["hops"] == h] for h in hops]
    bx.bar(
        [h - 0.2 for h in hops],
        [sum(s) / len(s) for s in solved],
        0.38,
        color=COLORS[1],
        label="superposition",
    )
    bx.bar(
        [h + 0.2 for h in hops],
        [sum(s) / len(s) for s in share],
        0.38,
        color=COLORS[0],
        label="one node a step",
    )
    bx.set(
        xticks=hops,
        xlabel="hops (and thoughts)",
        ylabel="share solved",
        ylim=(0, 1.15),
        title="All branches at once, or one",
    )
    bx.legend(loc="upper right", ncols=2, fontsize=8)
    return {
        "thoughts": (figure, f"Thoughts of the constructed network on one problem: rows are thoughts, columns nodes by their distance from {graph.names[graph.root]}. "
                     "The right answer's name is orange, the wrong one's blue."),
        "walk": (other, "Share of ProsQA problems solved in as many steps as there are hops: the superposition, and a random walk that commits to one node a step."),
    }  # fmt: skip
