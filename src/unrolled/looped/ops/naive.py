r"""Table 1 of LT2 (2605.20670), line by line: every transition A_t and input b_t is written out as a matrix.

    S_t = A_t S_{t-1} + b_t,    o_t = S_t^T q_t / sqrt(dk)

These are what the fast forms are held to; nothing else uses them. Arguments and results are those of `unrolled.looped.ops`.

>>> import torch
>>> k = torch.tensor([1.0, 1.0]).div(2**0.5).view(1, 1, 1, 2)
>>> g = torch.tensor([0.5, 1.0]).log().view(1, 1, 1, 2)
>>> state = torch.eye(2).view(1, 1, 2, 2)
>>> o, S = kda(k, k, torch.zeros(1, 1, 1, 2), g, torch.ones(1, 1, 1), state)  # the state is then A_1: decay, then delta
>>> S[0, 0].mul(100).round().div(100).tolist()
[[0.25, -0.5], [-0.25, 0.5]]
"""

import torch
from torch import Tensor

from unrolled.looped.ops._inputs import Inputs, per_head, prepare

Result = tuple[Tensor, Tensor]


def linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> Result:
    """S <- S + k v^T."""
    x = prepare(q, k, v, None, None, state, chunk_size, mask=mask, reset=reset)
    return scan(x, eye(x), outer(x.k, x.v))


def retnet(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> Result:
    """S <- gamma S + k v^T, one fixed gamma = exp(g) per head."""
    x = prepare(q, k, v, per_head(q, g), None, state, chunk_size, mask=mask, reset=reset, gate="head")
    return scan(x, exp(x.g) * eye(x), outer(x.k, x.v))


def mamba2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> Result:
    """S <- alpha S + k v^T, one alpha = exp(g) per token and head."""
    x = prepare(q, k, v, g, None, state, chunk_size, mask=mask, reset=reset, gate="head")
    return scan(x, exp(x.g) * eye(x), outer(x.k, x.v))


def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> Result:
    """S <- Diag(alpha) S + k v^T, one alpha = exp(g) per token, head and channel."""
    x = prepare(q, k, v, g, None, state, chunk_size, mask=mask, reset=reset, gate="channel")
    return scan(x, diag(x.g), outer(x.k, x.v))


def hgrn2(
    q: Tensor,
    v: Tensor,
    g: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> Result:
    """S <- Diag(alpha) S + (1 - alpha) v^T."""
    x = prepare(q, None, v, g, None, state, chunk_size, mask=mask, reset=reset, gate="channel", tied=True)
    # prepare: x.k is 1 - alpha
    return scan(x, diag(x.g), outer(x.k, x.v))


def deltanet(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    implementation: str = "auto",
) -> Result:
    """S <- (I - beta k k^T) S + beta k v^T."""
    x = prepare(q, k, v, None, beta, state, chunk_size, mask=mask, reset=reset, delta=True)
    return scan(x, eye(x) - number(x.beta) * outer(x.k, x.k), number(x.beta) * outer(x.k, x.v))


def gated_delta(
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
) -> Result:
    """S <- alpha (I - beta k k^T) S + beta k v^T."""
    x = prepare(q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="head", delta=True)
    return scan(x, exp(x.g) * (eye(x) - number(x.beta) * outer(x.k, x.k)), number(x.beta) * outer(x.k, x.v))


def kda(
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
) -> Result:
    """S <- (I - beta k k^T) Diag(alpha) S + beta k v^T."""
    x = prepare(q, k, v, g, beta, state, chunk_size, mask=mask, reset=reset, gate="channel", delta=True)
    with torch.autocast(q.device.type, enabled=False):
        A = (eye(x) - number(x.beta) * outer(x.k, x.k)) @ diag(x.g)
    return scan(x, A, number(x.beta) * outer(x.k, x.v))


def scan(x: Inputs, A: Tensor, b: Tensor) -> Result:
    """S_t = A_t S_{t-1} + b_t and o_t = S_t^T q_t / sqrt(dk), from `[B, L, H, dk, dk]` and `[B, L, H, dk, dv]`."""
    if x.reset is not None:  # the first token of a packed sequence
        A = A.masked_fill(x.reset[:, :, None, None, None], 0)
    S, o = x.state.clone(), []
    with torch.autocast(S.device.type, enabled=False):
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
