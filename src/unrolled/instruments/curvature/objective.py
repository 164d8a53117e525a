# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnnecessaryComparison=false, reportUnnecessaryIsInstance=false
"""The loss as a function of the weights alone: fixed batches, fixed random numbers, fixed buffers."""

import contextlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.core.seeds import RngState
from unrolled.instruments.curvature.state import Buffers

LossFn = Callable[..., Any]
"""`loss_fn(model)` or `loss_fn(model, batch)`, giving a scalar (count 1) or `(summed loss, count)`."""


class Objective:
    """L(W) = sum_b s_b(W) / sum_b n_b over micro-batches b, where `loss_fn(model, batch)` gives (s_b, n_b).

    Every evaluation of a batch starts from the same random state and the same buffers, so dropout masks
    agree between W and W - Z. Batches follow one another as in training: the first evaluation of batch b
    goes on from the random state that batch b - 1 left, unless `rng` says where each begins.

    Args:
        model: the module handed to `loss_fn`.
        loss_fn: the loss.
        params: name -> parameter that derivatives are taken in.
        batches: micro-batches; None for `loss_fn(model)`.
        rng: the random state at which each batch begins; None for where the one before ends.
        buffers: the buffers every evaluation starts from; those of now when None.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        params: Mapping[str, nn.Parameter],
        batches: Sequence[Any] | None = None,
        rng: Sequence[RngState | None] | None = None,
        buffers: Buffers | None = None,
    ) -> None:
        self.model = model
        self.names = list(params)
        self.params = list(params.values())
        self.batches = None if batches is None else list(batches)
        self._loss_fn = loss_fn
        n = len(self)
        self._starts: list[RngState | None] = [None] * n if rng is None else list(rng)
        if len(self._starts) != n:
            raise ValueError(f"got {len(self._starts)} random states for {n} batches")
        self._starts[0] = self._starts[0] or RngState.capture()
        self._counts: list[float | None] = [None] * n
        self._buffers = Buffers(model) if buffers is None else buffers

    def __len__(self) -> int:
        return 1 if self.batches is None else len(self.batches)

    @property
    def count(self) -> float:
        """sum_b n_b of the batches evaluated so far."""
        return math.fsum(count for count in self._counts if count is not None)

    @contextlib.contextmanager
    def replay(self, b: int) -> Generator[None]:
        """Run the forward pass of batch `b` inside: random state and buffers are those it always starts from."""
        start = self._starts[b]
        if start is None:
            raise RuntimeError(
                f"batch {b} is evaluated before batch {b - 1}: evaluate in order the first time"
            )
        start.restore()
        self._buffers.reset()
        yield
        if b + 1 < len(self) and self._starts[b + 1] is None:
            self._starts[b + 1] = RngState.capture()

    def call(self, model: nn.Module, *batch: Any) -> tuple[Tensor, float]:
        """Apply `loss_fn` and check what it returns.

        Raises:
            TypeError: neither a tensor nor a pair.
            ValueError: the loss is not one real floating-point number, or the count is negative or not finite.
        """
        made = self._loss_fn(model, *batch)
        loss, count = made if isinstance(made, tuple | list) and len(made) == 2 else (made, 1.0)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"loss_fn returned {type(made).__name__}; expected a scalar tensor or (summed loss, count)"
            )
        if loss.numel() != 1 or not loss.dtype.is_floating_point:
            raise ValueError(
                f"loss_fn returned a loss of shape {tuple(loss.shape)} and dtype {loss.dtype}; expected one real "
                "number: sum it over tokens and return (loss.sum(), loss.numel())"
            )
        count = float(count)
        if not (math.isfinite(count) and count >= 0):
            raise ValueError(f"loss_fn returned the count {count}; expected the number of summed terms, >= 0")
        return loss.reshape(()), count

    def batch_loss(self, b: int, model: nn.Module | None = None) -> tuple[Tensor, float]:
        """(s_b, n_b) at the present weights, with a graph if gradients are enabled.

        Raises:
            ValueError: the count of the batch is not what it was at another evaluation.
        """
        batch = () if self.batches is None else (self.batches[b],)
        with self.replay(b):
            loss, count = self.call(self.model if model is None else model, *batch)
        return loss, self.counted(b, count)

    def counted(self, b: int, count: float) -> float:
        """Remember n_b; it must not change between evaluations."""
        held = self._counts[b]
        if held is not None and held != count:
            raise ValueError(
                f"loss_fn counted {held} terms in batch {b} at W and {count} at another point; the count must not "
                "depend on the weights"
            )
        self._counts[b] = count
        return count

    @torch.no_grad()
    def sums(self) -> Tensor:
        """s_b at the present weights for every b: float64 `[n_batches]`, on the CPU."""
        return torch.stack([self.batch_loss(b)[0].double().cpu() for b in range(len(self))])
