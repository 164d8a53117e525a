"""Does a trained transformer search breadth first? Two layers, continuous thoughts, and graph reachability.

The theorem (2505.12514) says that two layers can hold the whole frontier in a thought; the same paper trains them and
finds that they do. Here the training is repeated as it is described: thought i is trained to say the i-th node of the
walk, one label token a stage, edges and names drawn anew whenever a problem is met. Beside it a chain of thought, no
chain of thought, and pause tokens under the same curriculum; then the trained thoughts are removed, permuted,
exchanged, and compared with the embeddings of the nodes they should hold.

The paper's graphs (23 nodes, 36 edges, two A100 for a day) are `paper`; the others use smaller graphs, and say so.
"""

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from unrolled.instruments.reading import COLORS, axes
from unrolled.latent import Thinker, Words, tasks
from unrolled.latent.inside import GROUPS, frontier, geometry
from unrolled.latent.methods.coconut import Coconut
from unrolled.latent.methods.pause import Pause
from unrolled.latent.tasks import Problem
from unrolled.latent.tasks._reachability import relabel
from unrolled.latent.text import IGNORED, Example, Text
from unrolled.runs import Claim, Run
from unrolled.studies import _latent as latent
from unrolled.studies._latent import Arm, Shape

PAPER = {
    "title": "Reasoning by Superposition: A Theoretical Perspective on Chain of Continuous Thought",
    "authors": "Zhu, Hao, Hu, Jiao, Russell, Tian",
    "arxiv": "2505.12514",
    "year": 2025,
}


@dataclass(frozen=True)
class Config:
    """Which graphs, which model, how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights, orders and names"""
    seeds: int = 1
    nodes: tuple[int, int] = (6, 7)
    """fewest and most nodes of a graph"""
    hops: tuple[int, int] = (2, 2)
    """fewest and most hops to the target; the most is the number of thoughts"""
    symbols: int = 12
    """node tokens"""
    problems: int = 3200
    """graphs to train on; names, edges' order and candidates' order are drawn anew whenever one is met"""
    held_out: int = 300
    epochs_per_stage: int = 3
    last_epochs: int = 3
    """further epochs of the last stage"""
    batch: int = 64
    lr: float = 2e-3
    uniform: float = 0.1
    """probability that a problem is met at an earlier stage"""
    shape: Shape = field(default_factory=lambda: Shape(layers=2, width=64, heads=4, context=192))
    controls: bool = True
    """train CoT, no-CoT and pause beside"""


def tiny() -> Config:
    """Two hops on seven nodes, one seed."""
    return Config()


def small() -> Config:
    """The same graphs, eight times the steps, two seeds."""
    return Config(preset="small", seeds=2, problems=6400, held_out=500, epochs_per_stage=12, last_epochs=14)


def paper() -> Config:
    """The paper's graphs, shape and stages: three seeds; a day on two A100 each there."""
    return Config(
        preset="paper", seeds=3, nodes=(23, 28), hops=(3, 4), symbols=31, problems=14_785, held_out=419, epochs_per_stage=25,
        last_epochs=175, batch=256, lr=1e-4, shape=Shape(layers=2, width=768, heads=8, context=256),
    )  # fmt: skip


class Symbols(Words):
    """Node numbers and the marks of a question, without line breaks: a question ends with its root, as in the paper."""

    def __init__(self, symbols: int):
        super().__init__([" ".join(map(str, range(symbols))) + " | [Q] [R]"], numbers="whole")

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return super().encode(text.replace("\n", " "))


def label(text: Text, problem: Problem, stage: int | None, stages: int) -> Example:
    """A row at a stage: `stage` thoughts, "###", then the node that many steps along the walk; past its end, the answer.

    "###" is the paper's `<A>`. One node is supervised in either case.
    """
    whole = text.example(problem, stages, (), markers=False)
    if stage is None or stage > min(len(problem.steps), stages):
        return whole
    mark, [node] = whole.tail[0], text.encode(problem.steps[stage - 1])
    return Example(whole.question, stage, (mark, node), (IGNORED, node))


