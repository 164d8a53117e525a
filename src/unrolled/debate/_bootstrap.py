"""Bias-corrected intervals: a parametric bootstrap around the rollout fit.

Noise in the beliefs is noise in the regressors, which pulls the one-step coefficients to one side however many questions
there are, so resampling questions around the estimate misses the truth. Here debates are simulated from the rollout fit
(its coefficients, initial beliefs and noise), fitted again in the same mode, and the distribution of estimate minus
simulated truth, bias included, is turned around the estimate: [u - q_high, u - q_low].
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.debate import _rollout
from unrolled.debate._estimate import of_normal
from unrolled.debate._normal import DENSE, Normal, Stack
from unrolled.debate.result import Interval

NAMES = ("gamma", "alpha", "W", "M", "pi")


def intervals(
    stacks: list[Stack], u: Tensor, mode: str, resamples: int, level: float, rng: Any
) -> tuple[dict[str, Interval], tuple[str, ...]]:
    """Intervals of every parameter, and notes.

    Args:
        stacks: the questions that share the parameters.
        u: `[n, p]` coefficients of the fit.
        mode: how it was fitted.
        resamples: how many simulated data sets.
        level: nominal coverage.
        rng: generator or seed.
    """
    n = len(u)
    if bool(u.isnan().any()) or n > DENSE:
        return {}, (
            "no intervals: " + ("parameters are undefined" if n <= DENSE else f"more than {DENSE} agents"),
        )
    generator = seeds.generator(rng)
    assert generator is not None
    centre = _rollout.fit(stacks, u)
    sigma = noise(stacks, centre)
    draws = torch.stack([_again(stacks, centre, sigma, mode, generator) for _ in range(resamples)])
    estimate, truth, simulated = _named(u[None], n), _named(centre.u[None], n), _named(draws, n)
    tail = (1 - level) / 2
    made: dict[str, Interval] = {}
    for name in NAMES:
        error = simulated[name] - truth[name]
        low, high = error.nanquantile(tail, dim=0), error.nanquantile(1 - tail, dim=0)
        made[name] = Interval(
            (estimate[name][0] - high).clamp(0, 1), (estimate[name][0] - low).clamp(0, 1)
        )  # parameters lie in [0, 1]: so may their intervals
    return made, (
        f"noise of the beliefs estimated at {sigma:.3g}; intervals assume it is Gaussian and independent",
    )


def known(
    found: dict[str, Interval], statuses: tuple[str, ...]
) -> tuple[dict[str, Interval], tuple[str, ...]]:
    """The intervals with NaN where the data determine nothing: rows of unidentified agents, and then M and pi, which need all."""
    gone = torch.tensor([status == "unidentified" for status in statuses])
    if not found or not bool(gone.any()):
        return found, ()

    def kept(name: str, bound: Tensor) -> Tensor:
        if name in ("M", "pi"):
            return torch.full_like(bound, torch.nan)
        return bound.where(~(gone if bound.ndim == 1 else gone[:, None]), torch.nan)

    made = {name: Interval(kept(name, x.low), kept(name, x.high)) for name, x in found.items()}
    who = gone.nonzero().flatten().tolist()
    return made, (f"no intervals of agents {who}, nor of M and pi: what is not identified has none",)


def noise(stacks: list[Stack], centre: _rollout.Rollout) -> float:
    """Standard deviation per entry before renormalisation, from the residuals and what was fitted to them."""
    left = freedom = 0.0
    numbers = sum(int((~s.beliefs.isnan()).sum()) for s in stacks)
    n, p = centre.u.shape
    left = centre.loss * numbers
    for s in stacks:
        seen = (~s.beliefs[..., 0].isnan()).sum((-2, -1))
        freedom += float(((seen - n).clamp(min=0) * (s.beliefs.shape[3] - 1)).sum())
    return (left / max(freedom - n * (p - 1), 1.0)) ** 0.5


def _again(
    stacks: list[Stack], centre: _rollout.Rollout, sigma: float, mode: str, rng: torch.Generator
) -> Tensor:
    """Coefficients refitted to debates simulated from the fit."""
    made: list[Stack] = []
    position = 0
    for stack in stacks:
        O = _rollout.observability(centre.u, stack.beliefs.shape[1] - 1)
        S = torch.stack(centre.anchors[position : position + len(stack.beliefs)]).clamp(min=0)
        S = S / S.sum(-1, keepdim=True)
        position += len(stack.beliefs)
        clean = (O @ S).reshape(stack.beliefs.shape)
        noisy = clean + sigma * torch.randn(clean.shape, generator=rng, dtype=clean.dtype)
        noisy = noisy.clamp(min=0)
        noisy = noisy / noisy.sum(-1, keepdim=True)
        made.append(Stack(noisy.where(~stack.beliefs.isnan(), torch.nan), stack.heard))
    normal = Normal.of(made[0]).pooled()
    for stack in made[1:]:
        more = Normal.of(stack).pooled()
        normal = Normal(normal.G + more.G, normal.c + more.c, normal.count + more.count)
    u = of_normal(normal.mean(), stacks[0].allowed(slice(0, 1))).u[0]
    return _rollout.fit(made, u).u if mode == "rollout" else u


def _named(u: Tensor, n: int) -> dict[str, Tensor]:
    from unrolled.debate._fit import _total, split  # the two call one another

    gamma, alpha, W, H, _ = split(u, n)
    M = _total(gamma, H, None)
    return {"gamma": gamma, "alpha": alpha, "W": W, "M": M, "pi": M.mean(-2)}
