"""Online and continual: one pass, one image at a time, over a stream of tasks and over one that drifts; the local rule beside backprop and replay.

Three streams of the same images: *shuffled* (the control), *tasks* (two classes after another, never again), *drift* (images
turn slowly, half a turn over the stream). A local rule is no cure for forgetting: that is for the numbers to say.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from unrolled.cortex.rate import Momentum, Net, backprop, changes
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _rate as rate
from unrolled.studies import _rate_data as data
from unrolled.training.images import Images

PAPER = rate.PAPER
METHODS = ("centered_nudging",)


@dataclass(frozen=True)
class Config:
    """Which streams, how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights, order of images, what is replayed"""
    seeds: int = 2
    data: str = ""
    """folder of Fashion-MNIST's idx files; where Debian's dataset-fashion-mnist puts them when empty; "digits" for small ones"""
    images: int = 1500
    """length of a stream"""
    test: int = 1000
    """test images"""
    hidden: int = 64
    replay: int = 200
    """images that replay remembers"""
    turn: float = 180.0
    """degrees that images turn over the drifting stream"""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    """learning rates tried"""
    tuning: int = 500
    """images of each trial"""


def tiny() -> Config:
    """Streams of 1,500 images, two seeds: about a minute."""
    return Config()


def small() -> Config:
    """Streams of 15,000 images, three seeds: about twenty minutes of one core."""
    return Config(preset="small", seeds=3, images=15_000, test=2000, hidden=128, replay=500, tuning=2000)


ARMS = {
    "local rule": (changes, False),
    "backprop": (backprop, False),
    "local rule, replay": (changes, True),
    "backprop, replay": (backprop, True),
}
"""Arm -> how an image becomes a change, and whether each new image is learned together with a remembered one."""
COLOR = dict(zip(ARMS, (rate.PLUS, rate.MINUS, COLORS[5], COLORS[2])))
STREAMS = ("shuffled", "tasks", "drift")
WANTED = {
    "online": "online on a shuffled stream: the local rule's accuracy (points below backprop)",
    "tasks": "after a stream of tasks, all classes: the local rule (points below backprop)",
    "tasks-forgetting": "tasks: accuracy on a task just learned, minus at the end of the stream, local rule",
    "replay": "tasks: what replay gives the local rule (points above none)",
    "drift": "drift: the local rule on images as they are at the end (points below backprop)",
    "drift-forgetting": "drift: accuracy on images as they were at first, local rule (points below as they are now)",
}


def study(config: Config, run: Run) -> list[Claim]:
    """Every arm over every stream; judge."""
    sets = data.load(config.data)
    if sets is None:
        return rate.no_data(WANTED, data.WHY, f"unrolled run cortex-continual --preset {config.preset} --data FOLDER", rate.common(config, run))  # fmt: skip
    for seed in range(config.seed, config.seed + config.seeds):
        for arm in ARMS:
            for name in STREAMS:
                run.status(phase=f"{name}, {arm}, seed {seed}")
                if not rate.rows(run, {"stream": name, "arm": arm, "seed": seed, "part": "end"}):
                    one(config, run, name, arm, seed, *sets)
                    run.commit()
    return claims(config, run)


def turned(images: Tensor, degrees: Tensor) -> Tensor:
    """Images `[n, channels, height, width]`, each turned by its angle; what comes in from outside is the image's corner.

    Example:
        >>> x = torch.arange(9.0).view(1, 1, 3, 3)
        >>> turned(x, torch.tensor([180.0])).flatten().round().tolist()
        [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    """
    angle = degrees * torch.pi / 180
    rows = torch.stack([angle.cos(), -angle.sin(), angle * 0, angle.sin(), angle.cos(), angle * 0], 1).view(
        -1, 2, 3
    )
    grid = affine_grid(rows, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def stream(config: Config, name: str, images: Images, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images and labels in the order that they come, and the number of each one's task."""
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=rng)[: config.images]
    task = images.labels[chosen] // 2
    if name == "tasks":
        order = task.argsort(stable=True)
        chosen, task = chosen[order], task[order]
    shown = images[chosen]
    x = shown.scaled(images.moments())
    if name == "drift":
        x = turned(x, torch.linspace(0, config.turn, len(x)))
    return x, shown.labels, task


