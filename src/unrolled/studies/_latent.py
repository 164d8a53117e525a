"""What the trained latent studies share: a small GPT, arms that survive a kill, controls, McNemar, and what to draw.

An *arm* is a method with a seed. It is trained by `latent.curriculum`, scored with its controls on the same held-out
problems as every other arm, and leaves rows in the run folder: `loss` while it learns, then one row a control with
`accuracy` and `correct`, a character a problem. Claims and figures are made from those rows alone.
"""

import math
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.stats import binomtest

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.latent import Thinker
from unrolled.latent.curriculum import train
from unrolled.latent.evaluate import mcnemar, score, wilson
from unrolled.latent.protocol import Method
from unrolled.latent.tasks import Problem
from unrolled.runs import Claim, Run

PAPER = {
    "title": "The Latent Space: a survey",
    "authors": "Yu and others",
    "arxiv": "2604.02029",
    "year": 2026,
}
COCONUT = {
    "title": "Training Large Language Models to Reason in a Continuous Latent Space",
    "authors": "Shibo Hao, Sainbayar Sukhbaatar, DiJia Su, Xian Li, Zhiting Hu, Jason Weston, Yuandong Tian",
    "arxiv": "2412.06769",
    "year": 2024,
}
BLUE, ORANGE = COLORS[0], COLORS[1]
CONTROLS = ("removed", "permuted", "transplanted", "noise")
"""What is done to the thoughts of a trained arm before they are read."""
ALPHA = 0.01
"""A claim that latent beats pause needs a smaller p (latent fact sheet, A14)."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Shape:
    """The embedded model: a GPT-2 of this size, trained from random weights."""

    layers: int = 2
    width: int = 64
    heads: int = 4
    context: int = 128


@dataclass(frozen=True)
class Arm:
    """A method, and how long it is trained.

    Attributes:
        name: of the arm, as tables show it.
        method: a name, or a `Method` class.
        options: of the method.
        first: epochs of stage 0.
        per_stage: epochs of each further stage.
        epochs: in all.
        controls: what is done to its thoughts afterwards.
    """

    name: str
    method: str | type[Method]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    first: int = 0
    per_stage: int = 1
    epochs: int = 1
    controls: tuple[str, ...] = ()


def model(shape: Shape, tokenizer: Any, *, seed: int, path: str = "") -> tuple[Any, Any]:
    """A GPT-2 with random weights and the tokenizer as it is, or a pretrained model and tokenizer from a local folder.

    Args:
        shape: of the small model.
        tokenizer: `Words`, for the small model.
        seed: of its weights; the global random state is left alone.
        path: of a folder that transformers can read; empty for the small model.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: no such folder.
    """
    transformers = require("transformers", extra="hf")
    if path:
        from pathlib import Path

        from unrolled.latent import add_markers

        if not Path(path).is_dir():
            raise FileNotFoundError(
                f"model={path!r} is no folder: save a causal language model and its tokenizer there with save_pretrained, "
                "or leave model empty for the small GPT that the study trains itself"
            )
        made = transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
        pretrained = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        add_markers(made, pretrained)
        return made.to(device()), pretrained
    config = transformers.GPT2Config(
        n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width, n_positions=shape.context, vocab_size=len(tokenizer),
        bos_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.GPT2LMHeadModel(config).to(device()), tokenizer


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def learn(
    run: Run,
    arm: Arm,
    seed: int,
    thinker: Callable[[], Thinker],
    problems: Sequence[Problem],
    held_out: Sequence[Problem],
    *,
    lr: float,
    batch: int,
    max_new_tokens: int,
    reset: str = "never",
    uniform: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    draw: Callable[[Problem, torch.Generator], Problem] | None = None,
    look: Callable[[Thinker], Iterable[dict[str, Any]]] | None = None,
    curve: int = 25,
) -> None:
    """Train an arm, score it and its controls, and log all of it; what is in the run folder already is not done again.

    Args:
        run: where rows and checkpoints go.
        arm: what to train.
        seed: of weights, order and noise.
        thinker: makes it, untrained.
        problems: to train on.
        held_out: to score on.
        lr: constant, of AdamW with weight decay 0.01.
        batch: problems a step.
        max_new_tokens: tokens a reply may have.
        reset: of the optimizer; see `curriculum.train`.
        uniform: see `curriculum.train`.
        betas: of AdamW.
        draw: see `curriculum.train`.
        look: further rows, made of the trained thinker.
        curve: steps between rows of the loss, each the mean since the last.
    """
    labels = {"arm": arm.name, "seed": seed}
    if rows(run, "done", **labels):
        return
    made = thinker()
    run.status(phase=f"{arm.name}, seed {seed}", step=0)
    recent: list[float] = []

    def tell(*, step: int, loss: float, stage: int, **_: Any) -> None:
        recent.append(loss)
        if (step + 1) % curve == 0:
            run.log(step=step, **labels, stage=stage, loss=statistics.fmean(recent))
            recent.clear()

    each = -(-len(problems) // batch)
    done = train(
        made, problems, epochs=arm.epochs, per_stage=arm.per_stage, first=arm.first, batch=batch,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=betas),
        reset=reset, uniform=uniform, draw=draw, seed=seed, checkpoint=run.checkpoints / f"{arm.name}-{seed}", clip=1.0, keep=1,
        # a multiple of `curve`, so that a row of the loss never spans a checkpoint
        checkpoint_every=curve * max(1, each * arm.epochs // (4 * curve)), progress=run.progress, log=tell,
    )  # fmt: skip
    run.status(phase=f"{arm.name}, seed {seed}: answers")
    for control in ("none", *arm.controls):
        found = score(
            made, held_out, name=arm.name, control=control, max_new_tokens=max_new_tokens, seed=seed
        )
        run.log(
            step=done.step, **labels, control=control, accuracy=found.accuracy, said=found.said, thoughts=found.thoughts,
            correct="".join("01"[right] for right in found.correct),
        )  # fmt: skip
    for row in look(made) if look is not None else ():
        run.log(step=done.step, **labels, **row)
    run.log(step=done.step, **labels, done=True, stop=done.stop.reason)
    run.commit()


def rows(run: Run, field: str, **labels: Any) -> Rows:
    """The rows of a run that have a field and these labels."""
    return [r for r in run.metrics() if r.get(field) is not None and all(r.get(k) == v for k, v in labels.items())]  # fmt: skip


def accuracies(run: Run, arm: str, control: str = "none") -> list[float]:
    """Of each seed, in order."""
    found = rows(run, "accuracy", arm=arm, control=control)
    return [float(row["accuracy"]) for row in sorted(found, key=lambda row: row["seed"])]


def against(run: Run, arm: str, other: str, *, control: str = "none", other_control: str = "none") -> list[float]:  # fmt: skip
    """McNemar's p between two arms, seed by seed: the same problems, two models."""
    found = {row["seed"]: row["correct"] for row in rows(run, "accuracy", arm=arm, control=control)}
    second = {row["seed"]: row["correct"] for row in rows(run, "accuracy", arm=other, control=other_control)}
    return [
        mcnemar([c == "1" for c in found[seed]], [c == "1" for c in second[seed]])
        for seed in sorted(found.keys() & second.keys())
    ]


