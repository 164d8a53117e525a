"""Sums, means, moments, norms, extremes: what makes a tensor smaller."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.tensor import Jet, bound, constant, named, sequence

aten = torch.ops.aten
_linalg: Any = torch.linalg


def _axes(dim: Any, ndim: int) -> list[int]:
    """Axes of the elements as axes of the stack; all of them when none is named."""
    if dim is None or (sequence(dim) is not None and not dim):
        return list(range(1, ndim + 1))
    return [d % max(ndim, 1) + 1 for d in sequence(dim) or (dim,)]


def _sum(op: Any, args: Any, kwargs: Any) -> Any:
    given = named(op, args, kwargs)
    x, keep = given["self"], given.get("keepdim", False)
    stack = x.stack.unsqueeze(-1) if x.ndim == 0 else x.stack
    axes = _axes(given.get("dim"), stack.ndim - 1)
    out = stack.sum(axes, keepdim=keep and x.ndim > 0, dtype=given["dtype"])
    return Jet(out)


def _mean(op: Any, args: Any, kwargs: Any) -> Any:
    given = named(op, args, kwargs)
    x, axes = given["self"], _axes(given.get("dim"), given["self"].ndim)
    count = math.prod(x.shape[d - 1] for d in axes) if x.ndim else 1
    return _sum(op, args, kwargs) / count


def _moments(x: Tensor, dim: Any, correction: Any, keep: bool) -> tuple[Tensor, Tensor]:
    axes = [d - 1 for d in _axes(dim, x.ndim)]
    count = math.prod(x.shape[d] for d in axes)
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().sum(axes, keepdim=keep) / max(count - correction, 0)
    return variance, mean if keep else mean.squeeze(axes)


def _variance(op: Any, args: Any, kwargs: Any) -> Any:
    x, dim, correction, keep = bound(op, args, kwargs)
    var, mean = _moments(x, dim, 1 if correction is None else correction, keep)
    name = op._schema.name.split("::")[1]
    spread = torch.sqrt(var) if name.startswith("std") else var
    return (spread, mean) if name.endswith("_mean") else spread


def _vector_norm(op: Any, args: Any, kwargs: Any) -> Any:
    """||x||_p. Where it is 0 the coefficients are 0 too, as autograd's subgradient is."""
    x, order, dim, keep, dtype = bound(op, args, kwargs)
    x = x if dtype is None else x.to(dtype)
    axes = [d - 1 for d in _axes(dim, x.ndim)]
    if order == 2:
        power = (x.abs() if x.is_complex() else x).square().sum(axes, keepdim=keep)
    elif order == 1:
        return x.abs().sum(axes, keepdim=keep)
    elif order in (math.inf, -math.inf):
        return x.abs().amax(axes, keep) if order > 0 else x.abs().amin(axes, keep)
    elif order == 0:
        return op(x.stack[0], 0, dim, keep)
    else:
        power = x.abs().pow(order).sum(axes, keepdim=keep)
    zero = constant(power) == 0
    return power.masked_fill(zero, 1).pow(1 / order).masked_fill(zero, 0)


def _cdist(op: Any, args: Any, kwargs: Any) -> Any:
    x, y, order, _ = bound(op, args, kwargs)
    return _linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), order, -1)


def _extreme(op: Any, args: Any, kwargs: Any) -> Any:
    """amax, amin, max and min of all: ties share evenly, as autograd has it."""
    given = named(op, args, kwargs)
    x, keep = given["self"], given.get("keepdim", False)
    stack, axes = x.stack, _axes(given.get("dim"), x.ndim)
    if x.ndim == 0:
        return x.clone()
    largest = "max" in op._schema.name
    value = stack[:1].amax(axes, True) if largest else stack[:1].amin(axes, True)
    winners = (stack[:1] == value).to(stack.dtype)
    winners /= winners.sum(axes, keepdim=True)
    out = (stack * winners).sum(axes, keepdim=keep)
    out[0] = value[0] if keep else value[0].squeeze([d - 1 for d in axes])
    return Jet(out)