class Search(Coconut):
    """Coconut with the labels of 2505.12514, section 5: the node a thought should have reached, not the words that remain."""

    name, paper, markers = "search", "2505.12514", False

    def example(
        self, text: Text, problem: Problem, stage: int | None, rng: torch.Generator | None
    ) -> Example:
        """See `label`."""
        return label(text, problem, stage, self.stages)


class Wait(Pause):
    """The same labels, after pause tokens in place of thoughts."""

    name, markers = "wait", False

    def example(
        self, text: Text, problem: Problem, stage: int | None, rng: torch.Generator | None
    ) -> Example:
        """See `label`."""
        return label(text, problem, stage, self.stages)


def arms(config: Config) -> list[Arm]:
    """Thoughts and what they are measured against, all trained for as many steps."""
    stages = config.hops[1]
    epochs = config.epochs_per_stage * (stages + 1) + config.last_epochs
    staged: dict[str, Any] = {"per_stage": config.epochs_per_stage, "epochs": epochs, "first": 0}
    made = [Arm("coconut", Search, {"stages": stages}, **staged, controls=latent.CONTROLS)]
    if config.controls:
        made += [
            Arm("pause", Wait, {"stages": stages}, **staged),
            Arm("cot", "cot", epochs=epochs, first=epochs),
            Arm("no-cot", "no_cot", epochs=epochs, first=epochs),
        ]
    return made


def problems(config: Config, count: int, seed: int) -> list[Problem]:
    """Graphs of the config's size."""
    return tasks.reachability(count, seed=seed, hops=config.hops, nodes=config.nodes, symbols=config.symbols)


def study(config: Config, run: Run) -> list[Claim]:
    """Train every arm and seed, look inside the thoughts, judge."""
    train, held_out = problems(config, config.problems, config.seed), problems(config, config.held_out, config.seed + 10**6)  # fmt: skip
    words = Symbols(config.symbols)

    def draw(problem: Problem, rng: torch.Generator) -> Problem:
        assert problem.graph is not None
        fresh = random.Random(int(torch.randint(2**62, (), generator=rng)))
        return relabel(problem.graph, fresh, config.symbols)

    for seed in range(config.seed, config.seed + config.seeds):
        for arm in arms(config):

            def thinker(arm: Arm = arm, seed: int = seed) -> Thinker:
                made, tokenizer = latent.model(config.shape, words, seed=seed)
                return Thinker(made, tokenizer, arm.method, **arm.options)

            latent.learn(
                run, arm, seed, thinker, train, held_out, lr=config.lr, batch=config.batch, max_new_tokens=4 + 2 * config.hops[1],
                uniform=config.uniform if arm.options else 0.0, betas=(0.9, 0.95), draw=draw,
                look=(lambda made: look(made, held_out, config)) if arm.method is Search else None,
            )  # fmt: skip
    return claims(config, run)


def look(thinker: Thinker, held_out: list[Problem], config: Config) -> Iterable[dict[str, Any]]:
    """What each thought holds of the nodes, and how alike thoughts are: a row a thought."""
    thoughts = config.hops[1]
    path = thinker.rollout([problem.question for problem in held_out], thoughts)
    made = path["thought"][:thoughts].detach()
    numbers = torch.tensor(
        [thinker.text.encode(str(n))[0] for n in range(config.symbols)], device=thinker.device
    )
    graphs = [problem.graph for problem in held_out if problem.graph is not None]
    held = frontier(made, graphs, thinker.backbone.embed(numbers).detach())
    shape = geometry(thinker, path.window(0, thoughts))
    for c in range(thoughts):
        groups = {name.replace(" ", "_"): float(held[name.replace(" ", "_")][c]) for name in GROUPS}
        yield {"thought": c + 1, **groups, "norm": float(shape["norm"][c]), "cosine": float(shape["cosine"])}