def beats(run: Run, arm: str, other: str, **options: str) -> tuple[bool, bool, list[float]]:
    """Whether one arm answers more than another on every seed with p < .01, whether the reverse holds, and every p."""
    p = against(run, arm, other, **options)
    mine = accuracies(run, arm, options.get("control", "none"))
    theirs = accuracies(run, other, options.get("other_control", "none"))
    sure = bool(p) and all(value < ALPHA for value in p)
    more = sure and all(a > b for a, b in zip(mine, theirs, strict=True))
    less = sure and all(a < b for a, b in zip(mine, theirs, strict=True))
    return more, less, p


def verdict(holds: bool, leans: bool, same: bool) -> Any:
    """What may be said: at another size than the paper's, a direction and no more."""
    if holds and same:
        return "reproduced"
    return "direction only" if holds or leans else "not reproduced"


def need(run: Run, arm: str, chance: float = 0.0, **common: Any) -> list[Claim]:
    """A claim for each control of an arm: do its answers need the thoughts as they are?"""
    made: list[Claim] = []
    whole = accuracies(run, arm)
    answers = "".join(row["correct"] for row in rows(run, "correct", arm=arm, control="none"))
    # below or at chance there is nothing that thoughts could have been needed for
    knows = (
        not chance or binomtest(answers.count("1"), max(1, len(answers)), chance, "greater").pvalue < ALPHA
    )
    for control in CONTROLS:
        changed = accuracies(run, arm, control)
        if not changed:
            continue
        p = against(run, arm, arm, other_control=control)
        mean, spread = summarize(changed)
        hurt = (
            knows
            and all(value < ALPHA for value in p)
            and all(a > b for a, b in zip(whole, changed, strict=True))
        )
        made.append(Claim(
            f"{arm}-{control}", f"the answers of {arm} need its thoughts: share right with thoughts {control}", ours=mean, spread=spread,
            seeds=len(changed), status="reproduced" if hurt else "not reproduced", source="2412.06769; 2512.21711 finds thoughts largely inert",
            note=f"untouched {summarize(whole)[0]:.3f}; {p_values(p)}; holds where p < .01 on every seed"
            + ("" if knows else "; untouched it is no better than chance, so nothing follows"), **common,
        ))  # fmt: skip
    return made


