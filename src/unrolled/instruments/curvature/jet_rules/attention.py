"""Softmax and scaled dot-product attention.

p(e) = softmax(s(e)) is p_0 exp(s - s_0 - log Z(e)); with l_1 = <p_0, s_1> and w = s_2 + (s_1 - l_1)^2 / 2,
l_2 = <p_0, w>:   p_1 = p_0 (s_1 - l_1),   p_2 = p_0 (w - l_2) = p_0 s_2 + p_1 (s_1 - l_1) / 2 - p_0 l_2.

Attention is made a block of queries at a time against all the keys they may see: scores never exist for the whole
sequence, and what a causal mask hides is skipped rather than masked where whole blocks of it fall away.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.blocks import cut, pieces, room_on
from unrolled.instruments.curvature.jet_rules.products import leibniz
from unrolled.instruments.curvature.jet_rules.tensor import (
    TERMS,
    Jet,
    JetUnsupported,
    bound,
    broadcast,
    constant,
    is_live,
    stack_of,
)

aten = torch.ops.aten


def softmax_terms(s: Tensor, p0: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """p_1 and p_2 of softmax(s) along `dim`, given p_0; `s` is `[2 or 3, ...]` and is overwritten."""
    first = p0 * s[1]
    u = s[1].sub_(first.sum(dim, keepdim=True))
    torch.mul(p0, u, out=first)
    second = (
        torch.mul(s[2], p0, out=s[2]).addcmul_(first, u, value=0.5)
        if len(s) == 3
        else u.mul_(first).mul_(0.5)
    )
    return first, second.addcmul_(p0, second.sum(dim, keepdim=True), value=-1)


def _softmax(op: Any, args: Any, kwargs: Any) -> Any:
    """Softmax and log_softmax along any axis."""
    x, dim, dtype = bound(op, args, kwargs)  # the private operators have half_to_float for dtype
    logarithm = "log" in op._schema.name
    if dtype:
        x = x.to(torch.float32 if dtype is True else dtype)
    if x.ndim == 0:
        return (x * 0) if logarithm else (x * 0 + 1)
    stack, dim = x.stack, dim % x.ndim
    lead = stack.shape[1:-1] if dim == x.ndim - 1 else ()
    low = stack.dtype in (torch.bfloat16, torch.float16)
    out = torch.empty((TERMS, *x.shape), dtype=stack.dtype, device=stack.device)
    for piece in pieces(lead, stack.device, unit=x.shape[dim] if lead else 1):
        s, y = cut(stack, piece), cut(out, piece)
        s = s.float() if low else s.clone()
        p0 = torch.softmax(s[0], dim)
        if op is aten._safe_softmax.default:
            p0 = p0.masked_fill((s[0] == -math.inf).all(dim, keepdim=True), 0)
        if not logarithm:
            first, second = softmax_terms(s, p0, dim)
            y[0], y[1], y[2] = p0, first, second
            continue
        y[0] = torch.log_softmax(s[0], dim)
        u = s[1] - (p0 * s[1]).sum(dim, keepdim=True)
        y[1] = u
        bend = u.square().mul_(0.5)
        second = s[2] if len(s) == 3 else torch.zeros_like(u)
        y[2] = second - (p0 * (second + bend)).sum(dim, keepdim=True)
    return Jet(out)


def _attention(op: Any, args: Any, kwargs: Any) -> Any:
    q, k, v, mask, dropout, causal, scale, grouped = bound(op, args, kwargs)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if dropout > 0 and q.device.type != "cpu":
        raise JetUnsupported(op, "the fused kernels' dropout masks cannot be drawn again outside them")
    if is_live(mask):
        return _spelt_out(op, q, k, v, mask, dropout, causal, scale, grouped)
    if causal and mask is not None:
        raise JetUnsupported(op, "it was given both a mask and is_causal")
    qs, ks, vs = stack_of(q), stack_of(k), stack_of(v)
    if grouped:
        ks, vs = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (ks, vs))
    batch = broadcast(qs.shape[1:-2], ks.shape[1:-2], vs.shape[1:-2])
    length, keys = q.shape[-2], k.shape[-2]
    kept = F.dropout(qs.new_ones(*batch, length, keys), dropout) if dropout > 0 else None
    out = attend(qs, ks, vs, batch, scale, mask, kept, causal)
    return Jet(out)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    batch: torch.Size,
    scale: float,
    mask: Tensor | None,
    kept: Tensor | None,
    causal: bool,
) -> Tensor:
    """The stack of softmax(scale q k^T + mask) v.

    Args:
        q: `[a, *batch, length, size]`.
        k: `[b, *batch, keys, size]`.
        v: `[c, *batch, keys, width]`.
        batch: leading axes, broadcast.
        scale: of the scores.
        mask: boolean (True takes part) or added to the scores, broadcast to `[*batch, length, keys]`.
        kept: dropout's factors for the probabilities, `[*batch, length, keys]`.
        causal: query t sees keys 0 to t.

    Returns:
        `[terms, *batch, length, width]`; with several batch axes laid out as `[terms, batch[0], length, batch[1:],
        width]`, so that joining the heads copies nothing.
    """
    length, keys, width = q.shape[-2], k.shape[-2], v.shape[-1]
    outer, heads = (batch[0], math.prod(batch[1:])) if len(batch) > 1 else (1, math.prod(batch))

    def fold(x: Tensor) -> Tensor:
        return x.expand(-1, *batch, *x.shape[-2:]).reshape(len(x), outer, heads, *x.shape[-2:])

    q, k, v = fold(q), fold(k).transpose(-2, -1), fold(v)
    mask, kept = (None if m is None else fold(m.expand(1, *batch, length, keys))[0] for m in (mask, kept))
    scores = min(TERMS, len(q) + len(k) - 1)
    terms = min(TERMS, (1 if scores == 1 else TERMS) + len(v) - 1)
    if len(batch) > 1:
        out = q.new_empty(terms, outer, length, heads, width).transpose(2, 3)
    else:
        out = q.new_empty(terms, outer, heads, length, width)
    for some, t, end in _blocks(outer, heads, length, keys, q.device, causal):
        seen = min(end, keys) if causal else keys
        queries, looked, values = q[some][..., t:end, :], k[some][..., :seen], v[some][..., :seen, :]
        s = _products(queries, looked, scale)
        if s.dtype in (torch.bfloat16, torch.float16):
            s = s.float()
        if causal:
            latest = s[0][..., t:]  # the keys before t are seen by every query of the block
            hidden = torch.ones(latest.shape[-2:], dtype=torch.bool, device=q.device).triu_(1)
            latest.masked_fill_(hidden, -math.inf)
        elif mask is not None:
            m = mask[some[1:]][..., t:end, :].flatten(0, 1)
            s[0] = s[0].masked_fill(~m, -math.inf) if m.dtype == torch.bool else s[0] + m
        p = s.new_empty(1 if scores == 1 else TERMS, *s.shape[1:])
        torch.softmax(s[0], -1, out=p[0])
        if mask is not None:  # a query that sees nothing gets zeros, as torch has it
            p[0].masked_fill_((s[0] == -math.inf).all(-1, keepdim=True), 0)
        if scores > 1:
            p[1], p[2] = softmax_terms(s, p[0], -1)
        if kept is not None:
            p *= kept[some[1:]][..., t:end, :seen].flatten(0, 1)
        image = out[some][..., t:end, :]
        image.copy_(_products(p.to(v.dtype), values).view(image.shape))
    return out.reshape(terms, *batch, length, width)


def _products(a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
    """The stack of scale a b, heads and what is outside them folded into one axis."""
    a, b = (x if x.ndim == 4 else x.squeeze(1) if x.shape[1] == 1 else x.flatten(1, 2) for x in (a, b))
    terms = min(TERMS, len(a) + len(b) - 1)
    out = a.new_empty(terms, *a.shape[1:3], b.shape[3])
    for n in range(terms):
        for i, j in enumerate(leibniz(len(a), len(b), n)):
            out[n].baddbmm_(a[n - j], b[j], beta=min(i, 1), alpha=scale)
    return out


def _blocks(
    outer: int, heads: int, length: int, keys: int, device: torch.device, causal: bool
) -> Iterator[tuple[tuple[slice, slice, slice], int, int]]:
    """What to take at a time: an index of stacks `[terms, outer, heads, ...]`, first and last query.

    On the CPU one block of scores; on a GPU all heads of all sequences, and as many queries as there is room for.
    """
    cpu = device.type == "cpu"
    room = room_on(device)
    together = 1 if cpu else outer
    rows = min(length, max(64 if cpu else 1, room // max(together * keys, 1)))
    if cpu and causal:
        rows = min(rows, max(64, length // 4))
    step = max(1, min(heads, room // max(together * rows * keys, 1)))
    for o in range(0, outer, together):
        for h in range(0, heads, step):
            some = (slice(None), slice(o, o + together), slice(h, h + step))
            for t in range(0, length, rows):
                yield some, t, min(t + rows, length)


def _spelt_out(
    op: Any, q: Any, k: Any, v: Any, mask: Any, dropout: float, causal: bool, scale: float, grouped: bool
) -> Any:
    """The same with a mask that is live itself: a bias learnt by the model."""
    if grouped:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scores = torch.matmul(q, k.transpose(-2, -1)) * scale + mask
    if causal:
        raise JetUnsupported(op, "it was given both a mask and is_causal")
    p = torch.softmax(scores, -1)
    hidden = (constant(scores) == -math.inf).all(-1, keepdim=True)
    return torch.matmul(F.dropout(p.masked_fill(hidden, 0), dropout), v)


RULES: dict[Any, Any] = {
    aten.softmax.int: _softmax,
    aten._softmax.default: _softmax,
    aten._safe_softmax.default: _softmax,
    aten.log_softmax.int: _softmax,
    aten._log_softmax.default: _softmax,
    aten.scaled_dot_product_attention.default: _attention,
}
