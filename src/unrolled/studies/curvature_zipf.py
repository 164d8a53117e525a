"""Does a longer tail of rare words make loss landscapes sharper, and Adam suffer more? The Zipf-PCFG has the dial.

Training text is drawn at s = 0, 1/2 and 1 (word frequencies within class and topic fall as rank^-s), validation text
always at s = 0. The mean sharpness along each optimizer's own path is compared across s.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

from unrolled.instruments.reading import axes
from unrolled.optim import data
from unrolled.runs import Claim, Run
from unrolled.studies import _curvature as curvature
from unrolled.studies import _curvature_exhibits as exhibits
from unrolled.training import gpt

PAPER = curvature.PAPER
METHODS = ("muon", "adam", "match_rms", "hessian_vector_product", "directional_sharpness")


@dataclass(frozen=True)
class Config:
    """What is trained on what, and how it is probed."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 1
    """of weights and order; the grammar is the same for all"""
    exponents: tuple[float, ...] = (0.0, 1.0)
    """values of s"""
    lite: bool = True
    """8 classes, 8 topics, 256 tokens; otherwise the paper's 20, 30 and 4,412"""
    rank: Literal["topic", "class"] = "topic"
    """rank words within class and topic (the literal reading; overall frequencies hardly change), or within class alone,
    so that some words are rare everywhere"""
    tokens: int = 2_000_000
    """of training text at each s"""
    layers: int = 2
    heads: int = 4
    width: int = 48
    context: int = 32
    batch: int = 32
    steps: int = 200
    warmup: int = 20
    optimizers: tuple[str, ...] = ("adam", "muon-equal")
    """Adam, and Muon at its own rate ("muon") or at Adam's ("muon-equal"), where its updates are as long as Adam's"""
    adam_lr: float = 3e-3
    muon_lr: float = 2e-2
    aux_lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.95)
    grid: tuple[float, ...] = ()
    """factors on adam_lr and muon_lr to choose from, at s = 0"""
    probe_every: int = 10
    device: str = "cpu"


def tiny() -> Config:
    """One seed, s = 0 and 1, a rate of 0.003 for both, which is below the best. `--seeds 5` takes some minutes."""
    return Config()


def small() -> Config:
    """Five seeds, three exponents, each optimizer's learning rate chosen on a grid of four."""
    return Config(
        preset="small", seeds=5, exponents=(0.0, 0.5, 1.0), optimizers=("adam", "muon", "muon-equal"), adam_lr=6e-3, aux_lr=6e-3,
        grid=(0.25, 0.5, 1.0, 2.0),
    )  # fmt: skip


def paper() -> Config:
    """The paper's grammar and shape: 4 layers, 4 heads, width 256, 10,000 steps. Needs a GPU."""
    return Config(
        preset="paper", seeds=1, exponents=(0.0, 0.5, 1.0), lite=False, tokens=100_000_000, layers=4, heads=4, width=256,
        context=256, batch=128, steps=10_000, warmup=500, adam_lr=2e-3, muon_lr=6e-3, aux_lr=2e-3, grid=(0.5, 1.0, 2.0, 4.0),
        probe_every=250, device="cuda",
    )  # fmt: skip