def summarize(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation where there are two or more; NaN without any.

    Example:
        >>> summarize([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    if not values:
        return math.nan, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def listed(values: Sequence[float], digits: int = 3) -> str:
    """Numbers with commas.

    Example:
        >>> listed([0.5, 1.0], 2)
        '0.50, 1.00'
    """
    return ", ".join(f"{value:.{digits}f}" for value in values)


def p_values(p: Sequence[float]) -> str:
    """McNemar's p of each seed, for a note.

    Example:
        >>> p_values([0.25, 1e-9])
        'McNemar p 0.2500, < 0.0001'
    """
    return "McNemar p " + ", ".join(f"{value:.4f}" if value >= 1e-4 else "< 0.0001" for value in p)


def chain(count: int, *, seed: int, ops: tuple[int, int], modulus: int) -> list[Problem]:
    """Arithmetic from left to right modulo a small number, for models too small for stories: "3 + 4 * 2", first step "3+4=2" modulo 5.

    Every intermediate value is a single token, a step is one operation, and since sums and products do not commute the
    answer needs the operations one after the other.

    Args:
        count: how many.
        seed: same seed, same problems.
        ops: fewest and most operations.
        modulus: 2 to 10.

    Raises:
        ValueError: a size that cannot be.

    Example:
        >>> [problem] = chain(1, seed=0, ops=(2, 2), modulus=5)
        >>> problem.question, problem.steps, problem.answer
        ('3 + 3 * 3', ('3+3=1', '1*3=3'), '3')
    """
    if count < 0 or not 1 <= ops[0] <= ops[1] or not 2 <= modulus <= 10:
        raise ValueError(
            f"chain: count {count} must be >= 0, ops {ops} a range from 1, modulus {modulus} in 2 .. 10"
        )
    rng = random.Random(seed)
    made: list[Problem] = []
    for _ in range(count):
        value = rng.randrange(modulus)
        told, steps = [str(value)], []
        for _ in range(rng.randint(*ops)):
            kind = rng.choice("+-*")
            by = rng.randrange(min(2, modulus - 1) if kind == "*" else 1, modulus)
            after = {"+": value + by, "-": value - by, "*": value * by}[kind] % modulus
            told += [kind, str(by)]
            steps.append(f"{value}{kind}{by}={after}")
            value = after
        made.append(Problem(" ".join(told), tuple(steps), str(value)))
    return made


def table(run: Run, arms: Sequence[Arm], chance: float | None = None) -> Any:
    """A figure: accuracy of every arm and of its controls, a dot a seed, 95 % Wilson intervals of the pooled answers."""
    from matplotlib.figure import Figure

    lines = [(arm.name, control) for arm in arms for control in ("none", *arm.controls)]
    figure = Figure(figsize=(6.6, 0.9 + 0.3 * len(lines)), layout="constrained")
    ax = axes(figure.add_subplot())
    for y, (name, control) in enumerate(lines):
        found = rows(run, "accuracy", arm=name, control=control)
        if not found:
            continue
        right, n = sum(row["correct"].count("1") for row in found), sum(len(row["correct"]) for row in found)
        low, high = wilson(right, n)
        color = BLUE if control == "none" else ORANGE
        ax.barh(y, right / n, color=color, height=0.66)
        ax.plot([low, high], [y, y], color="#1c1e21", lw=1.2)
        ax.plot([row["accuracy"] for row in found], [y] * len(found), "o", ms=3, color="#1c1e21")
    ax.set(yticks=range(len(lines)), xlim=(0, 1.02), xlabel="share of held-out problems answered correctly")
    ax.set_yticklabels([name if control == "none" else f"   thoughts {control}" for name, control in lines])
    if chance is not None:
        ax.axvline(chance, color="#1c1e21", lw=0.8, ls=":")
    ax.invert_yaxis()
    return figure


def curves(run: Run, arms: Sequence[Arm]) -> Any:
    """A figure: the loss of every arm while it learns, its first seed dark; stages as steps below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    ax = axes(figure.add_subplot())
    for arm, color in zip(arms, COLORS, strict=False):
        for k, seed in enumerate(sorted({row["seed"] for row in rows(run, "loss", arm=arm.name)})):
            mine = rows(run, "loss", arm=arm.name, seed=seed)
            ax.plot([r["step"] for r in mine], [r["loss"] for r in mine], color=color, lw=1.2, alpha=1.0 if k == 0 else 0.4,
                    label=arm.name if k == 0 else None)  # fmt: skip
    ax.set(xlabel="step", ylabel="loss a supervised token (nats)", yscale="log")
    if ax.lines:
        ax.legend(frameon=False, fontsize=8, ncols=2)
    return figure
