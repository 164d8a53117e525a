"""Kimi delta attention: the delta rule on a memory that decays, one decay per token, head and key channel; decay first.

    S <- (I - beta k k^T) Diag(alpha) S + beta k v^T,    o = S^T q / sqrt(dk)        (LT2 2605.20670, table 1)

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
    """As table 1 has it, with every A_t a matrix: for reading, and for tests.

    Example:
        The identity becomes A_1, decay first and then delta:

        >>> import torch
        >>> k = torch.tensor([1.0, 1.0]).div(2**0.5).view(1, 1, 1, 2)
        >>> g = torch.tensor([0.5, 1.0]).log().view(1, 1, 1, 2)
        >>> o, A = naive(k, k, torch.zeros(1, 1, 1, 2), g, torch.ones(1, 1, 1), torch.eye(2).view(1, 1, 2, 2))
        >>> A[0, 0].mul(100).round().div(100).tolist()
        [[0.25, -0.5], [-0.25, 0.5]]
    """
    return _naive.scan(
        prepare(q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="channel", delta=True),
        _naive.kda,
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
        >>> g = torch.full((1, 2, 1, 1), 0.5).log()
        >>> beta = torch.full((1, 2, 1), 0.5)
        >>> o, state = recurrent(k, k, v, g, beta)
        >>> o.flatten().tolist(), state.item()
        ([1.5, 2.375], 2.375)
    """
    return _recurrent.scan(
        prepare(q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="channel", delta=True)
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
        >>> g = torch.full((1, 2, 1, 1), 0.5).log()
        >>> beta = torch.full((1, 2, 1), 0.5)
        >>> o, state = chunk(k, k, v, g, beta)
        >>> o.flatten().tolist(), state.item()
        ([1.5, 2.375], 2.375)
    """
    x = prepare(
        q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="channel", delta=True, widen=False
    )
    return _chunks.scan(x, chunk_size, implementation)
