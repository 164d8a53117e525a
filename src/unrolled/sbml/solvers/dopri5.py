"""Dormand and Prince's explicit Runge-Kutta pair of orders 5 and 4, with its dense output of order 4."""

from typing import Any

import torch
from torch import Tensor

from unrolled.sbml.solvers.trial import Rate, Trial

A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Stage weights (Dormand & Prince 1980); the last row is the solution of order 5 (first same as last)."""
C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
"""Stage times."""
E = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Order 5 minus order 4: the error estimate."""
D = (
    -12715105075 / 11282082432,
    0.0,
    87487479700 / 32700410799,
    -10690763975 / 1880347072,
    701980252875 / 199316789632,
    -1453857185 / 822651844,
    69997945 / 29380423,
)
"""Weights of the quartic's last coefficient (Shampine 1986; Hairer, Norsett & Wanner, II.6)."""
STIFF = 3.25
"""|h lambda| at the edge of the stability region on the negative axis (Hairer & Wanner, IV.2)."""


def step(rate: Rate, t: Tensor, x: Tensor, h: Tensor, p: Any, k1: Tensor) -> Trial:
    """Attempt one step of each sample, six evaluations.

    Args:
        rate: `(t, x, p) -> dx/dt`.
        t: `[B]`.
        x: `[B, d]`.
        h: `[B]`, one step size per sample.
        p: parameters, handed to `rate`.
        k1: rate at (t, x), `[B, d]`.

    Example:
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> decay = lambda t, x, p: -x
        >>> trial = step(decay, torch.zeros(1), x, torch.full((1,), 0.1, dtype=torch.float64), None, decay(0, x, None))
        >>> abs(trial.end.item() - torch.tensor(-0.1, dtype=torch.float64).exp().item()) < 1e-9
        True
    """
    hx = h[:, None]
    k, argument = [k1], x
    before = x
    for row, c in zip(A, C):
        before = argument
        argument = x + hx * _weighted(row, k)
        k.append(rate(t + c * h, argument, p))
    end = argument
    difference = end - x
    bend = hx * k[0] - difference
    last = hx * _weighted(D, k)
    # |h lambda| from the two stages at t + h (Hairer & Wanner, IV.2).
    moved = (end - before).norm(dim=-1)
    stiffness = h * (k[6] - k[5]).norm(dim=-1) / torch.where(moved > 0, moved, 1.0)
    dense = (x, difference, bend, difference - hx * k[6] - bend + last, -last)
    return Trial(end, hx * _weighted(E, k), k[6], dense, stiffness)


def _weighted(weights: tuple[float, ...], k: list[Tensor]) -> Tensor:
    first, *rest = [(w, stage) for w, stage in zip(weights, k) if w]
    total = first[0] * first[1]
    for w, stage in rest:
        total = torch.add(total, stage, alpha=w)
    return total
