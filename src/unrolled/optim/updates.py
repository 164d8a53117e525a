"""Pure updates: (parameter, gradient, buffers) -> (Z, buffers), with W -> W - Z.

These few functions are all the arithmetic there is; the systems (`optim.sgd`, `optim.adam`, `optim.muon`) and the class
`optim.Muon` are built on them. Z points downhill, includes the learning rate and the weight decay, and nothing is
changed in place. Buffers of 16-bit parameters are kept in float32.

Conventions are torch's, so that trajectories can be compared step for step (curvature fact sheet 2606.04662, section 6):
Muon's momentum is an average, B <- mu B + (1 - mu) G, its Nesterov direction (1 - mu) G + mu B; SGD's is a sum,
B <- mu B + G; decoupled weight decay is lr * weight_decay * W with the learning rate *before* the scale rule.
"""

import difflib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.optim import polar as polars
from unrolled.optim import recipes
from unrolled.optim.recipes import Layout

Buffers = dict[str, Tensor]
Number = float | Tensor

SCALES = ("original", "match_rms_adamw", "spectral", "none")
"""Names of the scale rules."""


def scale_factor(rule: str, rows: int, cols: int) -> float:
    """By what a rule multiplies the learning rate of a matrix.

    | rule | factor | so that |
    |---|---|---|
    | `original` | sqrt(max(1, rows / cols)) | Jordan's |
    | `match_rms_adamw` | 0.2 sqrt(max(rows, cols)) | the update has the RMS of AdamW's (Moonshot, 2502.16982) |
    | `spectral` | sqrt(rows / cols), rows = fan-out | the update has unit RMS-to-RMS operator norm (dion) |
    | `none` | 1 | Z = lr O, as in the paper's theory |

    Raises:
        ValueError: an unknown rule.

    Example:
        >>> [scale_factor(rule, 400, 100) for rule in ("original", "match_rms_adamw", "spectral", "none")]
        [2.0, 4.0, 2.0, 1.0]
    """
    if rule == "original":
        return math.sqrt(max(1.0, rows / cols))
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, cols))
    if rule == "spectral":
        return math.sqrt(rows / cols)
    if rule == "none":
        return 1.0
    near = difflib.get_close_matches(str(rule), SCALES, n=1)
    raise ValueError(
        f"unknown scale rule {rule!r}: choose one of {', '.join(SCALES)}"
        + (f" (did you mean {near[0]!r}?)" if near else "")
    )


def zeros(param: Tensor, *names: str) -> Buffers:
    """Fresh buffers like a parameter, in at least float32.

    Example:
        >>> zeros(torch.ones(2, dtype=torch.bfloat16), "momentum")["momentum"]
        tensor([0., 0.])
    """
    return {name: torch.zeros_like(param, dtype=_buffer_dtype(param)) for name in names}


def sgd(
    param: Tensor,
    grad: Tensor,
    buffers: Buffers,
    *,
    lr: Number,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Tensor, Buffers]:
    """Gradient descent, with momentum if `momentum > 0`; `torch.optim.SGD` step for step.

    G' = G + weight_decay W;  B = momentum B + G';  Z = lr B, or lr (G' + momentum B) with Nesterov.

    Args:
        param: W, any shape.
        grad: G at W.
        buffers: `{"momentum": B}`, or `{}` without momentum.
        lr: learning rate.
        momentum: mu.
        nesterov: look ahead.
        weight_decay: coupled (added to the gradient).

    Example:
        >>> w = g = torch.ones(1)
        >>> z, b = sgd(w, g, zeros(w, "momentum"), lr=0.1, momentum=0.5)
        >>> sgd(w, g, b, lr=0.1, momentum=0.5)[0]
        tensor([0.1500])
    """
    grad = grad.to(_buffer_dtype(param))
    if weight_decay:
        grad = grad + weight_decay * param
    if not momentum:
        return lr * grad, {}
    average = momentum * buffers["momentum"] + grad
    return lr * (grad + momentum * average if nesterov else average), {"momentum": average}


