"""Cross-entropy of a looped model: of its last loop, or of each."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def loss(
    model: Any,
    batch: "tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]",
    *,
    per_loop: "bool | Sequence[float]" = False,
    index_loss: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the next token in nats, summed over the batch, and how many tokens were counted.

    As `training.fit` takes it: `fit(model, batches, looped.loss, optimizer, ...)`, also for a model that DDP, FSDP or
    `torch.compile` wraps.

    Args:
        model: an `LT2`, wrapped or not.
        batch: tokens and targets of one shape, and a mask if there is padding; targets of -100 are left out.
        per_loop: the mean over loops rather than the last (True), or weights for the loops, divided by their sum.
        index_loss: weight of the losses that mixers have of their own (DSA's indexer), per counted token; None for
            the configuration's.
        **options: `loops` and other arguments of the model.

    Returns:
        The sum and the count, both 0-dimensional.

    Raises:
        ValueError: tokens and targets differ in shape, or there is not one weight per loop.

    Example:
        >>> from unrolled.looped import LT2, LT2Config
        >>> model = LT2(LT2Config.preset("tiny"))
        >>> _ = torch.nn.init.zeros_(model.embed.weight)
        >>> total, count = loss(model, (torch.zeros(1, 3).long(), torch.tensor([[1, 2, -100]])))
        >>> round(total.item() / count.item(), 4)  # ln 256
        5.5452
    """
    tokens, targets, *mask = batch
    if tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets have one shape, got {tuple(tokens.shape)} and {tuple(targets.shape)}"
        )
    out = model(tokens, mask=mask[0] if mask else None, logits="per_loop" if per_loop else True, **options)
    logits = out.logits if per_loop else out.logits[None]
    weights = [1.0] * len(logits) if isinstance(per_loop, bool) else [float(w) for w in per_loop]
    if len(weights) != len(logits) or sum(weights) <= 0:
        raise ValueError(
            f"per_loop has one weight per loop, {len(logits)} here, with a positive sum; got {per_loop}"
        )
    targets = targets.long()
    summed = torch.zeros((), device=logits.device)
    for weight, some in zip(weights, logits):
        if weight:
            some = some.float() if some.dtype in (torch.bfloat16, torch.float16) else some
            each = F.cross_entropy(some.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
            summed = summed + each * (weight / sum(weights))
    count = (targets != -100).sum()
    if out.aux is not None:
        weight = getattr(model, "module", model).config.index_loss if index_loss is None else index_loss
        summed = summed + weight * out.aux * count
    return summed, count