def _picked(op: Any, args: Any, kwargs: Any) -> Any:
    """(values, indices) along an axis: the indices are x_0's, and every coefficient is gathered by them."""
    x = args[0]
    _, index = op(x.stack[0], *args[1:], **kwargs)
    if x.ndim == 0:
        return x.clone(), index
    dim = named(op, args, kwargs).get("dim", -1) % x.ndim
    full = index if index.ndim == x.ndim else index.unsqueeze(dim)
    stack = x.stack
    out = stack.gather(dim + 1, full.unsqueeze(0).expand(len(stack), *full.shape))
    return Jet(out if index.ndim == x.ndim else out.squeeze(dim + 1)), index


def _max_pool(spatial: int) -> Any:
    with_indices = getattr(aten, f"max_pool{spatial}d_with_indices").default if spatial > 1 else None

    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        if with_indices is None:
            value, index = torch.nn.functional.max_pool1d(x.stack[0], *args[1:], return_indices=True)
        else:
            value, index = with_indices(x.stack[0], *args[1:], **kwargs)
        flat = x.stack.flatten(-spatial)
        at = index.flatten(-spatial).expand(len(flat), *index.shape[:-spatial], -1)
        out = Jet(flat.gather(-1, at).view(len(flat), *value.shape))
        return (out, index) if "with_indices" in op._schema.name else out

    return rule


def _logsumexp(op: Any, args: Any, kwargs: Any) -> Any:
    x, dim, keep = bound(op, args, kwargs)
    top = constant(x).amax(dim, True)
    top = top.masked_fill(top.isinf(), 0)
    out = torch.log(torch.exp(x - top).sum(dim, keepdim=True)) + top
    return out if keep else out.squeeze(dim if isinstance(dim, int) else [d % max(x.ndim, 1) for d in dim])


def _prod(op: Any, args: Any, kwargs: Any) -> Any:
    """A product by pairs, so that zeros need no division."""
    given = named(op, args, kwargs)
    x, keep = given["self"], given.get("keepdim", False)
    x = x if given["dtype"] is None else x.to(given["dtype"])
    x, dim = (x, given["dim"] % max(x.ndim, 1)) if "dim" in given else (x.reshape(-1), 0)
    if x.ndim == 0:
        return x.clone()
    if x.shape[dim] == 0:
        return op(constant(args[0]), *args[1:], **kwargs)
    while x.shape[dim] > 1:
        half, odd = divmod(x.shape[dim], 2)
        y = x.narrow(dim, 0, half) * x.narrow(dim, half, half)
        x = torch.cat([y, x.narrow(dim, 2 * half, 1)], dim) if odd else y
    return x if keep else x.squeeze(dim)


RULES: dict[Any, Any] = {
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.var.correction: _variance,
    aten.std.correction: _variance,
    aten.var_mean.correction: _variance,
    aten.std_mean.correction: _variance,
    aten.linalg_vector_norm.default: _vector_norm,
    aten._cdist_forward.default: _cdist,
    aten.amax.default: _extreme,
    aten.amin.default: _extreme,
    aten.max.default: _extreme,
    aten.min.default: _extreme,
    aten.max.dim: _picked,
    aten.min.dim: _picked,
    aten.topk.default: _picked,
    aten.sort.default: _picked,
    aten.sort.stable: _picked,
    aten.kthvalue.default: _picked,
    aten.median.dim: _picked,
    aten.mode.default: _picked,
    aten.cummax.default: _picked,
    aten.cummin.default: _picked,
    aten.max_pool1d.default: _max_pool(1),
    aten.max_pool2d.default: _max_pool(2),
    aten.max_pool3d.default: _max_pool(3),
    aten.max_pool2d_with_indices.default: _max_pool(2),
    aten.max_pool3d_with_indices.default: _max_pool(3),
    aten.logsumexp.default: _logsumexp,
    aten.prod.default: _prod,
    aten.prod.dim_int: _prod,
}