def adam(
    param: Tensor,
    grad: Tensor,
    buffers: Buffers,
    *,
    step: int | Tensor,
    lr: Number,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = True,
    smooth: bool = False,
) -> tuple[Tensor, Buffers]:
    """Adam; AdamW with weight decay (Adam with L2 when not `decoupled`); torch's step for step.

    M = b1 M + (1 - b1) G;  V = b2 V + (1 - b2) G^2;  Z = lr (M / (1 - b1^t)) / (sqrt(V / (1 - b2^t)) + eps)
    + lr weight_decay W.

    Args:
        param: W, any shape.
        grad: G at W.
        buffers: `{"exp_avg": M, "exp_avg_sq": V}`.
        step: t of this step, from 1.
        lr: learning rate.
        betas: b1, b2.
        eps: added to the root.
        weight_decay: decoupled, or added to the gradient.
        decoupled: AdamW.
        smooth: give the root the derivative 0 at V = 0, where it has none, so that the gradient through the step is
            finite for entries that never saw a gradient; same values.

    Example:
        >>> w, g = torch.ones(2), torch.tensor([3.0, -0.1])
        >>> adam(w, g, zeros(w, "exp_avg", "exp_avg_sq"), step=1, lr=0.01)[0]  # the first step is lr * sign(G)
        tensor([ 0.0100, -0.0100])
    """
    beta1, beta2 = betas
    grad = grad.to(_buffer_dtype(param))
    if weight_decay and not decoupled:
        grad = grad + weight_decay * param
    first = torch.lerp(buffers["exp_avg"], grad, 1 - beta1)
    second = torch.addcmul(buffers["exp_avg_sq"] * beta2, grad, grad, value=1 - beta2)
    t: Any = step.double() if isinstance(step, Tensor) else step
    root = second.sqrt() if not smooth else _smooth_sqrt(second)
    z = (first / (root / (1 - beta2**t) ** 0.5 + eps)) * (lr / (1 - beta1**t))
    if weight_decay and decoupled:
        z = z + (lr * weight_decay) * param
    return z, {"exp_avg": first, "exp_avg_sq": second}


def muon(
    param: Tensor,
    grad: Tensor,
    buffers: Buffers,
    *,
    lr: Number,
    momentum: float = 0.95,
    nesterov: bool = True,
    polar: str = "ns5",
    scale: str = "original",
    weight_decay: float = 0.0,
    polar_dtype: torch.dtype | None = None,
    layout: Layout | None = None,
) -> tuple[Tensor, Buffers]:
    """Muon: the polar factor of the averaged gradient; with `polar_dtype=torch.bfloat16`, `torch.optim.Muon` step for step.

    B = mu B + (1 - mu) G;  D = (1 - mu) G + mu B with Nesterov, else B;  Z = lr scale O + lr weight_decay W, where O is
    the polar factor of D.

    Args:
        param: W, with two axes or more (`recipes` says how it becomes matrices).
        grad: G at W.
        buffers: `{"momentum": B}`.
        lr: learning rate.
        momentum: mu.
        nesterov: look ahead.
        polar: a name of `polar.METHODS`.
        scale: a name of `SCALES`.
        weight_decay: decoupled.
        polar_dtype: dtype of the iteration (see `polar`).
        layout: how the parameter is cut into matrices; by default it is one.

    Raises:
        ValueError: fewer than two axes; an unknown polar or scale.

    Example:
        >>> w, g = torch.zeros(2, 2), torch.tensor([[5.0, 0.0], [0.0, -0.1]])
        >>> muon(w, g, zeros(w, "momentum"), lr=0.1, polar="svd")[0] + 0.0
        tensor([[ 0.1000,  0.0000],
                [ 0.0000, -0.1000]])
    """
    layouts = [layout or recipes.whole(param)]
    (result,) = muon_all(
        [param], [grad], [buffers], layouts, lr=lr, momentum=momentum, nesterov=nesterov, polar=polar, scale=scale,
        weight_decay=weight_decay, polar_dtype=polar_dtype,
    )  # fmt: skip
    return result


