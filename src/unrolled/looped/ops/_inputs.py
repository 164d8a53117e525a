"""What every op does before it computes: check the arguments, widen them, apply padding and sequence starts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

NEVER = -math.inf


class Inputs(NamedTuple):
    """Checked arguments in the dtype the state is kept in, tokens before heads: `[B, L, H, ...]`."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor | None
    """log alpha with padding (0) and sequence starts (-inf) applied; None if alpha = 1 everywhere."""
    beta: torch.Tensor | None
    state: torch.Tensor
    reset: torch.Tensor | None
    """`[B, L]`: sequence starts; g holds them already."""
    out: torch.dtype
    """The dtype of the output."""


def prepare(
    q: torch.Tensor,
    k: torch.Tensor | None,
    v: torch.Tensor,
    g: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    chunk_size: int = 64,
    *,
    mask: torch.Tensor | None = None,
    reset: torch.Tensor | None = None,
    channels: bool = False,
    widen: bool = True,
) -> Inputs:
    """Check and complete an op's arguments.

    Arguments are those of `unrolled.looped.ops`; k None means 1 - exp(g) (HGRN2). `channels`: g is `[B, L, H, dk]` rather than
    `[B, L, H]`. `widen`: return q, k and v in the state's dtype rather than as they came.

    Raises:
        TypeError: a tensor is missing, not floating, or of another dtype than its peers.
        ValueError: a shape, a device or the chunk size does not fit.
    """
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(
            f"chunk_size is {chunk_size!r}; it counts tokens: pass 1 or more (64 is a good choice)"
        )
    if not isinstance(q, torch.Tensor) or q.ndim != 4:
        raise ValueError(f"q is {_says(q)}; expected [B, L, H, dk]: batch, tokens, heads, channels")
    if not q.is_floating_point():
        raise TypeError(f"q is {_says(q)}; expected floating point: q.float()")
    B, L, H, dk = q.shape
    if not isinstance(v, torch.Tensor) or v.ndim != 4 or v.shape[:3] != q.shape[:3]:
        raise ValueError(f"v is {_says(v)}; q is {_says(q)}, so expected [{B}, {L}, {H}, dv]")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    expected = {
        "k": (k, (B, L, H, dk)),
        "g": (g, (B, L, H, dk) if channels else (B, L, H)),
        "beta": (beta, (B, L, H)),
        "state": (state, (B, H, dk, v.shape[3])),
        "mask": (mask, (B, L)),
        "reset": (reset, (B, L)),
    }
    for name, (x, shape) in expected.items():
        if x is not None and (not isinstance(x, torch.Tensor) or x.shape != shape):
            raise ValueError(
                f"{name} is {_says(x)}; q is {_says(q)} and v {_says(v)}, so expected {list(shape)}"
            )
    allowed = {"k": {q.dtype}, "v": {q.dtype}, "g": {q.dtype, wide}, "beta": {q.dtype, wide}, "state": {wide}}
    allowed |= {"mask": {torch.bool}, "reset": {torch.bool}}
    for name, x in {
        "k": k,
        "v": v,
        "g": g,
        "beta": beta,
        "state": state,
        "mask": mask,
        "reset": reset,
    }.items():
        if x is None:
            continue
        if x.dtype not in allowed[name]:
            wanted = " or ".join(sorted(map(str, allowed[name])))
            raise TypeError(
                f"{name} is {x.dtype} and q {q.dtype}; {name} has to be {wanted}: cast one of them"
            )
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device} and q on {q.device}; move one: {name}.to(q.device)")

    if mask is not None:
        pad = ~mask[:, :, None, None]
        q, v = q.masked_fill(pad, 0), v.masked_fill(pad, 0)
        k = None if k is None else k.masked_fill(pad, 0)
        g = None if g is None else g.masked_fill(pad if channels else pad[..., 0], 0)
        beta = None if beta is None else beta.masked_fill(pad[..., 0], 0)
    g = None if g is None else g.to(wide)
    if k is None:
        assert g is not None
        k = -torch.expm1(g)
        q, v = q.to(k.dtype), v.to(k.dtype)
    if reset is not None:
        first = reset[:, :, None, None] if channels else reset[:, :, None]
        zero = torch.zeros((), dtype=wide, device=q.device).expand((B, L, H, dk) if channels else (B, L, H))
        g = (zero if g is None else g).masked_fill(first, NEVER)
    if state is None:
        state = torch.zeros(B, H, dk, v.shape[3], dtype=wide, device=q.device)
    out = v.dtype
    if widen:
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
    return Inputs(q, k, v, g, None if beta is None else beta.to(wide), state, reset, out)


def per_head(q: torch.Tensor, g: torch.Tensor | None) -> torch.Tensor:
    """RetNet's log gamma, `[H]` or None for log(1 - 2^-5-h), repeated for every token: `[B, L, H]`.

    Example:
        >>> per_head(torch.zeros(1, 1, 2, 4), None).exp().flatten().tolist()
        [0.96875, 0.984375]
    """
    if not isinstance(q, torch.Tensor) or q.ndim != 4:
        raise ValueError(f"q is {_says(q)}; expected [B, L, H, dk]: batch, tokens, heads, channels")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    if g is None:
        g = torch.log1p(-torch.exp2(-5.0 - torch.arange(q.shape[2], device=q.device, dtype=wide)))
    if not isinstance(g, torch.Tensor) or g.shape != q.shape[2:3]:
        raise ValueError(
            f"g is {_says(g)}; retnet has one for each of q's {q.shape[2]} heads: expected [{q.shape[2]}]"
        )
    return g.expand(q.shape[:3])


def starts(lengths: Sequence[int] | torch.Tensor, total: int | None = None) -> torch.Tensor:
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
    return f"{list(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else repr(x)
