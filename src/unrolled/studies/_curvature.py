"""What the curvature studies share: train under the probe, read two runs at equal loss, judge, draw.

Numbers travel through the run folder: `train` logs one row per probed step, `series` reads them back, and claims and
figures are made from what was read. A resumed or reopened run therefore says what an uninterrupted one does.
"""

import math
import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from unrolled import optim
from unrolled.core import Trajectory
from unrolled.instruments.curvature import Probe
from unrolled.instruments.curvature.match import Matched, match
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.training import fit, gpt, schedules, validation

PAPER = {
    "title": "Why Muon Outperforms Adam: A Curvature Perspective",
    "authors": "Shuche Wang, Fengzhuo Zhang, Jiaxiang Li, Dirk Bergemann, Zhuoran Yang",
    "arxiv": "2606.04662",
    "year": 2026,
}

SCALARS = (
    "gain",
    "penalty",
    "predicted",
    "actual",
    "remainder",
    "nds",
    "norm",
    "within",
    "cross",
    "rho_within",
    "flagged",
)
COLOR = {"adam": COLORS[0], "muon": COLORS[1]}
NAME = {"adam": "Adam", "muon": "Muon"}


def optimizer_for(
    name: str, model: gpt.GPT, *, lr: float, adam_lr: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """Adam on everything, or Muon on the hidden matrices with the same Adam on the rest.

    Muon's updates are scaled by 0.2 sqrt(max(rows, cols)), so that its learning rate has Adam's units; neither decays
    weights, on which the paper is silent.
    """
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr, betas=betas)
    return optim.Muon(
        model.named_parameters(),
        lr=lr,
        scale="match_rms_adamw",
        weight_decay=0.0,
        adam_lr=adam_lr,
        adam_betas=betas,
    )


def train(
    run: Run,
    model: gpt.GPT,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Any],
    held_out: Callable[[int], Any],
    *,
    labels: dict[str, Any],
    steps: int,
    warmup: int,
    probe_every: int,
    split: str | None = "exact",
    fraction: float = 1.0,
    evaluations: int = 1,
    accumulate: int = 1,
    amp: torch.dtype | None = None,
    checkpoint_every: int | None = None,
) -> None:
    """Train one model under two probes (the whole update, and its hidden matrices alone), logging into the run.

    The learning rate rises linearly and falls linearly to zero. The probe uses the training batch of the step, as the
    paper does (same mini-batch for L, G and H; which one it was the sources do not say).

    Args:
        run: where rows (`labels` and a step each) and checkpoints go; a finished series is not trained again.
        model: on its device.
        optimizer: over its parameters.
        batches: training batch of a step.
        held_out: validation batches 0, 1, ...
        labels: what tells this series from the others in the run, e.g. optimizer and seed.
        steps: updates.
        warmup: of these, with a rising learning rate.
        probe_every: steps between probes and validations.
        split: of the probe over all parameters.
        fraction: of the batch that is probed.
        evaluations: how many validation batches.
        accumulate: micro-batches per step.
        amp: autocast dtype of training; the probe runs in the parameters' own precision.
        checkpoint_every: steps between checkpoints.
    """
    name = "-".join(str(value) for value in labels.values())

    def sink(scope: str) -> Callable[[int, dict[str, Any]], None]:
        def write(step: int, values: dict[str, Any]) -> None:
            run.log(
                step=step,
                **labels,
                scope=scope,
                **{key: values.get(f"curvature/{key}", math.nan) for key in SCALARS},
            )

        return write

    def log(*, step: int, **values: Any) -> None:
        if "val_loss" in values:
            run.log(step=step, **labels, val_loss=values["val_loss"])

    probes = _Several(
        Probe(
            model, optimizer, gpt.loss, every=probe_every, fraction=fraction, split=split, sink=sink("all")
        ),
        Probe(
            model,
            optimizer,
            gpt.loss,
            every=probe_every,
            fraction=fraction,
            scope="matrix",
            sink=sink("matrix"),
        ),
    )
    result = fit(
        model,
        batches,
        gpt.loss,
        optimizer,
        steps=steps,
        schedule=schedules.linear(steps, warmup=warmup),
        accumulate=accumulate,
        amp=amp,
        probe=probes,
        evaluate=(probe_every, validation(gpt.loss, held_out, evaluations)),
        checkpoint=run.checkpoints / name,
        checkpoint_every=checkpoint_every,
        progress=run.progress,
        log=log,
    )
    if not result.stop.ok:
        raise FloatingPointError(f"training {name} failed: {result.stop}")