def ordered(row: dict[str, Any]) -> bool:
    """Whether a thought holds the optimal node more than the frontier, that more than reachable nodes, and those more than others."""
    means = [row[name.replace(" ", "_")] for name in GROUPS]
    return all(a < b for a, b in itertools.pairwise(means))


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    size = f"{config.nodes[0]}-{config.nodes[1]} nodes, {config.hops[0]}-{config.hops[1]} hops (paper: 22.8 nodes, 3-4 hops)"
    same = config.preset == "paper"
    found = latent.accuracies(run, "coconut")
    mean, spread = latent.summarize(found)
    made = [Claim(
        "coconut", "two trained layers with continuous thoughts answer reachability (share)", paper=0.99, ours=mean, spread=spread,
        seeds=len(found), status=latent.verdict(mean >= 0.97, mean > 0.75, same), source="2505.12514, section 5; A15",
        note=f"seeds: {latent.listed(found)}; {size}; chance 0.5; reproduced: at least 0.97 on the paper's graphs, else direction only", **common,
    )]  # fmt: skip
    for name, arm, paper in (("no-cot", "no-cot", 0.75), ("cot", "cot", 0.75), ("pause", "pause", None)):
        theirs = latent.accuracies(run, arm)
        if not theirs:
            continue
        more, less, p = latent.beats(run, "coconut", arm)
        average, deviation = latent.summarize(theirs)
        what = {"no-cot": "without a chain of thought the same two layers stay behind", "cot": "with words as steps the same two layers stay behind",
                "pause": "pause tokens under the same curriculum stay behind"}[arm]  # fmt: skip
        made.append(Claim(
            name, f"{what} (share)", paper=paper, ours=average, spread=deviation, seeds=len(theirs),
            status=latent.verdict(more and (paper is None or 0.70 <= average <= 0.83), more, same or paper is None),
            note=f"seeds: {latent.listed(theirs)}; coconut {mean:.3f}; {latent.p_values(p)}"
            + ("; the other way round" if less else "" if more else "; no difference that p < .01 on every seed would show"),
            source="2505.12514, section 5; A15" if paper else "latent fact sheet, A14", **common,
        ))  # fmt: skip
    inside = latent.rows(run, "thought", arm="coconut")
    if inside:
        right = sum(ordered(row) for row in inside) / len(inside)
        made.append(Claim(
            "frontier", "inner products of thoughts with nodes: not reachable < reachable < frontier < optimal (share of thoughts)",
            paper=1.0, ours=right, seeds=config.seeds, status=latent.verdict(right == 1.0, right > 0.5, same),
            note="; ".join(f"seed {r['seed']}, thought {r['thought']}: " + " < ".join(f"{r[g.replace(' ', '_')]:.2f}" for g in GROUPS) for r in inside)
            + " where the order holds", source="2505.12514, table 5; A15", **common,
        ))  # fmt: skip
    made += latent.need(run, "coconut", chance=0.5, **common)
    if not same:
        made.append(Claim.not_attempted(
            "paper-graphs", "97 % with thoughts and 70-83 % without, on 22.8 nodes and 3-4 hops", paper=0.97, why="24 hours on two A100 in the paper",
            command="unrolled run latent-reachability --preset paper", source="2505.12514, section 5; A15", **common,
        ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy with controls, the loss, and what thoughts hold."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    made = {
        "accuracy": (latent.table(run, arms(config), 0.5),
                     "Reachability with two layers: blue, arms as trained; orange, the same weights with the thoughts changed before they "
                     "are read. Dots: seeds; lines: 95 % Wilson intervals of all answers. Dotted: a coin between the two candidates."),
        "loss": (latent.curves(run, arms(config)), "Loss of the supervised tokens while training, mean of 25 steps; stages ask for different tokens, so steps up are not forgetting."),
    }  # fmt: skip
    inside = latent.rows(run, "thought", arm="coconut")
    if inside:
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        ax = axes(figure.add_subplot())
        for group, color in zip(GROUPS, COLORS, strict=False):
            name = group.replace(" ", "_")
            for k, seed in enumerate(sorted({row["seed"] for row in inside})):
                mine = [row for row in inside if row["seed"] == seed]
                ax.plot([r["thought"] for r in mine], [r[name] for r in mine], "o-", color=color, ms=4, lw=1.2, label=group if k == 0 else None)  # fmt: skip
        ax.set(xlabel="thought", ylabel="mean inner product with node", xticks=range(1, config.hops[1] + 1))
        ax.legend(frameon=False, fontsize=8)
        made["frontier"] = (figure, "Mean inner product of each thought with the embeddings of nodes, by where they lie from the root; a line a seed.")  # fmt: skip
    return made
