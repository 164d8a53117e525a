"""CIFAR-10 with a local rule, from the user's own files: four convolutions, backprop beside it.

The network of the published logs (128-256-512-512 and a dense output), which equilibrium propagation trains to 88.4 % in
90 epochs at 29 times backprop's time. CIFAR is in no package this one could name, so nothing runs without the files, and
nothing takes their place.
"""

from dataclasses import dataclass
from typing import Any

import torch

from unrolled.cortex.rate import Conv, Net, changes
from unrolled.runs import Claim, Run
from unrolled.studies import _rate as rate
from unrolled.training import images
from unrolled.training.images import Shuffled

PAPER = rate.PAPER
METHODS = ("centered_nudging", "layered_chl")
ARMS = ("local rule", "backprop")
RATES = (0.02, 0.05, 0.12)
CHANCE = {"cifar10": 10.0, "cifar100": 1.0, "imagenet32": 0.1}
"""Accuracy of a guess, %."""
LOADERS = {"cifar10": images.cifar10, "cifar100": images.cifar100, "imagenet32": images.imagenet32}


@dataclass(frozen=True)
class Config:
    """Which images, which network, for how long."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 1
    data: str = ""
    """folder of the standard files"""
    set: str = "cifar10"
    """cifar10, cifar100 or imagenet32"""
    epochs: float = 0.1
    batch: int = 128
    tuning_steps: int = 20
    channels: int = 8
    """of the first convolution; then twice, four times, four times as many"""
    gain: float = 0.05
    beta: float = 0.1
    decay: float = 5e-4
    images: int = 0
    """training images; all when 0"""
    test: int = 500
    """test images; all when 0"""
    device: str = "cpu"
    bfloat16: bool = False


def tiny() -> Config:
    """Forty batches of a network an eighth as wide: that it runs."""
    return Config()


def small() -> Config:
    """Two epochs of it; half an hour."""
    return Config(preset="small", epochs=2, tuning_steps=50, channels=16, test=0)


def paper() -> Config:
    """The published network, ninety epochs, three seeds, on a GPU."""
    return Config(
        preset="paper",
        seeds=3,
        epochs=90,
        tuning_steps=500,
        channels=128,
        test=0,
        device="cuda",
        bfloat16=True,
    )


WANTED = {
    "gap": "accuracy within 1 point of backprop's on the same four-convolution network (points below backprop)",
    "accuracy": "the local rule's test accuracy",
    "cost": "an update in units of one backprop step",
}


def study(config: Config, run: Run) -> list[Claim]:
    """Train both, if the files are there."""
    shared = rate.common(config, run)
    command = f"unrolled run cortex-cifar --preset {'paper' if config.preset == 'tiny' else config.preset} --data FOLDER"
    if config.set not in LOADERS:
        raise ValueError(f"set={config.set!r} is none of {', '.join(LOADERS)}")
    if not config.data:
        return rate.no_data(WANTED, f"needs {config.set}'s standard files", command, shared)
    whole, test = LOADERS[config.set](config.data)
    if config.device == "cuda" and not torch.cuda.is_available():
        return rate.no_data(WANTED, "needs a GPU", command, shared)
    whole, test = (
        (whole[: config.images] if config.images else whole),
        (test[: config.test] if config.test else test),
    )
    moments = whole.moments()
    tested = test.to(config.device).scaled(moments), test.labels
    options: dict[str, Any] = {"moments": moments, "flip": True, "shift": 4}
    for seed in range(config.seed, config.seed + config.seeds):
        less, kept = rate.held_out(whole, len(whole) // 6, seed)
        kept = kept[: len(test)].to(config.device)
        for arm in ARMS:

            def make(arm: str, seed: int = seed) -> Net:
                return network(config, len(whole.names), rate.ARMS[arm][0], seed)

            teach = teacher(config, arm)
            lr = rate.tune(
                run, arm, make, teach, Shuffled(less, config.batch, seed, **options), (kept.scaled(moments), kept.labels), RATES,
                config.tuning_steps, decay=config.decay, seed=seed,
            )  # fmt: skip
            batches = Shuffled(whole, config.batch, seed, **options)
            labels = {"arm": arm, "seed": seed, "part": "training", "lr": lr}
            steps = max(1, round(config.epochs * len(batches)))
            rate.train(
                run,
                labels,
                make(arm),
                teach,
                batches,
                steps,
                lr=lr,
                decay=config.decay,
                test=tested,
                report=50,
            )
    if not rate.rows(run, {"part": "cost"}):
        net = network(config, len(whole.names), "symmetric", config.seed)
        x, labels = (
            t.to(config.device) for t in Shuffled(whole, config.batch, config.seed, moments=moments)(0)
        )
        times = rate.cost(net, (x, labels), {arm: teacher(config, arm) for arm in ARMS}, repeats=5)
        run.log(part="cost", seed=config.seed, local_rule=rate.ratio(times, "local rule", "backprop"))
        run.commit()
    return claims(config, run)


def network(config: Config, classes: int, feedback: str, seed: int) -> Net:
    """Four pooled convolutions and an output."""
    c = config.channels
    layers = [*(Conv(n, 3, pool=2) for n in (c, 2 * c, 4 * c, 4 * c)), classes]
    return Net(
        (3, 32, 32), layers, gain=config.gain, feedback=feedback, rng=seed, matmul=torch.bfloat16 if config.bfloat16 else None,
    ).to(config.device)  # fmt: skip


def teacher(config: Config, arm: str) -> rate.Teach:
    """How an arm learns."""
    if rate.settles(arm):
        return lambda net, x, labels: changes(net, x, labels, beta=config.beta)
    return rate.ARMS[arm][1]


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    shared = {**rate.common(config, run), "seeds": config.seeds}
    paper = {"cifar10": (88.4, 88.0), "cifar100": (61.5, 60.0), "imagenet32": (36.5, 36.0)}[config.set]
    score = {
        arm: [100 * (1 - e) for e in rate.last(run, {"arm": arm, "part": "training"}, "test")] for arm in ARMS
    }
    below, spread = rate.mean([b - a for a, b in zip(score["local rule"], score["backprop"])])
    accuracy, deviation = rate.mean(score["local rule"])
    costs = rate.rows(run, {"part": "cost"})[-1]["local_rule"]
    note = f"{config.set}, {config.epochs:g} epochs, {config.channels} channels in the first convolution; backprop {rate.mean(score['backprop'])[0]:.2f} %"
    return [
        Claim(
            "gap", WANTED["gap"], paper="<= 1.0", ours=below, spread=spread, unit="points", status="reproduced" if below <= 1 else "direction only" if below <= 4 else "not reproduced",
            note=f"{note}; direction only: 4", source="cortex fact sheet, T13", **shared,
        ),
        Claim(
            "accuracy", WANTED["accuracy"], paper=paper[0], ours=accuracy, spread=deviation, unit="%", status="reproduced" if accuracy >= paper[1] else "direction only" if accuracy > 2 * CHANCE[config.set] else "not reproduced",
            note=f"{note}; reproduced: {paper[1]:g}; direction only: twice chance", source="cortex fact sheet, T13 and 8.1", **shared,
        ),
        Claim(
            "cost", WANTED["cost"], paper=29.0, ours=costs, unit="backprop steps", status="reproduced" if costs <= 6 else "direction only" if costs < 29 else "not reproduced",
            note="median of interleaved rounds; aim 6", source="cortex fact sheet, 8.1", **{**shared, "seeds": 1},
        ),
    ]  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Learning curves; nothing without the images."""
    if not rate.rows(run, {"part": "training"}):
        return {}
    return {"learning": (rate.curves(run), "Error on the batches and on the test images of one four-convolution network by the local rule (orange) and by backprop (blue).")}  # fmt: skip
