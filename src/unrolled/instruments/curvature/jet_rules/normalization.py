"""Layer, RMS, group and batch normalization.

xhat = c r with c = x - mean (or x itself) and r = (mean(c^2) + eps)^(-1/2): c goes coefficient by coefficient, r is one
short series per row, and their product is by Leibniz' rule.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.blocks import cut, pieces
from unrolled.instruments.curvature.jet_rules.tensor import TERMS, Jet, bound, constant, empty, is_live

aten = torch.ops.aten


def standardized(stack: Tensor, axes: Sequence[int], eps: float, center: bool) -> Tensor:
    """The stack of (x - mean) / sqrt(var + eps), moments over `axes` of the stack (negative); without `center`, of
    x / sqrt(mean(x^2) + eps).
    """
    axes = list(axes)
    out = empty(TERMS, stack)
    lead = stack.shape[1 : stack.ndim + min(axes)]
    low = stack.dtype in (torch.bfloat16, torch.float16)
    for piece in pieces(lead, stack.device, unit=prod(stack.shape[len(lead) + 1 :])):
        x, y = cut(stack, piece), cut(out, piece)
        if low:
            x = x.float()
        c = x - x.mean(axes, keepdim=True) if center else x
        v0 = (c[0] * c[0]).mean(axes, keepdim=True) + eps
        v1 = (c[0] * c[1]).mean(axes, keepdim=True) * 2
        v2 = (c[1] * c[1]).mean(axes, keepdim=True)
        if len(c) == 3:
            v2 = v2 + 2 * (c[0] * c[2]).mean(axes, keepdim=True)
        a, b = v1 / v0, v2 / v0  # r = r_0 (1 + a e + b e^2)^(-1/2)
        r0 = torch.rsqrt(v0)
        r1, r2 = a * r0 * -0.5, (a * a * 0.375 - b * 0.5) * r0
        z = torch.empty_like(y, dtype=torch.float32) if low else y
        torch.mul(c, r0, out=z[: len(c)])
        z[1].addcmul_(c[0], r1)
        z[2].addcmul_(c[1], r1) if len(c) == 3 else torch.mul(c[1], r1, out=z[2])
        z[2].addcmul_(c[0], r2)
        if low:
            y.copy_(z)
    return out


def _affine(x: Tensor, weight: Any, bias: Any) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _norm(x: Tensor, shape: Sequence[int], eps: float, center: bool) -> Tensor:
    axes = list(range(-len(shape), 0))
    if is_live(x):
        return Jet(standardized(x.stack, axes, eps, center))
    # the moments of data are constants
    y = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if center:
        y = y - y.mean(axes, keepdim=True)
    return (y * torch.rsqrt(y.square().mean(axes, keepdim=True) + eps)).to(x.dtype)


def _layer_norm(op: Any, args: Any, kwargs: Any) -> Any:
    x, shape, weight, bias, eps, _ = bound(op, args, kwargs)
    return _affine(_norm(x, shape, eps, center=True), weight, bias)


def _rms_norm(op: Any, args: Any, kwargs: Any) -> Any:
    x, shape, weight, eps = bound(op, args, kwargs)
    return _affine(
        _norm(x, shape, torch.finfo(x.dtype).eps if eps is None else eps, center=False), weight, None
    )


def _group_norm(op: Any, args: Any, kwargs: Any) -> Any:
    x, groups, weight, bias, eps, _ = bound(op, args, kwargs)
    y = x.reshape(x.shape[0], groups, -1)
    y = _norm(y, y.shape[-1:], eps, center=True).view(x.shape)
    weight, bias = (None if p is None else p.view(-1, *[1] * (x.ndim - 2)) for p in (weight, bias))
    return _affine(y, weight, bias)


def _batch_norm(op: Any, args: Any, kwargs: Any) -> Any:
    """With the running statistics in eval; in training with the batch's own, and the running ones updated with x_0,
    as a plain forward does.
    """
    x, weight, bias, mean, var, training, momentum, eps = args[:8]
    weight, bias = (None if p is None else p.view(-1, *[1] * (x.ndim - 2)) for p in (weight, bias))
    if not training and mean is not None:
        mean, scale = (p.view(-1, *[1] * (x.ndim - 2)) for p in (mean, torch.rsqrt(var + eps)))
        return _affine((x - mean) * scale, weight, bias)
    op(constant(x), None, None, mean, var, training, momentum, eps, *args[8:])
    y = x.transpose(0, 1)
    flat = y.reshape(x.shape[1], -1)
    y = _norm(flat, flat.shape[-1:], eps, center=True).view(y.shape).transpose(0, 1)
    return _affine(y, weight, bias)


RULES: dict[Any, Any] = {
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
    aten.group_norm.default: _group_norm,
    aten.batch_norm.default: _batch_norm,
}
