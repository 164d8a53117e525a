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
from unrolled.instruments.curvature.equal_loss import Matched, match
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
TUNING_SEED = 1000
"""Learning rates are tuned on a seed that is not evaluated."""

COLOR = {"adam": COLORS[0], "muon": COLORS[1], "muon-equal": COLORS[5]}
LINE = {"adam": "-", "muon": "-", "muon-equal": "--"}
NAME = {"adam": "Adam", "muon": "Muon", "muon-equal": "Muon, Adam's length"}


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
    split_up = [r for r in probes.probes[0].records if r.blocks is not None and r.norms is not None]
    if split_up:
        run.log(
            kind="layers", **labels, groups=list(split_up[0].groups), steps=[r.step for r in split_up],
            nds=[(r.blocks / r.norms.square()).tolist() for r in split_up],  # pyright: ignore[reportOptionalOperand, reportOptionalMemberAccess]
        )  # fmt: skip


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


def layers(run: Run, **labels: Any) -> Trajectory | None:
    """Sharpness of each layer's own part of a step, `nds` `[T, groups]`; None where the probe did not split."""
    for row in run.metrics():
        if row.get("kind") == "layers" and all(row.get(key) == value for key, value in labels.items()):
            nds = torch.tensor(row["nds"], dtype=torch.float64)
            return Trajectory.from_records(row["steps"], {"nds": nds}, meta={"groups": row["groups"]})
    return None


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
    if any(map(math.isnan, values)):
        return math.nan, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


# ---------------------------------------------------------------------- claims


