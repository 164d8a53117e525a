"""Losses that torch has one operator for.

Cross-entropy of a row of logits x with target t is log sum_c exp(x_c) - x_t. With p = softmax(x_0) and
l_1 = <p, x_1>, the logarithm's coefficients are l_1 and <p, x_2 + (x_1 - l_1)^2 / 2>: the log-probabilities' own
coefficients are never formed. Rows are summed in float64.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.blocks import cut, pieces
from unrolled.instruments.curvature.jet_rules.internals import composite
from unrolled.instruments.curvature.jet_rules.tensor import TERMS, Jet, bound, constant, is_live, named

aten = torch.ops.aten
_NONE, _MEAN, _SUM = 0, 1, 2  # torch's codes for reduction=


def _cross_entropy(op: Any, args: Any, kwargs: Any) -> Any:
    x, target, weight, reduction, ignore, smoothing = bound(op, args, kwargs)
    if target.is_floating_point() or smoothing or is_live(weight) or not is_live(x):
        return composite(op, args, kwargs)
    stack = x.stack
    rows = stack if x.ndim == 1 else stack.movedim(2, -1)
    rows = rows.reshape(len(stack), -1, rows.shape[-1])
    labels = target.reshape(-1)
    used = labels != ignore
    index = labels.masked_fill(~used, 0).unsqueeze(-1)
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    share = used.to(wide) if weight is None else weight.to(wide)[index[:, 0]] * used
    losses = torch.empty(TERMS, len(labels), dtype=wide, device=stack.device)
    for piece in pieces(rows.shape[1:2], stack.device, unit=rows.shape[-1]):
        s, y, at = cut(rows, piece), cut(losses, piece), index[piece] if piece else index
        if s.dtype in (torch.bfloat16, torch.float16):
            s = s.float()
        p = torch.softmax(s[0], -1)
        first = (p * s[1]).sum(-1)
        w = (s[1] - first.unsqueeze(-1)).square_().mul_(0.5)
        w = w if len(s) == 2 else w.add_(s[2])
        y[0], y[1], y[2] = torch.logsumexp(s[0], -1), first, w.mul_(p).sum(-1)
        y[: len(s)] -= s.gather(-1, at.expand(len(s), *at.shape)).squeeze(-1)
    losses = torch.where(used, losses * share, 0)
    if reduction == _NONE:
        return Jet(losses.view(TERMS, *target.shape).to(stack.dtype))
    total = losses.sum(-1)
    return Jet((total / share.sum() if reduction == _MEAN else total).to(stack.dtype))


def _pointwise(f: Any) -> Any:
    """The rule of a loss f(input, target, *parameters), element by element, then reduced."""

    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        given = named(op, args, kwargs)
        x, target, reduction = given.pop("self"), given.pop("target"), given.pop("reduction")
        loss = f(x, target, **given)
        return loss.mean() if reduction == _MEAN else loss.sum() if reduction == _SUM else loss

    return rule


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square()


def _absolute(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs()


def _smooth_l1(x: Tensor, y: Tensor, beta: float) -> Tensor:
    d = x - y
    size = d.abs()
    return (
        size
        if beta == 0
        else torch.where(constant(size) < beta, d.square() * (0.5 / beta), size - 0.5 * beta)
    )


def _huber(x: Tensor, y: Tensor, delta: float) -> Tensor:
    d = x - y
    size = d.abs()
    return torch.where(constant(size) <= delta, 0.5 * d.square(), delta * (size - 0.5 * delta))


def _binary(x: Tensor, y: Tensor, weight: Any) -> Tensor:
    yes, no = torch.log(x).clamp(min=-100), torch.log1p(-x).clamp(min=-100)
    loss = (y - 1) * no - y * yes
    return loss if weight is None else loss * weight


def _binary_logits(x: Tensor, y: Tensor, weight: Any, pos_weight: Any) -> Tensor:
    yes = -F.logsigmoid(x) * y
    loss = (yes if pos_weight is None else yes * pos_weight) - F.logsigmoid(-x) * (1 - y)
    return loss if weight is None else loss * weight


RULES: dict[Any, Any] = {
    aten.cross_entropy_loss.default: _cross_entropy,
    aten.mse_loss.default: _pointwise(_squared),
    aten.l1_loss.default: _pointwise(_absolute),
    aten.smooth_l1_loss.default: _pointwise(_smooth_l1),
    aten.huber_loss.default: _pointwise(_huber),
    aten.binary_cross_entropy.default: _pointwise(_binary),
    aten.binary_cross_entropy_with_logits.default: _pointwise(_binary_logits),
}
