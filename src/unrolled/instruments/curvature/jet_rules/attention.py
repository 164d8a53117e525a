"""Softmax and scaled dot-product attention.

p(e) = softmax(s(e)) is p_0 exp(s - s_0 - log Z(e)); with l_1 = <p_0, s_1> and w = s_2 + (s_1 - l_1)^2 / 2,
l_2 = <p_0, w>:   p_1 = p_0 (s_1 - l_1),   p_2 = p_0 (w - l_2).

Attention is made a block of queries at a time against all the keys they may see: scores never exist for the whole
sequence, and what a causal mask hides is skipped rather than masked where whole blocks of it fall away.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.blocks import BLOCK, cut, pieces
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
    u, product = s[1], p0 * s[1]
    u -= product.sum(dim, keepdim=True)
    if len(s) == 3:
        w = s[2].addcmul_(u, u, value=0.5)
    else:
        w = torch.mul(u, u, out=product).mul_(0.5)
    first = p0 * u
    w -= (p0 * w).sum(dim, keepdim=True)
    return first, w.mul_(p0)


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
        `[terms, *batch, length, width]`, in memory `[terms, batch[0], length, batch[1:], width]`, which is what the
        reshape after it wants.
    """
    length, keys, size, width = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    a, b, c = len(q), len(k), len(v)
    scores = min(TERMS, a + b - 1)
    chances = 1 if scores == 1 else TERMS
    terms = min(TERMS, chances + c - 1)
    count = math.prod(batch)

    # coefficients side by side: (q k)_n is then one product over the inner axis, p_n v one product for all v
    def side_by_side(x: Tensor, order: range) -> Tensor:
        return torch.cat([x[i].expand(*batch, *x.shape[-2:]) for i in order], -1).reshape(
            count, x.shape[-2], -1
        )

    queries = side_by_side(q, range(a - 1, -1, -1)) * scale
    looked = side_by_side(k, range(b)).transpose(1, 2)
    values = side_by_side(v, range(c))
    result = q.new_empty(terms, *batch[:1], length, *batch[1:], width).movedim(1 + len(batch[:1]), -2)
    flat_mask, flat_kept = (
        None if m is None else m.expand(*batch, length, keys).reshape(count, length, keys)
        for m in (mask, kept)
    )
    low = q.dtype in (torch.bfloat16, torch.float16)
    heads, rows = _block(count, length, keys, q.device, causal)
    landed = q.new_empty(count, length, terms * width)
    for h in range(0, count, heads):
        some = slice(h, min(h + heads, count))
        for t in range(0, length, rows):
            end = min(t + rows, length)
            seen = min(end, keys) if causal else keys
            s = q.new_empty(scores, some.stop - h, end - t, seen)
            for n in range(scores):
                js = leibniz(a, b, n)
                left = queries[some, t:end, (a - 1 - n + js[0]) * size : (a - n + js[-1]) * size]
                torch.bmm(left, looked[some, js[0] * size : (js[-1] + 1) * size, :seen], out=s[n])
            if low:
                s = s.float()
            if causal:
                hidden = torch.ones(end - t, seen, dtype=torch.bool, device=q.device).triu_(t + 1)
                s[0].masked_fill_(hidden, -math.inf)
            elif flat_mask is not None:
                m = flat_mask[some, t:end]
                s[0] = s[0].masked_fill(~m, -math.inf) if m.dtype == torch.bool else s[0] + m
            p = [torch.softmax(s[0], -1)]
            if flat_mask is not None:  # a query that sees nothing gets zeros, as torch has it
                p[0].masked_fill_((s[0] == -math.inf).all(-1, keepdim=True), 0)
            if scores > 1:
                p += softmax_terms(s, p[0], -1)
            if flat_kept is not None:
                p = [x * flat_kept[some, t:end, :seen] for x in p]
            o, w = landed[some, t:end], values[some, :seen]
            for n, x in enumerate(p):
                x = x.to(q.dtype)
                fit = min(c, terms - n)
                if n == 0:
                    o[..., : fit * width] = torch.bmm(x, w[..., : fit * width])
                    o[..., fit * width :] = 0
                else:
                    o[..., n * width : (n + fit) * width] += torch.bmm(x, w[..., : fit * width])
    landed = landed.view(*batch, length, terms, width)
    result.copy_(landed.movedim(-2, 0))
    return result


def _block(count: int, length: int, keys: int, device: torch.device, causal: bool) -> tuple[int, int]:
    """How many heads and how many queries to take at a time."""
    if device.type != "cpu":
        room = 1 << 25
        rows = max(1, min(length, room // max(keys * count, 1)))
        return max(1, min(count, room // max(keys * rows, 1))), rows
    rows = min(length, max(32, BLOCK // max(keys, 1)))
    if causal and length > 64:
        rows = min(rows, max(64, length // 4))
    return max(1, min(count, BLOCK // max(rows * keys, 1))), rows


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
