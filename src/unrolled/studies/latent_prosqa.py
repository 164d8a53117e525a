"""ProsQA under one protocol: is it the thoughts that help, or the curriculum?

Coconut answers 97.0 % of ProsQA where a chain of thought answers 77.5 and none 76.7 (2412.06769, table 1). But pause
tokens under the same curriculum answer 96.6, and an independent control finds no difference (p = .845). So the study
trains Coconut, CoT, no CoT, pause under the same curriculum, Coconut without its curriculum, and iCoT, all for as many
updates on the same problems, then removes, permutes, exchanges and overwrites the trained thoughts. That latent beats
pause is claimed only where McNemar's p is below .01 on every seed.

Graphs are small ones unless the preset is `paper`: what is learned here in minutes is not GPT-2 on 23 nodes.
"""

from dataclasses import dataclass, field
from typing import Any

from unrolled.latent import Thinker, Words, tasks
from unrolled.latent.methods.coconut import Coconut
from unrolled.latent.tasks import Problem
from unrolled.runs import Claim, Run
from unrolled.studies import _latent as latent
from unrolled.studies._latent import Arm, Shape

PAPER = latent.COCONUT

PUBLISHED = {"cot": 0.775, "no-cot": 0.767, "icot": 0.982, "pause": 0.966, "coconut": 0.970, "coconut, no curriculum": 0.761}  # fmt: skip
"""Share right with GPT-2 (2412.06769, table 1; pause is its "pause as thought")."""
CURRICULUM = {"removed": 0.955}
"""Trained without thoughts under the same curriculum, there; here the thoughts of the trained model are left out."""


@dataclass(frozen=True)
class Config:
    """Which graphs, which model, how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights and orders"""
    seeds: int = 1
    nodes: tuple[int, int] = (6, 7)
    """fewest and most nodes drawn for a graph"""
    least: int = 2
    """fewest hops"""
    stages: int = 2
    """of the curriculum, a thought each"""
    problems: int = 1920
    held_out: int = 200
    first: int = 4
    """epochs of stage 0"""
    per_stage: int = 2
    last: int = 2
    """further epochs at the end"""
    batch: int = 64
    lr: float = 2e-3
    reset: str = "never"
    """of the optimizer; the reference makes it anew every epoch"""
    shape: Shape = field(default_factory=lambda: Shape(layers=2, width=64, heads=4, context=160))
    model: str = ""
    """folder of a pretrained model and tokenizer, in place of `shape`"""
    arms: tuple[str, ...] = ("cot", "no-cot", "pause", "coconut")


def tiny() -> Config:
    """Graphs of seven nodes, one seed of four arms: what two minutes teach."""
    return Config()


def small() -> Config:
    """Graphs of seven nodes, two seeds of six arms."""
    return Config(
        preset="small", seeds=2, problems=6400, held_out=500, first=8, per_stage=4, last=6,
        arms=("cot", "no-cot", "pause", "coconut", "coconut, no curriculum", "icot"),
    )  # fmt: skip


def paper() -> Config:
    """ProsQA's size and GPT-2's shape; give `model` a folder with its weights. A day a run on one H100."""
    return Config(
        preset="paper", seeds=3, nodes=(28, 28), least=3, stages=6, problems=17_886, held_out=500, first=5, per_stage=5, last=10, batch=128,
        lr=1e-4, reset="epoch", shape=Shape(layers=12, width=768, heads=12, context=512), arms=small().arms,
    )  # fmt: skip


class Directly(Coconut):
    """Coconut without its curriculum: all thoughts and no step from the first epoch on."""

    name = "coconut_direct"

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, tuple[str, ...]]:
        """The last stage's, always."""
        return self.c * self.stages, ()


def arms(config: Config) -> list[Arm]:
    """Every arm makes as many updates on as many problems.

    Raises:
        ValueError: an unknown arm.
    """
    epochs = config.first + config.per_stage * (config.stages + 1) + config.last
    staged: dict[str, Any] = {"epochs": epochs, "first": config.first, "per_stage": config.per_stage}
    plain: dict[str, Any] = {"epochs": epochs, "first": epochs}
    stages = {"stages": config.stages}
    known = {
        "cot": Arm("cot", "cot", **plain),
        "no-cot": Arm("no-cot", "no_cot", **plain),
        "pause": Arm("pause", "pause", stages, **staged),
        "coconut": Arm("coconut", "coconut", stages, **staged, controls=latent.CONTROLS),
        "coconut, no curriculum": Arm("coconut, no curriculum", Directly, stages, **plain),
        # a stage takes away a sentence: six tokens and the line break
        "icot": Arm("icot", "icot", {"remove": 7, **stages}, **staged),
    }
    unknown = [name for name in config.arms if name not in known]
    if unknown:
        raise ValueError(f"no arm is called {unknown[0]!r}; there are {', '.join(map(repr, known))}")
    return [known[name] for name in config.arms]


