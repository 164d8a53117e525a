"""What a rate-coded network is made of: layers by their size, and the activations of their units."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dense:
    """A layer in which every unit receives from all of the layer below.

    Attributes:
        units: how many.

    Example:
        >>> Dense(30).shape((20,))
        (30,)
    """

    units: int

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"Dense(units={self.units}): a layer has at least one unit")

    def shape(self, below: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the layer's activity without the batch."""
        return (self.units,)


@dataclass(frozen=True)
class Conv:
    """A convolutional layer; pooling belongs to the path into it, so units exist at the pooled resolution alone.

    y = f(pool(w * x) + b). Since f is monotone this is the usual order, f then pool, for `pool_by="max"`.

    Attributes:
        channels: feature maps.
        kernel: side of the kernel, odd; padding keeps the size.
        pool: side of the pooled square; 1 for none.
        pool_by: `"max"` or `"mean"`.

    Example:
        >>> Conv(16, 5, pool=2).shape((1, 28, 28))
        (16, 14, 14)
    """

    channels: int
    kernel: int = 3
    pool: int = 1
    pool_by: str = "max"

    def __post_init__(self) -> None:
        if self.channels < 1 or self.pool < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"{self}: channels and pool are at least 1, the kernel's side is odd")
        if self.pool_by not in ("max", "mean"):
            raise ValueError(f"{self}: pool_by is 'max' or 'mean'")

    def shape(self, below: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the layer's activity without the batch.

        Raises:
            ValueError: the layer below is no image, or its sides do not divide into pools.
        """
        if len(below) != 3:
            raise ValueError(f"{self} needs a layer of shape (channels, height, width) below it, got {below}")
        if below[1] % self.pool or below[2] % self.pool:
            raise ValueError(
                f"{self}: an image of {below[1]} x {below[2]} does not divide into pools of {self.pool}"
            )
        return (self.channels, below[1] // self.pool, below[2] // self.pool)


@dataclass(frozen=True)
class Activation:
    """A unit's activity as a function of its input.

    Attributes:
        name: its name.
        f: the function.
        slope: its derivative.
        difference: `(n, d) -> f(n + d) - f(n)` without the loss of digits: a nudge that has come down ten layers may be
            1e-10 of the input it changes.
    """

    name: str
    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    difference: Callable[[Tensor, Tensor], Tensor]


def _logistic_slope(n: Tensor) -> Tensor:
    y = n.sigmoid()
    return y * (1 - y)


def _tanh_difference(n: Tensor, d: Tensor) -> Tensor:
    return d.tanh() * (1 - (n + d).tanh() * n.tanh())  # tanh(a - b) = (tanh a - tanh b) / (1 - tanh a tanh b)


def _hard_difference(n: Tensor, d: Tensor) -> Tensor:
    inside = torch.minimum(torch.maximum(d, -n), 1 - n)
    return torch.where((n >= 0) & (n <= 1), inside, (n + d).clamp(0, 1) - n.clamp(0, 1))


def softmax_difference(n: Tensor, d: Tensor) -> Tensor:
    """softmax(n + d) - softmax(n) over the last axis, without the loss of digits.

    Example:
        >>> n, d = torch.tensor([0.0, 1.0]), torch.tensor([2e-9, 0.0])
        >>> p = n.softmax(-1)
        >>> bool(torch.allclose(softmax_difference(n, d), p.prod() * torch.tensor([2e-9, -2e-9]), rtol=1e-5, atol=0))
        True
    """
    p, grown = n.softmax(-1), d.expm1()
    total = (p * grown).sum(-1, keepdim=True)
    return p * (grown - total) / (1 + total)


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("logistic", torch.sigmoid, _logistic_slope, lambda n, d: _tanh_difference(n / 2, d / 2) / 2),
        Activation("relu", torch.relu, lambda n: (n > 0).to(n.dtype), lambda n, d: torch.where(n > 0, torch.maximum(d, -n), (n + d).relu())),
        Activation("tanh", torch.tanh, lambda n: 1 - n.tanh().square(), _tanh_difference),
        Activation("hard", lambda n: n.clamp(0, 1), lambda n: ((n > 0) & (n < 1)).to(n.dtype), _hard_difference),
        Activation("linear", lambda n: n, torch.ones_like, lambda n, d: d),
    )
}  # fmt: skip
"""Activations by name. `hard` is clamp(n, 0, 1), as in much of the work on equilibrium propagation."""
OUTPUTS = ("softmax", "logistic", "linear")
"""Activations of the output layer."""
