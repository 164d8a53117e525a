"""Every operator rule of the Taylor pass against differentiating twice, in float64."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unrolled.instruments.curvature.jet import JetUnsupported, jet

D = torch.float64


def twice(model, loss_fn, update):
    """L, <G,Z>, <Z,HZ> by two reverse passes: the reference."""
    params = dict(model.named_parameters())
    names = [n for n in params if n in update]
    loss = loss_fn(model)
    if not loss.requires_grad:
        return loss.item(), 0.0, 0.0
    grads = torch.autograd.grad(loss, [params[n] for n in names], create_graph=True, allow_unused=True)
    gain = sum((g * update[n]).sum() for g, n in zip(grads, names) if g is not None)
    quad = 0.0
    if torch.is_tensor(gain) and gain.requires_grad:
        rows = torch.autograd.grad(gain, [params[n] for n in names], allow_unused=True)
        quad = sum((h * update[n]).sum().item() for h, n in zip(rows, names) if h is not None)
    return loss.item(), gain.item() if torch.is_tensor(gain) else gain, quad


class Inputs(nn.Module):
    def __init__(self, *tensors):
        super().__init__()
        self.p = nn.ParameterList([nn.Parameter(t) for t in tensors])


def agree(f, *tensors, tol=1e-11, seed=0, reference=None):
    """Loss = <c, f(x)> with random c, x once the parameters themselves (two coefficients), once a curved image of
    them (three) that leaves their values alone. Returns the last jet."""
    generator = torch.Generator().manual_seed(seed)
    model = Inputs(*tensors)
    shapes = f(*[t.clone() for t in tensors])
    outs = shapes if isinstance(shapes, (tuple, list)) else (shapes,)
    c = [torch.randn(o.shape, generator=generator, dtype=D) for o in outs if o.is_floating_point()]
    bends = [torch.randn(t.shape, generator=generator, dtype=D) for t in tensors]
    update = {
        f"p.{i}": 0.3 * torch.randn(t.shape, generator=generator, dtype=D) for i, t in enumerate(tensors)
    }
    anchors = [t.clone() for t in tensors]

    def plain(m):
        return list(m.p)

    def curved(m):
        return [p + b * (p - a) * (p - a) for p, a, b in zip(m.p, anchors, bends)]

    for prepare in (plain, curved):

        def loss_fn(m, prepare=prepare, f=f):
            out = f(*prepare(m))
            out = out if isinstance(out, (tuple, list)) else (out,)
            floats = [o for o in out if o.is_floating_point()]
            return sum(((o.real * w).sum() for o, w in zip(floats, c)), start=torch.zeros((), dtype=D))

        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            loss, gain, quad = twice(model, functools.partial(loss_fn, f=reference or f), update)
        got = jet(model, loss_fn, update)
        scale = abs(gain) + abs(quad) + 1e-3 * abs(loss)
        assert math.isfinite(scale)
        assert got.loss == pytest.approx(loss, rel=tol, abs=tol)
        assert abs(got.gain - gain) <= tol * scale, (prepare.__name__, got.gain, gain)
        assert abs(got.quad - quad) <= tol * scale, (prepare.__name__, got.quad, quad)
    return got


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def unit(*shape, seed=1):
    """In (0.1, 0.9)."""
    return 0.1 + 0.8 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


ANYWHERE = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "softplus beta": lambda x: F.softplus(x, 3.0, 2.0),
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "square": torch.square,
    "pow 0": lambda x: x**0,
    "pow 1": lambda x: x**1,
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow -2": lambda x: x**-2,
    "scalar pow": lambda x: 1.7**x,
    "elu": F.elu,
    "elu alpha": lambda x: F.elu(x, 0.5),
    "selu": F.selu,
    "hardswish": F.hardswish,
    "relu": F.relu,
    "relu squared": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "hardtanh": F.hardtanh,
    "threshold": lambda x: F.threshold(x, 0.1, 2.0),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp min": lambda x: x.clamp(min=-0.2),
    "clamp max": lambda x: x.clamp_max(0.2),
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "abs": torch.abs,
    "frac": torch.frac,
    "ceil trunc sgn": lambda x: x * torch.ceil(x) + x * torch.trunc(x) + x.sgn() * x,
    "round decimals": lambda x: x * torch.round(x, decimals=1) + x * torch.div(x, 0.3, rounding_mode="floor"),
    "logical": lambda x: (
        x * ((x > 0) & (x < 1) | (x >= 2) | (x <= -1)) + x * (x == 0) + x * torch.isfinite(x)
    ),
    "neg": torch.neg,
    "round": lambda x: torch.round(x) * x,
    "sign": lambda x: torch.sign(x) * x,
    "floor": lambda x: x - torch.floor(x),
    "deg2rad": torch.deg2rad,
    "sinc": torch.sinc,
    "nan_to_num": torch.nan_to_num,
    "i0": torch.i0,
    "i0e": torch.special.i0e,
    "softcap": lambda x: 15 * torch.tanh(x / 15),
    "digamma": torch.digamma,
    "glu": lambda x: F.glu(x, -1),
    "positive": torch.positive,
}
WITHIN = {  # arguments in (0.1, 0.9)
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "acosh": lambda x: torch.acosh(x + 1),
    "atanh": torch.atanh,
    "pow 1.5": lambda x: x**1.5,
    "pow -0.5": lambda x: x**-0.5,
    "lgamma": torch.lgamma,
    "erfinv": torch.erfinv,
    "logit": torch.logit,
    "kl_div": lambda x: F.kl_div(x.log(), unit(4, 6, seed=9), reduction="batchmean"),
}


# What torch's own second derivative gets wrong, or has not: (operator, the same spelt out).
SPELT_OUT = {
    "celu": (lambda x: F.celu(x, 1.3), lambda x: torch.where(x > 0, x, 1.3 * torch.expm1(x / 1.3))),
    "hardsigmoid": (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "bce": (
        lambda x: F.binary_cross_entropy(x.sigmoid(), unit(4, 6), unit(4, 6, seed=8), reduction="sum"),
        lambda x: F.binary_cross_entropy_with_logits(x, unit(4, 6), unit(4, 6, seed=8), reduction="sum"),
    ),
    "cdist": (
        lambda x: torch.cdist(x, x[:2] * 2 + 1),
        lambda x: (x[:, None] - x[:2] * 2 - 1).square().sum(-1).sqrt(),
    ),
    "multi margin": (
        lambda x: F.multi_margin_loss(x, torch.tensor([0, 1, 2, 3]), p=2),
        lambda x: (
            (F.relu(1 - x.diagonal()[:, None] + x) ** 2).masked_fill(torch.eye(4, 6) > 0, 0).sum(1).mean() / 6
        ),
    ),
    "weight norm": (  # torch 2.13: gradgradcheck of torch._weight_norm fails
        lambda x: torch._weight_norm(x, x[:, :1] * 2, 0),
        lambda x: x * (x[:, :1] * 2 / x.norm(dim=1, keepdim=True)),
    ),
}


@pytest.mark.parametrize("name", SPELT_OUT)
def test_against_the_operator_spelt_out(name):
    f, g = SPELT_OUT[name]
    agree(f, normal(4, 6), reference=g)


@pytest.mark.parametrize("name", ANYWHERE)
def test_function_of_one_tensor(name):
    agree(ANYWHERE[name], normal(4, 6))


@pytest.mark.parametrize("name", WITHIN)
def test_function_on_the_unit_interval(name):
    agree(WITHIN[name], unit(4, 6))


SHAPES = {
    "view": lambda x: x.view(6, 4) * 2,
    "reshape copies": lambda x: x.t().reshape(3, 8).sin(),
    "transpose": lambda x: x.transpose(0, 1).sin(),
    "permute": lambda x: x.view(2, 2, 6).permute(2, 0, 1).sin().contiguous(),
    "slice": lambda x: x[1:, ::2].sin(),
    "select": lambda x: x[2].sin(),
    "ellipsis None": lambda x: x[..., None].sin(),
    "bool index": lambda x: x[torch.arange(4) > 1].sin(),
    "fancy index": lambda x: x[torch.tensor([0, 0, 3]), torch.tensor([1, 1, 5])].sin(),
    "expand": lambda x: x.unsqueeze(0).expand(3, 4, 6).sin(),
    "chunk": lambda x: torch.cat([c.sin() for c in x.chunk(4, -1)], 0),
    "split": lambda x: x.split([1, 5], 1)[1].sin(),
    "unbind": lambda x: torch.stack([u.sin() for u in x.unbind(0)], 1),
    "stack with data": lambda x: torch.stack([x, torch.ones(4, 6, dtype=D)], 1).sin(),
    "cat with data": lambda x: torch.cat([torch.ones(2, 6, dtype=D), x * x, x], 0).sin(),
    "squeeze": lambda x: x.view(4, 1, 6).squeeze().sin(),
    "flatten": lambda x: x.flatten().sin(),
    "movedim": lambda x: x.view(2, 2, 6).movedim(0, -1).sin(),
    "unflatten": lambda x: x.unflatten(1, (2, 3)).sin(),
    "diagonal": lambda x: x.diagonal().sin(),
    "unfold": lambda x: x.unfold(1, 3, 2).sin(),
    "as_strided": lambda x: x.as_strided((3, 2), (6, 1)).sin(),
    "clone": lambda x: x.clone().sin(),
    "to": lambda x: x.to(torch.float64).sin(),
    "flip": lambda x: x.flip(0).sin(),
    "roll": lambda x: x.roll(2, 1).sin(),
    "repeat": lambda x: x.repeat(2, 3).sin(),
    "tile": lambda x: x.tile(2).sin(),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1).sin(),
    "tril": lambda x: x.tril().sin(),
    "triu": lambda x: x.triu(1).exp(),
    "index_select": lambda x: x.index_select(1, torch.tensor([0, 0, 4])).sin(),
    "gather": lambda x: x.gather(1, torch.tensor([[0], [1], [5], [1]])).sin(),
    "take_along_dim": lambda x: x.take_along_dim(torch.tensor([[0], [1], [5], [1]]), 1).sin(),
    "masked_fill": lambda x: x.masked_fill(torch.eye(4, 6) > 0, 3.0).sin(),
    "masked_fill broadcast": lambda x: x.masked_fill(torch.eye(4, 6).expand(2, 4, 6) > 0, 3.0).sin(),
    "masked_select": lambda x: x.masked_select(torch.eye(4, 6) > 0).sin(),
    "where": lambda x: torch.where(x > 0, x * x, 2.0),
    "where both": lambda x: torch.where(x > 0, x.exp(), x),
    "where scalar": lambda x: torch.where(torch.eye(4, 6) > 0, 1.0, x.exp()),
    "pad": lambda x: F.pad(x, (1, 2), value=3.0).sin(),
    "pad zero": lambda x: F.pad(x, (1, 2, 0, 1)).sin(),
    "pad reflect": lambda x: F.pad(x[None], (1, 2), mode="reflect").sin(),
    "pad replicate": lambda x: F.pad(x[None], (1, 2), mode="replicate").sin(),
    "pad circular": lambda x: F.pad(x[None], (1, 2), mode="circular").sin(),
    "cumsum": lambda x: x.cumsum(1).sin(),
    "cumprod": lambda x: x.cumprod(1),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "diag": lambda x: torch.diag(x[0]).exp(),
    "trace": lambda x: x[:, :4].trace().sin(),
    "scatter": lambda x: torch.zeros(4, 9, dtype=D).scatter(1, torch.arange(6).expand(4, 6), x).sin(),
    "scatter_add": lambda x: x.scatter_add(1, torch.zeros(4, 6, dtype=torch.long), x.sin()).sin(),
    "index_add": lambda x: x.index_add(0, torch.tensor([0, 0]), x[:2].sin()).sin(),
    "index_put": lambda x: x.index_put((torch.tensor([0, 0]),), x[1:3].sin(), accumulate=True).sin(),
    "avg_pool1d": lambda x: F.avg_pool1d(x[None], 2).sin(),
    "avg_pool2d": lambda x: F.avg_pool2d(x[None], 2).sin(),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x[None], (2, 2)).sin(),
    "interpolate": lambda x: F.interpolate(x[None, None], scale_factor=2, mode="bilinear").sin(),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.view(4, 2, 3), 2).sin(),
    "rfft": lambda x: torch.view_as_real(torch.fft.rfft(x)).sin(),
    "complex rotary": lambda x: torch.view_as_real(
        torch.view_as_complex(x.view(4, 3, 2)) * torch.polar(torch.ones(4, 3).double(), unit(4, 3))
    ).sin(),
    "einops-like": lambda x: torch.einsum("ij,kj->ik", x, x),
    "irfft": lambda x: torch.fft.irfft(torch.fft.rfft(x) ** 2),
    "fft conj": lambda x: torch.view_as_real(
        torch.fft.fft(x.to(torch.complex128)).conj().resolve_conj()
    ).sin(),
    "rot90": lambda x: x.rot90().sin(),
    "take": lambda x: x.take(torch.tensor([0, 7])).sin(),
    "scatter value": lambda x: x.scatter(1, torch.tensor([[0], [1], [2], [0]]), 2.0).sin(),
    "select_scatter": lambda x: x.select_scatter(x[0].sin(), 0, 2).sin(),
    "slice_scatter": lambda x: x.slice_scatter(x[:2].sin(), 0, 1, 3).sin(),
    "diagonal_scatter": lambda x: x.diagonal_scatter(x[0, :4].sin()).sin(),
    "index_copy": lambda x: x.index_copy(0, torch.tensor([0, 2]), x[:2].exp()).sin(),
    "masked_fill by a jet": lambda x: x.masked_fill(torch.eye(4, 6) > 0, x[0, 0]).sin(),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x[None], 2).sin(),
    "pool 3d": lambda x: (
        F.avg_pool3d(x.view(1, 2, 2, 6), (1, 2, 2)).sin()
        + F.adaptive_avg_pool3d(x.view(1, 2, 2, 6), (2, 1, 3)).exp()
    ),
    "max_pool3d": lambda x: F.max_pool3d((x * x).view(1, 2, 2, 6), (1, 2, 2)),
    "max_pool2d indices": lambda x: F.max_pool2d((x * x)[None], 2, return_indices=True),
    "max_pool3d indices": lambda x: F.max_pool3d((x * x).view(1, 2, 2, 6), 2, return_indices=True),
    "unfold fold": lambda x: F.fold(F.unfold(x[None, None], 2).sin(), (4, 6), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[None], 2).sin(),
    "channel_shuffle": lambda x: F.channel_shuffle(x.view(1, 4, 2, 3), 2).sin(),
    "pad reflect 2d 3d": lambda x: (
        F.pad(x[None], (1, 2, 1, 1), mode="reflect").sin().sum()
        + F.pad(x.view(1, 2, 2, 6), (1, 2, 1, 1, 1, 0), mode="reflect").exp().sum()
    ),
    "pad replicate 2d 3d": lambda x: (
        F.pad(x[None], (1, 2, 1, 1), mode="replicate").sin().sum()
        + F.pad(x.view(1, 2, 2, 6), (1, 2, 1, 1, 1, 0), mode="replicate").exp().sum()
    ),
    "linear 1d": lambda x: F.interpolate(x[None], scale_factor=2, mode="linear").sin(),
    "nearest 1d": lambda x: F.interpolate(x[None], scale_factor=2).sin(),
    "nearest 2d": lambda x: F.interpolate(x[None, None], scale_factor=2).sin(),
    "nearest 3d": lambda x: F.interpolate(x.view(1, 1, 2, 2, 6), scale_factor=2).sin(),
    "nearest exact": lambda x: (
        F.interpolate(x[None], scale_factor=1.5, mode="nearest-exact").sin().sum()
        + F.interpolate(x[None, None], scale_factor=1.5, mode="nearest-exact").exp().sum()
        + F.interpolate(x.view(1, 1, 2, 2, 6), scale_factor=2, mode="nearest-exact").cos().sum()
    ),
    "bicubic": lambda x: F.interpolate(x[None, None], scale_factor=2, mode="bicubic").sin(),
    "trilinear": lambda x: F.interpolate(x.view(1, 1, 2, 2, 6), scale_factor=2, mode="trilinear").sin(),
    "new tensors": lambda x: (
        x * (torch.ones_like(x) + x.new_ones(6) + x.new_full((6,), 2.0) + torch.full_like(x, 3.0))
    ),
    "meshgrid": lambda x: torch.meshgrid(x[0], x[1], indexing="ij")[0].sin(),
    "dtype chain": lambda x: (x.to(torch.complex128) * 2j).imag.sin(),
}


@pytest.mark.parametrize("name", SHAPES)
def test_moving_elements(name):
    agree(SHAPES[name], normal(4, 6))


REDUCE = {
    "sum": lambda x: x.sin().sum(),
    "sum dim": lambda x: x.sin().sum(1, keepdim=True) ** 2,
    "sum dims": lambda x: x.view(2, 2, 6).sum((0, -1)) ** 2,
    "mean": lambda x: x.sin().mean() ** 2,
    "mean dim": lambda x: x.mean(-1) ** 2,
    "var": lambda x: x.var(1),
    "var all": lambda x: x.var(),
    "var biased": lambda x: x.var(1, unbiased=False, keepdim=True),
    "std": lambda x: x.std(0),
    "var_mean": lambda x: [y**2 for y in torch.var_mean(x, 1, correction=0)],
    "std_mean": lambda x: torch.std_mean(x),
    "norm": lambda x: x.norm(),
    "norm dim": lambda x: x.norm(dim=1, keepdim=True),
    "norm 3": lambda x: x.norm(3, dim=1),
    "norm 1": lambda x: (x * x).norm(1, dim=1),
    "norm inf": lambda x: (x * x).norm(math.inf, dim=1),
    "frobenius": lambda x: torch.linalg.matrix_norm(x),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "cosine": lambda x: F.cosine_similarity(x[0], x[1], dim=0),
    "amax": lambda x: (x * x).amax(1),
    "amin": lambda x: (x * x).amin((0, 1)),
    "max": lambda x: (x * x).max(),
    "min": lambda x: (x * x).min(),
    "max dim": lambda x: (x * x).max(1),
    "min dim": lambda x: (x * x).min(0, keepdim=True),
    "median": lambda x: (x * x).median(1),
    "topk": lambda x: (x * x).topk(2, 1),
    "sort stable": lambda x: torch.sort(x * x, dim=1, stable=True),
    "cummin": lambda x: (x * x).cummin(1),
    "mode": lambda x: (x * x).mode(1),
    "sort": lambda x: (x * x).sort(1, descending=True),
    "kthvalue": lambda x: (x * x).kthvalue(2, 0),
    "cummax": lambda x: (x * x).cummax(1),
    "max_pool1d": lambda x: F.max_pool1d((x * x)[None], 2),
    "max_pool2d": lambda x: F.max_pool2d((x * x)[None], 2),
    "logsumexp": lambda x: x.logsumexp(1),
    "logsumexp dims": lambda x: x.logsumexp((0, 1), keepdim=True),
    "prod": lambda x: x.prod(),
    "prod dim": lambda x: x.prod(1),
    "prod with zero": lambda x: (x * (torch.arange(6) != 2)).prod(1),
    "amax ties": lambda x: (x * 0 + torch.tensor([1.0, 1, 0, 0, 0, 0])).amax(1) * x[:, 0],
    "softmax": lambda x: x.softmax(-1),
    "softmax 0": lambda x: x.softmax(0),
    "log_softmax": lambda x: x.log_softmax(1),
    "log_softmax 0": lambda x: x.log_softmax(0),
    "softmin": lambda x: F.softmin(x, 1),
    "softmax masked": lambda x: x.masked_fill(torch.ones(4, 6).triu(1) > 0, -math.inf).softmax(-1),
    "softmax scaled": lambda x: (x * 30).softmax(-1),
    "private softmax": lambda x: torch._softmax(x, 1, False) + torch._log_softmax(x, 1, False),
    "safe softmax": lambda x: torch._safe_softmax(x.masked_fill(torch.arange(4)[:, None] == 1, -math.inf), 1),
    "softmax one": lambda x: x[:, :1].softmax(-1) * x,
    "entropy": lambda x: -(x.softmax(-1) * x.log_softmax(-1)).sum(-1),
    "dist": lambda x: torch.dist(x[0], x[1]),
    "allclose is plain": lambda x: x * float(torch.allclose(x, x)),
    "tolist": lambda x: x * x.tolist()[0][0] + x * float(x.detach().numpy()[0, 0]),
    "item": lambda x: x * x.max().item(),
    "argmax": lambda x: x[:, x.sum(0).argmax()] ** 2,
    "detach": lambda x: x * x.detach(),
    "numel": lambda x: x.sum() ** 2 / x.numel(),
}


@pytest.mark.parametrize("name", REDUCE)
def test_reduction(name):
    agree(REDUCE[name], normal(4, 6))


BINARY = {
    "add": lambda a, b: (a + b).sin(),
    "add alpha": lambda a, b: torch.add(a, b, alpha=-2.5).sin(),
    "add broadcast": lambda a, b: (a + b[:1]).sin() + (a[0] + b).sin(),
    "sub": lambda a, b: (a - b).sin() + torch.rsub(a, b, alpha=0.5).cos(),
    "rsub": lambda a, b: (2 - a).sin() * (b - 3.0),
    "mul": lambda a, b: a * b,
    "mul broadcast": lambda a, b: a * b[:, :1] * b[0],
    "mul square": lambda a, b: (a * b) * (a * b),
    "div": lambda a, b: a / (b * b + 1),
    "div broadcast": lambda a, b: a[:1] / (b * b + 1) + (b / 3.0) / normal(4, 6).exp() + 1 / (a.exp()),
    "floor divide": lambda a, b: a * torch.div(b, 0.3, rounding_mode="floor"),
    "pow": lambda a, b: a.abs() ** b,
    "pow constant exponent": lambda a, b: (a.abs() ** torch.tensor([0.0, 1, 2, 3, 0.5, -1])) * b,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "clamp tensor": lambda a, b: a.clamp(b - 0.5, b + 0.5),
    "clamp one side": lambda a, b: a.clamp(min=b) * a.clamp(max=b),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.3),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b.exp(), value=0.3),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3) + torch.lerp(a, b, b),
    "atan2": torch.atan2,
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "xlogy": lambda a, b: torch.xlogy(a, b.exp()),
    "fmod tensor": lambda a, b: torch.fmod(a, b) + torch.remainder(b, a),
    "fmod": lambda a, b: torch.fmod(a, 0.3) * b,
    "remainder": lambda a, b: torch.remainder(a, 0.3) * b,
    "matmul": lambda a, b: a @ b.t(),
    "matmul vector": lambda a, b: a @ b[0],
    "vector matmul": lambda a, b: a[:, 0] @ b,
    "dot": lambda a, b: torch.dot(a[0], b[1]),
    "mm": lambda a, b: torch.mm(a.t(), b),
    "mv": lambda a, b: torch.mv(a, b[0]),
    "outer": lambda a, b: torch.outer(a[0], b[1]),
    "bmm": lambda a, b: torch.bmm(a.view(2, 2, 6), b.view(2, 2, 6).transpose(1, 2)),
    "matmul broadcast": lambda a, b: a.view(2, 1, 2, 6) @ b.view(1, 2, 6, 2),
    "matmul 2d 3d": lambda a, b: a @ b.view(2, 6, 2),
    "matmul with data": lambda a, b: normal(3, 4) @ a + (b @ normal(6, 6))[:3],
    "addmm": lambda a, b: torch.addmm(a[:, :4], a, b.t(), beta=0.5, alpha=2.0),
    "addmm beta 0": lambda a, b: torch.addmm(a[:, :4], a, b.t(), beta=0),
    "baddbmm": lambda a, b: torch.baddbmm(a[:, :4][None], a[None], b.t()[None], beta=0.5, alpha=2.0),
    "addmv": lambda a, b: torch.addmv(a[:, 0], a, b[0]),
    "linear": lambda a, b: F.linear(a, b, b[:, 0]),
    "linear 3d": lambda a, b: F.linear(a.view(2, 2, 6), b),
    "linear bias only": lambda a, b: F.linear(normal(3, 6), normal(4, 6), a[:, 0]) * b[0, 0],
    "einsum": lambda a, b: torch.einsum("bhi,bhj->hij", a.view(2, 2, 6), b.view(2, 2, 6)),
    "tensordot": lambda a, b: torch.tensordot(a, b, ([1], [1])),
    "kron": lambda a, b: torch.kron(a, b),
    "cross": lambda a, b: torch.linalg.cross(a[:, :3], b[:, 3:]),
    "conv1d": lambda a, b: F.conv1d(a.view(1, 4, 6), b.view(4, 2, 3)[:, :1].expand(4, 4, 3), b[0, :4]),
    "conv2d": lambda a, b: F.conv2d(a.view(1, 2, 2, 6), b.view(3, 2, 2, 2), padding=1, stride=2),
    "conv2d groups": lambda a, b: F.conv2d(a.view(1, 4, 2, 3), b.view(4, 1, 2, 3), padding="same", groups=4),
    "conv transpose": lambda a, b: F.conv_transpose1d(a.view(1, 4, 6), b.view(4, 3, 2), stride=2),
    "conv of data": lambda a, b: F.conv1d(normal(2, 4, 9), a.view(2, 4, 3), b[0, :2]),
    "bilinear": lambda a, b: F.bilinear(a[:2], b[:2], normal(3, 6, 6)),
    "mse": lambda a, b: F.mse_loss(a, b),
    "mse sum": lambda a, b: F.mse_loss(a, b, reduction="sum"),
    "l1": lambda a, b: F.l1_loss(a * a, b),
    "smooth l1": lambda a, b: F.smooth_l1_loss(a, b, beta=0.7),
    "huber": lambda a, b: F.huber_loss(a, b, delta=0.7, reduction="none"),
    "bce logits": lambda a, b: F.binary_cross_entropy_with_logits(a, b.sigmoid()),
    "bce logits pos": lambda a, b: F.binary_cross_entropy_with_logits(
        a, unit(4, 6), pos_weight=unit(6, seed=3), weight=unit(6, seed=4)
    ),
    "softmargin": lambda a, b: F.soft_margin_loss(a, torch.ones(4, 6).double()) * b,
    "gaussian nll": lambda a, b: F.gaussian_nll_loss(a, normal(4, 6), b.exp()),
    "poisson nll": lambda a, b: F.poisson_nll_loss(a, normal(4, 6).abs()) * b,
    "embedding": lambda a, b: F.embedding(torch.tensor([[0, 3], [3, 1]]), a).sin() * b[0],
    "embedding padding": lambda a, b: (
        F.embedding(torch.tensor([[0, 3], [3, 1]]), a, padding_idx=3).sin() * b[0]
    ),
    "prelu": lambda a, b: F.prelu(a, b[0, :1]),
    "layer norm": lambda a, b: F.layer_norm(a, (6,), b[0], b[1]),
    "layer norm two axes": lambda a, b: F.layer_norm(a.view(2, 2, 6), (2, 6), b[:2], b[2:]),
    "layer norm of data": lambda a, b: F.layer_norm(normal(3, 6), (6,), a[0], b[1]),
    "layer norm plain": lambda a, b: F.layer_norm(a, (6,)) * b,
    "rms norm": lambda a, b: F.rms_norm(a, (6,), b[0]),
    "rms norm eps": lambda a, b: F.rms_norm(a * b, (6,), eps=0.1),
    "group norm": lambda a, b: F.group_norm(a.view(2, 4, 3), 2, b[0, :4], b[1, :4]),
    "batch norm eval": lambda a, b: F.batch_norm(a, normal(6), unit(6), b[0], b[1]),
    "batch norm train": lambda a, b: F.batch_norm(a, None, None, b[0], b[1], training=True),
    "batch norm 2d": lambda a, b: F.batch_norm(a.view(2, 2, 2, 3), None, None, b[0, :2], training=True),
    "instance norm": lambda a, b: F.instance_norm(a.view(2, 2, 6)) * b.view(2, 2, 6),
    "local response": lambda a, b: F.local_response_norm(a[None], 3) * b,
}


@pytest.mark.parametrize("name", BINARY)
def test_two_tensors(name):
    agree(BINARY[name], normal(4, 6), normal(4, 6, seed=2))


LINALG = {
    "inv": lambda x: torch.linalg.inv(x),
    "det": torch.linalg.det,
    "slogdet": lambda x: torch.linalg.slogdet(x)[1],
    "solve": lambda x: torch.linalg.solve(x, x[:, :2] * 2 + 1),
    "solve vector": lambda x: torch.linalg.solve(x, x[:, 0] ** 2),
    "solve right": lambda x: torch.linalg.solve(x, x[:2] * 2 + 1, left=False),
    "solve data": lambda x: torch.linalg.solve(x, normal(4, 2)) + torch.linalg.solve(normal(4, 4), x)[:, :2],
    "solve batch": lambda x: torch.linalg.solve(torch.stack([x, x * x]), torch.stack([x, x * 3])[..., :2]),
    "eigh vectors": lambda x: torch.linalg.eigh(x @ x.t() + torch.arange(4.0).double().diag())[1].square(),
    "svd vectors": lambda x: torch.linalg.svd(x @ torch.arange(1, 5.0).double().diag(), full_matrices=False)[
        0
    ].square(),
    "cholesky": lambda x: torch.linalg.cholesky(x @ x.t() + torch.eye(4, dtype=D)),
    "matrix_exp": torch.linalg.matrix_exp,
    "matrix_power": lambda x: torch.linalg.matrix_power(x, 3),
    "eigh": lambda x: torch.linalg.eigvalsh(x @ x.t()),
    "svdvals": lambda x: torch.linalg.svdvals(x),
    "qr": lambda x: torch.linalg.qr(x)[1].abs(),
    "triangular": lambda x: torch.linalg.solve_triangular(x.exp().tril(), x, upper=False),
}


@pytest.mark.parametrize("name", LINALG)
def test_linear_algebra(name):
    agree(LINALG[name], normal(4, 4) + 3 * torch.eye(4, dtype=D), tol=1e-9)


LABELS = torch.tensor([0, 2, -100, 1])
ENTROPY = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "weight": {"weight": torch.tensor([0.3, 1.0, 2.0, 0.5], dtype=D)},
    "smoothing": {"label_smoothing": 0.1},
    "all": {
        "label_smoothing": 0.2,
        "weight": torch.tensor([0.3, 1.0, 2.0, 0.5], dtype=D),
        "reduction": "sum",
    },
    "ignore": {"ignore_index": 2},
}


@pytest.mark.parametrize("name", ENTROPY)
def test_cross_entropy(name):
    options = ENTROPY[name]
    labels = LABELS.clamp(min=0) if "ignore_index" in options else LABELS
    agree(lambda x: F.cross_entropy(x, labels, **options), normal(4, 4))
    image = labels.view(2, 2)
    agree(lambda x: F.cross_entropy(x.view(2, 2, 4).transpose(1, 2), image, **options), normal(4, 4))
    options = {k: v for k, v in options.items() if k != "label_smoothing"}
    agree(lambda x: F.nll_loss(x.log_softmax(1), labels, **options), normal(4, 4))


def test_cross_entropy_other_targets():
    agree(lambda x: F.cross_entropy(x, unit(4, 4)), normal(4, 4))
    agree(lambda x: F.cross_entropy(x[0], torch.tensor(2)), normal(4, 4))
    agree(lambda x: F.cross_entropy(x, (x * 2).softmax(-1)), normal(4, 4))


def attention_inputs(batch=2, heads=2, length=5, size=3, keys=None, kv_heads=None):
    kv = (batch, kv_heads or heads, keys or length, size)
    return normal(batch, heads, length, size), normal(*kv, seed=2), normal(*kv, seed=3)


def spelt_out(q, k, v, mask=None, causal=False, scale=None):
    s = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    if mask is not None:
        s = s.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else s + mask
    return s.softmax(-1) @ v


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.7},
    "bool": {
        "attn_mask": torch.rand(5, 5, generator=torch.Generator().manual_seed(0)).fill_diagonal_(1) > 0.5
    },
    "float": {"attn_mask": normal(2, 1, 5, 5)},
}


@pytest.mark.parametrize("name", MASKS)
def test_attention(name):
    options = MASKS[name]

    def fused(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **options)

    def plain(q, k, v):
        return spelt_out(q, k, v, options.get("attn_mask"), "is_causal" in options, options.get("scale"))

    agree(fused, *attention_inputs(), reference=plain)


def test_attention_grouped_cross_and_three_dimensional():
    q, k, v = attention_inputs(heads=4, kv_heads=2)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), q, k, v)
    q, k, v = attention_inputs(keys=7)
    agree(F.scaled_dot_product_attention, q, k, v)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q[0], k[0], v[0]), q, k, v)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q[0, 0], k[0, 0], v[0, 0]), q, k, v)


def test_attention_of_many_queries_to_one_head_of_keys():
    q, k, v = attention_inputs(kv_heads=1)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q[:1], k, v[:1]), *attention_inputs())
    agree(
        lambda q, k, v: F.scaled_dot_product_attention(q.reshape(2, 1, 2, 5, 3), k[:, None], v[:, None]),
        q,
        k,
        v,
    )


def test_attention_with_live_bias_and_constant_parts():
    q, k, v = attention_inputs()
    agree(lambda b: F.scaled_dot_product_attention(q, k, v, attn_mask=b), normal(2, 1, 5, 5))
    agree(lambda x: F.scaled_dot_product_attention(q, k, x, is_causal=True), v)
    agree(lambda x: F.scaled_dot_product_attention(q, x, v, is_causal=True), k)
    agree(lambda x: F.scaled_dot_product_attention(x, k, v, is_causal=True), q)


def test_attention_in_blocks_is_attention_at_once(monkeypatch):
    from unrolled.instruments.curvature.jet_rules import attention

    def small(outer, heads, length, *rest, step, rows):
        for o in range(outer):
            for h in range(0, heads, step):
                for t in range(0, length, rows):
                    yield (slice(None), slice(o, o + 1), slice(h, h + step)), t, min(t + rows, length)

    for step, rows in ((1, 1), (3, 2), (2, 4)):
        monkeypatch.setattr(attention, "_blocks", functools.partial(small, step=step, rows=rows))
        q, k, v = attention_inputs(heads=3)
        agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
        agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=normal(1, 3, 5, 5)), q, k, v)


def test_attention_takes_many_batches_at_once_on_a_gpu(monkeypatch):
    from unrolled.instruments.curvature.jet_rules import attention

    blocks = attention._blocks
    monkeypatch.setattr(attention, "_blocks", lambda *a: blocks(*a[:4], torch.device("cuda"), a[5]))
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *attention_inputs())
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **MASKS["float"]), *attention_inputs())


def test_pieces_do_not_change_the_result(monkeypatch):
    from unrolled.instruments.curvature.jet_rules import blocks

    monkeypatch.setattr(blocks, "room_on", lambda device: 7)
    for f in (
        F.gelu,
        F.relu,
        lambda x: x.t().exp(),
        lambda x: x * x[:, :1] * x[:1],
        lambda x: x / (x * x + 2)[:, :1],
        lambda x: x.softmax(-1),
        lambda x: x.log_softmax(0),
        lambda x: F.layer_norm(x, (6,)),
        lambda x: F.cross_entropy(x, torch.arange(4)),
        lambda x: x[:, ::2].sin() * x[:, 1::2],
    ):
        agree(f, normal(4, 6))


IN_PLACE = {
    "add_": lambda x: x.clone().add_(x.sin()),
    "mul_": lambda x: x.sin().mul_(x),
    "scalar": lambda x: x.sin().mul_(2).sub_(1).div_(3).square(),
    "relu_": lambda x: F.relu(x.clone(), inplace=True) * x,
    "masked_fill_": lambda x: x.sin().masked_fill_(torch.eye(4, 6) > 0, 2.0).exp(),
    "copy_ into zeros": lambda x: torch.zeros(4, 6, dtype=D).copy_(x).sin(),
    "slice assign": lambda x: assign(torch.zeros(4, 6, dtype=D), x),
    "slice assign twice": lambda x: assign(x.new_zeros(4, 6), x) + assign(torch.zeros_like(x), x * x),
    "index_add_": lambda x: (
        torch.zeros(4, 6, dtype=D).index_add_(0, torch.tensor([0, 0, 1]), x[:3].sin()).exp()
    ),
    "index_put_": lambda x: put(torch.ones(4, 6, dtype=D), x),
    "view then write": lambda x: view_then_write(x),
    "write a constant": lambda x: constant_over(x),
    "fill_": lambda x: x.clone().fill_(x[0, 0]) * x,
    "zero_": lambda x: x + x.sin().zero_(),
    "clamp_": lambda x: x.clone().clamp_(-0.5, 0.5).sin(),
    "upgrade": lambda x: torch.ones(4, 6, dtype=D).add_(x).mul_(x),
}


def assign(out, x):
    out[1:, ::2] = x[1:, ::2].sin()
    out[0] = x[3] * 2
    return out.exp()


def put(out, x):
    out[torch.tensor([0, 2])] = x[:2].sin()
    out[out > 100] = 0.0
    return out.exp()


def view_then_write(x):
    out = x.new_zeros(4, 6)
    column = out[:, 2]
    block = out.view(2, 12)
    out[1] += x[0].sin()
    return out.exp() * block.view(4, 6).sin() + column.sum() * x


def constant_over(x):
    y = x.sin()
    y[1] = 2.0
    y[2] = torch.ones(6, dtype=D)
    return y.exp()


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    agree(IN_PLACE[name], normal(4, 6))


def test_no_grad_is_constant():
    def f(x):
        with torch.no_grad():
            y = x.sin() * 2
            z = x.view(24).clone()
        return x * y + z.view(4, 6) * x

    agree(f, normal(4, 6))


def refused(f, *tensors, op):
    model = Inputs(*tensors)
    with pytest.raises(JetUnsupported, match=op) as caught:
        jet(model, lambda m: f(*m.p).sum(), {f"p.{i}": torch.ones_like(t) for i, t in enumerate(tensors)})
    assert caught.value.reason
    assert "double_backward" in str(caught.value)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


REFUSED = {
    "Doubled": lambda x: Doubled.apply(x) + 1,
    "Doubled as the loss": lambda x: Doubled.apply(x.sum()),
    "Doubled in between": lambda x: Doubled.apply(x) * 2 + x,
    "bessel_j0": lambda x: torch.special.bessel_j0(x),
    "igamma": lambda x: torch.igamma(x.exp(), x.exp()),
    "copy_": lambda x: BUFFER.clone().copy_(x),
    "geqrf": lambda x: torch.geqrf(x)[0],
    "histogram": lambda x: torch.histogram(x, 3)[0] + x.sum(),
    "normal": lambda x: torch.normal(x, 1.0),
    "sum.IntList_out": lambda x: torch.sum(x, 1, out=torch.empty(4, dtype=D)),
    "view.dtype": lambda x: x.view(torch.float32),
    "embedding ": lambda x: F.embedding(torch.tensor([0]), x, scale_grad_by_freq=True),
    "embedding_bag": lambda x: F.embedding_bag(torch.tensor([[0, 1]]), x),
    "ctc": lambda x: F.ctc_loss(
        x.view(4, 1, 6).log_softmax(-1), torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2])
    ),
    "rrelu": lambda x: F.rrelu(x, training=True),
}
BUFFER = torch.zeros(4, 6, dtype=D)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    refused(REFUSED[name], normal(4, 6), op=name.split(" ")[0])
