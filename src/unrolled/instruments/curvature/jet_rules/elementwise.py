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

Derivatives = tuple[Tensor | float, Tensor | float | None]
"""f' and f''/2 at x_0; None where f is piecewise linear. Each function below writes f(x) into `y` and returns them."""


def expand(f: Callable[..., Derivatives], stack: Tensor, *parameters: Any, straight: bool = False) -> Tensor:
    """The stack of f(x).

    Args:
        f: f(x_0, y_0, *parameters) writes y_0 and returns f' and f''/2.
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
        slope, bend = f(x[0], y[0], *parameters)
        if bend is None:
            torch.mul(x[1:], slope, out=y[1:])
        else:
            torch.mul(x[1], slope, out=y[1])
            torch.mul(x[1], x[1], out=y[2])
            if isinstance(bend, Tensor) or bend != 1.0:
                y[2].mul_(bend)
            if len(x) == 3:
                y[2].addcmul_(x[2], slope) if isinstance(slope, Tensor) else y[2].add_(x[2], alpha=slope)
        if low:
            cut(target, piece).copy_(y)
    return out


def _exp(x: Tensor, y: Tensor) -> Derivatives:
    torch.exp(x, out=y)
    return y, y * 0.5


def _exp2(x: Tensor, y: Tensor) -> Derivatives:
    d = torch.exp2(x, out=y) * math.log(2)
    return d, d * (math.log(2) / 2)


def _expm1(x: Tensor, y: Tensor) -> Derivatives:
    torch.expm1(x, out=y)
    d = torch.exp(x)
    return d, d * 0.5


def _log(x: Tensor, y: Tensor, base: float = math.e) -> Derivatives:
    {math.e: torch.log, 2.0: torch.log2, 10.0: torch.log10}[base](x, out=y)
    r, scale = 1 / x, 1 / math.log(base)
    return r * scale, r.square().mul_(-scale / 2)


def _log1p(x: Tensor, y: Tensor) -> Derivatives:
    torch.log1p(x, out=y)
    r = 1 / (1 + x)
    return r, r.square().mul_(-0.5)


def _sqrt(x: Tensor, y: Tensor) -> Derivatives:
    d = 0.5 / torch.sqrt(x, out=y)
    return d, d / x * -0.25


def _rsqrt(x: Tensor, y: Tensor) -> Derivatives:
    d = torch.rsqrt(x, out=y) / x * -0.5
    return d, d / x * -0.75


def _reciprocal(x: Tensor, y: Tensor) -> Derivatives:
    d = -torch.reciprocal(x, out=y).square()
    return d, -d * y


def _sin(x: Tensor, y: Tensor) -> Derivatives:
    return torch.cos(x), torch.sin(x, out=y) * -0.5


def _cos(x: Tensor, y: Tensor) -> Derivatives:
    return -torch.sin(x), torch.cos(x, out=y) * -0.5


def _tan(x: Tensor, y: Tensor) -> Derivatives:
    d = 1 + torch.tan(x, out=y) ** 2
    return d, y * d


def _asin(x: Tensor, y: Tensor) -> Derivatives:
    torch.asin(x, out=y)
    d = torch.rsqrt((1 - x) * (1 + x))
    return d, 0.5 * x * d**3


def _acos(x: Tensor, y: Tensor) -> Derivatives:
    torch.acos(x, out=y)
    d = -torch.rsqrt((1 - x) * (1 + x))
    return d, 0.5 * x * d**3


def _atan(x: Tensor, y: Tensor) -> Derivatives:
    torch.atan(x, out=y)
    d = 1 / (1 + x * x)
    return d, -x * d * d


def _sinh(x: Tensor, y: Tensor) -> Derivatives:
    return torch.cosh(x), torch.sinh(x, out=y) * 0.5


def _cosh(x: Tensor, y: Tensor) -> Derivatives:
    return torch.sinh(x), torch.cosh(x, out=y) * 0.5


def _asinh(x: Tensor, y: Tensor) -> Derivatives:
    torch.asinh(x, out=y)
    d = torch.rsqrt(1 + x * x)
    return d, -0.5 * x * d**3


def _acosh(x: Tensor, y: Tensor) -> Derivatives:
    torch.acosh(x, out=y)
    d = torch.rsqrt((x - 1) * (x + 1))
    return d, -0.5 * x * d**3


def _atanh(x: Tensor, y: Tensor) -> Derivatives:
    torch.atanh(x, out=y)
    d = 1 / ((1 - x) * (1 + x))
    return d, x * d * d


def _erf(x: Tensor, y: Tensor) -> Derivatives:
    torch.erf(x, out=y)
    d = torch.exp(-x * x).mul_(2 / math.sqrt(math.pi))
    return d, -x * d


def _erfc(x: Tensor, y: Tensor) -> Derivatives:
    torch.erfc(x, out=y)
    d = torch.exp(-x * x).mul_(-2 / math.sqrt(math.pi))
    return d, -x * d


def _erfinv(x: Tensor, y: Tensor) -> Derivatives:
    torch.erfinv(x, out=y)
    d = torch.exp(y * y).mul_(math.sqrt(math.pi) / 2)
    return d, y * d * d


def _lgamma(x: Tensor, y: Tensor) -> Derivatives:
    torch.lgamma(x, out=y)
    return torch.digamma(x), torch.polygamma(1, x).mul_(0.5)


def _digamma(x: Tensor, y: Tensor) -> Derivatives:
    torch.digamma(x, out=y)
    return torch.polygamma(1, x), torch.polygamma(2, x).mul_(0.5)


def _tanh(x: Tensor, y: Tensor) -> Derivatives:
    d = 1 - torch.tanh(x, out=y) ** 2
    return d, (y * d).neg_()


def _sigmoid(x: Tensor, y: Tensor) -> Derivatives:
    d = torch.sigmoid(x, out=y) * torch.sigmoid(-x)  # not y (1 - y): that is 0 where y rounds to 1
    return d, d * (0.5 - y)


def _logsigmoid(x: Tensor, y: Tensor) -> Derivatives:
    y.copy_(F.logsigmoid(x))
    d = torch.sigmoid(-x)
    return d, torch.sigmoid(x).mul_(d).mul_(-0.5)


def _softplus(x: Tensor, y: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Derivatives:
    aten.softplus.out(x, beta, threshold, out=y)
    over = beta * x > threshold
    s = torch.sigmoid(beta * x)
    bend = (s * torch.sigmoid(-beta * x)).mul_(0.5 * beta).masked_fill_(over, 0)
    return s.masked_fill_(over, 1), bend


def _silu(x: Tensor, y: Tensor) -> Derivatives:
    s = torch.sigmoid(x)
    torch.mul(x, s, out=y)
    d = s * (1 - s)  # s'; s'' = s' (1 - 2 s)
    return torch.addcmul(s, x, d), (0.5 - s).mul_(x).add_(1).mul_(d)


def _mish(x: Tensor, y: Tensor) -> Derivatives:
    s = torch.sigmoid(x)
    t = torch.tanh(F.softplus(x))
    torch.mul(x, t, out=y)
    u = 1 - t * t  # dt / dsoftplus, and dsoftplus / dx = s
    first = u * s
    second = first * (1 - s) - 2 * t * u * s * s
    return t + x * first, first + 0.5 * x * second


def _gelu(x: Tensor, y: Tensor, approximate: str = "none") -> Derivatives:
    half = x.new_full((), 0.5)
    if approximate == "none":  # x Phi(x), with the normal distribution Phi and its density phi
        cdf = torch.erf(x * math.sqrt(0.5))
        torch.add(half, cdf, alpha=0.5, out=cdf)
        torch.mul(x, cdf, out=y)
        q = x * x
        phi = torch.add(x.new_full((), -0.5 * math.log(2 * math.pi)), q, alpha=-0.5).exp_()
        return cdf.addcmul_(x, phi), torch.addcmul(phi, q, phi, value=-0.5)
    c, a = math.sqrt(2 / math.pi), 0.044715  # x (1 + tanh u) / 2 with u = c (x + a x^3)
    q = x * x
    t = torch.add(x.new_full((), c), q, alpha=c * a).mul_(x).tanh_()
    slope = torch.add(half, t, alpha=0.5)
    torch.mul(x, slope, out=y)
    s = torch.addcmul(x.new_full((), 1.0), t, t, value=-1)
    u1 = torch.add(x.new_full((), c), q, alpha=3 * c * a)
    s1 = s.mul_(u1)  # dt/dx; d2t/dx2 = s1 (u2 / u1 - 2 t u1) with u2 = 6 c a x
    bend = (6 * c * a) * x / u1
    bend = bend.addcmul_(t, u1, value=-2).mul_(x).mul_(0.25).add_(0.5).mul_(s1)
    return slope.addcmul_(x, s1, value=0.5), bend


def _power(x: Tensor, y: Tensor, p: float) -> Derivatives:
    if p == 2:
        torch.mul(x, x, out=y)
        return 2 * x, 1.0
    torch.pow(x, p, out=y)
    if p in (0, 1):  # 0 x^(-1) would be NaN at 0
        return float(p), 0.0
    return p * torch.pow(x, p - 1), p * (p - 1) / 2 * torch.pow(x, p - 2)


def _exponential(x: Tensor, y: Tensor, base: float) -> Derivatives:
    torch.pow(base, x, out=y)
    rate = math.log(base) if base > 0 else math.nan
    return y * rate, y * (rate * rate / 2)


def _elu(x: Tensor, y: Tensor, alpha: float = 1.0, scale: float = 1.0, inward: float = 1.0) -> Derivatives:
    y.copy_(aten.elu(x, alpha, scale, inward))
    low = x <= 0
    grown = torch.exp(inward * x.clamp(max=0)).mul_(alpha * scale * inward)
    return torch.where(low, grown, scale), grown.mul_(inward / 2).masked_fill_(~low, 0)


def _hardswish(x: Tensor, y: Tensor) -> Derivatives:
    y.copy_(F.hardswish(x))
    middle = (x >= -3) & (x <= 3)
    slope = torch.where(middle, x / 3 + 0.5, (x > 3).to(x.dtype))
    return slope, middle.to(x.dtype).mul_(1 / 6)


def _relu(x: Tensor, y: Tensor) -> Derivatives:
    torch.clamp_min(x, 0, out=y)
    return (x > 0).to(x.dtype), None


def _leaky_relu(x: Tensor, y: Tensor, slope: float = 0.01) -> Derivatives:
    y.copy_(F.leaky_relu(x, slope))
    return torch.where(x > 0, torch.ones_like(x), slope), None


def _hardtanh(x: Tensor, y: Tensor, low: float = -1.0, high: float = 1.0) -> Derivatives:
    torch.clamp(x, low, high, out=y)
    return ((x > low) & (x < high)).to(x.dtype), None


def _hardsigmoid(x: Tensor, y: Tensor) -> Derivatives:
    y.copy_(F.hardsigmoid(x))
    return ((x > -3) & (x < 3)).to(x.dtype).mul_(1 / 6), None


def _threshold(x: Tensor, y: Tensor, limit: float, value: float) -> Derivatives:
    y.copy_(F.threshold(x, limit, value))
    return (x > limit).to(x.dtype), None


def _clamp(x: Tensor, y: Tensor, low: Any = None, high: Any = None) -> Derivatives:
    torch.clamp(x, low, high, out=y)
    inside = torch.ones_like(x, dtype=torch.bool)
    if low is not None:
        inside &= x >= low
    if high is not None:
        inside &= x <= high
    return inside.to(x.dtype), None


def _clamp_max(x: Tensor, y: Tensor, high: float) -> Derivatives:
    return _clamp(x, y, None, high)


def _softshrink(x: Tensor, y: Tensor, width: float = 0.5) -> Derivatives:
    y.copy_(F.softshrink(x, width))
    return (x.abs() > width).to(x.dtype), None


def _hardshrink(x: Tensor, y: Tensor, width: float = 0.5) -> Derivatives:
    y.copy_(F.hardshrink(x, width))
    return (x.abs() > width).to(x.dtype), None


def _abs(x: Tensor, y: Tensor) -> Derivatives:
    torch.abs(x, out=y)
    return x.sgn(), None


def _frac(x: Tensor, y: Tensor) -> Derivatives:
    torch.frac(x, out=y)
    return 1.0, None


_SMOOTH: dict[str, Callable[..., Derivatives]] = {
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

_STRAIGHT: dict[str, Callable[..., Derivatives]] = {
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


def _rule(f: Callable[..., Derivatives], straight: bool) -> Any:
    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        x, *parameters = args
        if any(map(is_live, parameters)):
            raise JetUnsupported(op, "a parameter of the function, not its argument, depends on the model")
        if x.is_complex() and straight:
            raise JetUnsupported(op, "of complex numbers it is not analytic")
        return Jet(expand(functools.partial(f, **kwargs), x.stack, *parameters, straight=straight))

    return rule


def _pow_scalar(op: Any, args: Any, kwargs: Any) -> Any:
    base, x = args
    return Jet(expand(_exponential, x.stack, base))


def _rules(table: dict[str, Callable[..., Derivatives]], straight: bool) -> dict[Any, Any]:
    named = ((*name.split("."), f) for name, f in table.items())
    return {getattr(getattr(aten, packet), overload): _rule(f, straight) for packet, overload, f in named}


RULES: dict[Any, Any] = {
    **_rules(_SMOOTH, straight=False),
    **_rules(_STRAIGHT, straight=True),
    aten.pow.Scalar: _pow_scalar,
}
