"""What the looped studies share: train a model so that a killed run goes on bit-equal, read what was logged, judge, draw.

Numbers travel through the run folder: `train` logs one row per evaluation (and per step, where a study reads gradients),
claims and figures are made from those rows and from tensors that a study saved.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.reading import COLORS
from unrolled.looped import LT2, LT2Config, tasks
from unrolled.looped.train import parameter_groups
from unrolled.runs import Run
from unrolled.training import Fit, fit, schedules
from unrolled.training import validation as scored

PAPER = {
    "title": "LT2: Linear-Time Looped Transformers",
    "authors": "Chunyuan Deng, Yizhe Zhang, Rui-Jie Zhu, Yuanyuan Xu, Jiarui Liu, T.S. Eugene Ng, Hanjie Chen",
    "arxiv": "2605.20670",
    "year": 2026,
}
BLUE, ORANGE = COLORS[0], COLORS[1]
Batches = Callable[[int], tuple[Tensor, Tensor]]
Rows = list[dict[str, Any]]


def train(
    run: Run,
    labels: Mapping[str, Any],
    config: LT2Config,
    batches: Batches,
    *,
    steps: int,
    lr: float,
    seed: int,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    every: int | None = None,
    warmup: int = 0,
    floor: float = 0.0,
    weight_decay: float = 0.0,
    clip: float | None = 1.0,
    until: Callable[[Fit], Any] | None = None,
    each_step: bool = False,
) -> tuple[LT2, Fit]:
    """Train one model with AdamW and a cosine, log its evaluations, and give it back.

    Args:
        run: where rows (`labels` and a step each) and checkpoints go; a finished model is read back, not trained again.
        labels: what tells this model from the others of the run.
        config: its shape.
        batches: training batch of a step.
        steps: updates.
        lr: at its height.
        seed: of the initial weights.
        evaluate: numbers to log; called without gradients.
        every: steps between evaluations; the end alone when None.
        warmup: steps of rising learning rate.
        floor: the cosine's end, as a share of `lr`.
        weight_decay: of matrices.
        clip: largest gradient norm.
        until: see `fit`.
        each_step: log loss and gradient norm of every step as well.
    """
    model = LT2(config, rng=seed).to(device())
    optimizer = parameter_optimizer(model, lr=lr, weight_decay=weight_decay)
    name = "-".join(str(value) for value in labels.values())
    run.status(phase=", ".join(f"{k} {v}" for k, v in labels.items()), step=0, steps=steps)

    def log(*, step: int, **values: Any) -> None:
        if "loss" not in values:
            run.log(step=step, **labels, **values)
        elif each_step:
            run.log(step=step, **labels, loss=values["loss"], grad_norm=values["grad_norm"])

    result = fit(
        model, batches, tasks.loss, optimizer, steps=steps,
        schedule=schedules.cosine(steps, warmup=warmup, floor=floor), clip=clip,
        evaluate=None if evaluate is None else (every or steps, evaluate), until=until,
        checkpoint=run.checkpoints / name, checkpoint_every=max(1, steps // 4), keep=1, progress=run.progress, log=log,
    )  # fmt: skip
    return model, result


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def parameter_optimizer(model: LT2, *, lr: float, weight_decay: float) -> Any:
    """AdamW as the paper has it: betas 0.9 and 0.95, decay on matrices alone."""
    from torch.optim import AdamW

    return AdamW(parameter_groups(model, weight_decay), lr=lr, betas=(0.9, 0.95))


def rows(run: Run, field: str, **labels: Any) -> Rows:
    """The rows of a run that have a field and these labels, in order of steps."""
    found = [r for r in run.metrics() if field in r and all(r.get(k) == v for k, v in labels.items())]
    return sorted(found, key=lambda r: r.get("step", 0))


def last(run: Run, field: str, **labels: Any) -> list[float]:
    """The last value of a field for each seed, in order of seeds."""
    by_seed: dict[Any, float] = {}
    for row in rows(run, field, **labels):
        by_seed[row["seed"]] = float(row[field])
    return [by_seed[seed] for seed in sorted(by_seed)]


def summarize(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation where there are two or more; NaN without any.

    Example:
        >>> summarize([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    if not values:
        return math.nan, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def listed(values: Sequence[float], digits: int = 3) -> str:
    """Numbers with commas.

    Example:
        >>> listed([0.5, 1.0], 2)
        '0.50, 1.00'
    """
    return ", ".join(f"{value:.{digits}f}" for value in values)


def validation(batches: Batches, count: int) -> Callable[[Any], dict[str, float]]:
    """Mean loss over held-out batches, as `val_loss`."""
    return scored(tasks.loss, batches, count)
