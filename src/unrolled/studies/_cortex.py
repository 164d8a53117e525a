"""What the cortex studies share: train a network epoch by epoch so that a killed run goes on bit-equal, judge, draw.

Every epoch is one row of the metrics; the network's memory is saved after it. Claims and figures are made from the run
folder alone.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from unrolled.core import Trajectory
from unrolled.cortex import Network
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Run
from unrolled.studies import _cortex_exhibits as exhibits

PAPER = {
    "title": "This is how the Neocortex Learns",
    "authors": "Randall C. O'Reilly",
    "arxiv": "2606.08720",
    "year": 2026,
}
MINUS, PLUS = COLORS[0], COLORS[1]
WEIGHTS = "weights.safetensors"
"""File of a run folder: each path's weights before and after learning."""
Rows = list[dict[str, Any]]


def rows(run: Run, labels: Mapping[str, Any]) -> Rows:
    """The epochs of one network, in order."""
    return [r for r in run.metrics() if "error" in r and all(r.get(k) == v for k, v in labels.items())]


def by_seed(run: Run, labels: Mapping[str, Any]) -> list[Rows]:
    """The epochs of each seed's network, in order of seeds."""
    found = rows(run, labels)
    return [[r for r in found if r["seed"] == seed] for seed in sorted({r["seed"] for r in found})]


def learn(
    run: Run,
    labels: Mapping[str, Any],
    net: Network,
    advance: Callable[[Network, int], dict[str, Any]],
    epochs: int,
    *,
    zeros: int = 2,
) -> Rows:
    """Train a network until `zeros` epochs in a row are perfect, `epochs` at most; goes on where a killed run was.

    Args:
        run: where rows and the network's memory go.
        labels: what tells this network's rows from another's.
        net: fresh.
        advance: trains one epoch and returns its numbers, `error` among them.
        epochs: at most.
        zeros: perfect epochs in a row that end training.

    Raises:
        RuntimeError: the saved network is not the one the rows speak of.
    """
    there, file = rows(run, labels), run.checkpoints / "network.safetensors"
    if criterion(there, zeros) or len(there) >= epochs:
        return there
    if there:
        net.load(file)
        if net.trials != there[-1]["trials"]:
            raise RuntimeError(
                f"{file} holds a network of {net.trials} trials, the last row of {dict(labels)} one of "
                f"{there[-1]['trials']}: the run folder was changed; start a new run"
            )
    for epoch in range(len(there), epochs):
        run.status(phase=", ".join(f"{k} {v}" for k, v in labels.items()), step=epoch, steps=epochs)
        row = {**labels, **advance(net, epoch), "trials": net.trials}
        run.log(step=epoch, **row)
        there.append({"step": epoch, **row})
        net.save(file)
        run.progress(epoch + 1, epochs)
        if criterion(there, zeros):
            break
    return there


def criterion(there: Rows, zeros: int = 2) -> int | None:
    """How many epochs it took until `zeros` in a row were perfect; None if that never came.

    Example:
        >>> criterion([{"error": e} for e in (1.0, 0.0, 0.1, 0.0, 0.0)])
        5
    """
    run = 0
    for i, row in enumerate(there):
        run = run + 1 if row["error"] == 0 else 0
        if run == zeros:
            return i + 1
    return None


