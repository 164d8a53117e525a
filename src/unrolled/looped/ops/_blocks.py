"""How a sequence is cut into blocks of chunks, and put together again."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CACHE = 2**18
"""Numbers in one tensor of a block on a CPU: 1 MiB in float32, half of a core's second-level cache."""
DEVICE = 2**26
"""The same on an accelerator, where a block has to keep the whole machine busy."""


def plan(q: Tensor, v: Tensor, chunk: int) -> int:
    """Tokens of one block, for q `[B, L, H, dk]`: as many whole chunks as fit, at least one."""
    B, _, H, dk = q.shape
    numbers = B * H * max(chunk, dk) * max(chunk, dk, v.shape[-1]) + 1
    return chunk * ((CACHE if q.device.type == "cpu" else DEVICE) // numbers + 1)


def count(q: Tensor, v: Tensor, chunk: int) -> int:
    """How many blocks there are."""
    B, L, H, _ = q.shape
    return -(-L // plan(q, v, chunk)) if B * H else 0


def blocks(q: Tensor, v: Tensor, chunk: int) -> list[tuple[range, int]]:
    """The tokens of every block, the last cut short where the sequence ends, and the length of its chunks.

    That length is `chunk`, or the next power of two that holds a sequence shorter than a chunk.
    """
    B, L, H, _ = q.shape
    size = plan(q, v, chunk)
    L = L if B * H else 0  # nothing to do
    C = min(chunk, 1 << max(0, L - 1).bit_length())
    return [(range(a, min(a + size, L)), C) for a in range(0, L, size)]


def split(x: Any, tokens: range, chunk: int, dtype: torch.dtype) -> Any:
    """Tokens of `[B, L, H, ...]` as `[chunks * B * H, chunk, ...]`, filled up with zeros: those leave the state alone.

    None stays None.
    """
    if x is None:
        return None
    B, _, H = x.shape[:3]
    x = x[:, tokens.start : tokens.stop].to(dtype)
    missing = -len(tokens) % chunk
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
    n = x.shape[1] // chunk
    x = x.unflatten(1, (n, chunk)).movedim((1, 3), (0, 2)).reshape(n * B * H, chunk, *x.shape[3:])
    return x.contiguous()  # an expanded gradient stays so until here, and is slow to multiply


def merge(x: Tensor, tokens: range, B: int) -> Tensor:
    """The inverse of `split`: `[B, tokens, H, ...]`."""
    chunk = x.shape[1]
    n = -(-len(tokens) // chunk)
    x = x.unflatten(0, (n, B, -1)).movedim((0, 2), (1, 3))
    return x.flatten(1, 2)[:, : len(tokens)]
