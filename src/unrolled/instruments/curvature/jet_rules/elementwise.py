"""Functions of one tensor, element by element.

With f' and f'' taken at x_0 (Faa di Bruno to second order): y_0 = f, y_1 = f' x_1, y_2 = f' x_2 + f''/2 x_1^2.

At a kink the slope is the one autograd takes: 0 for relu and abs at 0, 1 for clamp on its bounds.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.blocks import cut, pieces
from unrolled.instruments.curvature.jet_rules.tensor import Jet, JetUnsupported, dense, empty, is_live

aten = torch.ops.aten

Expansion = tuple[Tensor, Tensor | float, Tensor | float | None]
"""f, f' and f''/2; None where f is piecewise linear."""


def expand(f: Callable[..., Expansion], stack: Tensor, *parameters: Any, straight: bool = False) -> Tensor:
    """The stack of f(x).

    Args:
        f: f(x_0, *parameters) -> (f, f', f''/2).
        stack: of x.
        parameters: further arguments of f.
        straight: f is piecewise linear, so that no second coefficient arises where there was none.
    """
    out = empty(stack.shape[0] if straight else 3, stack)
    source, target = stack, out
    if dense(stack[0]) and stack.stride()[1:] == out.stride()[1:]:  # then the shape does not matter
        n = stack[0].numel()
        source = stack.as_strided((len(stack), n), (stack.stride(0), 1), stack.storage_offset())
        target = out.as_strided((len(out), n), (out.stride(0), 1))
    low = stack.dtype in (torch.bfloat16, torch.float16)
    for piece in pieces(source.shape[1:], stack.device):
        x, y = cut(source, piece), cut(target, piece)
        if low:
            x, y = x.float(), torch.empty_like(y, dtype=torch.float32)
        value, slope, bend = f(x[0], *parameters)
        y[0].copy_(value)
        if bend is None:
            torch.mul(x[1:], slope, out=y[1 : len(x)])
            y[len(x) :].zero_()
        else:
            torch.mul(x[1], slope, out=y[1])
            torch.mul(x[1], x[1], out=y[2]).mul_(bend)
            if len(x) == 3:
                y[2].addcmul_(x[2], slope) if isinstance(slope, Tensor) else y[2].add_(x[2], alpha=slope)
        if low:
            cut(target, piece).copy_(y)
    return out


def _exp(x: Tensor) -> Expansion:
    y = torch.exp(x)
    return y, y, y * 0.5


def _exp2(x: Tensor) -> Expansion:
    y = torch.exp2(x)
    d = y * math.log(2)
    return y, d, d * (math.log(2) / 2)


def _expm1(x: Tensor) -> Expansion:
    d = torch.exp(x)
    return torch.expm1(x), d, d * 0.5


def _log(x: Tensor, base: float = math.e) -> Expansion:
    r, scale = 1 / x, 1 / math.log(base)
    y = {math.e: torch.log, 2.0: torch.log2, 10.0: torch.log10}[base](x)
    return y, r * scale, r.square().mul_(-scale / 2)


def _log1p(x: Tensor) -> Expansion:
    r = 1 / (1 + x)
    return torch.log1p(x), r, r.square().mul_(-0.5)


def _sqrt(x: Tensor) -> Expansion:
    y = torch.sqrt(x)
    d = 0.5 / y
    return y, d, d / x * -0.25


def _rsqrt(x: Tensor) -> Expansion:
    y = torch.rsqrt(x)
    d = y / x * -0.5
    return y, d, d / x * -0.75


def _reciprocal(x: Tensor) -> Expansion:
    y = torch.reciprocal(x)
    d = -y.square()
    return y, d, -d * y


def _sin(x: Tensor) -> Expansion:
    y = torch.sin(x)
    return y, torch.cos(x), y * -0.5


def _cos(x: Tensor) -> Expansion:
    y = torch.cos(x)
    return y, -torch.sin(x), y * -0.5


def _tan(x: Tensor) -> Expansion:
    y = torch.tan(x)
    d = 1 + y * y
    return y, d, y * d


def _asin(x: Tensor) -> Expansion:
    d = torch.rsqrt((1 - x) * (1 + x))
    return torch.asin(x), d, 0.5 * x * d**3


def _acos(x: Tensor) -> Expansion:
    d = -torch.rsqrt((1 - x) * (1 + x))
    return torch.acos(x), d, 0.5 * x * d**3


def _atan(x: Tensor) -> Expansion:
    d = 1 / (1 + x * x)
    return torch.atan(x), d, -x * d * d


def _sinh(x: Tensor) -> Expansion:
    y = torch.sinh(x)
    return y, torch.cosh(x), 0.5 * y


def _cosh(x: Tensor) -> Expansion:
    y = torch.cosh(x)
    return y, torch.sinh(x), 0.5 * y


def _asinh(x: Tensor) -> Expansion:
    d = torch.rsqrt(1 + x * x)
    return torch.asinh(x), d, -0.5 * x * d**3


