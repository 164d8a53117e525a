"""Staged training: a curriculum of epochs, each at its stage, through `training.fit`."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Stop
from unrolled.core.seeds import generator
from unrolled.latent.protocol import fits
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Example
from unrolled.latent.thinker import Thinker
from unrolled.training import fit
from unrolled.training.checkpoint import latest


@dataclass
class Training:
    """What `train` did.

    Attributes:
        step: updates made.
        loss: mean loss of every update since the last resume.
        stages: the stage of every epoch.
        stop: why it ended.
    """

    step: int
    stop: Stop
    loss: list[float] = field(default_factory=list[float])
    stages: list[int] = field(default_factory=list[int])


def schedule(stages: int, *, epochs: int, per_stage: int, first: int | None = None) -> list[int]:
    """The stage of each epoch: `first` epochs of stage 0, `per_stage` of each further one, then the last to the end.

    The last is `stages` + 1: no step is said (Coconut's "extra stage").

    Example:
        >>> schedule(2, epochs=8, per_stage=2, first=1)
        [0, 1, 1, 2, 2, 3, 3, 3]
    """
    begin = per_stage if first is None else first
    return [0 if e < begin else min(stages + 1, 1 + (e - begin) // per_stage) for e in range(epochs)]


def train(
    thinker: Thinker,
    problems: Sequence[Problem],
    *,
    epochs: int,
    per_stage: int = 3,
    first: int | None = None,
    batch: int = 32,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    reset: str = "epoch",
    uniform: float = 0.0,
    draw: Callable[[Problem, torch.Generator], Problem] | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[..., None] | None = None,
    **options: Any,
) -> Training:
    """Train through the stages of the method's curriculum (Coconut 2412.06769, section 3 and run.py).

    Args:
        thinker: changed in place.
        problems: an epoch is all of them once, in an order drawn for that epoch.
        epochs: in all.
        per_stage: epochs of each stage.
        first: epochs of stage 0; `per_stage` if not given.
        batch: problems a step; the last, smaller one of an epoch is kept.
        optimizer: makes one from parameters. Coconut's AdamW, lr 1e-4 and weight decay 0.01, if not given.
        reset: when a new optimizer is made: "epoch" (as the reference does), "stage", or "never".
        uniform: probability that a problem is taken at a stage drawn at random, 0 to the present one.
        draw: makes each problem anew whenever it is met, such as `tasks.relabel` of a graph.
        seed: of orders and draws.
        checkpoint: a folder; an interrupted training goes on from it bit for bit.
        resume: False refuses a folder that is not empty.
        progress: callback(step, steps).
        log: callback(step=, loss=, stage=, ...) each step.
        **options: to `training.fit`: clip, amp, accumulate, probe.

    Raises:
        ValueError: no problems, or arguments that make no sense.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from unrolled.latent import Words, tasks
        >>> problems = tasks.arithmetic(16, seed=0, ops=(2, 2))
        >>> words = Words.of(problems)
        >>> size = dict(n_layer=1, n_head=2, n_embd=16, vocab_size=len(words), bos_token_id=0, eos_token_id=1)
        >>> thinker = Thinker(GPT2LMHeadModel(GPT2Config(**size)), words, "coconut", stages=1)
        >>> done = train(thinker, problems, epochs=3, per_stage=1, batch=8)
        >>> done.stages, done.step
        ([0, 1, 2], 6)
    """
    if not problems or epochs < 1 or per_stage < 1 or batch < 1 or not 0 <= uniform <= 1:
        raise ValueError(
            f"train: {len(problems)} problems, epochs {epochs}, per_stage {per_stage} and batch {batch} must be at least 1, "
            f"and uniform {uniform} in [0, 1]"
        )
    if reset not in ("epoch", "stage", "never"):
        raise ValueError(f"reset is 'epoch', 'stage' or 'never', got {reset!r}")
    make = optimizer or (lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01))
    stages = schedule(thinker.method.stages, epochs=epochs, per_stage=per_stage, first=first)
    each = -(-len(problems) // batch)
    steps = each * epochs
    begins = [
        e
        for e in range(epochs)
        if e == 0 or reset == "epoch" or (reset == "stage" and stages[e] != stages[e - 1])
    ]
    done = Training(0, Stop("steps", 0), [], stages)
    for k, first_epoch in enumerate(begins):
        last_epoch = begins[k + 1] if k + 1 < len(begins) else epochs
        folder = None if checkpoint is None else Path(checkpoint) / f"from-epoch-{first_epoch:03d}"
        ahead = checkpoint is not None and k + 1 < len(begins) and any(
            latest(Path(checkpoint) / f"from-epoch-{e:03d}") for e in begins[k + 1 :]
        )  # fmt: skip
        if ahead and resume:
            done.step = each * last_epoch
            continue
        offset = each * first_epoch

        def rows(step: int, offset: int = offset) -> tuple[list[Example], list[Problem]]:
            epoch, at = divmod(offset + step, each)
            order = torch.randperm(len(problems), generator=_seeded(seed, epoch, 0)).tolist()
            rng = _seeded(seed, offset + step, 1)
            made, drawn = [], []
            for index in order[at * batch : (at + 1) * batch]:
                problem = draw(problems[index], rng) if draw is not None else problems[index]
                made.append(thinker.encode(problem, _stage(stages[epoch], uniform, rng), rng))
                drawn.append(problem)
            return made, drawn

        def tell(*, step: int, offset: int = offset, **numbers: Any) -> None:
            if log is not None:
                log(step=offset + step, stage=stages[(offset + step) // each], **numbers)

        result = fit(
            thinker,
            rows,
            _loss,
            make([p for p in thinker.parameters() if p.requires_grad]),
            steps=each * (last_epoch - first_epoch),
            checkpoint=folder,
            resume=resume,
            progress=None
            if progress is None
            else lambda step, _, offset=offset: progress(offset + step, steps),
            log=tell if log is not None else None,
            **options,
        )
        done.loss += result.history["loss"]
        done.step, done.stop = offset + result.step, result.stop
        if not result.stop.ok:
            break
    return done


def _loss(thinker: Thinker, batch: tuple[list[Example], list[Problem]]) -> tuple[Tensor, Tensor]:
    """As `Thinker.loss`, of rows that are encoded already: some methods read the problems' steps besides."""
    rows, problems = batch
    fits(thinker.backbone, rows)
    return thinker.method.loss(thinker.backbone, rows, problems, thinker.text)


def _seeded(seed: int, index: int, kind: int) -> torch.Generator:
    rng = generator((seed * 1_000_003 + index) * 2 + kind)
    assert rng is not None
    return rng


def _stage(stage: int, uniform: float, rng: torch.Generator) -> int:
    if uniform and float(torch.rand((), generator=rng)) < uniform:
        return int(torch.randint(0, stage + 1, (), generator=rng))
    return stage
