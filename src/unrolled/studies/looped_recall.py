"""Who can look up? Multi-query associative recall with softmax attention, the gated delta rule, and windows that loop.

Pairs of keys and values, then each key again: the value is wanted. Attention and a large enough state can; a window cannot
see far enough, unless T loops over N layers bring T N (w - 1) tokens into reach.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from unrolled.instruments.reading import COLORS, axes
from unrolled.looped import LT2, LT2Config, tasks
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped
from unrolled.training import Fit

PAPER = looped.PAPER


@dataclass(frozen=True)
class Config:
    """What is asked, and of whom."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 1
    length: int = 32
    pairs: int = 4
    vocab: int = 128
    steps: int = 1000
    batch: int = 64
    width: int = 64
    heads: int = 2
    lr: float = 5e-3
    window: int = 8
    window_loops: int = 5
    """T of the looped window: T * 2 * (window - 1) reaches past the length"""
    arms: tuple[str, ...] = ("softmax", "gated delta", "hybrid, T = 2", "window", "window, looped")
    enough: float = 0.995
    """accuracy at which training ends"""


def tiny() -> Config:
    """Short, with few tokens to tell apart; some minutes. Chosen so that the gated delta rule learns it."""
    return Config()


def small() -> Config:
    """The published (64, 4) with 8,192 tokens, width 64, 2 layers."""
    return Config(preset="small", length=64, vocab=8192, steps=4000, lr=3e-3)


def paper() -> Config:
    """Three seeds with room to learn; needs a GPU."""
    return Config(preset="paper", seeds=3, length=256, pairs=64, vocab=8192, steps=40_000, width=128, batch=256, window=32, window_loops=5)  # fmt: skip


def shapes(config: Config) -> dict[str, LT2Config]:
    """Arm -> its model: two layers each."""
    base: dict[str, Any] = {
        "vocab_size": config.vocab, "width": config.width, "layers": 2, "heads": config.heads, "window": config.window, "hidden": 2 * config.width,
    }  # fmt: skip
    return {
        "softmax": LT2Config(**base, loops=1, pattern="full"),
        "gated delta": LT2Config(**base, loops=1, pattern="gated_delta"),
        "hybrid, T = 2": LT2Config(**base, loops=2, pattern="interleaved:1:1"),
        "window": LT2Config(**base, loops=1, pattern="window"),
        "window, looped": LT2Config(**base, loops=config.window_loops, pattern="window"),
    }


def study(config: Config, run: Run) -> list[Claim]:
    """Train every arm and seed, judge."""
    for name in config.arms:
        for seed in range(config.seed, config.seed + config.seeds):
            task = tasks.MQAR(config.length, config.pairs, config.vocab, config.batch, seed)
            held_out = dataclasses.replace(task, seed=seed + 1_000_000)

            def evaluate(model: LT2, held_out=held_out) -> dict[str, float]:
                return {"accuracy": tasks.accuracy(model, held_out, 4)}

            def enough(done: Fit) -> str | None:
                return "learned" if done.evaluations[-1]["accuracy"] >= config.enough else None

            looped.train(
                run, {"arm": name, "seed": seed}, shapes(config)[name], task, steps=config.steps, lr=config.lr, seed=seed,
                evaluate=evaluate, every=max(1, config.steps // 20), warmup=config.steps // 20, weight_decay=0.1, until=enough,
            )  # fmt: skip
    return claims(config, run)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    where = f"({config.length}, {config.pairs})"

    def best(name: str) -> list[float]:
        return looped.last(run, "accuracy", arm=name)

    made: list[Claim] = []
    for name, bar, paper, id in (
        ("softmax", 0.99, 1.0, "softmax"), ("gated delta", 0.99, 1.0, "gated-delta"), ("hybrid, T = 2", 0.99, "at least 0.99", "hybrid"),
    ):  # fmt: skip
        if found := best(name):
            mean, spread = looped.summarize(found)
            steps = [r["step"] for r in looped.rows(run, "accuracy", arm=name)][-1]
            made.append(Claim(
                id, f"{name} recalls {where}: accuracy", paper=paper, ours=mean, spread=spread,
                status="reproduced" if mean >= bar else "direction only" if mean > 0.5 else "not reproduced",
                note=f"{config.vocab} tokens, width {config.width}, 2 layers; ended at step {steps} of {config.steps}; reproduced: at least {bar}",
                source="2312.04927; A16", **common,
            ))  # fmt: skip
    alone, again = best("window"), best("window, looped")
    reach = 2 * (config.window - 1)
    if alone:
        mean, spread = looped.summarize(alone)
        made.append(Claim(
            "window", f"two layers with a window of {config.window} cannot: they see {reach} tokens back", paper="well below",
            ours=mean, spread=spread, status="reproduced" if mean < 0.9 else "not reproduced",
            note=f"reproduced: below 0.9; {_within(config, reach):.0%} of queries lie within reach of their pair", source="A16", **common,
        ))  # fmt: skip
    if again:
        mean, spread = looped.summarize(again)
        far = config.window_loops * reach
        made.append(Claim(
            "window-looped", f"{config.window_loops} loops bring {far} tokens into reach, and recall back: accuracy",
            paper="at least 0.9", ours=mean, spread=spread,
            status="reproduced" if mean >= 0.9 else "direction only" if alone and mean > looped.summarize(alone)[0] + 0.05 else "not reproduced",
            note=f"{_within(config, far):.0%} of queries lie within reach of their pair; reproduced: at least 0.9", source="A16", **common,
        ))  # fmt: skip
    return made


def _within(config: Config, reach: int) -> float:
    """Share of queries whose value stands at most `reach` tokens before them."""
    tokens, targets = tasks.MQAR(config.length, config.pairs, config.vocab, 256, 0)(0)
    keys = tokens[:, 0 : 2 * config.pairs : 2]
    there = (targets != -100).nonzero()
    values = 1 + 2 * (keys[there[:, 0]] == tokens[there[:, 0], there[:, 1], None]).float().argmax(1)
    return float((there[:, 1] - values <= reach).double().mean())


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy over training."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    figure = Figure(figsize=(5.4, 3.0), layout="constrained")
    ax = axes(figure.add_subplot())
    for color, name in zip(COLORS, config.arms):
        for seed in range(config.seed, config.seed + config.seeds):
            mine = looped.rows(run, "accuracy", arm=name, seed=seed)
            ax.plot([r["step"] for r in mine], [r["accuracy"] for r in mine], color=color, marker="o", ms=3,
                    label=name if seed == config.seed else None)  # fmt: skip
    ax.set(xlabel="step", ylabel="accuracy", ylim=(-0.02, 1.04))
    ax.legend(frameon=False)
    return {
        "recall": (
            figure,
            f"Accuracy of recall on held-out examples of {config.pairs} pairs in {config.length} tokens; training ends at "
            f"{config.enough:g}.",
        )
    }
