"""Elementwise operators of two tensors, with torch's broadcasting and type promotion.

Products by Leibniz' rule: (a b)_n = sum_j a_{n-j} b_j.
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.blocks import cut, pieces
from unrolled.instruments.curvature.jet_rules.tensor import (
    TERMS,
    Jet,
    aligned,
    bound,
    broadcast,
    constant,
    empty,
    is_live,
    named,
    stack_of,
)

aten = torch.ops.aten
Number = (int, float, complex)


def _joined(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, torch.Size, torch.dtype]:
    """Both stacks aligned to one number of axes, the shape and the type of the result."""
    shape = broadcast(a.shape, b.shape)
    dtype = torch.result_type(constant(a), constant(b))
    return aligned(stack_of(a), len(shape)), aligned(stack_of(b), len(shape)), shape, dtype


def _room(terms: int, a: Tensor, b: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return empty(terms, a if a.shape[1:] == shape else b, shape, dtype)


def add(a: Any, b: Any, alpha: Any = 1) -> Any:
    """A + alpha b."""
    if isinstance(a, Number):
        out = b.stack * alpha
        out[0].add_(a)
        return Jet(out)
    if isinstance(b, Number):
        x = a.stack
        out = empty(len(x), x, dtype=torch.result_type(x[0], b))
        torch.add(x[0], b, alpha=alpha, out=out[0])
        out[1:].copy_(x[1:])
        return Jet(out)
    x, y, shape, dtype = _joined(a, b)
    both = min(len(x), len(y))
    out = _room(max(len(x), len(y)), x, y, shape, dtype)
    torch.add(x[:both], y[:both], alpha=alpha, out=out[:both])
    if len(x) > both:
        out[both:].copy_(x[both:])
    elif len(y) > both:
        torch.mul(y[both:], alpha, out=out[both:]) if alpha != 1 else out[both:].copy_(y[both:])
    return Jet(out)


def mul(a: Any, b: Any) -> Any:
    """A b."""
    if isinstance(a, Number):
        a, b = b, a
    if isinstance(b, Number):
        return Jet(a.stack * b)
    x, y, shape, dtype = _joined(a, b)
    terms = min(TERMS, len(x) + len(y) - 1)
    out = _room(terms, x, y, shape, dtype)
    if len(x) == 1 or len(y) == 1:
        torch.mul(x, y, out=out)
        return Jet(out)
    if not x.dtype == y.dtype == dtype:
        x, y = x.to(dtype), y.to(dtype)
    for piece in pieces(shape, out.device):
        p, q, r = cut(x, piece), cut(y, piece), cut(out, piece)
        for n in range(terms):
            lowest = max(0, n - len(p) + 1)
            for j in range(lowest, min(n, len(q) - 1) + 1):
                torch.mul(p[n - j], q[j], out=r[n]) if j == lowest else r[n].addcmul_(p[n - j], q[j])
    return Jet(out)


def div(a: Any, b: Any) -> Any:
    """A / b, each coefficient from the ones before it: b_0 q_n = a_n - sum_{j > 0} q_{n-j} b_j."""
    if isinstance(b, Number):
        return Jet(a.stack / b)
    if not is_live(b):
        return Jet((aligned(a.stack, b.ndim) / b).to(torch.result_type(constant(a), b)))
    if isinstance(a, Number):
        a = torch.full_like(b.stack[0], a)
    x, y, shape, dtype = _joined(a, b)
    out = _room(TERMS, x, y, shape, dtype)
    x, y = x.to(dtype), y.to(dtype)
    for piece in pieces(shape, out.device):
        p, q, r = cut(x, piece), cut(y, piece), cut(out, piece)
        for n in range(TERMS):
            r[n].copy_(p[n]) if n < len(p) else r[n].zero_()
            for j in range(1, min(n, len(q) - 1) + 1):
                r[n].addcmul_(r[n - j], q[j], value=-1)
            r[n].div_(q[0])
    return Jet(out)


def _extreme(largest: bool) -> Any:
    """Maximum and minimum: the winner's coefficients, the mean of both where they tie, as autograd has it."""

    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        a, b = args
        first, second = constant(a), constant(b)
        tie = (first == second).to(torch.result_type(first, second)) * 0.5
        share = (first > second if largest else first < second).to(tie.dtype) + tie
        x, y, shape, dtype = _joined(a, b)
        out = torch.zeros((max(len(x), len(y)), *shape), dtype=dtype, device=first.device)
        out[: len(x)] = x * share
        out[: len(y)] += y * (1 - share)
        out[0] = op(first, second)
        return Jet(out)

    return rule


