"""Which mixer survives being looped? Gradient norms of a small character model, four loops, one mixer at a time.

LT2 reports that a looped RetNet diverges (no gate, no delta), that the delta rule and Mamba-2 are noisy, and that the gated delta rule is
the smoothest, with smaller gradients than looped softmax attention. Here: same data, same seeds, same learning rate, the
norm of the gradient before clipping at every step.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Any

from unrolled.instruments.reading import COLORS, axes
from unrolled.looped import LT2Config
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped
from unrolled.training import corpus

PAPER = looped.PAPER


@dataclass(frozen=True)
class Config:
    """What is trained, how fast, how long."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 1
    mixers: tuple[str, ...] = ("retnet", "gated_delta", "full")
    steps: int = 100
    width: int = 64
    layers: int = 2
    heads: int = 4
    loops: int = 4
    batch: int = 8
    context: int = 64
    lr: float = 1e-3
    warmup: int = 10
    """steps with a rising learning rate, which the claims leave out"""
    text_bytes: int = 4_000_000


def tiny() -> Config:
    """Half the width and depth, 100 steps, one seed; a minute or two."""
    return Config()


def small() -> Config:
    """Width 128, 4 layers, 300 steps, three seeds."""
    return Config(preset="small", seeds=3, steps=300, width=128, layers=4, warmup=20)  # fmt: skip


def paper() -> Config:
    """The order at 30 M parameters; needs a GPU. The paper's own 0.6 B on 100 B tokens is out of reach."""
    return Config(
        preset="paper", seeds=3, steps=5000, width=512, layers=8, heads=8, batch=64, context=512, warmup=200,
        text_bytes=64_000_000, mixers=("retnet", "gated_delta", "full", "deltanet", "mamba2", "kda"),
    )  # fmt: skip


def study(config: Config, run: Run) -> list[Claim]:
    """Train every mixer and seed, judge."""
    text, held_out = corpus(max_bytes=config.text_bytes).split(0.05)
    run.log(corpus=text.source, tokens=len(text), sha256=text.sha256)
    for mixer in config.mixers:
        for seed in range(config.seed, config.seed + config.seeds):
            shape = LT2Config(
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                loops=config.loops,
                pattern=mixer,
            )
            validate = looped.validation(
                held_out.batches(batch=16, context=config.context, seed=0, device=looped.device()), 2
            )
            _, done = looped.train(
                run, {"mixer": mixer, "seed": seed}, shape, text.batches(batch=config.batch, context=config.context, seed=seed, device=looped.device()),
                steps=config.steps, lr=config.lr, seed=seed, warmup=config.warmup, weight_decay=0.1, evaluate=validate,
                floor=0.1, each_step=True,
            )  # fmt: skip
            run.log(mixer=mixer, seed=seed, ended=done.step, reason=done.stop.reason)
    return claims(config, run)


def norms(config: Config, run: Run, mixer: str) -> list[list[float]]:
    """Gradient norms after warm-up, a list per seed; inf at the end of a run that broke off."""
    made: list[list[float]] = []
    for seed in range(config.seed, config.seed + config.seeds):
        found = [r["grad_norm"] for r in looped.rows(run, "grad_norm", mixer=mixer, seed=seed)]
        broke = any(r["reason"] == "nonfinite" for r in looped.rows(run, "reason", mixer=mixer, seed=seed))
        made.append([*found[config.warmup :], *([math.inf] if broke else [])])
    return made


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    seen = {mixer: norms(config, run, mixer) for mixer in config.mixers}
    largest = {m: [max(n) for n in found] for m, found in seen.items()}
    middle = {m: [statistics.median(n) for n in found] for m, found in seen.items()}
    setting = (
        f"{config.steps} steps at {config.lr:g}, width {config.width}, {config.layers} layers, T = {config.loops}; "
        f"norms before clipping, the first {config.warmup} steps left out"
    )
    made: list[Claim] = []
    if {"retnet", "gated_delta"} <= set(seen):
        ratio = [a / b for a, b in zip(largest["retnet"], largest["gated_delta"])]
        mean, spread = looped.summarize(ratio)
        made.append(Claim(
            "retnet", "looped RetNet's largest gradient norm exceeds that of the gated delta rule (ratio)", paper="above 1",
            ours=mean, spread=spread, status="reproduced" if min(ratio) > 1 else "direction only" if mean > 1 else "not reproduced",
            note=f"seeds: {looped.listed(ratio, 2)}; RetNet {looped.listed(largest['retnet'], 2)}, gated delta "
            f"{looped.listed(largest['gated_delta'], 2)}; {setting}; reproduced: above 1 on every seed",
            source="2605.20670, section 3.5; A18", **common,
        ))  # fmt: skip
        diverged = sum(math.isinf(x) for x in largest["retnet"])
        made.append(Claim(
            "divergence", "looped RetNet diverges (seeds)", paper="diverges at 0.6 B", ours=float(diverged),
            status="reproduced" if diverged == config.seeds else "direction only" if diverged else "not reproduced",
            note=f"of {config.seeds}; {setting}", source="2605.20670, section 3.5", **common,
        ))  # fmt: skip
    if "gated_delta" in seen:
        spikes = [a / b for a, b in zip(largest["gated_delta"], middle["gated_delta"])]
        mean, spread = looped.summarize(spikes)
        made.append(Claim(
            "spikes", "no step of the looped gated delta rule exceeds ten times its median gradient norm (largest over median)",
            paper="below 10", ours=mean, spread=spread, status="reproduced" if max(spikes) <= 10 else "not reproduced",
            note=f"seeds: {looped.listed(spikes, 2)}", source="2605.20670, section 3.5; A18", **common,
        ))  # fmt: skip
    if {"full", "gated_delta"} <= set(seen):
        ratio = [a / b for a, b in zip(middle["gated_delta"], middle["full"])]
        mean, spread = looped.summarize(ratio)
        made.append(Claim(
            "softmax", "the looped gated delta rule's median gradient norm is below looped softmax's (ratio)", paper="below 1",
            ours=mean, spread=spread, status="reproduced" if max(ratio) <= 1 else "direction only" if mean < 1 else "not reproduced",
            note=f"seeds: {looped.listed(ratio, 2)}; reproduced: at most 1 on every seed", source="2605.20670, section 3.5; A18", **common,
        ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Gradient norm and loss over steps."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    for color, mixer in zip(COLORS, config.mixers):
        for seed in range(config.seed, config.seed + config.seeds):
            mine = looped.rows(run, "grad_norm", mixer=mixer, seed=seed)
            steps = [r["step"] for r in mine]
            label = mixer if seed == config.seed else None
            left.semilogy(steps, [r["grad_norm"] for r in mine], color=color, lw=0.9, alpha=0.8, label=label)
            right.plot(steps, [r["loss"] for r in mine], color=color, lw=0.9, alpha=0.8, label=label)
    left.set(xlabel="step", ylabel="gradient norm, before clipping")
    right.set(xlabel="step", ylabel="loss (nats per byte)")
    right.legend(frameon=False)
    return {
        "stability": (
            figure,
            f"Gradient norms and loss of character models with one mixer, looped {config.loops} times; a line a seed.",
        )
    }
