"""Turn a trained model into one with other mixers: a softmax teacher into a linear-time hybrid, for a fraction of its training.

    made = student(teacher, "interleaved:4:1")        # the teacher's weights wherever a layer stays what it was
    align(teacher, made, batches, steps=100)          # 1. each new mixer imitates the old one, alone
    distil(teacher, made, batches, steps=300, per_loop=True)     # 2. the whole model imitates, loop by loop
    distil(teacher, made, batches, steps=300)         # 3. and at the last loop

The three stages are those of LT2's conversion of Ouro (2605.20670, section 3): alignment by squared error, then distillation of
logits with per-loop and with final supervision. Learning rates and which layers stay full were not found.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.looped.model import LT2
from unrolled.looped.train import parameter_groups
from unrolled.training import Fit, fit, schedules

Batches = Callable[[int], Any]


def student(teacher: LT2, pattern: str, *, rng: int | torch.Generator = 0, **changes: Any) -> LT2:
    """A model of another pattern with the teacher's weights in all that both have; new mixers start afresh.

    Args:
        teacher: any looped model.
        pattern: of the mixers, as in `LT2Config`; the number of layers stays.
        rng: of the new mixers.
        **changes: further fields of the configuration that concern mixers, e.g. `neg_eigval=True`.

    Raises:
        ValueError: a change that weights cannot survive.

    Example:
        >>> from unrolled.looped import LT2Config
        >>> teacher = LT2(LT2Config.preset("tiny", pattern="full"))
        >>> made = student(teacher, "interleaved:1:1")
        >>> made.config.mixers, bool((made.embed.weight == teacher.embed.weight).all())
        (('gated_delta', 'full'), True)
    """
    config = dataclasses.replace(teacher.config, pattern=pattern, **changes)
    made = LT2(config, rng=rng).to(teacher.embed.weight)
    same = {i for i, (a, b) in enumerate(zip(teacher.config.mixers, config.mixers)) if a == b}
    there, weights = made.state_dict(), {}
    for name, value in teacher.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks" and parts[2] == "mixer" and int(parts[1]) not in same:
            continue
        if name not in there or there[name].shape != value.shape:
            raise ValueError(
                f"{name} {tuple(value.shape)} of the teacher has no place in a student with {changes}: change only what "
                "concerns the new mixers"
            )
        weights[name] = value
    made.load_state_dict(weights, strict=False)
    return made


def replaced(teacher: LT2, made: LT2) -> list[int]:
    """The layers whose mixer is another than the teacher's."""
    return [i for i, (a, b) in enumerate(zip(teacher.config.mixers, made.config.mixers)) if a != b]


def align(
    teacher: LT2,
    made: LT2,
    batches: Batches,
    *,
    steps: int,
    lr: float = 3e-3,
    clip: float = 1.0,
    **options: Any,
) -> Fit:
    """Stage 1: each new mixer learns to answer the teacher's inputs as the teacher's mixer does, in every loop.

    The loss is the squared error over the teacher's mean square, averaged over new layers and loops; nothing else of the
    student moves.

    Args:
        teacher: is left as it is.
        made: from `student`, changed in place.
        batches: index -> tokens `[B, L]`, or a tuple that begins with them.
        steps: updates.
        lr: of AdamW, with a cosine to a tenth.
        clip: largest gradient norm.
        **options: for `training.fit` (checkpoint, progress, log, ...).

    Raises:
        ValueError: no layer is new.
    """
    layers = replaced(teacher, made)
    if not layers:
        raise ValueError(
            f"the student's mixers are the teacher's, {', '.join(teacher.config.mixers)}: nothing to align"
        )

    def loss(model: LT2, batch: Any) -> tuple[Tensor, int]:
        tokens = batch if isinstance(batch, Tensor) else batch[0]
        with torch.no_grad(), _heard(teacher, layers) as calls:
            teacher(tokens, logits=False)
        total = torch.zeros((), device=tokens.device)
        for layer, x, span, y in calls:
            guess = model.blocks[layer].mixer(x, span)  # pyright: ignore[reportCallIssue]
            total = total + (guess - y).float().square().mean() / y.float().square().mean().clamp_min(1e-12)
        return total * tokens.numel() / len(calls), tokens.numel()

    free = {id(p) for layer in layers for p in made.blocks[layer].mixer.parameters()}  # pyright: ignore[reportAttributeAccessIssue]
    with _frozen(made, free):
        optimizer = torch.optim.AdamW(parameter_groups(made, 0.0), lr=lr, betas=(0.9, 0.95))
        return fit(
            made, batches, loss, optimizer, steps=steps, schedule=_schedule(steps), clip=clip, **options
        )


