"""What every op does before it computes: check the arguments, widen them, apply padding and sequence starts."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

NEVER = -math.inf


class Inputs(NamedTuple):
    """Checked arguments in the dtype the state is kept in, tokens before heads: `[B, L, H, ...]`."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor | None
    """log alpha with padding (0) and sequence starts (-inf) applied; None if alpha = 1 everywhere."""
    beta: Tensor | None
    state: Tensor
    reset: Tensor | None
    """`[B, L]`: sequence starts; g holds them already."""
    out: torch.dtype
    """The dtype of the output."""


def prepare(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    gate: Literal["none", "head", "channel"] = "none",
    delta: bool = False,
    tied: bool = False,
    widen: bool = True,
) -> Inputs:
    """Check and complete an op's arguments, which are those of `unrolled.looped.ops`.

    What the mixer is: `gate`, whether g has one number per head or per channel; `delta`, whether there is a beta; `tied`,
    whether its key is 1 - alpha. `widen`: return q, k and v in the state's dtype rather than as they came.

    Raises:
        TypeError: a tensor is missing, not floating, or of another dtype than its peers.
        ValueError: a shape, a device or the chunk size does not fit.
    """
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(
            f"chunk_size is {chunk_size!r}; it counts tokens: pass 1 or more (64 is a good choice)"
        )
    if not isinstance(q, Tensor) or q.ndim != 4 or q.shape[3] < 1:
        raise ValueError(f"q is {_says(q)}; expected [B, L, H, dk]: batch, tokens, heads, channels")
    if not q.is_floating_point():
        raise TypeError(f"q is {_says(q)}; expected floating point: q.float()")
    B, L, H, dk = q.shape
    if not isinstance(v, Tensor) or v.ndim != 4 or v.shape[:3] != q.shape[:3] or v.shape[3] < 1:
        raise ValueError(f"v is {_says(v)}; q is {_says(q)}, so expected [{B}, {L}, {H}, dv]")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    channels = gate == "channel"
    gates = (B, L, H, dk) if channels else (B, L, H)
    _check(q, v, "k", k, (B, L, H, dk), (q.dtype,), needed=not tied)
    _check(q, v, "v", v, v.shape, (q.dtype,))
    _check(q, v, "g", g, gates, (q.dtype, wide), needed=gate != "none")
    _check(q, v, "beta", beta, (B, L, H), (q.dtype, wide), needed=delta)
    _check(q, v, "state", state, (B, H, dk, v.shape[3]), (wide,))
    _check(q, v, "mask", mask, (B, L), (torch.bool,))
    _check(q, v, "reset", reset, (B, L), (torch.bool,))

    out = v.dtype
    if mask is not None:
        pad = ~mask[:, :, None, None]
        q, v = q.masked_fill(pad, 0), v.masked_fill(pad, 0)
        k = None if k is None else k.masked_fill(pad, 0)
        g = None if g is None else g.masked_fill(pad if channels else pad[..., 0], 0)
        beta = None if beta is None else beta.masked_fill(pad[..., 0], 0)
    g = None if g is None else g.to(wide)
    if tied and g is not None:
        k, q, v = -torch.expm1(g), q.to(wide), v.to(wide)
    assert k is not None
    if reset is not None:
        g = torch.zeros(gates, dtype=wide, device=q.device) if g is None else g
        g = g.masked_fill(reset[:, :, None, None] if channels else reset[:, :, None], NEVER)
    if state is None:
        state = torch.zeros(B, H, dk, v.shape[3], dtype=wide, device=q.device)
    if widen:
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
    return Inputs(q, k, v, g, None if beta is None else beta.to(wide), state, reset, out)


def _check(
    q: Tensor,
    v: Tensor,
    name: str,
    x: Tensor | None,
    shape: Sequence[int],
    dtypes: Sequence[torch.dtype],
    needed: bool = False,
) -> None:
    if x is None:
        if needed:
            raise TypeError(f"{name} is missing; expected {list(shape)}")
        return
    if not isinstance(x, Tensor) or x.shape != tuple(shape):
        raise ValueError(f"{name} is {_says(x)}; q is {_says(q)} and v {_says(v)}, so expected {list(shape)}")
    if x.dtype not in dtypes:
        wanted = " or ".join(sorted({str(d) for d in dtypes}))
        raise TypeError(f"{name} is {x.dtype} and q {q.dtype}; {name} has to be {wanted}: cast one of them")
    if x.device != q.device:
        raise ValueError(f"{name} is on {x.device} and q on {q.device}; move one: {name}.to(q.device)")


def per_head(q: Tensor, g: Tensor | None) -> Tensor:
    """RetNet's log gamma, `[H]` or None for log(1 - 2^-5-h), repeated for every token: `[B, L, H]`.

    Example:
        >>> per_head(torch.zeros(1, 1, 2, 4), None).exp().flatten().tolist()
        [0.96875, 0.984375]
    """
    if not isinstance(q, Tensor) or q.ndim != 4:
        raise ValueError(f"q is {_says(q)}; expected [B, L, H, dk]: batch, tokens, heads, channels")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    if g is None:
        g = torch.log1p(-torch.exp2(-5.0 - torch.arange(q.shape[2], device=q.device, dtype=wide)))
    if not isinstance(g, Tensor) or g.shape != q.shape[2:3]:
        raise ValueError(
            f"g is {_says(g)}; retnet has one for each of q's {q.shape[2]} heads: expected [{q.shape[2]}]"
        )
    return g.expand(q.shape[:3])


def starts(lengths: Sequence[int] | Tensor, total: int | None = None) -> Tensor:
    """`reset` for one packed row: True at the first token of every sequence, `[1, total]`.

    Args:
        lengths: tokens of each sequence, in order.
        total: length of the row; what the sequences leave over at its end is one more (padding) sequence. None: their sum.

    Raises:
        ValueError: a length is below 1, or the row is too short.

    Example:
        >>> starts([2, 3], total=7).int().tolist()
        [[1, 0, 1, 0, 0, 1, 0]]
    """
    sizes = [int(n) for n in lengths]
    used = sum(sizes)
    total = used if total is None else total
    if any(n < 1 for n in sizes) or used > total:
        raise ValueError(
            f"lengths {sizes} for a row of {total} tokens; expected at least 1 each, and {total} or less in all"
        )
    row = torch.zeros(1, total, dtype=torch.bool)
    at = 0
    for n in sizes:
        row[0, at] = True
        at += n
    if used < total:
        row[0, used] = True
    return row


def _says(x: object) -> str:
    return f"{list(x.shape)} {x.dtype}" if isinstance(x, Tensor) else repr(x)
