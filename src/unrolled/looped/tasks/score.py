"""How a model does on a task: the loss that trains it, and the share of targets it gets right."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.looped.model import LT2
from unrolled.training import parallel


def _logits(made: Any) -> Tensor:
    """The logits of whatever a model returned: a tensor, or an object that has them."""
    return made if isinstance(made, Tensor) else made.logits


def _asked(model: Any, tokens: Tensor, there: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits `[n, vocab]` of the places asked for, and what the mixers themselves have to lose, if anything.

    A looped model's head reads those places alone: where few of many are asked for, as in recall over 8,192 tokens, it
    would be most of the work. Wrapped models (DDP, FSDP) are called as they are.
    """
    if isinstance(model, LT2):
        out = model(tokens, logits=False)
        return model.read_out(out.hidden_per_loop[-1][there]), out.aux
    made = model(tokens)
    return _logits(made)[there], getattr(made, "aux", None)


def _placed(model: Any, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The batch where the model is: tasks make theirs on the CPU."""
    if not isinstance(model, nn.Module) or (first := next(model.parameters(), None)) is None:
        return batch
    tokens, targets = batch
    return tokens.to(first.device, non_blocking=True), targets.to(first.device, non_blocking=True)


def loss(model: Any, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats summed over the targets that are asked for (not -100), and how many those are.

    As `looped.loss`, which is for language; here the head is spared where nothing is asked. What mixers have to lose of their own
    (the KL divergence of DSA's indexer, a mean over tokens) is added with the weight `config.index_loss`, per counted target.

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
    tokens, targets = _placed(model, batch)
    if tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets have one shape, got {tuple(tokens.shape)} and {tuple(targets.shape)}"
        )
    there = targets != -100
    logits, aux = _asked(model, tokens, there)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    summed, count = F.cross_entropy(logits, targets[there], reduction="sum"), there.sum()
    if aux is not None and torch.is_grad_enabled():
        config: Any = parallel.unwrap(model).config
        summed = summed + config.index_loss * aux * count
    return summed, count


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
            tokens, targets = _placed(model, batches(index))
            there = targets != -100
            guess = _asked(model, tokens, there)[0].argmax(-1)
            right += int((guess == targets[there]).sum())
            asked += int(there.sum())
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
    if not asked:
        raise ValueError(f"no target was asked for in {count} batches")
    return right / asked