class Remembered:
    """A reservoir: each image of the stream so far has the same chance to be in it (Vitter 1985)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seen, self.kept = size, 0, list[tuple[Tensor, Tensor]]()
        self.rng = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """One of them."""
        return self.kept[int(torch.randint(len(self.kept), (1,), generator=self.rng))]

    def add(self, x: Tensor, label: Tensor) -> None:
        """An image has gone by."""
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append((x, label))
            return
        at = int(torch.randint(self.seen, (1,), generator=self.rng))
        if at < self.size:
            self.kept[at] = (x, label)


def learn(
    config: Config, arm: str, seed: int, lr: float, came: tuple[Tensor, Tensor], classes: int,
    after: Callable[[Net, int], None] | None = None,
) -> tuple[Net, list[float]]:  # fmt: skip
    """A fresh network after one pass, one image at a time; and whether it was wrong about each before it learned from it."""
    x, labels = came
    net = Net(tuple(x.shape[1:]), [config.hidden, config.hidden, classes], gain=0.1, rng=seed)
    memory, teach, replays = Momentum(net, lr, 0.0), *ARMS[arm]
    past, errors = Remembered(config.replay, seed), list[float]()
    for i in range(len(x)):
        images, said = x[i : i + 1], labels[i : i + 1]
        try:
            made = teach(net, images, said)
        except rate.NotSettling:  # nothing is named, and nothing learned
            errors.append(1.0)
            continue
        errors.append(made.wrong)
        if replays:
            if past.kept:
                other = past.draw()
                with contextlib.suppress(rate.NotSettling):
                    made = teach(net, torch.cat([images, other[0]]), torch.cat([said, other[1]]))
            past.add(images, said)
        memory.apply(net, made.changes)
        if after is not None:
            after(net, i)
    return net, errors


def one(config: Config, run: Run, name: str, arm: str, seed: int, whole: Images, test: Images) -> None:
    """One arm over one stream: its learning rate, chosen on shuffled images of its own; then the stream. Killed, it begins anew, the same."""
    classes = len(whole.names)
    kept, rest = rate.held_out(whole, 2 * config.tuning, 77 + seed)[::-1]
    lr = chosen(config, run, arm, seed, kept, classes)
    x, labels, task = stream(config, name, rest, seed)
    shown = test[: config.test].scaled(rest.moments())
    said = test.labels[: config.test]
    last = {int(t): int((task == t).nonzero()[-1]) for t in task.unique()} if name == "tasks" else {}
    just: dict[int, float] = {}

    def right(net: Net, images: Tensor, which: Tensor | None = None) -> float:
        images, wanted = (images, said) if which is None else (images[which], said[which])
        try:
            return 1 - rate.wrong(net, images, wanted, settled=arm.startswith("local"))
        except rate.NotSettling:
            return 1 / classes

    def after(net: Net, i: int) -> None:
        for t, end in last.items():
            if i == end:
                just[t] = right(net, shown, said // 2 == t)

    net, errors = learn(config, arm, seed, lr, (x, labels), classes, after)
    row: dict[str, Any] = {"online": 1 - sum(errors) / len(errors)}
    if name == "drift":
        now = turned(shown, torch.full((len(shown),), config.turn))
        row |= {"end": right(net, now), "first": right(net, shown)}
    else:
        row["end"] = right(net, shown)
    if just:
        at_end = {t: right(net, shown, said // 2 == t) for t in just}
        row["forgotten"] = sum(just[t] - at_end[t] for t in just) / len(just)
        row |= {f"just_{t}": v for t, v in just.items()} | {f"end_{t}": v for t, v in at_end.items()}
    labeled = {"stream": name, "arm": arm, "seed": seed}
    share = max(1, len(errors) // 20)
    for start in range(0, len(errors) - share + 1, share):
        part = errors[start : start + share]
        run.log(part="way", step=start + share, online=1 - sum(part) / len(part), **labeled)
    run.log(part="end", lr=lr, **row, **labeled)


def chosen(config: Config, run: Run, arm: str, seed: int, kept: Images, classes: int) -> float:
    """The learning rate that was most often right on later images of a short shuffled stream; the same budget for each arm."""
    there = rate.rows(run, {"part": "end", "arm": arm, "seed": seed})
    if there:
        return there[0]["lr"]
    x, labels = kept.scaled(kept.moments()), kept.labels
    n, found = config.tuning, dict[float, float]()
    for lr in config.rates:
        try:
            net, _ = learn(config, arm, seed, lr, (x[:n], labels[:n]), classes)
            found[lr] = rate.wrong(net, x[n:], labels[n:], settled=arm.startswith("local"))
        except (ValueError, rate.NotSettling):  # too fast
            continue
    return min(found, key=found.__getitem__)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    shared = {**rate.common(config, run), "seeds": config.seeds, "unit": "points"}

    def of(stream: str, arm: str, field: str) -> list[float]:
        return [100 * v for v in rate.last(run, {"stream": stream, "arm": arm, "part": "end"}, field)]

    def apart(a: list[float], b: list[float]) -> tuple[float, float | None]:
        return rate.mean([x - y for x, y in zip(a, b)])

    def pair(stream: str, field: str) -> tuple[list[float], list[float]]:
        return of(stream, "backprop", field), of(stream, "local rule", field)

    def said(stream: str, field: str) -> str:
        return ", ".join(f"{arm} {rate.mean(of(stream, arm, field))[0]:.1f}" for arm in ARMS)

    made: list[Claim] = []
    for id, name, field in (("online", "shuffled", "end"), ("tasks", "tasks", "end"), ("drift", "drift", "end")):  # fmt: skip
        below, spread = apart(*pair(name, field))
        made.append(
            Claim(
                id, WANTED[id], paper="as good as backprop (open)", ours=below, spread=spread, status="reproduced" if below <= 1 else "direction only" if below <= 5 else "not reproduced",
                note=f"test accuracy at the end, %: {said(name, field)}; one pass of {config.images:,}, one image at a time; reproduced: 1 point or less below; direction only: 5",
                source="nothing is published", **shared,
            )
        )  # fmt: skip
    lost, spread = rate.mean(of("tasks", "local rule", "forgotten"))
    made.append(
        Claim(
            "tasks-forgetting", WANTED["tasks-forgetting"], paper="none (hope)", ours=lost, spread=spread, status="reproduced" if lost <= 10 else "not reproduced",
            note=f"forgotten, points: {said('tasks', 'forgotten')}; a local rule alone does not keep what it is not shown; reproduced: 10 or less", **shared,
        )
    )  # fmt: skip
    gained, spread = apart(of("tasks", "local rule, replay", "end"), of("tasks", "local rule", "end"))
    made.append(
        Claim(
            "replay", WANTED["replay"], paper="> 0", ours=gained, spread=spread, status="reproduced" if gained > 10 else "direction only" if gained > 0 else "not reproduced",
            note=f"{config.replay} images remembered, one learned beside each new one; reproduced: more than 10", **shared,
        )
    )  # fmt: skip
    lost, spread = apart(of("drift", "local rule", "end"), of("drift", "local rule", "first"))
    made.append(
        Claim(
            "drift-forgetting", WANTED["drift-forgetting"], paper="none (hope)", ours=lost, spread=spread, status="reproduced" if lost <= 10 else "not reproduced",
            note=f"upright images at the end, %: {said('drift', 'first')}; reproduced: 10 or less", **shared,
        )
    )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Online accuracy along each stream, an arm a line; what is known of each task just after it, and at the end."""
    from matplotlib.figure import Figure

    if not rate.rows(run, {"part": "end"}):
        return {}
    figure = Figure(figsize=(8.6, 3.3), layout="constrained")
    for ax, name in zip(map(axes, figure.subplots(1, 3, sharey=True)), STREAMS):
        for arm, color in COLOR.items():
            found = rate.rows(run, {"part": "way", "stream": name, "arm": arm})
            steps = sorted({r["step"] for r in found})
            level = [100 * rate.mean([r["online"] for r in found if r["step"] == s])[0] for s in steps]
            ax.plot(steps, level, color=color, lw=1.6, ls="--" if "replay" in arm else "-", label=arm)
        ax.set(title=name, xlabel="images seen", ylim=(0, 102))
    axes(figure.axes[0]).set_ylabel("right before learning (%)")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    ends = Figure(figsize=(7.4, 2.8), layout="constrained")
    ax = axes(ends.add_subplot())
    tasks = [t for t in range(20) if any(f"just_{t}" in r for r in rate.rows(run, {"part": "end"}))]
    for k, (arm, color) in enumerate(COLOR.items()):
        for t in tasks:
            labels = {"part": "end", "stream": "tasks", "arm": arm}
            then, now = (100 * rate.mean(rate.last(run, labels, f"{w}_{t}"))[0] for w in ("just", "end"))
            at = t + 0.18 * (k - 1.5)
            ax.plot([at, at], [then, now], color=color, lw=1)
            ax.plot(at, then, "o", color=color, ms=5, mfc="white")
            ax.plot(at, now, "o", color=color, ms=5, label=arm if t == tasks[0] else None)
    ax.set(
        xticks=tasks, xlabel="task, in the order of the stream", ylabel="test accuracy (%)", ylim=(-4, 104)
    )
    ax.set_xticklabels([f"{t + 1}" for t in tasks])
    ends.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return {
        "online": (figure, "Share of images named rightly before they are learned from, along three streams of the same images; mean over seeds. One pass, one image at a time."),
        "tasks": (ends, "Each task just after it was learned (open) and at the end of the stream (filled), among all ten classes."),
    }  # fmt: skip