def comparison_claims(
    pairs: list[tuple[Trajectory, Trajectory]],
    matrix_pairs: list[tuple[Trajectory, Trajectory]],
    warmup: int,
    *,
    equal: bool = False,
    **common: Any,
) -> list[Claim]:
    """The claims about one pair of optimizers, over seeds.

    Verdicts follow rules fixed beforehand (fact sheet, section 11): a ratio is *reproduced* within the band named in
    the note, *direction only* on the paper's side of 1 outside of it.

    Args:
        pairs: per seed, Adam and Muon over all parameters.
        matrix_pairs: the same over hidden matrices.
        warmup: steps left out at the start.
        equal: Muon ran at Adam's learning rate, and so at its update length, rather than at its own best. The claims
            about training (prediction, steps, within-layer share) are left to the tuned pair.
        common: preset and hardware of every claim.
    """
    whole = [at_equal_loss(adam, muon, warmup) for adam, muon in pairs]
    matrix = [at_equal_loss(adam, muon, warmup) for adam, muon in matrix_pairs]
    where = "Equal update length: " if equal else "Best learning rates: "
    made: list[Claim] = []

    def add(
        id: str, statement: str, values: list[float], verdict: Callable[[float], str], note: str, **rest: Any
    ) -> None:
        mean, spread = summarize(values)
        status: Any = "not reproduced" if math.isnan(mean) else verdict(mean)
        id, statement = (f"{id}-equal" if equal else id), where + statement
        rest |= {"seeds": len(pairs), **common}
        made.append(Claim(id, statement, ours=mean, spread=spread, status=status, note=note, **rest))

    def means(column: str) -> list[float]:
        return [float(m[f"ratio_of_means[{column}]"]) for m in whole]

    for scope, matched in (("all parameters", whole), ("hidden matrices", matrix)):
        ratios = [float(m["ratio[nds]"]) for m in matched]
        add(
            "nds-ratio" if matched is whole else "nds-ratio-matrix",
            f"directional sharpness (NDS) at equal loss, Adam's over Muon's, {scope}",
            ratios,
            lambda x: "reproduced" if 1.3 <= x <= 2.5 else "direction only" if x > 1 else "not reproduced",
            f"reproduced: within [1.3, 2.5]; {sum(r > 1.2 for r in ratios)} of {len(ratios)} seeds above 1.2; ratio of "
            f"means {statistics.fmean(float(m['ratio_of_means[nds]']) for m in matched):.2f}",
            paper=1.76, unit="x", source="Figure 2, Observation 2",
        )  # fmt: skip
    add(
        "gain-ratio", "gains are comparable (mean gain, Adam's over Muon's)", means("gain"),
        lambda x: "reproduced" if 0.6 <= x <= 1.7 else "not reproduced", "reproduced: within [0.6, 1.7]",
        paper="comparable (curves)", unit="x", source="Figure 1, Observation 1",
    )  # fmt: skip
    add(
        "penalty-ratio", "Adam pays the larger penalty (mean penalty, Adam's over Muon's)", means("penalty"),
        lambda x: "reproduced" if x > 1 else "not reproduced", "reproduced: above 1",
        paper="above 1 (curves)", unit="x", source="Figure 1, Observation 1",
    )  # fmt: skip
    if not equal:
        add(
            "norm-ratio", "update norms are close (mean ||Z||, Adam's over Muon's)", means("norm"),
            lambda x: "reproduced" if 0.6 <= x <= 1.7 else "not reproduced",
            "reproduced: within [0.6, 1.7]; the two tuned learning rates set it",
            paper=1.0, unit="x", source="Figure 2",
        )  # fmt: skip
    shares = [gap_shares(m) for m in whole]
    lead, *parts = (
        statistics.fmean(s[name] for s in shares) for name in ("gap", "d_gain", "d_penalty", "d_remainder")
    )
    lacking = sum(not share["gap"] > 0 for share in shares)
    add(
        "gap-is-penalty",
        "the whole gap is the penalty (its share of Muon's lead per step)",
        [100 * share["penalty"] for share in shares],
        lambda x: "reproduced" if 80 <= x <= 120 else "direction only" if x > 50 else "not reproduced",
        f"Muon's lead in loss per step {lead:+.4f}: gain {parts[0]:+.4f}, penalty {parts[1]:+.4f}, remainder "
        f"{parts[2]:+.4f}, at ||Z|| {1 / statistics.fmean(means('norm')):.2f} x Adam's"
        + (f"; no lead to share out in {lacking} of {len(shares)} seeds" if lacking else "")
        + "; reproduced: within [80, 120] %",
        paper=100.0, unit="%", source="popular summary of the paper",
    )  # fmt: skip
    if equal:
        return made
    errors = [
        100 * max(prediction_error(adam, warmup), prediction_error(muon, warmup)) for adam, muon in pairs
    ]
    add(
        "prediction", "gain minus penalty predicts the decrease (median relative error, worse optimizer)", errors,
        lambda x: "reproduced" if x <= 5 else "not reproduced", "after warm-up; reproduced: at most 5 %",
        paper="tracks (curves)", unit="%", source="Figure 1, Observation 1",
    )  # fmt: skip
    add(
        "steps", "steps to the lowest loss both reach, Adam's over Muon's", [steps_ratio(*pair) for pair in pairs],
        lambda x: "reproduced" if 1.5 <= x <= 2.5 else "direction only" if x > 1 else "not reproduced",
        "the popular claim is 2, tuned public baselines say 1.5 to 1.7; reproduced: within [1.5, 2.5]",
        paper=2.0, unit="x", source="quoted by the paper from others",
    )  # fmt: skip
    early, late = zip(*(_within_thirds(muon, warmup) for _, muon in pairs))
    add(
        "within-muon", "Muon's within-layer share of the sharpness rises (last third minus first)",
        [100 * (b - a) for a, b in zip(early, late)],
        lambda x: "reproduced" if x > 10 else "direction only" if x > 0 else "not reproduced",
        f"{100 * statistics.fmean(early):.0f} % to {100 * statistics.fmean(late):.0f} %; reproduced: above 10 points",
        paper="14 % to 44 %", unit="points", source="Figure 4, Observation 4",
    )  # fmt: skip
    early, late = zip(*(_within_thirds(adam, warmup) for adam, _ in pairs))
    add(
        "within-adam", "Adam's within-layer share stays nearly flat (last third minus first)",
        [100 * (b - a) for a, b in zip(early, late)],
        lambda x: "reproduced" if abs(x) <= 10 else "not reproduced",
        f"{100 * statistics.fmean(early):.0f} % to {100 * statistics.fmean(late):.0f} %; reproduced: within 10 points",
        paper="27 % to 34 %", unit="points", source="Figure 4, Observation 4",
    )  # fmt: skip
    return made