def muon_all(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Buffers],
    layouts: Sequence[Layout],
    *,
    lr: Number,
    momentum: float = 0.95,
    nesterov: bool = True,
    polar: str = "ns5",
    scale: str = "original",
    weight_decay: float = 0.0,
    polar_dtype: torch.dtype | None = None,
) -> list[tuple[Tensor, Buffers]]:
    """`muon` for many parameters, with matrices of one shape going through the polar factor as one batch.

    Arguments as for `muon`, in lists.

    Example:
        >>> w, g = [torch.zeros(2, 3)] * 2, [torch.ones(2, 3), torch.randn(2, 3)]
        >>> both = muon_all(w, g, [zeros(x, "momentum") for x in w], [recipes.whole(x) for x in w], lr=0.1)
        >>> torch.allclose(both[1][0], muon(w[1], g[1], zeros(w[1], "momentum"), lr=0.1)[0], atol=1e-6)
        True
    """
    averages: list[Tensor] = []
    cuts: list[Tensor] = []
    for param, grad, buffer, layout in zip(params, grads, buffers, layouts):
        grad = grad.to(_buffer_dtype(param))
        average = torch.lerp(buffer["momentum"], grad, 1 - momentum)
        averages.append(average)
        cuts += recipes.matrices(torch.lerp(grad, average, momentum) if nesterov else average, layout)
    factors = iter(polars.orthogonalize_all(cuts, polar, dtype=polar_dtype))
    results: list[tuple[Tensor, Buffers]] = []
    for param, average, layout in zip(params, averages, layouts):
        parts = [next(factors) for part in layout if part[-1]]
        if len({part.shape[-2:] for part in parts}) == 1:  # one factor for all: scale once, after assembly
            z = recipes.assemble(parts, layout, average) * (lr * scale_factor(scale, *parts[0].shape[-2:]))
        else:
            parts = [part * (lr * scale_factor(scale, *part.shape[-2:])) for part in parts]
            z = recipes.assemble(parts, layout, average)
        if weight_decay:
            z = z + (lr * weight_decay) * param
        results.append((z, {"momentum": average}))
    return results


def blend(muon_z: Tensor, adam_z: Tensor, layout: Layout) -> Tensor:
    """Muon's Z on its parts of a parameter, AdamW's on the others (a fused projection under the recipe VO or QK).

    Example:
        >>> blend(torch.ones(4, 1), torch.zeros(4, 1), ((0, 0, 3, 1, False), (0, 3, 1, 1, True))).flatten().tolist()
        [0.0, 0.0, 0.0, 1.0]
    """
    return torch.where(recipes.muon_mask(layout, muon_z), muon_z, adam_z)


def check_hyperparameters(**values: Any) -> None:
    """Refuse numbers that make no sense for an optimizer, by name.

    Raises:
        ValueError: a negative rate or decay, or a momentum or beta outside [0, 1).

    Example:
        >>> check_hyperparameters(lr=0.1, momentum=0.9, betas=(0.9, 0.99), eps=1e-8)
    """
    for name, value in values.items():
        if callable(value):
            continue
        if name.endswith("betas"):
            if len(value) != 2:
                raise ValueError(f"{name} is a pair of numbers in [0, 1), got {value!r}")
            check_hyperparameters(**{f"{name}[{i}]": beta for i, beta in enumerate(value)})
        elif name == "momentum" or "betas[" in name:
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} lies in [0, 1), got {value!r}")
        elif isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{name} is one number, got a tensor of shape {tuple(value.shape)}")
        elif not value >= 0.0:
            raise ValueError(f"{name} is a number of at least 0, got {value!r}")


def _buffer_dtype(param: Tensor) -> torch.dtype:
    return torch.float32 if param.dtype in (torch.bfloat16, torch.float16) else param.dtype


def _smooth_sqrt(x: Tensor) -> Tensor:
    zero = x == 0  # and not x > 0: a NaN stays a NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())