def problems(config: Config, count: int, seed: int) -> list[Problem]:
    """Of the config's size."""
    return tasks.prosqa(count, seed=seed, nodes=config.nodes, least=config.least)


def study(config: Config, run: Run) -> list[Claim]:
    """Train every arm on the same problems, score them on others, judge."""
    train, held_out = problems(config, config.problems, config.seed), problems(config, config.held_out, config.seed + 10**6)  # fmt: skip
    words = Words.of([*train, *held_out])
    longest = max(len(words.encode(" ".join(problem.steps))) + len(problem.steps) for problem in held_out)
    for seed in range(config.seed, config.seed + config.seeds):
        for arm in arms(config):

            def thinker(arm: Arm = arm, seed: int = seed) -> Thinker:
                made, tokenizer = latent.model(config.shape, words, seed=seed, path=config.model)
                return Thinker(made, tokenizer, arm.method, **arm.options)

            latent.learn(
                run, arm, seed, thinker, train, held_out, lr=config.lr, batch=config.batch, max_new_tokens=longest + 12, reset=config.reset,
            )  # fmt: skip
    return claims(config, run)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    same = config.preset == "paper"
    where = f"{config.nodes[0]}-{config.nodes[1]} nodes drawn, at least {config.least} hops" + (f", {config.model}" if config.model else f", {config.shape.layers} layers of {config.shape.width} from random weights")  # fmt: skip
    made: list[Claim] = []
    for first, second, said, wanted in (
        ("coconut", "pause", "thoughts beat pause tokens under the same curriculum", False),
        ("coconut", "cot", "thoughts beat words", True),
        ("coconut", "no-cot", "thoughts beat no chain of thought", True),
        ("coconut", "coconut, no curriculum", "thoughts need the curriculum", True),
        (
            "coconut",
            "icot",
            "thoughts beat steps that are taken away without a thought in their place",
            False,
        ),
    ):
        more, less, p = latent.beats(run, first, second)
        if not p:
            continue
        one, two = latent.accuracies(run, first), latent.accuracies(run, second)
        average, spread = latent.summarize([a - b for a, b in zip(one, two, strict=True)])
        told = {arm: latent.rows(run, "said", arm=arm, control="none")[-1] for arm in (first, second)}
        # where the paper finds no difference, none found is what is reproduced
        holds = more if wanted else not (more or less)
        learned = any(_learned(run, arm) for arm in (first, second))
        made.append(Claim(
            f"{first}-{second.replace(', ', '-').replace(' ', '-')}", said if wanted else f"no: {said}", unit="difference in share right",
            paper=round(PUBLISHED[first] - PUBLISHED[second], 3), ours=average, spread=spread, seeds=len(p),
            status=latent.verdict(holds and learned, holds and learned, same),
            note=f"{where}; {first}: {latent.listed(one)}; {second}: {latent.listed(two)}; {latent.p_values(p)}; "
            + "; ".join(f"{arm} says {row['said']:.1f} tokens after {row['thoughts']:.1f} thoughts" for arm, row in told.items())
            + ("" if learned else "; neither is better than a coin with p < .01: nothing was learned that could be compared"),
            source="2412.06769, table 1" + ("; latent fact sheet, b.1: p = .845" if second == "pause" else ""), **common,
        ))  # fmt: skip
    made += latent.need(run, "coconut", chance=0.5, **common)
    if not same:
        made.append(Claim.not_attempted(
            "gpt2", "ProsQA with GPT-2: Coconut 97.0, pause 96.6, CoT 77.5-83, no CoT 76.7 %", paper="97.0 / 96.6 / 77.5-83 / 76.7",
            why="needs GPT-2's weights and about 28 hours of an H100 for an arm", command="unrolled run latent-prosqa --preset paper --model FOLDER",
            source="2412.06769, table 1; A16", **common,
        ))  # fmt: skip
    return made


def _learned(run: Run, arm: str) -> bool:
    """Whether an arm answers better than a coin between the two candidates, p < .01."""
    from scipy.stats import binomtest

    correct = "".join(row["correct"] for row in latent.rows(run, "correct", arm=arm, control="none"))
    return bool(correct and binomtest(correct.count("1"), len(correct), 0.5, "greater").pvalue < latent.ALPHA)


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy with controls, and the loss."""
    config = run.config_as(Config)
    return {
        "accuracy": (latent.table(run, arms(config), 0.5),
                     "Share of held-out problems right. Blue: arms as trained; orange: the same weights with their thoughts changed. Dots: seeds; "
                     "lines: 95 % Wilson intervals of all answers; dotted: a coin between the two candidates."),
        "loss": (latent.curves(run, arms(config)), "Loss of supervised tokens, mean of 25 steps. Stages supervise different tokens, so arms are compared by their answers, not here."),
    }  # fmt: skip
