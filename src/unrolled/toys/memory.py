# pyright: strict
"""Systems that remember: a Hopfield network, and a moving average over a ring."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unrolled.toys._shapes import last_axis


class Hopfield:
    """A Hopfield network of +-1 units, started at a cue: x_i <- sign(sum_j W_ij x_j).

    W = (1/n) sum over patterns of p p^T with a zero diagonal; a field of exactly zero leaves the unit as it is. The
    energy -1/2 x^T W x, a readout, never rises in the asynchronous net and at most alternates in the synchronous one.
    (J. J. Hopfield, PNAS 79, 1982.)

    Args:
        patterns: `[p, n]` of +-1, floating point.
        synchronous: update all units at once; otherwise one unit a step, in order.

    Raises:
        ValueError: `patterns` is not two-dimensional, or not of +-1.

    Example:
        >>> from unrolled.core import rollout
        >>> net = Hopfield(torch.tensor([[1.0, 1.0, 1.0, -1.0, -1.0]]))
        >>> cue = torch.tensor([-1.0, 1.0, 1.0, -1.0, -1.0])
        >>> rollout(net, cue, steps=1).final["x"].tolist()
        [1.0, 1.0, 1.0, -1.0, -1.0]
    """

    readouts: Mapping[str, Callable[[dict[str, Tensor]], Tensor]]

    def __init__(self, patterns: Tensor, *, synchronous: bool = True) -> None:
        if patterns.ndim != 2 or not bool((patterns.abs() == 1).all()):
            raise ValueError(f"patterns are rows of +-1, [p, n]; got shape {tuple(patterns.shape)}")
        if not patterns.is_floating_point():
            raise ValueError(f"patterns are floating point, got {patterns.dtype}: patterns.double()")
        n = patterns.shape[1]
        self.W = (patterns.mT @ patterns / n) * (
            1 - torch.eye(n, dtype=patterns.dtype, device=patterns.device)
        )
        self.patterns, self.synchronous = patterns, synchronous
        self.readouts = {"energy": self.energy, "overlap": self.overlap}

    def energy(self, state: dict[str, Tensor]) -> Tensor:
        """-1/2 x^T W x, `[...]`."""
        x = state["x"]
        return -0.5 * ((x @ self.W) * x).sum(-1)

    def overlap(self, state: dict[str, Tensor]) -> Tensor:
        """Cosine with each pattern, `[..., p]`; 1 is perfect recall."""
        return state["x"] @ self.patterns.mT / self.patterns.shape[1]

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The cue, and which unit is next."""
        x = last_axis(input, len(self.W)).clone()
        return {"x": x, "next": torch.zeros((), dtype=torch.long, device=x.device)}

    def step(
        self, state: dict[str, Tensor], input: Any, *, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Update all units, or the next one."""
        x, unit = state["x"], state["next"]
        field = x @ self.W
        updated = torch.where(field == 0, x, field.sign())
        if not self.synchronous:
            mine = torch.arange(x.shape[-1], device=x.device) == unit
            updated = torch.where(mine, updated, x)
        return {"x": updated, "next": (unit + 1) % x.shape[-1]}


class MovingAverage:
    """The mean of the last `window` inputs, kept in a ring that each step overwrites (`donates = True`).

    The ring starts full of the input of step 0; the readout `"mean"` is `[...]` in the shape of the input.

    Args:
        window: how many inputs to average.

    Raises:
        ValueError: `window` is below 1.

    Example:
        >>> from unrolled.core import rollout
        >>> signal = [torch.tensor(x) for x in (0.0, 4.0, 8.0)]
        >>> rollout(MovingAverage(2), signal, steps=3, record=["mean"])["mean"].tolist()
        [0.0, 0.0, 2.0, 6.0]
    """

    donates = True
    readouts: Mapping[str, Callable[[dict[str, Tensor]], Tensor]]

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window counts inputs and is at least 1, got {window}")
        self.window = window
        self.readouts = {"mean": lambda state: state["ring"].mean(0)}

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """A ring full of the first input."""
        return {"ring": torch.stack([input] * self.window), "head": torch.zeros((), dtype=torch.long)}

    def step(
        self, state: dict[str, Tensor], input: Tensor, *, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Overwrite the oldest entry."""
        state["ring"][state["head"]] = input
        state["head"].add_(1).remainder_(self.window)
        return state