def _add(op: Any, args: Any, kwargs: Any) -> Any:
    return add(*args, **kwargs)


def _sub(op: Any, args: Any, kwargs: Any) -> Any:
    a, b, alpha = bound(op, args, kwargs)
    return add(a, b, -alpha)


def _rsub(op: Any, args: Any, kwargs: Any) -> Any:
    a, b, alpha = bound(op, args, kwargs)
    return add(b, a, -alpha)


def _mul(op: Any, args: Any, kwargs: Any) -> Any:
    return mul(*args)


def _div(op: Any, args: Any, kwargs: Any) -> Any:
    return div(*args)


def _pow(op: Any, args: Any, kwargs: Any) -> Any:
    """a^b of two tensors: exp(b log a) when b is live; else as autograd differentiates in a alone."""
    a, b = args
    if is_live(b):
        return torch.exp(b * torch.log(a))
    x0, p = a.stack[0], b
    slope = torch.where(p == 0, 0, p * x0.pow(p - 1))
    bend = torch.where((p == 0) | (p == 1), 0, p * (p - 1) / 2 * x0.pow(p - 2))
    x = aligned(a.stack, slope.ndim)
    second = bend * x[1] * x[1]
    if len(x) == 3:
        second = second + slope * x[2]
    return Jet(torch.stack([x0.pow(p), slope * x[1], second]))


def _addcmul(op: Any, args: Any, kwargs: Any) -> Any:
    x, a, b = args
    return torch.add(x, a * b, alpha=kwargs.get("value", 1))


def _addcdiv(op: Any, args: Any, kwargs: Any) -> Any:
    x, a, b = args
    return torch.add(x, a / b, alpha=kwargs.get("value", 1))


def _clamp(op: Any, args: Any, kwargs: Any) -> Any:
    given = named(op, args, kwargs)
    x, low, high = given["self"], given.get("min"), given.get("max")
    if low is not None:
        x = torch.where(constant(x) < constant(low), low, x)
    return x if high is None else torch.where(constant(x) > constant(high), high, x)


def _modulo(rounding: str) -> Any:
    """Fmod and remainder: a - q b with the whole number q = a / b rounded, a constant."""

    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        a, b = args
        out = a - b * torch.div(constant(a), constant(b), rounding_mode=rounding)
        out.stack[0].copy_(op(constant(a), constant(b)))  # exact where the subtraction is not
        return out

    return rule


def _lerp(op: Any, args: Any, kwargs: Any) -> Any:
    a, b, weight = args
    return a + (b - a) * weight


RULES: dict[Any, Any] = {
    aten.add.Tensor: _add,
    aten.add.Scalar: _add,
    aten.sub.Tensor: _sub,
    aten.sub.Scalar: _sub,
    aten.rsub.Tensor: _rsub,
    aten.rsub.Scalar: _rsub,
    aten.mul.Tensor: _mul,
    aten.mul.Scalar: _mul,
    aten.div.Tensor: _div,
    aten.div.Scalar: _div,
    aten.maximum.default: _extreme(largest=True),
    aten.minimum.default: _extreme(largest=False),
    aten.pow.Tensor_Tensor: _pow,
    aten.fmod.Scalar: _modulo("trunc"),
    aten.fmod.Tensor: _modulo("trunc"),
    aten.remainder.Scalar: _modulo("floor"),
    aten.remainder.Tensor: _modulo("floor"),
    aten.addcmul.default: _addcmul,
    aten.addcdiv.default: _addcdiv,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.Tensor: _clamp,
    aten.clamp_max.Tensor: _clamp,
    aten.lerp.Scalar: _lerp,
    aten.lerp.Tensor: _lerp,
}
