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
    """A unit's activity as a function of its input, and the slope of it at that input."""

    name: str
    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _logistic_slope(net: Tensor) -> Tensor:
    y = net.sigmoid()
    return y * (1 - y)


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("logistic", torch.sigmoid, _logistic_slope),
        Activation("relu", torch.relu, lambda net: (net > 0).to(net.dtype)),
        Activation("tanh", torch.tanh, lambda net: 1 - net.tanh().square()),
        Activation("hard", lambda net: net.clamp(0, 1), lambda net: ((net > 0) & (net < 1)).to(net.dtype)),
        Activation("linear", lambda net: net, torch.ones_like),
    )
}
"""Activations by name. `hard` is clamp(net, 0, 1), as in much of the work on equilibrium propagation."""
OUTPUTS = ("softmax", "logistic", "linear")
"""Activations of the output layer."""
