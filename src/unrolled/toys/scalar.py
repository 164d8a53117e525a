# pyright: strict
"""Systems whose entries do not meet: the logistic map, and noise that forgets."""

from typing import Any

import torch
from torch import Tensor


class LogisticMap:
    """x_{t+1} = r x_t (1 - x_t), started at x_0 = input in [0, 1].

    Fixed point 1 - 1/r with multiplier 2 - r, stable for 1 < r < 3; a 2-cycle for 3 < r < 1 + sqrt(6), a 4-cycle at
    r = 3.5, chaos for most r above 3.57. (R. M. May, Nature 261, 1976.)

    Args:
        r: growth rate; between 0 and 4 the state stays in [0, 1].

    Example:
        >>> from unrolled.core import rollout
        >>> end = rollout(LogisticMap(2.5), torch.tensor([0.3]), steps=100).final
        >>> round(float(end), 4)
        0.6
    """

    def __init__(self, r: float) -> None:
        self.r = r

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """x_0 = input."""
        return input.clone()

    def step(self, state: Tensor, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """One generation."""
        return self.r * state * (1 - state)


class AR1:
    """x_{t+1} = phi x_t + sigma e_t with standard normal e_t, started at x_0 = input.

    For |phi| < 1 the stationary variance is sigma^2 / (1 - phi^2) and the autocorrelation at lag k is phi^k.

    Args:
        phi: autocorrelation at lag 1.
        sigma: standard deviation of the noise.

    Example:
        >>> from unrolled.core import rollout
        >>> still = rollout(AR1(0.5, sigma=0.0), torch.ones(1), steps=2, rng=0)
        >>> still["state"].flatten().tolist()
        [1.0, 0.5, 0.25]
    """

    def __init__(self, phi: float, sigma: float = 1.0) -> None:
        self.phi, self.sigma = phi, sigma

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """x_0 = input."""
        return input.clone()

    def step(self, state: Tensor, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """One step, one draw per entry."""
        noise = torch.randn(state.shape, generator=rng, dtype=state.dtype, device=state.device)
        return self.phi * state + self.sigma * noise