def distil(
    teacher: LT2,
    made: LT2,
    batches: Batches,
    *,
    steps: int,
    per_loop: bool = False,
    top_k: int | None = None,
    lr: float = 1e-3,
    clip: float = 1.0,
    **options: Any,
) -> Fit:
    """Stages 2 and 3: all of the student learns the teacher's distribution, KL(teacher || student) per token.

    Args:
        teacher: is left as it is.
        made: from `student`, changed in place.
        batches: as for `align`.
        steps: updates.
        per_loop: hold every loop's read-out to the teacher's of that loop (the mean over loops), not the last alone.
        top_k: compare the teacher's k likeliest tokens, and all others as one; None compares all.
        lr: of AdamW, with a cosine to a tenth.
        clip: largest gradient norm.
        **options: for `training.fit`.

    Raises:
        ValueError: `per_loop` with different numbers of loops.
    """
    if per_loop and teacher.config.loops != made.config.loops:
        raise ValueError(
            f"per_loop pairs loops, and the teacher has {teacher.config.loops} where the student has {made.config.loops}"
        )

    def loss(model: LT2, batch: Any) -> tuple[Tensor, int]:
        tokens = batch if isinstance(batch, Tensor) else batch[0]
        kind = "per_loop" if per_loop else True
        with torch.no_grad():
            target = teacher(tokens, logits=kind).logits
        return divergence(
            target, model(tokens, logits=kind).logits, top_k
        ).mean() * tokens.numel(), tokens.numel()

    optimizer = torch.optim.AdamW(parameter_groups(made, 0.0), lr=lr, betas=(0.9, 0.95))
    return fit(made, batches, loss, optimizer, steps=steps, schedule=_schedule(steps), clip=clip, **options)


def divergence(teacher: Tensor, made: Tensor, top_k: int | None = None) -> Tensor:
    """KL(softmax(teacher) || softmax(made)) in nats over the last axis; with `top_k`, of the teacher's k likeliest and the rest.

    Example:
        >>> a, b = torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor([0.25, 0.5, 0.25]).log()
        >>> round(divergence(a, b).item(), 6), round(divergence(a, b, 1).item(), 6)  # .5 ln 2 - .25 ln 2; .5 ln 2 + .5 ln 2/3
        (0.173287, 0.143841)
    """
    p, q = teacher.float().log_softmax(-1), made.float().log_softmax(-1)
    if top_k is not None and top_k < p.shape[-1]:
        best = p.topk(top_k, -1).indices
        p, q = (_lumped(x, best) for x in (p, q))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1)


def _lumped(log_p: Tensor, best: Tensor) -> Tensor:
    kept = log_p.gather(-1, best)
    rest = log_p.scatter(-1, best, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([kept, rest], -1)


def _schedule(steps: int) -> Callable[[int], float]:
    return schedules.cosine(steps, warmup=min(steps, max(1, steps // 20)), floor=0.1)


@contextmanager
def _heard(model: LT2, layers: list[int]) -> Iterator[list[tuple[int, Tensor, Any, Tensor]]]:
    """What goes in and out of these layers' mixers while the model runs: layer, input, span, output."""
    calls: list[tuple[int, Tensor, Any, Tensor]] = []

    def hear(layer: int) -> Any:
        return lambda module, given, out: calls.append((layer, given[0], given[1], out))

    hooks = [model.blocks[layer].mixer.register_forward_hook(hear(layer)) for layer in layers]  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _frozen(model: LT2, free: set[int]) -> Iterator[None]:
    """Only parameters in `free` (by id) require gradients inside."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    for p, _ in before:
        p.requires_grad_(id(p) in free)
    try:
        yield
    finally:
        for p, flag in before:
            p.requires_grad_(flag)
