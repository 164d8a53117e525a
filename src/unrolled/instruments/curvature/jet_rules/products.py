"""Matrix products and convolutions: bilinear, so Leibniz' rule, arranged to need few and large products.

For y = x W of two live factors: y_0 = x_0 W_0, y_1 = x_1 W_0 + x_0 W_1, y_2 = x_2 W_0 + x_1 W_1 (W_2 = 0): five
products, against nine for differentiating twice (curvature fact sheet 2606.04662, section 8). They are made as
two: [x_0; x_1; x_2] W_0, then [x_0; x_1] W_1 added onto y_1, y_2 in place.
"""

import itertools
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.internals import composite
from unrolled.instruments.curvature.jet_rules.tensor import (
    TERMS,
    Jet,
    JetUnsupported,
    bound,
    broadcast,
    is_live,
    stack_of,
)

aten = torch.ops.aten


def leibniz(a: int, b: int, n: int) -> range:
    """The j for which (a b)_n has a term a_{n-j} b_j, when the factors have `a` and `b` coefficients."""
    return range(max(0, n - a + 1), min(n, b - 1) + 1)


def rows_times(x: Tensor, w: Tensor) -> Tensor:
    """`[a, N, K]` times `[b, K, M]`: the stack of the product, `[min(3, a + b - 1), N, M]`."""
    a, (_, rows, inner), columns = len(x), x.shape, w.shape[-1]
    terms = min(TERMS, a + len(w) - 1)
    out = torch.empty((terms, rows, columns), dtype=x.dtype, device=x.device)
    x = x.reshape(a * rows, inner)
    flat = out.view(terms * rows, columns)
    filled = 0
    for j in range(len(w)):
        count = min(a, terms - j)  # the coefficients of x that w_j meets, and where they land
        known = max(0, min(count, filled - j))
        if known:
            flat[j * rows : (j + known) * rows].addmm_(x[: known * rows], w[j])
        if known < count:
            torch.mm(x[known * rows : count * rows], w[j], out=flat[(j + known) * rows : (j + count) * rows])
        filled = max(filled, j + count)
    return out


def batched(a: Tensor, b: Tensor) -> Tensor:
    """`[a, B, N, K]` times `[b, B, K, M]`: the stack of the batched product."""
    terms = min(TERMS, len(a) + len(b) - 1)
    out = torch.empty((terms, a.shape[1], a.shape[2], b.shape[3]), dtype=a.dtype, device=a.device)
    for n in range(terms):
        for i, j in enumerate(leibniz(len(a), len(b), n)):
            torch.bmm(a[n - j], b[j], out=out[n]) if i == 0 else out[n].baddbmm_(a[n - j], b[j])
    return out


def _linear(op: Any, args: Any, kwargs: Any) -> Any:
    x, w, bias = bound(op, args, kwargs)
    if w.ndim != 2:
        return composite(op, args, kwargs)
    xs, ws = stack_of(x), stack_of(w)
    out = rows_times(xs.reshape(len(xs), -1, x.shape[-1]), ws.transpose(1, 2))
    if bias is not None:
        bs = stack_of(bias)
        if len(bs) > len(out):  # only the bias is live
            out = torch.cat([out, out.new_zeros(len(bs) - len(out), *out.shape[1:])])
        out[: len(bs)].add_(bs.unsqueeze(1))
    return Jet(out.view(len(out), *x.shape[:-1], w.shape[0]))


def matmul(a: Tensor, b: Tensor) -> Any:
    """torch.matmul of two tensors, at least one of them live, in all its shapes."""
    if a.ndim == 1 or b.ndim == 1:
        x = matmul(a.unsqueeze(0) if a.ndim == 1 else a, b.unsqueeze(-1) if b.ndim == 1 else b)
        x = x.squeeze(-1) if b.ndim == 1 else x
        return x.squeeze(-1 if b.ndim == 1 else -2) if a.ndim == 1 else x
    if b.ndim == 2:
        xs, ws = stack_of(a), stack_of(b)
        out = rows_times(xs.reshape(len(xs), -1, a.shape[-1]), ws)
        return Jet(out.view(len(out), *a.shape[:-1], b.shape[-1]))
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    xs, ys = (stack_of(x.expand(*batch, *x.shape[-2:])).flatten(1, -3) for x in (a, b))
    out = batched(xs, ys)
    return Jet(out.view(len(out), *batch, *out.shape[-2:]))


def _matmul(op: Any, args: Any, kwargs: Any) -> Any:
    return matmul(*args)


def _added(op: Any, args: Any, kwargs: Any) -> Any:
    """addmm, baddbmm, addmv, addbmm: beta x + alpha (a b)."""
    x, a, b, beta, alpha = bound(op, args, kwargs)
    y = matmul(a, b) if is_live(a) or is_live(b) else torch.matmul(a, b)
    y = y if alpha == 1 else y * alpha
    return y if beta == 0 else torch.add(y, x, alpha=beta)


def _convolution(op: Any, args: Any, kwargs: Any) -> Any:
    x, w, bias, *rest = args
    xs, ws = stack_of(x), stack_of(w)
    terms = min(TERMS, len(xs) + len(ws) - 1)
    rows: list[Tensor | None] = [None] * terms
    for j in range(len(ws)):
        count = min(len(xs), terms - j)
        y = op(xs[:count].flatten(0, 1), ws[j], None, *rest)
        for n, part in enumerate(y.view(count, -1, *y.shape[1:]), start=j):
            held = rows[n]
            rows[n] = part if held is None else held + part
    out = torch.stack([r for r in rows if r is not None])
    if bias is None:
        return Jet(out)
    return torch.add(Jet(out), bias.view(-1, *[1] * (x.ndim - 2)))


def _multilinear(count: int) -> Any:
    """The rule of an operator linear in each of its first `count` arguments."""

    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        stacks = [stack_of(x) for x in args[:count]]
        rows: list[Tensor | None] = [None] * min(TERMS, 1 + sum(len(s) - 1 for s in stacks))
        for orders in itertools.product(*(range(len(s)) for s in stacks)):
            n = sum(orders)
            if n < len(rows):
                part, held = op(*(s[i] for s, i in zip(stacks, orders)), *args[count:], **kwargs), rows[n]
                rows[n] = part if held is None else held + part
        return Jet(torch.stack([r for r in rows if r is not None]))

    return rule


def _grouped(op: Any, args: Any, kwargs: Any) -> Any:
    a, b, offsets, bias, dtype = bound(op, args, kwargs)
    if bias is not None:
        raise JetUnsupported(op, "with a bias there is no rule for it")
    return _multilinear(2)(op, (a, b, offsets, None, dtype), {})


RULES: dict[Any, Any] = {
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.mv.default: _matmul,
    aten.dot.default: _matmul,
    aten.addmm.default: _added,
    aten.addmv.default: _added,
    aten.baddbmm.default: _added,
    aten.convolution.default: _convolution,
    aten.linalg_cross.default: _multilinear(2),
    aten._grouped_mm.default: _grouped,
    aten._trilinear.default: _multilinear(3),
}