def summarize(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation where there are two or more; NaN without any.

    Example:
        >>> summarize([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    if not values:
        return math.nan, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def remember(run: Run, fresh: Network, net: Network, names: Sequence[str], *patterns: Any) -> None:
    """Save a trial and the weights before and after learning, for the figures: records alone, sizes of the phases beside them.

    Args:
        run: where trajectory.safetensors and weights.safetensors go.
        fresh: the network before it learned.
        net: the same after.
        names: layers to record.
        patterns: what to present.
    """
    before = fresh.present(*patterns, record=[f"{name}.Act" for name in names])
    after = net.present(*patterns, record=wanted(names))
    records = after.records | {f"before/{name}": series for name, series in before.records.items()}
    meta = {
        "minus": net.theta.rest + net.theta.minus, "length": net.theta.length, "layers": list(names), "unit": "cycle",
    }  # fmt: skip
    trials = torch.tensor([fresh.trials, net.trials])
    wts = {
        name: torch.stack((fresh.paths[name].wt, path.wt))
        for name, path in net.paths.items()
        if path.params.learn
    }
    Trajectory.from_records(trials, wts, meta={"paths": list(wts)}).save(run.path / WEIGHTS)
    trial = Trajectory.from_records(after.t, records, meta=meta)
    exhibits.show(run, net, trial)
    run.save_trajectory(trial)


def wanted(names: Sequence[str]) -> list[str]:
    """What the figures need of a trial."""
    return [f"{name}.{variable}" for name in names for variable in ("Spike", "CaP", "CaD", "LearnCaP", "LearnCaD", "Act")]  # fmt: skip


# -- figures


def bands(ax: Any, minus: int, length: int) -> None:
    """The minus phase on blue, the plus phase on orange ground."""
    ax.axvspan(0, minus, color=MINUS, alpha=0.10, lw=0)
    ax.axvspan(minus, length, color=PLUS, alpha=0.18, lw=0)
    ax.set_xlim(0, length)


def raster(trial: Trajectory) -> tuple[Any, str]:
    """Spikes of every neuron over the theta cycle, the layers one above the other."""
    from matplotlib.figure import Figure

    names = trial.meta["layers"]
    sizes = [trial[f"{name}.Spike"].shape[-1] for name in names]
    heights = [max(size, 18) for size in sizes]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panels = figure.subplots(len(names), 1, sharex=True, height_ratios=list(reversed(heights)), squeeze=False)
    for ax, name in zip(map(axes, panels[:, 0]), reversed(names)):
        spikes = trial[f"{name}.Spike"][:, 0]
        t, unit = spikes.nonzero().T
        bands(ax, trial.meta["minus"], trial.meta["length"])
        ax.scatter(t, unit, s=2.5, color="#1c1e21", marker="|", linewidths=0.8)
        ax.set_ylim(-1, spikes.shape[1])
        ax.set_yticks([])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    panels[-1, 0].set_xlabel("cycle (ms)")
    rates = {n: 1000 * float(trial[f"{n}.Spike"].mean()) for n in names}
    said = ", ".join(f"{name} {rate:.0f} Hz" for name, rate in rates.items())
    return figure, (
        "Spikes of one trial of the trained network: minus phase (prediction) on blue, plus phase (outcome) on orange. "
        f"Mean rates: {said}."
    )


def kinases(trial: Trajectory, layer: str) -> tuple[Any, str]:
    """CaP and CaD over the theta cycle, for the neurons of a layer that gain, and lose, most."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    fast, slow = trial[f"{layer}.LearnCaP"][:, 0], trial[f"{layer}.LearnCaD"][:, 0]
    change = fast[-1] - slow[-1]
    t = trial.t
    for ax, unit, title in zip(
        map(axes, figure.subplots(1, 2, sharey=True)),
        (int(change.argmax()), int(change.argmin())),
        ("gains most", "loses most"),
    ):
        bands(ax, trial.meta["minus"], trial.meta["length"])
        ax.plot(t, fast[:, unit], color=COLORS[5], label="CaP (CaMKII): where it is")
        ax.plot(t, slow[:, unit], color=COLORS[2], label="CaD (DAPK1): where it was")
        ax.set(xlabel="cycle (ms)", title=f"{layer} {unit} {title}: {float(change[unit]):+.3f}")
    figure.axes[0].set_ylabel("learning calcium")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure, (
        "The error signal of two neurons: at the end of the trial the two kinases differ by outcome minus prediction, and by "
        "what is left of the trial's onset. It is what their synapses learn from."
    )


def deltas(trial: Trajectory) -> tuple[Any, str]:
    """Activity of each layer's neurons at the end of the plus phase minus that at the end of the minus phase."""
    from matplotlib.figure import Figure

    names = [n for n in trial.meta["layers"] if float(trial[f"{n}.Act"].abs().max()) > 0]
    minus, length = trial.meta["minus"], trial.meta["length"]
    figure = Figure(figsize=(1.9 * len(names), 3.6), layout="constrained")
    panels = figure.subplots(2, len(names), sharey=True, squeeze=False)
    for row, (prefix, when) in zip(panels, (("before/", "before learning"), ("", "after"))):
        for ax, name in zip(map(axes, row), names):
            act = trial[f"{prefix}{name}.Act"][:, 0]
            change = act[length - 20 : length + 1].mean(0) - act[minus - 20 : minus].mean(0)
            change = change.sort().values.tolist()
            color = [PLUS if x > 0 else MINUS for x in change]
            ax.bar(range(len(change)), change, width=1.0, color=color)
            ax.set(xticks=[], title=name if prefix else "", xlabel="" if prefix else f"{len(change)} neurons")
            ax.axhline(0, color="#1c1e21", lw=0.6)
        row[0].set_ylabel(f"plus - minus,\n{when}")
    return figure, (
        "Delta per layer in one trial before and after learning: Act at the end of the plus phase minus Act at the end of "
        "the minus phase, neurons sorted. Orange fire more under the outcome than they did in prediction, blue less. As "
        "predictions come true the difference shrinks, and with it what is left to learn from."
    )


def weights(run: Run) -> dict[str, tuple[Any, str]]:
    """Each path's weights before and after learning: how they are spread, and which they are; nothing of older runs."""
    from matplotlib.figure import Figure

    if not (run.path / WEIGHTS).exists():
        return {}
    kept = Trajectory.load(run.path / WEIGHTS)
    names = kept.meta["paths"]
    figure = Figure(figsize=(1.75 * len(names), 3.6), layout="constrained")
    top, bottom = figure.subplots(2, len(names), squeeze=False, height_ratios=(1, 1.2))
    edges = torch.linspace(0, max(1.0, max(float(kept[name].max()) for name in names)), 41)
    image: Any = None
    moved = {name: float((kept[name][1] - kept[name][0]).abs().mean()) for name in names}
    most = max(float((kept[name][1] - kept[name][0]).abs().max()) for name in names) or 1.0
    least, largest = min(moved, key=moved.__getitem__), max(moved, key=moved.__getitem__)
    for above, below, name in zip(map(axes, top), map(axes, bottom), names):
        before, after = kept[name]
        here = before > 0  # connected
        for wt, color, label in ((before, MINUS, "before"), (after, PLUS, "after")):
            counts = torch.histogram(wt[here].float().cpu(), edges).hist / int(here.sum())
            above.stairs(
                counts.tolist(), edges.tolist(), fill=label == "after", color=color, alpha=0.8, label=label
            )
        send, _, recv = name.partition("->")
        above.set(title=f"{send}\nto {recv.replace(':', ', ')}", yticks=[], xlabel="weight")
        change = (after - before).cpu().numpy()
        image = below.imshow(change, aspect="auto", cmap="PuOr_r", vmin=-most, vmax=most)
        below.set(xticks=[], yticks=[], xlabel=f"{after.shape[1]} receivers")
        below.set_ylabel(f"{after.shape[0]} senders")
    axes(top[0]).set_ylabel("share of synapses")
    axes(top[-1]).legend(frameon=False, fontsize=7)
    figure.colorbar(image, ax=list(bottom), label="change", shrink=0.9)
    caption = (
        f"Effective weights of every path before learning (blue) and after {int(kept.t[-1]):,} trials (orange), and below how "
        f"each changed. {largest} moved most, by {moved[largest]:.2f} a synapse, {least} least, by {moved[least]:.2f}."
    )
    return {"weights": (figure, caption)}


def curves(
    run: Run, panels: Mapping[str, Mapping[str, Any]], *, chance: Mapping[str, float] | None = None
) -> Any:
    """Error over epochs, a line a seed, one panel per condition, all on the same axes' scale."""
    from matplotlib.figure import Figure

    shown = {title: labels for title, labels in panels.items() if rows(run, labels)}
    figure = Figure(figsize=(3.1 * max(len(shown), 1), 3.0), layout="constrained")
    for k, (title, labels) in enumerate(shown.items()):
        ax = axes(figure.add_subplot(1, len(shown), k + 1, sharey=figure.axes[0] if k else None))
        for mine in by_seed(run, labels):
            reached = criterion(mine)
            x = [r["step"] + 1 for r in mine]
            ax.plot(x, [r["error"] for r in mine], color=PLUS if k == 0 else MINUS, lw=1.2, alpha=0.75)
            if reached:
                ax.plot(reached, 0, "o", color=PLUS if k == 0 else MINUS, ms=5, clip_on=False, zorder=3)
        for name, level in (chance or {}).items():
            ax.axhline(level, color="#1c1e21", lw=0.8, ls=":")
            if k == len(shown) - 1:
                ax.annotate(
                    name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
                )
        ax.set(title=title, xlabel="epoch", ylim=(-0.02, 1.04))
    if figure.axes:
        figure.axes[0].set_ylabel("share of trials with an error")
    return figure
