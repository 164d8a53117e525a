"""What the sparse mixers share: choosing the best with a rule for ties, and queries in blocks."""

from collections.abc import Iterator

import torch
from torch import Tensor

from unrolled.looped.span import Span

BUDGET = 2**23
"""Numbers that a block of queries may need at a time."""


def keep_top(scores: Tensor, n: int) -> Tensor:
    """Which `n` of the last axis score highest, the later one where scores tie: exactly n are True in each row.

    Ties are common (a ReLU's zeros), and which one torch's `topk` takes depends on the length of the row: a cache would
    then not decode what it had read.

    Example:
        >>> keep_top(torch.tensor([1.0, 0.0, 0.0, 2.0]), 3).tolist()
        [True, False, True, True]
    """
    if n >= scores.shape[-1]:
        return torch.ones_like(scores, dtype=torch.bool)
    least = scores.topk(n, -1).values[..., -1:]
    above, tied = scores > least, scores == least
    from_end = tied.flip(-1).cumsum(-1).flip(-1)
    return above | (tied & (from_end <= n - above.sum(-1, keepdim=True)))


def indices(keep: Tensor, n: int) -> Tensor:
    """`[..., S]` with n True in each row to their places `[..., n]`, in order."""
    return keep.nonzero()[:, -1].view(*keep.shape[:-1], n)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """`[B, H, S, d]` at `[B, H, l, n]` (or one for all heads) to `[B, H, l, n, d]`."""
    B, H, _, d = x.shape
    index = index.expand(B, H, -1, -1)
    return x.gather(2, index.flatten(2)[..., None].expand(-1, -1, -1, d)).view(*index.shape, d)


def blocks(length: int, each: int) -> Iterator[tuple[int, int]]:
    """First and last query (exclusive) of every block, so that `each` numbers per query stay within the budget."""
    size = max(1, min(length, 256, BUDGET // max(1, each)))
    for at in range(0, length, size):
        yield at, min(at + size, length)


def places(span: Span, first: int, last: int, device: torch.device) -> Tensor:
    """Index in its row of queries `first` to `last`: `[1 or B, l]`."""
    at = torch.arange(first, last, device=device)[None]
    return at + (span.past if span.starts is None else span.starts[:, None])
