"""Where thoughts should earn their keep: arithmetic, one operation after the other.

On GSM8k Coconut answers 34.1 % where pause tokens under the same curriculum answer 24.1 and no chain of thought 16.5;
CODI answers 43.7 and a chain of words 42.9. GSM8k needs a pretrained model and a network. Here the same methods meet
chains of operations modulo a small number (or the package's stories and multiplications), with a GPT that the study
trains itself, or a pretrained one from a local folder.

`coconut (permuted)` and its like are the trained model with its thoughts changed. `no-cot, deep` has as many layers in
a row as the thinker: depth without thoughts.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from unrolled.latent import Thinker, Words, tasks
from unrolled.latent.methods.coconut import Coconut
from unrolled.latent.tasks import Problem
from unrolled.runs import Claim, Run
from unrolled.studies import _latent as latent
from unrolled.studies._latent import Arm, Shape

PAPER = latent.COCONUT

PUBLISHED = {"cot": 0.429, "no-cot": 0.165, "icot": 0.300, "pause": 0.241, "coconut": 0.341, "codi": 0.437, "coconut, no curriculum": 0.144}  # fmt: skip
"""Share right on GSM8k with GPT-2 (2412.06769, table 1, pause as thought; CODI: 2502.21074, abstract)."""
EVERY = ("cot", "no-cot", "no-cot, deep", "icot", "pause", "coconut", "coconut, no curriculum", "codi")


@dataclass(frozen=True)
class Config:
    """What is asked, of which model, how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights and orders"""
    seeds: int = 1
    task: str = "chain"
    """`chain` (modulo `modulus`), `stories` (word problems) or `multiplication` (of `ops` digits)"""
    ops: tuple[int, int] = (2, 2)
    """fewest and most operations of held-out problems; the most is the number of stages"""
    fewest: int = 1
    """operations of a training problem"""
    modulus: int = 10
    c: int = 1
    """thoughts a step"""
    problems: int = 4000
    held_out: int = 300
    first: int = 4
    """epochs of stage 0"""
    per_stage: int = 4
    last: int = 8
    """further epochs at the end"""
    batch: int = 64
    lr: float = 1e-3
    reset: str = "never"
    """of the optimizer; the reference makes it anew every epoch"""
    shape: Shape = field(default_factory=lambda: Shape(layers=2, width=64, heads=4, context=96))
    model: str = ""
    """folder of a pretrained model and tokenizer, in place of `shape`"""
    arms: tuple[str, ...] = ("cot", "no-cot", "pause", "coconut")


def tiny() -> Config:
    """Two operations modulo 10, one seed of four arms."""
    return Config()


def small() -> Config:
    """Three operations modulo 10, two seeds of five arms."""
    return Config(
        preset="small", seeds=2, ops=(3, 3), problems=10_000, held_out=500, first=3, per_stage=4, last=6,
        arms=("coconut", "pause", "no-cot", "cot", "codi"),
    )  # fmt: skip


def paper() -> Config:
    """Stories of two to six operations, as many as GSM8k-Aug has; give `model` a folder with GPT-2. Needs a GPU."""
    return Config(
        preset="paper", seeds=3, task="stories", ops=(2, 6), c=2, problems=385_620, held_out=1319, first=6, per_stage=3, last=4, batch=128, lr=1e-4,
        reset="epoch", shape=Shape(layers=12, width=768, heads=12, context=512), arms=tuple(arm for arm in EVERY if arm != "no-cot, deep"),
    )  # fmt: skip


def problems(config: Config, count: int, seed: int, ops: tuple[int, int]) -> list[Problem]:
    """Of the config's task.

    Raises:
        ValueError: an unknown task.
    """
    if config.task == "chain":
        return latent.chain(count, seed=seed, ops=ops, modulus=config.modulus)
    if config.task == "stories":
        return tasks.arithmetic(count, seed=seed, ops=ops)
    if config.task == "multiplication":
        return tasks.multiplication(count, seed=seed, digits=ops)
    raise ValueError(f"task is 'chain', 'stories' or 'multiplication', got {config.task!r}")


class Directly(Coconut):
    """Coconut without its curriculum: all thoughts and no step from the first epoch on."""

    name = "coconut_direct"

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, tuple[str, ...]]:
        """The last stage's, always."""
        return self.c * self.stages, ()


def arms(config: Config) -> list[Arm]:
    """Every arm makes as many updates on as many problems."""
    stages = config.ops[1]
    epochs = config.first + config.per_stage * (stages + 1) + config.last
    staged: dict[str, Any] = {"epochs": epochs, "first": config.first, "per_stage": config.per_stage}
    plain: dict[str, Any] = {"epochs": epochs, "first": epochs}
    thoughts = {"c": config.c, "stages": stages}
    known = {
        "cot": Arm("cot", "cot", **plain),
        "no-cot": Arm("no-cot", "no_cot", **plain),
        "no-cot, deep": Arm("no-cot, deep", "no_cot", **plain),
        # a stage takes away a step: six tokens of a chain, the line break included
        "icot": Arm("icot", "icot", {"remove": 6 if config.task == "chain" else 8, "stages": stages}, **staged),
        "pause": Arm("pause", "pause", thoughts, **staged),
        "coconut": Arm("coconut", "coconut", thoughts, **staged, controls=latent.CONTROLS),
        "coconut, no curriculum": Arm("coconut, no curriculum", Directly, thoughts, **plain),
        "codi": Arm("codi", "codi", {"thoughts": config.c * stages}, **plain, controls=latent.CONTROLS),
    }  # fmt: skip
    unknown = [name for name in config.arms if name not in known]
    if unknown:
        raise ValueError(f"no arm is called {unknown[0]!r}; there are {', '.join(map(repr, known))}")
    return [known[name] for name in config.arms]