def _within_thirds(path: Trajectory, warmup: int) -> tuple[float, float]:
    """Within-layer share (sum of within over sum of NDS) in the first and the last third after warm-up."""
    late = path.window(warmup, None)
    third = max(1, len(late) // 3)

    def share(part: slice) -> float:
        return float(late["within"][part].sum() / late["nds"][part].sum())

    return share(slice(0, third)), share(slice(-third, None))


# ---------------------------------------------------------------------- figures


def comparison_figures(
    paths: dict[str, Trajectory], curves: dict[str, Trajectory], warmup: int
) -> dict[str, tuple[Any, str]]:
    """The figures about Adam and the ways of running Muon that were trained (one seed): name -> figure and caption.

    Args:
        paths: `"adam"`, `"muon"` and perhaps `"muon-equal"` -> probed steps.
        curves: the same names -> validation losses.
        warmup: steps left out at the start.
    """
    from matplotlib.figure import Figure

    made: dict[str, tuple[Any, str]] = {}
    late = {name: path.window(warmup, None) for name, path in paths.items()}
    matched = {name: at_equal_loss(paths["adam"], paths[name], warmup) for name in paths if name != "adam"}

    def panels(name: str, caption: str, columns: int = 1) -> list[Any]:
        figure = Figure(figsize=(4.4 * columns, 3.1), layout="constrained")
        made[name] = figure, caption
        return [axes(ax) for ax in figure.subplots(1, columns, squeeze=False)[0]]

    def line(ax: Any, name: str, x: Any, y: Any, **style: Any) -> None:
        style = {"linestyle": LINE[name], **style}
        ax.plot(x, y, color=COLOR[name], label=NAME[name], **style)

    (ax,) = panels(
        "loss", "Validation loss over steps: Adam blue, Muon orange, Muon with updates as long as Adam's red."
    )
    for name, path in curves.items():
        line(ax, name, path.t, path["val_loss"])
    ax.set(xlabel="step", ylabel="validation loss (nats per token)")
    ax.legend()

    left, right = panels(
        "budget", "The budget of a step over validation loss (training goes to the right): what the gradient promises (left), "
        "what curvature takes back (right). Running medians of five probes.", 2,
    )  # fmt: skip
    middle, length = panels(
        "sharpness", "Normalised directional sharpness <Z,HZ>/||Z||^2 (left, log scale) and length of the update (right): a flatter "
        "direction affords a longer step. Running medians of five probes.", 2,
    )  # fmt: skip
    for ax, column, label in (
        (left, "gain", "gain <G,Z>"),
        (right, "penalty", "penalty 1/2 <Z,HZ>"),
        (middle, "nds", "NDS"),
        (length, "norm", "||Z||"),
    ):
        for name, path in late.items():
            line(ax, name, path["val_loss"], _running_median(path[column]))
        ax.invert_xaxis()
        ax.set(xlabel="validation loss", ylabel=label)
    if all(float(path["nds"].min()) > 0 for path in late.values()):
        middle.set_yscale("log")
    right.legend()

    drawn = {name: gap_shares(m) for name, m in matched.items() if not math.isnan(gap_shares(m)["gap"])}
    if drawn:
        for ax, (name, shares) in zip(
            panels(
                "gap", "Where Muon's lead per step comes from: mean differences to Adam at equal loss, in loss per step; what is "
                "right of zero is to Muon's credit.", len(drawn),
            ),
            drawn.items(),
        ):  # fmt: skip
            labels = ("larger gain", "smaller penalty", "remainder", "larger decrease")
            parts = [shares["d_gain"], shares["d_penalty"], shares["d_remainder"], shares["gap"]]
            ax.barh(labels[::-1], parts[::-1], color=["0.55", "0.75", COLORS[2], COLORS[4]], height=0.6)
            ax.axvline(0, color="0.5", linewidth=0.8)
            ax.set_title(NAME[name])
            ax.set_xlabel("loss per step")

    (ax,) = panels(
        "prediction",
        "Predicted decrease (gain minus penalty) against the one that happened, a point per probed step.",
    )
    for name, path in late.items():
        line(ax, name, path["actual"], path["predicted"], linestyle="", marker="o", alpha=0.7)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlabel="realised decrease", ylabel="predicted decrease")
    ax.legend()

    (ax,) = panels(
        "within", "Within-layer share of the sharpness over training. Running medians of five probes."
    )
    for name, path in late.items():
        line(ax, name, path.t, _running_median(path["rho_within"]))
    ax.set(xlabel="step", ylabel="within-layer share")
    ax.legend()
    return made


