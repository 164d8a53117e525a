"""What the studies of rate-coded networks share: ways to learn on equal terms, training that a kill does not change, figures."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.rate import (
    Momentum,
    Net,
    NotSettling,
    Step,
    backprop,
    changes,
    feedback_alignment,
    hebb,
    predict,
)
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.training import checkpoint
from unrolled.training.images import Images, Shuffled

PAPER = {
    "title": "This is how the Neocortex Learns",
    "authors": "Randall C. O'Reilly",
    "arxiv": "2606.08720",
    "year": 2026,
}
MINUS, PLUS = COLORS[0], COLORS[1]
Rows = list[dict[str, Any]]
Teach = Callable[[Net, Tensor, Tensor], Step]

ARMS: dict[str, tuple[str, Teach]] = {
    "local rule": ("symmetric", changes),
    "backprop": ("symmetric", backprop),
    "feedback alignment": ("random", feedback_alignment),
    "Hebb": ("symmetric", hebb),
    "local rule, learned feedback": ("learned", changes),
}
"""Arm -> feedback of its network, and how a batch becomes a change of weights. All arms draw the same weights up."""
COLOR = dict(zip(ARMS, (PLUS, MINUS, COLORS[2], COLORS[3], COLORS[5])))


def settles(arm: str) -> bool:
    """Whether an arm's network predicts by settling; the others' is the feed-forward one."""
    return arm.startswith("local rule")


def rows(run: Run, labels: Mapping[str, Any]) -> Rows:
    """What was logged under these labels, in order."""
    return [r for r in run.metrics() if all(r.get(k) == v for k, v in labels.items())]


def last(run: Run, labels: Mapping[str, Any], of: str) -> list[float]:
    """The last value of a field for each seed."""
    found = [r for r in rows(run, labels) if of in r]
    return [[r[of] for r in found if r["seed"] == seed][-1] for seed in sorted({r["seed"] for r in found})]


def train(
    run: Run,
    labels: Mapping[str, Any],
    net: Net,
    teach: Teach,
    batches: Shuffled,
    steps: int,
    *,
    lr: float,
    decay: float,
    test: tuple[Tensor, Tensor] | None = None,
    report: int = 100,
    save: int = 100,
) -> Rows:
    """Train one network with a warm-up of a twentieth and a linear decay to 0; a killed run goes on bit-equal.

    Every `report` steps a row with the mean loss and error of those steps; with each epoch's last the test error. A
    network that runs away is a row with `diverged`, and the end.

    Args:
        run: where rows and checkpoints go.
        labels: what tells this network's rows from another's.
        net: fresh; trained in place.
        teach: makes the change of weights.
        batches: function of the step.
        steps: in all.
        lr: peak learning rate.
        decay: weight decay.
        test: scaled images and labels.
        report: steps a row.
        save: steps between checkpoints, a multiple of `report`.
    """
    there, file = rows(run, labels), run.checkpoints / "rate.safetensors"
    if there and (there[-1]["step"] >= steps or there[-1].get("diverged")):
        return there
    memory, start = Momentum(net, lr, 0.9, decay), 0
    kept = checkpoint.load(file) if there and file.exists() else None
    if kept is not None and kept["labels"] == dict(labels):
        net.put(kept["net"])
        memory.load_state_dict(kept["velocity"])
        start = kept["step"]
    there = [r for r in there if r["step"] <= start]
    loss = error = 0.0
    began = time.process_time()
    what = ", ".join(str(v) for v in labels.values())
    for step in range(start, steps):
        run.status(phase=what, step=step, steps=steps)
        factor = min(1.0, (step + 1) / max(1, steps // 20)) * (1 - step / steps)
        try:
            made = teach(net, *(t.to(net.device) for t in batches(step)))
        except (ValueError, NotSettling) as reason:
            if not isinstance(reason, NotSettling) and "diverged" not in str(reason):
                raise
            run.log(step=step, **labels, diverged=1, loss=math.nan, error=math.nan)
            break
        memory.apply(net, made.changes, factor)
        loss, error = loss + made.loss, error + made.error
        done = step + 1
        if done % report == 0 or done == steps:
            n = (done - 1) % report + 1
            row: dict[str, Any] = {"loss": loss / n, "error": error / n}
            if test is not None and (done == steps or done // len(batches) > (done - n) // len(batches)):
                row["test"] = wrong(net, *test, settled=settles(str(labels["arm"])))
            now = time.process_time()
            run.log(step=done, **labels, **row, cpu=round(now - began, 2))
            began, loss, error = now, 0.0, 0.0
            if done % save == 0 or done == steps:
                checkpoint.save(
                    file,
                    {
                        "labels": dict(labels),
                        "step": done,
                        "net": net.tensors(),
                        "velocity": memory.state_dict(),
                    },
                )
    return rows(run, labels)


def wrong(net: Net, images: Tensor, labels: Tensor, *, settled: bool) -> float:
    """Share of images whose largest output, settled or feed-forward, is not the label's."""
    found = predict(net, images, sweeps=4 if settled else 0).argmax(-1)
    return float((found != labels.to(found.device)).float().mean())


