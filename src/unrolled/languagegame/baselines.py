"""What a network is compared with: nothing (linear), a perceptron that learns, a random vector field.

The paper gives its linear and MLP baselines a width of 256 while its networks have 3 to 12 species. At `WIDTH` they are the
paper's; at a network's own width they show what the network itself adds.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.languagegame.cores import Core

WIDTH = 256
"""The paper's width of its baselines."""


class VectorField:
    """dx/dt = f(x) as a core system: the state is x `[B, d]`, a step is one Euler step of length `dt`.

    Args:
        f: x -> dx/dt. A module that has `learns` set is trained with the policy around it; any other is frozen.
        dt: length of a step.

    Example:
        >>> VectorField(lambda x: -x, dt=0.5).step(torch.tensor([[4.0]]), None)
        tensor([[2.]])
    """

    def __init__(self, f: Callable[[Tensor], Tensor], dt: float = 0.01) -> None:
        self.f, self.dt = f, dt

    def rate(self, t: float, x: Tensor) -> Tensor:
        """dx/dt, in the shape of x."""
        return self.f(x)

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """X."""
        return input.clone()

    def step(self, state: Tensor, input: Any = None, *, rng: torch.Generator | None = None) -> Tensor:
        """One Euler step."""
        return state + self.dt * self.f(state)


class Perceptron(nn.Sequential):
    """W3 silu(W2 silu(W1 x)), d -> 128 -> 128 -> d, and it learns: the paper's MLP."""

    learns = True

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )


class RandomField:
    """-x + J tanh(x + b), with J_ij normal of variance g^2 / d: a random recurrent network, chaotic for g > 1.

    Sompolinsky, Crisanti & Sommers, Phys. Rev. Lett. 61:259 (1988). What it does has no history of selection.

    Args:
        width: d.
        seed: of J and b.
        gain: g.
    """

    def __init__(self, width: int, seed: int = 0, gain: float = 1.5) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.J = gain / width**0.5 * torch.randn(width, width, generator=rng, dtype=torch.float64)
        self.b = torch.randn(width, generator=rng, dtype=torch.float64)
        self._cast: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """dx/dt."""
        if x.dtype not in self._cast:
            self._cast[x.dtype] = (self.J.to(x), self.b.to(x))
        J, b = self._cast[x.dtype]
        return (x + b).tanh() @ J.mT - x


def linear(width: int = WIDTH) -> Core:
    """No network at all: W_D BN(BN(W_E o)).

    Example:
        >>> linear(3).field(torch.tensor([[1.0, -2.0, 0.5]])).tolist()
        [[1.0, -2.0, 0.5]]
    """
    return Core(VectorField(lambda x: x), name=f"linear:{width}", width=width)


def mlp(width: int = WIDTH) -> Core:
    """A perceptron in the network's place, trained with the rest."""
    return Core(VectorField(Perceptron(width)), name=f"mlp:{width}", width=width)


def random_field(width: int, seed: int = 0) -> Core:
    """A frozen random vector field.

    Example:
        >>> x = torch.zeros(1, 3)
        >>> torch.equal(random_field(3, seed=1).field(x), random_field(3, seed=1).field(x))
        True
    """
    return Core(VectorField(RandomField(width, seed)), name=f"random:{width}/{seed}", width=width)
