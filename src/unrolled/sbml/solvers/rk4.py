"""Fixed-step Runge-Kutta of order 4 that keeps states above a lower bound: the simulator of the language-game paper."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rate = Callable[[Any, Tensor, Any], Tensor]


def rk4(rate: Rate, t: Any, x: Tensor, h: Any, p: Any = None) -> Tensor:
    """One classical Runge-Kutta step: x + h/6 (k1 + 2 k2 + 2 k3 + k4).

    Args:
        rate: `(t, x, p) -> dx/dt`, `[B, d]` to `[B, d]`.
        t: time at the start of the step.
        x: state, `[B, d]`.
        h: step size.
        p: parameters, handed to `rate`.

    Example:
        A cubic in t is integrated exactly:

        >>> x = torch.zeros(1, 1, dtype=torch.float64)
        >>> rk4(lambda t, x, p: 4 * t**3 + 0 * x, 0.0, x, 2.0).item()
        16.0
    """
    return _stages(rate, t, x, h, p)[1]


def positive_step(
    rate: Rate,
    t: float,
    x: Tensor,
    h: float,
    p: Any = None,
    *,
    lower: float | Tensor = 0.0,
    halvings: int = 5,
) -> Tensor:
    """One step of size h that ends above `lower` (language-game fact sheet 2605.16321, A3).

    If any stage of any sample is not finite or at or below the bound, the step is split in two, `halvings` times at
    most; then one Euler step is taken and clamped to the bound. The whole batch splits together, as in the paper: a
    sample's result depends on its companions (the adaptive solvers' do not).

    Args:
        rate: `(t, x, p) -> dx/dt`, `[B, d]` to `[B, d]`.
        t: time at the start.
        x: state, `[B, d]`, above `lower`.
        h: step size.
        p: parameters.
        lower: bound, a number or `[d]`.
        halvings: how often a step may be split.

    Returns:
        The state at t + h, `[B, d]`; where even the Euler step is not finite, NaN.

    Example:
        Decay with a step far too long: the classical step explodes, this one does not fall below zero.

        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> decay = lambda t, x, p: -100 * x
        >>> rk4(decay, 0.0, x, 1.0).item() > 1e6, 0 <= positive_step(decay, 0.0, x, 1.0).item() <= 1
        (True, True)
    """
    stages, end = _stages(rate, t, x, h, p)
    if all(bool((value.isfinite() & (value > lower)).all()) for value in (*stages, end)):
        return end
    if halvings > 0:
        half = positive_step(rate, t, x, h / 2, p, lower=lower, halvings=halvings - 1)
        return positive_step(rate, t + h / 2, half, h / 2, p, lower=lower, halvings=halvings - 1)
    euler = x + h * rate(t, x, p)
    clamped = torch.maximum(euler, torch.as_tensor(lower, dtype=x.dtype, device=x.device))
    return torch.where(euler.isfinite(), clamped, math.nan)


def positive_rk4(
    rate: Rate,
    x0: Tensor,
    times: Tensor,
    p: Any = None,
    *,
    dt: float = 1e-3,
    lower: float | Tensor = 0.0,
    halvings: int = 5,
) -> Tensor:
    """Integrate with `positive_step` and keep the states at `times`.

    Between two times the fewest equal steps of at most `dt` are taken, so every time is hit exactly.

    Args:
        rate: `(t, x, p) -> dx/dt`.
        x0: `[B, d]` at `times[0]`.
        times: `[n]`, increasing.
        p: parameters.
        dt: longest step.
        lower: bound, a number or `[d]`.
        halvings: how often a step may be split.

    Returns:
        `[n, B, d]`.

    Raises:
        ValueError: `dt` is not positive, or the start is below the bound.

    Example:
        >>> x0 = torch.ones(1, 1, dtype=torch.float64)
        >>> path = positive_rk4(lambda t, x, p: -x, x0, torch.tensor([0.0, 1.0]), dt=0.01)
        >>> abs(path[1].item() - math.exp(-1)) < 1e-10
        True
    """
    if not dt > 0:
        raise ValueError(f"dt is the longest step and positive, got {dt}")
    if bool((x0 < torch.as_tensor(lower, dtype=x0.dtype, device=x0.device)).any()):
        raise ValueError(f"the start lies below the lower bound {lower}: lift it, or lower the bound")
    path, x = [x0], x0
    for start, end in zip(times[:-1].tolist(), times[1:].tolist()):
        steps = max(1, math.ceil((end - start) / dt - 1e-9))
        h = (end - start) / steps
        for i in range(steps):
            x = positive_step(rate, start + i * h, x, h, p, lower=lower, halvings=halvings)
        path.append(x)
    return torch.stack(path)


def _stages(rate: Rate, t: Any, x: Tensor, h: Any, p: Any) -> tuple[list[Tensor], Tensor]:
    """The arguments of the later stages, and the end of the step."""
    k1 = rate(t, x, p)
    x2 = x + h / 2 * k1
    k2 = rate(t + h / 2, x2, p)
    x3 = x + h / 2 * k2
    k3 = rate(t + h / 2, x3, p)
    x4 = x + h * k3
    k4 = rate(t + h, x4, p)
    return [x2, x3, x4], x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