def study(config: Config, run: Run) -> list[Claim]:
    """Tune at s = 0, train every seed, exponent and optimizer, judge."""
    made = curvature.without_device(config.device, "curvature-zipf", run, config.preset, _claims_open())
    if made is not None:
        return made
    grammar = data.lite(rank=config.rank) if config.lite else data.zipf_pcfg(rank=config.rank)
    held_out = grammar.at(0.0).corpus(max(50_000, config.tokens // 20), rng=1_000_003)
    validate = held_out.batches(batch=4 * config.batch, context=config.context, seed=0, device=config.device)
    shape = gpt.GPTConfig(
        layers=config.layers,
        heads=config.heads,
        width=config.width,
        context=config.context,
        vocab=grammar.vocab,
    )

    def build(name: str, s: float, seed: int, lr: float) -> tuple[Any, Any, Any]:
        model = gpt.GPT(shape, rng=seed).to(config.device)
        optimizer = curvature.optimizer_for(name, model, lr=lr, adam_lr=config.aux_lr, betas=config.betas)
        text = grammar.at(s).corpus(config.tokens, rng=seed)
        return (
            model,
            optimizer,
            text.batches(batch=config.batch, context=config.context, seed=seed, device=config.device),
        )

    rates = curvature.best_rates(
        run, {"adam": config.adam_lr, "muon": config.muon_lr}, config.grid, lambda name, lr: build(name, 0.0, curvature.TUNING_SEED, lr),
        validate, steps=config.steps, warmup=config.warmup,
    )  # fmt: skip
    for seed in range(config.seed, config.seed + config.seeds):
        for s in config.exponents:
            for name in config.optimizers:
                run.status(phase=f"s = {s:g}, {curvature.NAME[name]}, seed {seed}")
                model, optimizer, batches = build(name, s, seed, rates[name])
                curvature.train(
                    run, model, optimizer, batches, validate,
                    labels={"s": s, "optimizer": name, "seed": seed}, steps=config.steps, warmup=config.warmup,
                    probe_every=config.probe_every, split=None,
                )  # fmt: skip
    steep = {"s": config.exponents[-1], "seed": config.seed}
    paths = {name: curvature.series(run, optimizer=name, **steep) for name in config.optimizers}
    exhibits.show(run, paths, curvature.NAME, {})
    return claims(config, run)


def sharpness(run: Run, config: Config, name: str, s: float, seed: int, scope: str = "all") -> float:
    """Mean NDS along a path after warm-up: S-bar of the paper."""
    path = curvature.series(run, scope=scope, s=s, optimizer=name, seed=seed)
    return float(path.window(config.warmup, None)["nds"].mean())


def normalized(
    run: Run, config: Config, muon: str, scope: str = "all"
) -> list[dict[tuple[str, float], float]]:
    """S-tilde = S-bar / S-bar of Muon at s = 0, per seed: (optimizer, s) -> value."""
    seeds = range(config.seed, config.seed + config.seeds)
    table = [
        {
            (name, s): sharpness(run, config, name, s, seed, scope)
            for name in ("adam", muon)
            for s in config.exponents
        }
        for seed in seeds
    ]
    return [{key: value / row[muon, config.exponents[0]] for key, value in row.items()} for row in table]


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    low, high = config.exponents[0], config.exponents[-1]
    made: list[Claim] = []
    for muon in config.optimizers[1:]:
        table = normalized(run, config, muon)
        where = "Equal update length" if muon == "muon-equal" else "Best learning rates"
        suffix = "-equal" if muon == "muon-equal" else ""
        rest: dict[str, Any] = {
            "preset": config.preset, "hardware": run.hardware, "seeds": config.seeds, "unit": "x", "source": "Figure 3, Observation 3",
        }  # fmt: skip

        def add(id: str, statement: str, values: list[float], paper: float, verdict: str, note: str, rest: dict[str, Any] = rest,
                where: str = where, suffix: str = suffix) -> None:  # fmt: skip
            mean, spread = curvature.summarize(values)
            status: Any = "not reproduced" if math.isnan(mean) else verdict
            made.append(
                Claim(
                    id + suffix,
                    f"{where}: {statement}",
                    paper,
                    mean,
                    spread,
                    status=status,
                    note=note,
                    **rest,
                )
            )

        for name, s, paper in (("adam", low, 1.63), ("adam", high, 2.38), (muon, high, 1.25)):
            values = [row[name, s] for row in table]
            mean = statistics.fmean(values)
            add(
                f"sharpness-{name.split('-')[0]}-{s:g}",
                f"{curvature.NAME[name].split(',')[0]}'s mean NDS at s = {s:g}, over Muon's at s = {low:g}",
                values, paper,
                "reproduced" if abs(mean / paper - 1) <= 0.25 else "direction only" if mean > 1 else "not reproduced",
                "reproduced: within 25 %",
            )  # fmt: skip
        gaps = {s: [row["adam", s] - row[muon, s] for row in table] for s in config.exponents}
        growth = [b / a if a > 0 else float("nan") for a, b in zip(gaps[low], gaps[high])]
        rises = sum(b > a for a, b in zip(gaps[low], gaps[high]))
        both = sum(row["adam", high] > row["adam", low] and row[muon, high] > row[muon, low] for row in table)
        ordered = sum(
            all(gaps[a][i] < gaps[b][i] for a, b in zip(config.exponents, config.exponents[1:]))
            for i in range(config.seeds)
        )
        mean = statistics.fmean(growth)
        enough = 0.8 * config.seeds
        add(
            "gap-growth", f"the gap between the two grows from s = {low:g} to s = {high:g} (ratio of gaps)", growth, 1.8,
            "reproduced" if mean >= 1.3 and rises >= enough else "direction only" if rises >= enough else "not reproduced",
            f"gap {statistics.fmean(gaps[low]):.2f} to {statistics.fmean(gaps[high]):.2f} (paper .63 to 1.13); larger in {rises} of "
            f"{config.seeds} seeds, monotone in {ordered}; reproduced: at least 1.3 x and in 4 of 5 seeds",
        )  # fmt: skip
        add(
            "both-rise", "both optimizers meet sharper directions at the larger s (share of seeds)",
            [100.0 * both / config.seeds], 100.0, "reproduced" if both >= enough else "not reproduced",
            f"{both} of {config.seeds} seeds; reproduced: 4 of 5", rest | {"unit": "%"},
        )  # fmt: skip
    return made


def _claims_open() -> dict[str, tuple[str, float | str]]:
    return {
        "sharpness-adam-1": ("Adam's mean NDS at s = 1, over Muon's at s = 0", 2.38),
        "sharpness-muon-1": ("Muon's mean NDS at s = 1, over its own at s = 0", 1.25),
        "gap-growth": ("the gap between the two grows from s = 0 to s = 1", 1.8),
    }


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Normalised sharpness against s."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    if not any("val_loss" in row for row in run.metrics()):
        return {}
    arms = config.optimizers[1:]
    figure = Figure(figsize=(4.4 * len(arms), 3.1), layout="constrained")
    for ax, muon in zip(map(axes, figure.subplots(1, len(arms), squeeze=False)[0]), arms):
        table = normalized(run, config, muon)
        for name in ("adam", muon):
            values = [[row[name, s] for row in table] for s in config.exponents]
            means = [statistics.fmean(points) for points in values]
            ax.plot(config.exponents, means, color=curvature.COLOR[name], label=curvature.NAME[name])
            for s, points in zip(config.exponents, values):
                ax.plot([s] * len(points), points, "o", color=curvature.COLOR[name], alpha=0.5, markersize=4)
        ax.set(xlabel="exponent s of the word frequencies", xticks=config.exponents, ylim=(0, None))
        ax.set_ylabel("mean NDS (Muon at s = 0 is 1)")
        ax.legend()
    caption = (
        "Mean sharpness along each optimizer's own path, in units of Muon's at s = 0; a dot per seed, a line through the "
        "means. Red: Muon at Adam's update length; orange: at its own best rate."
    )
    return {"zipf": (figure, caption)}