def _running_median(values: Tensor, width: int = 5) -> Tensor:
    half = width // 2
    return torch.stack([values[max(0, i - half) : i + half + 1].median() for i in range(len(values))])


def best_rates(
    run: Run,
    rates: dict[str, float],
    grid: tuple[float, ...],
    build: Callable[[str, float], tuple[gpt.GPT, torch.optim.Optimizer, Any]],
    held_out: Callable[[int], Any],
    *,
    steps: int,
    warmup: int,
) -> dict[str, float]:
    """Each optimizer's learning rate of lowest final validation loss, on a seed of its own; logged, and resumable.

    Args:
        run: where the losses are logged.
        rates: optimizer -> learning rate.
        grid: factors on it; none takes the rates as they are.
        build: (optimizer, learning rate) -> model, optimizer, batches.
        held_out: validation batches.
        steps: of each training.
        warmup: of these.

    Returns:
        The rates, and `"muon-equal"`: Muon at Adam's, for updates as long as Adam's (both have Adam's units).
    """
    rates = dict(rates)
    done = {(row["tuned"], row["lr"]): row["tuning_loss"] for row in run.metrics() if "tuned" in row}
    for name, rate in rates.items() if grid else ():
        run.status(phase=f"tuning {NAME[name]}")
        losses: dict[float, float] = {}
        for i, factor in enumerate(grid):
            lr = factor * rate
            if (name, lr) not in done:
                model, optimizer, batches = build(name, lr)
                fitted = fit(
                    model, batches, gpt.loss, optimizer, steps=steps, schedule=schedules.linear(steps, warmup=warmup),
                    evaluate=(steps, validation(gpt.loss, held_out, 4)),
                )  # fmt: skip
                done[name, lr] = fitted.evaluations[-1]["val_loss"] if fitted.stop.ok else math.inf
                run.log(tuned=name, lr=lr, tuning_loss=done[name, lr])
                run.commit()  # a resumed run keeps what was tuned
            losses[lr] = done[name, lr]
            run.progress(i + 1, len(grid))
        rates[name] = min(losses, key=lambda lr: losses[lr])
        if not math.isfinite(losses[rates[name]]):
            raise FloatingPointError(
                f"{name} diverged at every learning rate of {list(losses)}: lower the grid"
            )
    return {**rates, "muon-equal": rates["adam"]}


def without_device(
    device: str, study: str, run: Run, preset: str, open_claims: dict[str, tuple[str, float | str]]
) -> list[Claim] | None:
    """Claims left open because this machine lacks the device; None if it is there."""
    if not device.startswith("cuda") or torch.cuda.is_available():
        return None
    return [
        Claim.not_attempted(
            id, statement, why="needs a GPU, and this machine has none", command=f"unrolled run {study} --preset {preset}",
            paper=number, preset=preset, hardware=run.hardware,
        )
        for id, (statement, number) in open_claims.items()
    ]  # fmt: skip