def tune(
    run: Run,
    arm: str,
    make: Callable[[str], Net],
    teach: Teach,
    train_on: Shuffled,
    held_out: tuple[Tensor, Tensor],
    rates: Sequence[float],
    steps: int,
    *,
    decay: float,
    seed: int,
) -> float:
    """The learning rate with the lowest error on held-out training images after a short run: the same budget for each arm."""
    found: dict[float, float] = {}
    for lr in rates:
        labels = {"arm": arm, "seed": seed, "part": "tuning", "lr": lr}
        done = train(run, labels, make(arm), teach, train_on, steps, lr=lr, decay=decay, test=held_out, report=steps, save=steps)  # fmt: skip
        if "test" in done[-1]:
            found[lr] = done[-1]["test"]
    if not found:
        raise RuntimeError(
            f"{arm}: none of the learning rates {', '.join(f'{r:g}' for r in rates)} kept the network whole; lower them"
        )
    return min(found, key=found.__getitem__)


def held_out(images: Images, n: int, seed: int) -> tuple[Images, Images]:
    """Training images without n of them, and those n."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[n:]], images[order[:n]]


def mean(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation where there are two or more."""
    t = torch.tensor(values, dtype=torch.float64)
    return (float(t.mean()) if len(t) else math.nan), (float(t.std()) if len(t) > 1 else None)


def cost(
    net: Net, batch: tuple[Tensor, Tensor], ways: Mapping[str, Teach], repeats: int = 9
) -> dict[str, list[float]]:
    """Seconds of one change of weights, for each way in turn, over and over: contention meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(repeats + 1):
        for name, teach in ways.items():
            began = time.perf_counter()
            teach(net, *batch)
            if net.device.type == "cuda":
                torch.cuda.synchronize()
            if k:  # the first warms up
                times[name].append(time.perf_counter() - began)
    return times


def ratio(times: Mapping[str, Sequence[float]], name: str, unit: str) -> float:
    """Median over the rounds of one way's time in units of another's."""
    pairs = torch.tensor([a / b for a, b in zip(times[name], times[unit])], dtype=torch.float64)
    return float(pairs.median())


def common(config: Any, run: Run) -> dict[str, Any]:
    """What every claim of a run says."""
    return {"preset": config.preset, "hardware": run.hardware}


def no_data(what: Mapping[str, str], why: str, command: str, shared: Mapping[str, Any]) -> list[Claim]:
    """Claims left open because their images are not here."""
    return [Claim.not_attempted(id, said, why=why, command=command, **shared) for id, said in what.items()]


# -- figures


def curves(run: Run, part: str = "training") -> Any:
    """Error on the batches and on the test images over steps, a line for each arm (and seed)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.8, 3.3), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2, sharex=True, sharey=True))
    for arm, color in COLOR.items():
        found = rows(run, {"arm": arm, "part": part})
        for i, seed in enumerate(sorted({r["seed"] for r in found})):
            mine = [r for r in found if r["seed"] == seed]
            style = {"color": color, "lw": 2.2 if arm == "local rule" else 1.3, "label": None if i else arm}
            left.plot([r["step"] for r in mine], [100 * r["error"] for r in mine], **style)
            tested = [r for r in mine if "test" in r]
            right.plot([r["step"] for r in tested], [100 * r["test"] for r in tested], "o-", ms=4, **style)
    left.set(xlabel="batches", ylabel="error (%)", yscale="log", title="on the batches, before learning")
    right.set(xlabel="batches", title="on the test images")
    ticks = [v for v in (5, 7, 10, 15, 20, 30, 50, 90) if left.get_ylim()[0] <= v <= left.get_ylim()[1]]
    left.set_yticks(ticks, labels=[f"{v}" for v in ticks])
    left.minorticks_off()
    right.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def bars(run: Run, part: str = "training") -> Any:
    """Test accuracy at the end, an arm a bar; seeds as dots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    ax = axes(figure.add_subplot())
    shown = [arm for arm in ARMS if last(run, {"arm": arm, "part": part}, "test")]
    for i, arm in enumerate(reversed(shown)):
        values = [100 * (1 - e) for e in last(run, {"arm": arm, "part": part}, "test")]
        ax.barh(i, mean(values)[0], color=COLOR[arm], height=0.65)
        ax.plot(values, [i] * len(values), "o", color="#1c1e21", ms=3)
        ax.annotate(f"{mean(values)[0]:.2f}", (mean(values)[0], i), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    ax.set(yticks=range(len(shown)), xlabel="test accuracy (%)", xlim=(0, 108))
    ax.set_yticklabels(list(reversed(shown)))
    return figure
