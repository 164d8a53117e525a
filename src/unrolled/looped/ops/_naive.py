"""Table 1 of LT2 (2605.20670), line by line: every transition A_t and input b_t is written out as a matrix.

    S_t = A_t S_{t-1} + b_t,    o_t = S_t^T q_t / sqrt(dk)

This is what the fast forms are held to, as `ops.<mixer>.naive`; nothing else uses it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unrolled.looped.ops._inputs import Inputs

Line = tuple[Tensor, Tensor]
"""A `[B, L, H, dk, dk]` and b `[B, L, H, dk, dv]`."""


def linear(x: Inputs) -> Line:
    """S becomes S + k v^T."""
    return eye(x), outer(x.k, x.v)


def retnet(x: Inputs) -> Line:
    """S becomes gamma S + k v^T, one fixed gamma = e^g per head."""
    return exp(x.g) * eye(x), outer(x.k, x.v)


def mamba2(x: Inputs) -> Line:
    """S becomes alpha S + k v^T, one alpha = e^g per token and head."""
    return exp(x.g) * eye(x), outer(x.k, x.v)


def gla(x: Inputs) -> Line:
    """S becomes Diag(alpha) S + k v^T, one alpha = e^g per token, head and channel."""
    return diag(x.g), outer(x.k, x.v)


def hgrn2(x: Inputs) -> Line:
    """S becomes Diag(alpha) S + (1 - alpha) v^T; x.k is 1 - alpha."""
    return diag(x.g), outer(x.k, x.v)


def deltanet(x: Inputs) -> Line:
    """S becomes (I - beta k k^T) S + beta k v^T."""
    return eye(x) - number(x.beta) * outer(x.k, x.k), number(x.beta) * outer(x.k, x.v)


def gated_delta(x: Inputs) -> Line:
    """S becomes alpha (I - beta k k^T) S + beta k v^T."""
    return exp(x.g) * (eye(x) - number(x.beta) * outer(x.k, x.k)), number(x.beta) * outer(x.k, x.v)


def kda(x: Inputs) -> Line:
    """S becomes (I - beta k k^T) Diag(alpha) S + beta k v^T."""
    return (eye(x) - number(x.beta) * outer(x.k, x.k)) @ diag(x.g), number(x.beta) * outer(x.k, x.v)


def scan(x: Inputs, line: Callable[[Inputs], Line]) -> tuple[Tensor, Tensor]:
    """Run a line of the table, one token after another: o and the last state."""
    S, o = x.state.clone(), []
    with torch.autocast(S.device.type, enabled=False):
        A, b = line(x)
        if x.reset is not None:  # the first token of a packed sequence
            A = A.masked_fill(x.reset[:, :, None, None, None], 0)
        for t in range(x.q.shape[1]):
            S = A[:, t] @ S + b[:, t]
            o.append((S.mT @ x.q[:, t, :, :, None])[..., 0] / x.q.shape[-1] ** 0.5)
    return (torch.stack(o, 1) if o else torch.zeros_like(x.v)).to(x.out), S


def eye(x: Inputs) -> Tensor:
    """I for every token: `[B, L, H, dk, dk]`."""
    return torch.eye(x.q.shape[-1], dtype=x.q.dtype, device=x.q.device).expand(*x.q.shape, -1)


def number(a: Tensor | None) -> Tensor:
    """One number per token and head, shaped to multiply a matrix."""
    assert a is not None
    return a[..., None, None]


def exp(g: Tensor | None) -> Tensor:
    """The decay alpha = e^g, one per token and head, shaped to multiply a matrix."""
    return number(g).exp()


def diag(g: Tensor | None) -> Tensor:
    """Diag(alpha), alpha = e^g, one per token, head and channel."""
    assert g is not None
    return torch.diag_embed(g.exp())


def outer(a: Tensor, b: Tensor) -> Tensor:
    """The matrix a b^T."""
    return a[..., :, None] * b[..., None, :]
