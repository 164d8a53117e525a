"""HGRN2: a gate per channel that also is the key: what is forgotten makes room for what is written.

    S <- Diag(alpha) S + (1 - alpha) v^T,    o = S^T q / sqrt(dk)        (LT2 2605.20670, table 1)

Arguments, shapes and dtypes are those of `unrolled.looped.ops`.
"""

from torch import Tensor

from unrolled.looped.ops import _chunks, _naive, _recurrent
from unrolled.looped.ops._inputs import prepare

__all__ = ["chunk", "naive", "recurrent"]


def naive(
    q: Tensor,
    v: Tensor,
    g: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """As table 1 has it, with every A_t a matrix: for reading, and for tests."""
    return _naive.scan(
        prepare(q, None, v, g, None, state, chunk_size, mask=mask, reset=reset, gate="channel", tied=True),
        _naive.hgrn2,
    )


def recurrent(
    q: Tensor,
    v: Tensor,
    g: Tensor,
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
        >>> o, state = recurrent(k, v, g)
        >>> o.flatten().tolist(), state.item()
        ([1.5, 2.75], 2.75)
    """
    return _recurrent.scan(
        prepare(q, None, v, g, None, state, chunk_size, mask=mask, reset=reset, gate="channel", tied=True)
    )


def chunk(
    q: Tensor,
    v: Tensor,
    g: Tensor,
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
        >>> o, state = chunk(k, v, g)
        >>> o.flatten().tolist(), state.item()
        ([1.5, 2.75], 2.75)
    """
    x = prepare(
        q, None, v, g, None, state, chunk_size, mask=mask, reset=reset, gate="channel", tied=True, widen=False
    )
    return _chunks.scan(x, chunk_size, implementation)
