"""Gated DeltaNet: the delta rule on a memory that decays, one decay per token and head.

    S <- alpha (I - beta k k^T) S + beta k v^T,    o = S^T q / sqrt(dk)        (LT2 2605.20670, table 1)

Arguments, shapes and dtypes are those of `unrolled.looped.ops`.
"""

from torch import Tensor

from unrolled.looped.ops import _chunks, _naive, _recurrent
from unrolled.looped.ops._inputs import prepare

__all__ = ["chunk", "naive", "recurrent"]


def naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """As table 1 has it, with every A_t a matrix: for reading, and for tests."""
    return _naive.scan(
        prepare(q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="head", delta=True),
        _naive.gated_delta,
    )


def recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """One token after another: what decoding needs.

    Example:
        >>> import torch
        >>> k = torch.ones(1, 2, 1, 1)
        >>> v = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
        >>> g = torch.full((1, 2, 1), 0.5).log()
        >>> beta = torch.full((1, 2, 1), 0.5)
        >>> o, state = recurrent(k, k, v, g, beta)
        >>> o.flatten().tolist(), state.item()
        ([1.5, 2.375], 2.375)
    """
    return _recurrent.scan(
        prepare(q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="head", delta=True)
    )


def chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Chunk after chunk: what training and prefill need.

    Example:
        >>> import torch
        >>> k = torch.ones(1, 2, 1, 1)
        >>> v = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
        >>> g = torch.full((1, 2, 1), 0.5).log()
        >>> beta = torch.full((1, 2, 1), 0.5)
        >>> o, state = chunk(k, k, v, g, beta)
        >>> o.flatten().tolist(), state.item()
        ([1.5, 2.375], 2.375)
    """
    x = prepare(
        q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="head", delta=True, widen=False
    )
    return _chunks.scan(x, chunk_size, implementation)
