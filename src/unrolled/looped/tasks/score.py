"""How a model does on a task: the loss that trains it, and the share of targets it gets right."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def logits_of(made: Any) -> Tensor:
    """The logits of whatever a model returned: a tensor, or an object that has them."""
    return made if isinstance(made, Tensor) else made.logits


def loss(model: Any, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats summed over the targets that are asked for (not -100), and how many those are.

    Args:
        model: tokens `[batch, length]` -> logits `[batch, length, vocab]`, or an output with `.logits`.
        batch: tokens and targets of one shape.

    Raises:
        ValueError: tokens and targets differ in shape.

    Example:
        >>> flat = lambda tokens: torch.zeros(*tokens.shape, 4)
        >>> total, count = loss(flat, (torch.zeros(1, 3).long(), torch.tensor([[1, 2, -100]])))
        >>> round(total.item(), 4), count.item()  # 2 ln 4
        (2.7726, 2)
    """
    tokens, targets = batch
    if tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets have one shape, got {tuple(tokens.shape)} and {tuple(targets.shape)}"
        )
    logits = logits_of(model(tokens)).flatten(0, 1)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    summed = F.cross_entropy(logits, targets.flatten(), ignore_index=-100, reduction="sum")
    return summed, (targets != -100).sum()


@torch.no_grad()
def accuracy(model: Any, batches: Callable[[int], tuple[Tensor, Tensor]], count: int = 1) -> float:
    """Share of targets that the most likely token gets right, over `batches(0) ... batches(count - 1)`.

    A module is put into eval mode for it, and back.

    Args:
        model: as for `loss`.
        batches: a task, or any function of an index.
        count: how many batches.

    Raises:
        ValueError: no target was asked for.

    Example:
        >>> always = lambda tokens: F.one_hot(torch.ones_like(tokens), 3)
        >>> accuracy(always, lambda i: (torch.zeros(1, 4).long(), torch.tensor([[1, 1, 2, -100]])))
        0.6666666666666666
    """
    training = model.training if isinstance(model, nn.Module) else False
    if isinstance(model, nn.Module):
        model.eval()
    try:
        right = asked = 0
        for index in range(count):
            tokens, targets = batches(index)
            there = targets != -100
            guess = logits_of(model(tokens)).argmax(-1)
            right += int(((guess == targets) & there).sum())
            asked += int(there.sum())
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
    if not asked:
        raise ValueError(f"no target was asked for in {count} batches")
    return right / asked