def _acosh(x: Tensor) -> Expansion:
    d = torch.rsqrt((x - 1) * (x + 1))
    return torch.acosh(x), d, -0.5 * x * d**3


def _atanh(x: Tensor) -> Expansion:
    d = 1 / ((1 - x) * (1 + x))
    return torch.atanh(x), d, x * d * d


def _erf(x: Tensor) -> Expansion:
    d = torch.exp(-x * x).mul_(2 / math.sqrt(math.pi))
    return torch.erf(x), d, -x * d


def _erfc(x: Tensor) -> Expansion:
    d = torch.exp(-x * x).mul_(-2 / math.sqrt(math.pi))
    return torch.erfc(x), d, -x * d


def _tanh(x: Tensor) -> Expansion:
    y = torch.tanh(x)
    d = 1 - y * y
    return y, d, (y * d).neg_()


def _sigmoid(x: Tensor) -> Expansion:
    y = torch.sigmoid(x)
    d = y * torch.sigmoid(-x)  # not y (1 - y): that is 0 where the sigmoid rounds to 1
    return y, d, d * (0.5 - y)


def _logsigmoid(x: Tensor) -> Expansion:
    d = torch.sigmoid(-x)
    return F.logsigmoid(x), d, torch.sigmoid(x).mul_(d).mul_(-0.5)


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Expansion:
    s = torch.sigmoid(beta * x)
    over = beta * x > threshold
    bend = (s * torch.sigmoid(-beta * x)).mul_(0.5 * beta).masked_fill_(over, 0)
    return F.softplus(x, beta, threshold), s.masked_fill_(over, 1), bend


def _silu(x: Tensor) -> Expansion:
    s = torch.sigmoid(x)
    d = s * (1 - s)  # s'; s'' = s' (1 - 2 s)
    slope = torch.addcmul(s, x, d)
    return x * s, slope, (0.5 - s).mul_(x).add_(1).mul_(d)


def _mish(x: Tensor) -> Expansion:
    s = torch.sigmoid(x)
    t = torch.tanh(F.softplus(x))
    u = 1 - t * t  # dt / dsoftplus, and dsoftplus / dx = s
    first = u * s
    second = first * (1 - s) - 2 * t * u * s * s
    return x * t, t + x * first, first + 0.5 * x * second


def _gelu(x: Tensor, approximate: str = "none") -> Expansion:
    if approximate == "none":  # x Phi(x), with the normal density phi
        q = x * x
        phi = torch.exp(q * -0.5).mul_(1 / math.sqrt(2 * math.pi))
        slope = aten.gelu_backward(torch.ones_like(x), x)  # Phi + x phi in one sweep
        return aten.gelu(x), slope, torch.addcmul(phi, q, phi, value=-0.5)
    c, a = math.sqrt(2 / math.pi), 0.044715
    q = x * x
    t = torch.tanh((q * (c * a)).add_(c).mul_(x))
    s = torch.addcmul(torch.ones_like(t), t, t, value=-1)
    u1 = q.mul_(3 * c * a).add_(c)
    cdf = (0.5 * t).add_(0.5)
    s1 = s * u1  # d tanh(u) / dx
    bend = torch.addcmul(x * (3 * c * a) * s, t * s1, u1, value=-1).mul_(x).mul_(0.5).add_(s1, alpha=0.5)
    return x * cdf, torch.addcmul(cdf, x, s1, value=0.5), bend


def _lgamma(x: Tensor) -> Expansion:
    return torch.lgamma(x), torch.digamma(x), torch.polygamma(1, x).mul_(0.5)


def _digamma(x: Tensor) -> Expansion:
    return torch.digamma(x), torch.polygamma(1, x), torch.polygamma(2, x).mul_(0.5)


def _erfinv(x: Tensor) -> Expansion:
    y = torch.erfinv(x)
    d = torch.exp(y * y).mul_(math.sqrt(math.pi) / 2)
    return y, d, y * d * d


def _power(x: Tensor, p: float) -> Expansion:
    if p == 2:
        return x * x, 2 * x, 1.0
    y = torch.pow(x, p)
    slope = torch.zeros_like(x) if p == 0 else p * torch.pow(x, p - 1)
    bend = torch.zeros_like(x) if p in (0, 1) else p * (p - 1) / 2 * torch.pow(x, p - 2)
    return y, slope, bend


def _exponential(x: Tensor, base: float) -> Expansion:
    y = torch.pow(base, x)
    rate = math.log(base) if base > 0 else math.nan
    return y, y * rate, y * (rate * rate / 2)


def _elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, inward: float = 1.0) -> Expansion:
    low = x <= 0
    grown = torch.exp(inward * x.clamp(max=0)).mul_(alpha * scale * inward)
    slope = torch.where(low, grown, scale)
    return (
        F.elu(x, alpha) if (scale, inward) == (1, 1) else aten.elu(x, alpha, scale, inward),
        slope,
        grown.mul_(inward / 2).masked_fill_(~low, 0),
    )