def study(config: Config, run: Run) -> list[Claim]:
    """Train every arm on the same problems, score them on others, judge."""
    held_out = problems(config, config.held_out, config.seed + 10**6, config.ops)
    asked = {problem.question for problem in held_out}
    fewest = config.ops[0] if config.task == "multiplication" else config.fewest
    train = [
        p
        for p in problems(config, config.problems, config.seed, (fewest, config.ops[1]))
        if p.question not in asked
    ]
    words = Words.of([*train, *held_out])
    longest = max(
        len(words.encode(problem.text())) - len(words.encode(problem.question)) for problem in held_out
    )
    for seed in range(config.seed, config.seed + config.seeds):
        for arm in arms(config):
            deep = arm.name.endswith("deep")
            shape = replace(config.shape, layers=config.shape.layers * (1 + config.c * config.ops[1])) if deep else config.shape  # fmt: skip

            def thinker(arm: Arm = arm, shape: Shape = shape, seed: int = seed) -> Thinker:
                made, tokenizer = latent.model(shape, words, seed=seed, path=config.model)
                return Thinker(made, tokenizer, arm.method, **arm.options)

            latent.learn(
                run, arm, seed, thinker, train, held_out, lr=config.lr, batch=config.batch, max_new_tokens=2 * longest + 2, reset=config.reset,
            )  # fmt: skip
    return claims(config, run)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    where = {"chain": f"{config.ops[0]}-{config.ops[1]} operations modulo {config.modulus}", "stories": f"stories of {config.ops[0]}-{config.ops[1]} operations",
             "multiplication": f"{config.ops[0]} x {config.ops[1]} digits"}[config.task]  # fmt: skip
    where += (
        f", {config.model}"
        if config.model
        else f", {config.shape.layers} layers of {config.shape.width} from random weights"
    )
    made: list[Claim] = []
    for first, second, said in (
        ("coconut", "pause", "thoughts beat pause tokens under the same curriculum: the hand-over helps, not the curriculum alone"),
        ("coconut", "no-cot", "thoughts beat no chain of thought"),
        ("cot", "coconut", "words beat thoughts"),
        ("codi", "coconut", "distillation in one stage beats the curriculum"),
        ("coconut", "coconut, no curriculum", "thoughts need the curriculum"),
        ("coconut", "no-cot, deep", "thoughts beat a network of as many layers in a row"),
    ):  # fmt: skip
        more, less, p = latent.beats(run, first, second)
        if not p:
            continue
        one, two = (latent.summarize(latent.accuracies(run, arm))[0] for arm in (first, second))
        known = first in PUBLISHED and second in PUBLISHED
        gap = round(PUBLISHED[first] - PUBLISHED[second], 3) if known else None
        made.append(Claim(
            f"{first}-over-{second.replace(', ', '-').replace(' ', '-')}", f"{said} (difference in share right)", paper=gap, ours=one - two,
            seeds=len(p), status=latent.verdict(more, more, gap is None),
            note=f"{where}: {one:.3f} against {two:.3f}; {latent.p_values(p)}; holds where p < .01 on every seed"
            + ("; here it is the other way round" if less else ""), source="2412.06769, table 1; A14", **common,
        ))  # fmt: skip
    for arm in ("coconut", "codi"):
        made += latent.need(run, arm, **common)
    if not config.model:
        made.append(Claim.not_attempted(
            "gsm8k", "GSM8k with GPT-2: Coconut 34.1, pause 24.1, CODI 43.7, CoT 42.9 %", paper="34.1 / 24.1 / 43.7 / 42.9",
            why="neither GSM8k-Aug nor GPT-2's weights can be had without a network", command="unrolled run latent-arithmetic --preset paper --model FOLDER",
            source="2412.06769, table 1; 2502.21074", **common,
        ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy with controls, and the loss."""
    config = run.config_as(Config)
    chance = 1 / config.modulus if config.task == "chain" else None
    return {
        "accuracy": (latent.table(run, arms(config), chance),
                     "Share of held-out problems right. Blue: arms as trained; orange: the same weights with their thoughts changed. Dots: seeds; "
                     "lines: 95 % Wilson intervals of all answers" + ("; dotted: one value in as many as there are." if chance else ".")),
        "loss": (latent.curves(run, arms(config)), "Loss of supervised tokens, mean of 25 steps. Stages supervise different tokens, so arms are compared by their answers, not here."),
    }  # fmt: skip
