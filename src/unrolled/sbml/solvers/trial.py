"""What one attempted step hands to the step-size controller, whatever the method."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

Rate = Callable[[Tensor, Tensor, Any], Tensor]
"""`rate(t, x, p) -> dx/dt` with t `[B]` and x `[B, d]`."""


class Trial(NamedTuple):
    """One attempted step of every sample in the batch.

    Attributes:
        end: state at t + h, `[B, d]`.
        error: estimate of its local error, `[B, d]`.
        slope: dx/dt at the end where the method has it for free, else None.
        dense: (x0, D, a, b, c), each `[B, d]`: x(theta) = x0 + theta (D + (1 - theta)(a + theta (b + theta c))).
        stiffness: |h lambda| as the stages see it, `[B]`; None where the method has no use for it.
    """

    end: Tensor
    error: Tensor
    slope: Tensor | None
    dense: tuple[Tensor, ...]
    stiffness: Tensor | None = None


def interpolate(dense: tuple[Tensor, ...], theta: Tensor) -> Tensor:
    """The state inside a step, at t + theta h.

    Args:
        dense: a trial's, or rows of it.
        theta: `[B]`, in [0, 1].

    Example:
        >>> import torch
        >>> x0, D, zero = torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1)
        >>> interpolate((x0, D, zero, zero, zero), torch.tensor([0.25])).item()
        0.25
    """
    x0, D, a, b, c = dense
    theta = theta[:, None]
    return x0 + theta * (D + (1 - theta) * (a + theta * (b + theta * c)))
