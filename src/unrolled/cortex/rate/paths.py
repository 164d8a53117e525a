"""Paths between layers: up with w, down with its transpose or with weights of their own, and their local product."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.cortex.rate.layers import Conv, Dense


class Path:
    """The synapses into one layer, in both directions.

    Everything a rule needs is local to the two layers that the path joins: `up` (drive of the upper layer), `down`
    (drive of the lower layer) and `product` (post x pre, averaged over the batch). All three are linear, given which
    unit won each max pool.

    Attributes:
        weight: `[units, senders]`, or `[channels, channels below, kernel, kernel]`.
        bias: `[units]` or `[channels]`.
        back: weights of the way down, shaped as `weight`; None when it is `weight` itself.
        matmul: dtype in which products are computed (states and weights keep theirs); None for the weights' own.
    """

    def __init__(
        self,
        layer: Dense | Conv,
        below: tuple[int, ...],
        name: str,
        rng: torch.Generator,
        *,
        feedback: str,
        scale: float,
        dtype: torch.dtype,
        matmul: torch.dtype | None = None,
    ) -> None:
        self.layer, self.below, self.name = layer, below, name
        self.shape = layer.shape(below)
        self.matmul = matmul
        if isinstance(layer, Conv):
            size, fan = (layer.channels, below[0], layer.kernel, layer.kernel), below[0] * layer.kernel**2
        else:
            fan = math.prod(below)
            size = (layer.units, fan)

        def drawn() -> Tensor:
            return (torch.randn(size, generator=rng, dtype=torch.float64) * scale / math.sqrt(fan)).to(dtype)

        self.weight = drawn()
        self.bias = torch.zeros(size[0], dtype=dtype)
        self.back: Tensor | None = None if feedback == "symmetric" else drawn()

    @property
    def max_pools(self) -> bool:
        """Whether units compete in pools."""
        return isinstance(self.layer, Conv) and self.layer.pool > 1 and self.layer.pool_by == "max"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one `up` (as of one `down` and one `product`) for one sample."""
        if isinstance(self.layer, Conv):
            return self.weight.numel() * self.below[1] * self.below[2]
        return self.weight.numel()

    def up(self, x: Tensor, winners: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Drive of the upper layer, without its bias, and which unit won each max pool.

        Args:
            x: activity below, `[batch, *below]`.
            winners: of an earlier call, to be kept; chosen anew when None.
        """
        x, w = self._cast(x), self._cast(self.weight)
        layer = self.layer
        if not isinstance(layer, Conv):
            return F.linear(x.flatten(1), w).to(self.bias.dtype), None
        drive = F.conv2d(x, w, padding=layer.kernel // 2)
        if layer.pool > 1 and layer.pool_by == "mean":
            drive = F.avg_pool2d(drive, layer.pool)
        elif layer.pool > 1:
            if winners is None:
                drive, winners = F.max_pool2d(drive, layer.pool, return_indices=True)
            else:
                drive = drive.flatten(2).gather(2, winners.flatten(2)).view_as(winners)
        return drive.to(self.bias.dtype), winners

    def down(self, y: Tensor, winners: Tensor | None = None) -> Tensor:
        """Drive of the lower layer, `[batch, *below]`.

        Args:
            y: activity above, `[batch, *shape]`.
            winners: of the last `up`, for a max pool: the way down goes to them.
        """
        w = self._cast(self.weight if self.back is None else self.back)
        y = self._cast(self.unpool(y, winners))
        if isinstance(self.layer, Conv):
            return F.conv_transpose2d(y, w, padding=self.layer.kernel // 2).to(self.bias.dtype)
        return (y @ w).view(len(y), *self.below).to(self.bias.dtype)

    def product(self, x: Tensor, y: Tensor, winners: Tensor | None = None) -> Tensor:
        """Mean over the batch of post times pre, shaped as `weight`: what a Hebbian synapse sees.

        Args:
            x: activity below.
            y: activity above.
            winners: as `down`.
        """
        x, y = self._cast(x), self._cast(self.unpool(y, winners))
        if isinstance(self.layer, Conv):
            pad = self.layer.kernel // 2
            made = torch.ops.aten.convolution_backward(
                y, x, self._cast(self.weight), None, [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, [False, True, False]
            )[1]  # fmt: skip
        else:
            made = y.T @ x.flatten(1)
        return made.to(self.bias.dtype) / len(x)

    def each(self, y: Tensor) -> Tensor:
        """Mean over the batch of the upper layer's activity, summed over a feature map: what a bias sees."""
        return y.flatten(2).sum(2).mean(0) if y.dim() == 4 else y.mean(0)

    def drive(self, x: Tensor, winners: Tensor | None = None) -> Tensor:
        """`up` plus the bias."""
        return self.add_bias(self.up(x, winners)[0])

    def add_bias(self, drive: Tensor) -> Tensor:
        """Drive plus bias."""
        return drive + (self.bias.view(-1, 1, 1) if drive.dim() == 4 else self.bias)

    def unpool(self, y: Tensor, winners: Tensor | None) -> Tensor:
        """Give what a pooled unit holds to its winner, or to all of its pool in equal parts."""
        layer = self.layer
        if not isinstance(layer, Conv) or layer.pool == 1:
            return y
        if layer.pool_by == "mean":
            return F.interpolate(y, scale_factor=layer.pool, mode="nearest") / layer.pool**2
        if winners is None:
            raise ValueError(f"{self.name}: the way down through a max pool needs the winners of the way up")
        wide = y.new_zeros(*y.shape[:2], self.below[1] * self.below[2])
        return wide.scatter(2, winners.flatten(2), y.flatten(2)).view(*y.shape[:2], *self.below[1:])

    def tensors(self) -> dict[str, Tensor]:
        """Weights by name."""
        made = {"weight": self.weight, "bias": self.bias}
        return made if self.back is None else {**made, "back": self.back}

    def put(self, change: Callable[[str, Tensor], Tensor]) -> None:
        """Replace each tensor by `change(name, tensor)`."""
        for name, value in self.tensors().items():
            setattr(self, name, change(name, value))

    def _cast(self, value: Tensor) -> Tensor:
        return value if self.matmul is None else value.to(self.matmul)