def _hardswish(x: Tensor) -> Expansion:
    middle = (x >= -3) & (x <= 3)
    slope = torch.where(middle, x / 3 + 0.5, (x > 3).to(x.dtype))
    return F.hardswish(x), slope, middle.to(x.dtype).mul_(1 / 6)


def _relu(x: Tensor) -> Expansion:
    return x.clamp_min(0), (x > 0).to(x.dtype), None


def _leaky_relu(x: Tensor, slope: float = 0.01) -> Expansion:
    return F.leaky_relu(x, slope), torch.where(x > 0, torch.ones_like(x), slope), None


def _hardtanh(x: Tensor, low: float = -1.0, high: float = 1.0) -> Expansion:
    return x.clamp(low, high), ((x > low) & (x < high)).to(x.dtype), None


def _hardsigmoid(x: Tensor) -> Expansion:
    return F.hardsigmoid(x), ((x > -3) & (x < 3)).to(x.dtype).mul_(1 / 6), None


def _threshold(x: Tensor, limit: float, value: float) -> Expansion:
    return F.threshold(x, limit, value), (x > limit).to(x.dtype), None


def _clamp(x: Tensor, low: Any = None, high: Any = None) -> Expansion:
    inside = torch.ones_like(x, dtype=torch.bool)
    if low is not None:
        inside &= x >= low
    if high is not None:
        inside &= x <= high
    return x.clamp(low, high), inside.to(x.dtype), None


def _clamp_max(x: Tensor, high: float) -> Expansion:
    return _clamp(x, None, high)


def _softshrink(x: Tensor, width: float = 0.5) -> Expansion:
    return F.softshrink(x, width), (x.abs() > width).to(x.dtype), None


def _hardshrink(x: Tensor, width: float = 0.5) -> Expansion:
    return F.hardshrink(x, width), (x.abs() > width).to(x.dtype), None


def _abs(x: Tensor) -> Expansion:
    return x.abs(), x.sgn(), None


def _frac(x: Tensor) -> Expansion:
    return torch.frac(x), torch.ones_like(x), None


_SMOOTH: dict[str, Callable[..., Expansion]] = {
    "exp.default": _exp,
    "exp2.default": _exp2,
    "expm1.default": _expm1,
    "log.default": _log,
    "log2.default": functools.partial(_log, base=2.0),
    "log10.default": functools.partial(_log, base=10.0),
    "log1p.default": _log1p,
    "sqrt.default": _sqrt,
    "rsqrt.default": _rsqrt,
    "reciprocal.default": _reciprocal,
    "sin.default": _sin,
    "cos.default": _cos,
    "tan.default": _tan,
    "asin.default": _asin,
    "acos.default": _acos,
    "atan.default": _atan,
    "sinh.default": _sinh,
    "cosh.default": _cosh,
    "asinh.default": _asinh,
    "acosh.default": _acosh,
    "atanh.default": _atanh,
    "erf.default": _erf,
    "erfc.default": _erfc,
    "erfinv.default": _erfinv,
    "tanh.default": _tanh,
    "sigmoid.default": _sigmoid,
    "log_sigmoid.default": _logsigmoid,
    "softplus.default": _softplus,
    "silu.default": _silu,
    "mish.default": _mish,
    "gelu.default": _gelu,
    "lgamma.default": _lgamma,
    "digamma.default": _digamma,
    "square.default": functools.partial(_power, p=2),
    "pow.Tensor_Scalar": _power,
    "elu.default": _elu,
    "hardswish.default": _hardswish,
}

_STRAIGHT: dict[str, Callable[..., Expansion]] = {
    "relu.default": _relu,
    "leaky_relu.default": _leaky_relu,
    "hardtanh.default": _hardtanh,
    "hardsigmoid.default": _hardsigmoid,
    "threshold.default": _threshold,
    "clamp.default": _clamp,
    "clamp_min.default": _clamp,
    "clamp_max.default": _clamp_max,
    "softshrink.default": _softshrink,
    "hardshrink.default": _hardshrink,
    "abs.default": _abs,
    "frac.default": _frac,
}


def _rule(f: Callable[..., Expansion], straight: bool) -> Any:
    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        x, *parameters = args
        if any(map(is_live, parameters)):
            raise JetUnsupported(op, "a parameter of the function, not its argument, depends on the model")
        if x.is_complex() and straight:
            raise JetUnsupported(op, "of complex numbers it is not analytic")
        return Jet(expand(functools.partial(f, **kwargs), x.stack, *parameters, straight=straight))

    return rule


RULES: dict[Any, Any] = {}
for _table, _kinked in ((_SMOOTH, False), (_STRAIGHT, True)):
    for _name, _f in _table.items():
        _packet, _overload = _name.split(".")
        RULES[getattr(getattr(aten, _packet), _overload)] = _rule(_f, _kinked)


def _pow_scalar(op: Any, args: Any, kwargs: Any) -> Any:
    base, x = args
    return Jet(expand(_exponential, x.stack, base))


RULES[aten.pow.Scalar] = _pow_scalar