class _Several:
    """Several probes around one step."""

    def __init__(self, *probes: Probe) -> None:
        self.probes = probes

    @contextmanager
    def step(self, batch: Any) -> Any:
        with ExitStack() as stack:
            for probe in self.probes:
                stack.enter_context(probe.step(batch))
            yield

    def state_dict(self) -> dict[str, Any]:
        return {str(i): probe.state_dict() for i, probe in enumerate(self.probes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for i, probe in enumerate(self.probes):
            probe.load_state_dict(state[str(i)])


def series(run: Run, *, scope: str = "all", **labels: Any) -> Trajectory:
    """The probed steps of one series: the decomposition and the validation loss before the step, over steps.

    Raises:
        ValueError: the run holds no such series.
    """
    probed: dict[int, dict[str, Any]] = {}
    losses: dict[int, float] = {}
    for row in run.metrics():
        if all(row.get(key) == value for key, value in labels.items()) and "step" in row:
            if row.get("scope") == scope:
                probed[row["step"]] = row
            elif "val_loss" in row:
                losses[row["step"]] = row["val_loss"]
    steps = sorted(step for step in probed if step in losses)
    if not steps:
        raise ValueError(f"{run.path} holds no probed step of {labels} in scope {scope!r}")
    columns = {name: [float(probed[step][name]) for step in steps] for name in SCALARS}
    return Trajectory.from_records(
        steps,
        {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}
        | {"val_loss": torch.tensor([losses[step] for step in steps], dtype=torch.float64)},
    )


def losses(run: Run, **labels: Any) -> Trajectory:
    """Every validation loss of a series, over steps."""
    found = {
        row["step"]: row["val_loss"]
        for row in run.metrics()
        if "val_loss" in row and all(row.get(key) == value for key, value in labels.items())
    }
    steps = sorted(found)
    return Trajectory.from_records(
        steps, {"val_loss": torch.tensor([found[s] for s in steps], dtype=torch.float64)}
    )


def prediction_error(path: Trajectory, warmup: int) -> float:
    """Median over probed steps after warm-up of |Delta - (gain - penalty)| / |Delta| (acceptance A1)."""
    late = path.window(warmup, None)
    return float((late["remainder"].abs() / late["actual"].abs()).median())


def at_equal_loss(adam: Trajectory, muon: Trajectory, warmup: int) -> Matched:
    """Adam (a) against Muon (b) after warm-up, at equal validation loss."""
    return match(adam.window(warmup, None), muon.window(warmup, None))


def gap_shares(matched: Matched) -> dict[str, float]:
    """How gain, penalty and remainder share the per-step gap Delta_Muon - Delta_Adam, averaged at equal loss.

    Delta = gain - penalty + remainder, so the three shares add up to one. They are NaN when Muon's step is not the
    better one, for then there is no gap to explain. Also given: the three differences themselves, in loss.
    """
    if matched.status != "ok":
        return dict.fromkeys(
            ("gap", "gain", "penalty", "remainder", "d_gain", "d_penalty", "d_remainder"), math.nan
        )
    difference = {
        name: float((matched[f"{name}[b]"] - matched[f"{name}[a]"]).mean())
        for name in ("actual", "gain", "penalty", "remainder")
    }
    gap = difference["actual"]
    parts = {
        "gain": difference["gain"],
        "penalty": -difference["penalty"],
        "remainder": difference["remainder"],
    }
    shares = {name: part / gap if gap > 0 else math.nan for name, part in parts.items()}
    return {"gap": gap, **shares, **{f"d_{name}": part for name, part in parts.items()}}


def steps_ratio(adam: Trajectory, muon: Trajectory) -> float:
    """Steps that Adam needs for the best loss both reach, over the steps that Muon needs. NaN without overlap."""
    matched = match(adam, muon, columns=["t"])
    if matched.status != "ok":
        return math.nan
    return float(matched["t[a]"][-1] / matched["t[b]"][-1])


def summarize(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds; no spread for one seed; NaN if any seed gave none."""
    values = [float(value) for value in values]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def count_note(values: list[float], passes: Callable[[float], bool], words: str) -> str:
    """How many seeds pass, e.g. "4 of 5 seeds above 1.2"."""
    return f"{sum(map(passes, values))} of {len(values)} seeds {words}"


# ---------------------------------------------------------------------- claims


def comparison_claims(
    pairs: list[tuple[Trajectory, Trajectory, Trajectory, Trajectory]], warmup: int, **common: Any
) -> list[Claim]:
    """The claims about one pair of optimizers, over seeds.

    Verdicts follow rules fixed beforehand (fact sheet, section 11): a ratio is *reproduced* within the band named in
    the note, *direction only* on the paper's side of 1 outside of it.

    Args:
        pairs: per seed, Adam and Muon over all parameters, then Adam and Muon over hidden matrices.
        warmup: steps left out at the start.
        common: preset and hardware of every claim.
    """
    whole = [at_equal_loss(adam, muon, warmup) for adam, muon, _, _ in pairs]
    matrix = [at_equal_loss(adam, muon, warmup) for _, _, adam, muon in pairs]
    common = {**common, "seeds": len(pairs)}
    claims: list[Claim] = []

    def add(
        id: str, statement: str, values: list[float], verdict: Callable[[float], str], note: str, **rest: Any
    ) -> None:
        mean, spread = summarize(values)
        status = "not reproduced" if math.isnan(mean) else verdict(mean)
        claims.append(
            Claim(id, statement, ours=mean, spread=spread, status=status, note=note, **common, **rest)
        )  # pyright: ignore[reportArgumentType]

    errors = [
        max(prediction_error(adam, warmup), prediction_error(muon, warmup)) for adam, muon, _, _ in pairs
    ]
    add(
        "prediction",
        "Gain minus penalty predicts the realised decrease (median relative error after warm-up, worse optimizer)",
        [100 * error for error in errors],
        lambda x: "reproduced" if x <= 5 else "not reproduced",
        "reproduced means at most 5 %",
        paper="tracks (curves only)", unit="%", source="Figure 1, Observation 1",
    )  # fmt: skip
    for scope, matched in (("all parameters", whole), ("hidden matrices", matrix)):
        ratios = [float(m["ratio[nds]"]) for m in matched]
        add(
            "nds-ratio" if scope == "all parameters" else "nds-ratio-matrix",
            f"Adam's directional sharpness (NDS) over Muon's at equal validation loss, {scope}",
            ratios,
            lambda x: "reproduced" if 1.3 <= x <= 2.5 else "direction only" if x > 1 else "not reproduced",
            f"reproduced means within [1.3, 2.5]; {count_note(ratios, lambda r: r > 1.2, 'above 1.2')}; ratio of means "
            f"{statistics.fmean(float(m['ratio_of_means[nds]']) for m in matched):.2f}",
            paper=1.76, unit="x", source="Figure 2, Observation 2",
        )  # fmt: skip
    add(
        "penalty-ratio",
        "Adam pays the larger curvature penalty at every equal loss (ratio of mean penalties, Adam over Muon)",
        [float(m["ratio_of_means[penalty]"]) for m in whole],
        lambda x: "reproduced" if x > 1 else "not reproduced",
        "reproduced means above 1",
        paper="Adam always above Muon (curves only)", unit="x", source="Figure 1, Observation 1",
    )  # fmt: skip
    add(
        "gain-ratio",
        "The first-order gains are comparable (ratio of mean gains, Adam over Muon)",
        [float(m["ratio_of_means[gain]"]) for m in whole],
        lambda x: "reproduced" if 0.6 <= x <= 1.7 else "not reproduced",
        "reproduced means within [0.6, 1.7]",
        paper="comparable (curves only)", unit="x", source="Figure 1, Observation 1",
    )  # fmt: skip
    add(
        "norm-ratio",
        "The update norms are close (ratio of mean ||Z||, Adam over Muon)",
        [float(m["ratio_of_means[norm]"]) for m in whole],
        lambda x: "reproduced" if 0.6 <= x <= 1.7 else "not reproduced",
        "reproduced means within [0.6, 1.7]; Muon's scale factor and the two tuned learning rates set it",
        paper=1.0, unit="x", source="Figure 2",
    )  # fmt: skip
    shares = [gap_shares(m) for m in whole]
    spent = {
        name: statistics.fmean(share[name] for share in shares) for name in ("gain", "penalty", "remainder")
    }
    add(
        "gap-is-penalty",
        "The gains are identical, the whole gap between the two steps is the penalty (penalty's share of the gap)",
        [100 * share["penalty"] for share in shares],
        lambda x: "reproduced" if 80 <= x <= 120 else "direction only" if x > 50 else "not reproduced",
        f"shares of Muon's lead per step at equal loss: gain {100 * spent['gain']:.0f} %, penalty "
        f"{100 * spent['penalty']:.0f} %, remainder {100 * spent['remainder']:.0f} %; reproduced means within [80, 120] %",
        paper=100.0, unit="%", source="popular summary of the paper",
    )  # fmt: skip
    add(
        "steps",
        "Adam's steps over Muon's to the lowest loss both reach",
        [steps_ratio(adam, muon) for adam, muon, _, _ in pairs],
        lambda x: "reproduced" if 1.5 <= x <= 2.5 else "direction only" if x > 1 else "not reproduced",
        "the popular claim is 2; tuned public baselines say 1.5 to 1.7; reproduced means within [1.5, 2.5]",
        paper=2.0, unit="x", source="quoted by the paper from others",
    )  # fmt: skip
    for name, index, paper in (("muon", 1, "14 % to 44 %"), ("adam", 0, "27 % to 34 %")):
        early, late = zip(*(_within_thirds(pair[index], warmup) for pair in pairs))
        rise = [100 * (b - a) for a, b in zip(early, late)]
        verdict: Callable[[float], str] = (
            (lambda x: "reproduced" if x > 10 else "direction only" if x > 0 else "not reproduced")
            if name == "muon"
            else (lambda x: "reproduced" if abs(x) <= 10 else "not reproduced")
        )
        add(
            f"within-{name}",
            f"{NAME[name]}'s within-layer share of the sharpness "
            + ("rises along training" if name == "muon" else "stays nearly flat")
            + " (last third minus first third)",
            rise,
            verdict,
            f"{100 * statistics.fmean(early):.0f} % to {100 * statistics.fmean(late):.0f} %; reproduced means "
            + ("a rise of more than 10 points" if name == "muon" else "a change of at most 10 points"),
            paper=paper, unit="points", source="Figure 4, Observation 4",
        )  # fmt: skip
    return claims


def _within_thirds(path: Trajectory, warmup: int) -> tuple[float, float]:
    """Within-layer share (sum of within over sum of NDS) in the first and the last third after warm-up."""
    late = path.window(warmup, None)
    third = max(1, len(late) // 3)

    def share(part: slice) -> float:
        return float(late["within"][part].sum() / late["nds"][part].sum())

    return share(slice(0, third)), share(slice(-third, None))


# ---------------------------------------------------------------------- figures


def comparison_figures(
    adam: Trajectory, muon: Trajectory, curves: dict[str, Trajectory], warmup: int
) -> dict[str, tuple[Any, str]]:
    """The figures about one pair of optimizers (one seed): name -> figure and caption."""
    from matplotlib.figure import Figure

    made: dict[str, tuple[Any, str]] = {}

    def panel(name: str, caption: str, columns: int = 1) -> list[Any]:
        figure = Figure(figsize=(4.6 * columns, 3.1), layout="constrained")
        made[name] = figure, caption
        return [axes(ax) for ax in figure.subplots(1, columns, squeeze=False)[0]]

    both = {"adam": adam, "muon": muon}
    (ax,) = panel("loss", "Validation loss over steps. Adam is blue, Muon is orange.")
    for name, path in curves.items():
        ax.plot(path.t, path["val_loss"], color=COLOR[name], label=NAME[name])
    ax.set(xlabel="step", ylabel="validation loss (nats per token)")
    ax.legend()

    matched = at_equal_loss(adam, muon, warmup)
    left, right = panel(
        "budget",
        "The budget of a step at equal validation loss (training goes to the right): gradient gain (left) and curvature "
        "penalty (right).",
        2,
    )
    (middle,) = panel(
        "nds", "Normalised directional sharpness <Z,HZ>/||Z||^2 at equal validation loss, log scale."
    )
    (length,) = panel(
        "norm", "Norm of the update at equal validation loss. A flatter direction allows a longer step."
    )
    for ax, column, label in (
        (left, "gain", "gain <G,Z>"),
        (right, "penalty", "penalty 1/2 <Z,HZ>"),
        (middle, "nds", "NDS"),
        (length, "norm", "||Z||"),
    ):
        if matched.status == "ok" and matched.index is not None:
            for name, side in (("adam", "a"), ("muon", "b")):
                ax.plot(matched.index[1], matched[f"{column}[{side}]"], color=COLOR[name], label=NAME[name])
            ax.invert_xaxis()
            ax.legend()
        else:
            ax.text(0.5, 0.5, "the loss ranges do not overlap", ha="center", transform=ax.transAxes)
        ax.set(xlabel="validation loss", ylabel=label)
    if matched.status == "ok" and min(float(matched[f"nds[{s}]"].min()) for s in "ab") > 0:
        middle.set_yscale("log")

    (ax,) = panel(
        "prediction",
        "Predicted (gain minus penalty) against realised decrease, one point per probed step after warm-up.",
    )
    for name, path in both.items():
        late = path.window(warmup, None)
        ax.plot(late["actual"], late["predicted"], "o", color=COLOR[name], label=NAME[name], alpha=0.8)
    low, high = ax.get_xlim()
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlabel="realised decrease", ylabel="predicted decrease")
    ax.legend()

    shares = gap_shares(matched)
    if not math.isnan(shares["gap"]):
        (ax,) = panel(
            "gap",
            "Where Muon's lead per step comes from: mean difference to Adam at equal loss, in loss per step. A bar to the "
            "right is to Muon's credit.",
        )
        labels = ("larger gain", "smaller penalty", "remainder", "sum: larger decrease")
        parts = [shares["d_gain"], shares["d_penalty"], shares["d_remainder"], shares["gap"]]
        ax.barh(labels[::-1], parts[::-1], color=["0.5", "0.7", COLORS[2], COLORS[4]], height=0.6)
        ax.axvline(0, color="0.5", linewidth=0.8)
        ax.set_xlabel("loss per step")

    (ax,) = panel(
        "within", "Within-layer share of the sharpness, S_within / S, over training (running median of five)."
    )
    for name, path in both.items():
        late = path.window(warmup, None)
        ax.plot(late.t, _running_median(late["rho_within"]), color=COLOR[name], label=NAME[name])
    ax.set(xlabel="step", ylabel="within-layer share")
    ax.legend()
    return made


def _running_median(values: Tensor, width: int = 5) -> Tensor:
    half = width // 2
    return torch.stack([values[max(0, i - half) : i + half + 1].median() for i in range(len(values))])


def tuned(run: Run, grid: Iterable[float], name: str, final_loss: Callable[[float], float]) -> float:
    """The learning rate of a grid with the lowest final validation loss, on a seed of its own; logged, and resumable."""
    grid = list(grid)
    done = {row["lr"]: row["tuning_loss"] for row in run.metrics() if row.get("tuned") == name}
    for lr in grid:
        if lr not in done:
            run.status(phase=f"tuning {name}")
            done[lr] = final_loss(lr)
            run.log(tuned=name, lr=lr, tuning_loss=done[lr])
    finite = {lr: loss for lr, loss in done.items() if math.isfinite(loss) and lr in grid}
    if not finite:
        raise FloatingPointError(f"{name} diverged at every learning rate of {grid}: lower the grid")
    return min(finite, key=lambda lr: finite[lr])


__all__ = [
    "COLOR",
    "NAME",
    "PAPER",
    "at_equal_loss",
    "comparison_claims",
    "comparison_figures",
    "gap_shares",
    "losses",
    "optimizer_for",
    "prediction_error",
    "series",
    "steps_ratio",
    "summarize",
    "train",
    "tuned",
]
