# pyright: strict
"""What the toys ask of their matrices and inputs."""

from typing import Any

from torch import Tensor


def square(A: Tensor, name: str) -> None:
    """Refuse what is no square matrix."""
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} is a square matrix, got shape {tuple(A.shape)}")


def last_axis(input: Any, n: int) -> Tensor:
    """The input, if it is a tensor whose last axis has length n."""
    if not isinstance(input, Tensor) or input.ndim == 0 or input.shape[-1] != n:
        found = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
        raise ValueError(f"the input is where to start: a tensor whose last axis has length {n}; got {found}")
    return input
