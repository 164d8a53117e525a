"""How large a swap program can a looped model run? A curriculum of growing programs, the same parameters at T = 1 and T = 4.

Cells are filled, swapped by instructions and asked for; a stage counts as solved at 90 % right answers. LT2 reports that
gated delta + window solves 32 cells up to T = 4, and 128 at T = 8; its format and sizes are not known, so the direction is what is
compared here: does the looped model get at least as far as the same parameters applied once?
"""

from dataclasses import dataclass
from typing import Any

from unrolled.instruments.reading import COLORS, axes
from unrolled.looped import LT2, LT2Config, tasks
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped
from unrolled.training import fit

PAPER = looped.PAPER


@dataclass(frozen=True)
class Config:
    """Stages, budget and model."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 1
    stages: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    """cells n, with as many instructions"""
    n_max: int = 16
    """cells the vocabulary has room for"""
    loops: tuple[int, ...] = (1, 4)
    cap: int = 200
    """steps at most in a stage"""
    budget: int = 400
    """steps in all"""
    every: int = 50
    """steps between tests of a stage"""
    batch: int = 32
    width: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 16
    lr: float = 3e-3
    threshold: float = 0.90
    neg_eigval: bool = True
    """beta in [0, 2], so that a step may reflect"""


def tiny() -> Config:
    """The first stages, one seed; two minutes."""
    return Config()


def small() -> Config:
    """Up to 8 cells, two seeds."""
    return Config(preset="small", seeds=2, cap=1000, budget=2500, every=100)


def paper() -> Config:
    """The paper's stages, T to 8, 100,000 steps each; needs a GPU for days."""
    return Config(
        preset="paper", seeds=3, stages=(8, 16, 32, 64, 128, 256), n_max=256, loops=(1, 2, 4, 8), cap=100_000, budget=600_000,
        every=1000, batch=256, width=512, layers=4, heads=8, window=256, lr=1e-3,
    )  # fmt: skip


def shape(config: Config, loops: int) -> LT2Config:
    """Gated delta and window layers in turn."""
    return LT2Config(
        vocab_size=2 * config.n_max + 3, width=config.width, layers=config.layers, heads=config.heads, loops=loops,
        pattern="interleaved:1:1:gated_delta:window", window=config.window, neg_eigval=config.neg_eigval, hidden=2 * config.width,
    )  # fmt: skip


def study(config: Config, run: Run) -> list[Claim]:
    """Take every model through the curriculum, judge."""
    for loops in config.loops:
        for seed in range(config.seed, config.seed + config.seeds):
            climb(config, run, loops, seed)
    return claims(config, run)


def climb(config: Config, run: Run, loops: int, seed: int) -> None:
    """One model through the stages, as far as its budget goes; a model that has a last row is not trained again."""
    labels = {"loops": loops, "seed": seed}
    if looped.rows(run, "solved", **labels):
        return
    run.status(phase=f"T = {loops}, seed {seed}", step=0, steps=config.budget)
    model = LT2(shape(config, loops), rng=seed).to(looped.device())
    optimizer = looped.parameter_optimizer(model, lr=config.lr, weight_decay=0.0)
    taken = 0

    def task(n: int, seed: int) -> tasks.Swap:
        return tasks.Swap(n=n, n_max=config.n_max, batch=config.batch, seed=seed)

    def advance(n: int, steps: int) -> None:
        nonlocal taken
        batches, first = task(n, seed), taken
        result = fit(
            model, lambda i: batches(first + i), tasks.loss, optimizer, steps=steps, clip=1.0,
            schedule=lambda i: min(1.0, (first + i + 1) / 50),
        )  # fmt: skip
        if not result.stop.ok:
            raise FloatingPointError(f"training with T = {loops} failed: {result.stop}")
        taken += steps
        run.progress(min(taken, config.budget), config.budget)

    def evaluate(n: int) -> float:
        score = tasks.accuracy(model, task(n, seed + 1_000_000), 4)
        run.log(step=taken, **labels, n=n, accuracy=score)
        # Out of budget: the stage is left as it stands.
        return score

    went: list[tuple[int, int, float]] = []
    for n in config.stages:
        room = config.budget - taken
        if room < 1:
            break
        plan = tasks.Curriculum((n,), config.threshold, min(config.cap, room), config.every)
        went += plan.run(advance, evaluate)
        if went[-1][2] < config.threshold:
            break
    solved = tasks.Curriculum(config.stages, config.threshold).largest(went)
    run.log(step=taken, **labels, solved=solved, last=went[-1][0], last_accuracy=went[-1][2])
    run.commit()


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    solved = {T: looped.last(run, "solved", loops=T) for T in config.loops}
    told = "; ".join(
        f"T = {T}: {', '.join(f'{s:.0f}' for s in found)} (next stage at "
        f"{looped.listed(looped.last(run, 'last_accuracy', loops=T), 2)})"
        for T, found in solved.items()
    )
    few, many = min(config.loops), max(config.loops)
    gained = [b - a for a, b in zip(solved[few], solved[many])]
    mean, spread = looped.summarize(gained)
    made = [Claim(
        "loops", f"T = {many} loops solve at least as large programs as T = {few} (largest n, difference)", paper="at least 0",
        ours=mean, spread=spread,
        status="not reproduced" if min(gained) < 0 else "direction only" if mean == 0 else "reproduced",
        note=f"largest n solved at {config.threshold:.0%}, per seed: {told}; {config.budget} steps in all, {config.cap} a stage; same "
        "parameters; reproduced: larger on average and never smaller", source="2605.20670, state tracking; A17", **common,
    )]  # fmt: skip
    made.append(Claim.not_attempted(
        "128", "gated delta + window solves 32 cells up to T = 4 and 128 at T = 8", paper=128.0,
        why="100,000 steps per stage do not fit here, and the paper's format, sizes and seeds are not known",
        command="unrolled run looped-swap --preset paper", preset=config.preset, hardware=run.hardware,
    ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy of the stage at hand over steps."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    figure = Figure(figsize=(3.6 * len(config.loops), 3.0), layout="constrained")
    panels = figure.subplots(1, len(config.loops), sharey=True, squeeze=False)[0]
    for ax, loops in zip(map(axes, panels), config.loops):
        shown: set[int] = set()
        for seed in range(config.seed, config.seed + config.seeds):
            mine = looped.rows(run, "n", loops=loops, seed=seed)
            for i, n in enumerate(config.stages):
                there = [r for r in mine if r["n"] == n]
                if there:
                    ax.plot([r["step"] for r in there], [r["accuracy"] for r in there], color=COLORS[i % 7], marker="o", ms=3,
                            label=f"n = {n}" if n not in shown else None)  # fmt: skip
                    shown.add(n)
        ax.axhline(config.threshold, color="#1c1e21", lw=0.8, ls=":")
        ax.set(title=f"T = {loops}", xlabel="step", ylim=(-0.02, 1.04))
        ax.legend(frameon=False)
    panels[0].set_ylabel("accuracy")
    return {
        "curriculum": (
            figure,
            "Accuracy on held-out swap programs of the stage at hand; the next stage begins at the dotted line.",
        )
    }
