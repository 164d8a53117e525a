# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
"""Affine systems: a linear map, and gradient descent on a quadratic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.toys._shapes import last_axis, square


class LinearMap:
    """x_{t+1} = A x_t + b, started at x_0 = input.

    Closed form: x_t = A^t x_0 + (A^(t-1) + ... + A + I) b. With a row-stochastic A and b = 0 it is DeGroot's model of
    opinions. It has a fused `run` (matrix powers by repeated squaring).

    Args:
        A: `[n, n]`.
        b: `[n]`; zero when None.

    Raises:
        ValueError: A is not square, or b does not fit it.

    Example:
        >>> from unrolled.core import rollout
        >>> half = LinearMap(torch.tensor([[0.5]]), b=torch.tensor([1.0]))
        >>> rollout(half, torch.tensor([0.0]), steps=3)["state"].flatten().tolist()
        [0.0, 1.0, 1.5, 1.75]
    """

    readouts: Mapping[str, Callable[[Tensor], Tensor]]

    def __init__(self, A: Tensor, b: Tensor | None = None) -> None:
        square(A, "A")
        if b is not None and b.shape != A.shape[:1]:
            raise ValueError(
                f"b has shape {tuple(b.shape)} and A {tuple(A.shape)}: b is one number per row of A"
            )
        self.A, self.b = A, torch.zeros_like(A[0]) if b is None else b
        self.readouts = {
            "x": lambda state: state,
            "norm": lambda state: torch.linalg.vector_norm(state, dim=-1),
        }

    @staticmethod
    def oscillator(decay: float, period: float, dtype: torch.dtype = torch.float64) -> "LinearMap":
        """A damped oscillator: `decay` times a rotation that takes `period` steps per turn.

        Its eigenvalues are decay * exp(+-2 pi i / period).

        Example:
            >>> quarter = LinearMap.oscillator(decay=0.5, period=4)
            >>> quarter.A.round(decimals=6).tolist()
            [[0.0, -0.5], [0.5, 0.0]]
        """
        angle = torch.tensor(2 * torch.pi / period, dtype=torch.float64)
        c, s = angle.cos(), angle.sin()
        return LinearMap((decay * torch.stack([torch.stack([c, -s]), torch.stack([s, c])])).to(dtype))

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """x_0 = input, `[..., n]`."""
        return last_axis(input, len(self.A)).clone()

    def step(self, state: Tensor, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """One product."""
        return state @ self.A.mT + self.b

    def run(
        self,
        state: Tensor,
        inputs: Sequence[Any],
        steps: int,
        *,
        rng: torch.Generator | None = None,
        record: Sequence[str] | None = None,
    ) -> Any:
        """`steps` steps at once: powers of the map [[A, b], [0, 1]] that acts on (x, 1)."""
        n = len(self.A)
        whole = torch.zeros(n + 1, n + 1, dtype=self.A.dtype, device=self.A.device)
        whole[:n, :n], whole[:n, n], whole[n, n] = self.A, self.b, 1
        if record is None:
            power = torch.linalg.matrix_power(whole, steps)
            return state @ power[:n, :n].mT + power[:n, n]
        powers = [whole]
        while len(powers) < steps:  # doubling: all powers up to k make all up to 2k
            powers += [powers[-1] @ power for power in powers[: steps - len(powers)]]
        path = torch.stack([state @ power[:n, :n].mT + power[:n, n] for power in powers])
        return path[-1], {name: self.readouts[name](path) for name in record}


class QuadraticDescent:
    """Gradient descent on L(x) = 1/2 x^T A x - b^T x: x_{t+1} = x_t - lr (A x_t - b), started at x_0 = input.

    Closed form: x_t - x* = (I - lr A)^t (x_0 - x*) with A x* = b. It converges for lr below 2 / lambda_max(A).

    Args:
        A: `[n, n]`, symmetric.
        b: `[n]`; zero when None.
        lr: learning rate.

    Raises:
        ValueError: A is not square and symmetric, or b does not fit it.

    Example:
        >>> from unrolled.core import rollout
        >>> bowl = QuadraticDescent(torch.tensor([[2.0]]), b=torch.tensor([4.0]), lr=0.25)
        >>> rollout(bowl, torch.tensor([0.0]), steps=2, record=["loss"])["loss"].tolist()
        [0.0, -3.0, -3.75]
    """

    readouts: Mapping[str, Callable[[Tensor], Tensor]]

    def __init__(self, A: Tensor, b: Tensor | None = None, lr: float = 0.1) -> None:
        square(A, "A")
        if not torch.allclose(A, A.mT):
            raise ValueError("A is not symmetric; the gradient of 1/2 x^T A x is A x only when it is")
        if b is not None and b.shape != A.shape[:1]:
            raise ValueError(
                f"b has shape {tuple(b.shape)} and A {tuple(A.shape)}: b is one number per row of A"
            )
        self.A, self.b, self.lr = A, torch.zeros_like(A[0]) if b is None else b, lr
        self.readouts = {"loss": self.loss}

    def loss(self, state: Tensor) -> Tensor:
        """L(x), `[...]`."""
        return 0.5 * ((state @ self.A) * state).sum(-1) - state @ self.b

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """x_0 = input, `[..., n]`."""
        return last_axis(input, len(self.A)).clone()

    def step(self, state: Tensor, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """One step downhill."""
        return state - self.lr * (state @ self.A - self.b)
