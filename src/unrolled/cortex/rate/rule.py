"""What a two-phase rule is: the activity at both ends of a path in two phases, and a local product of them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from unrolled.cortex.rate.paths import Path


@dataclass(frozen=True)
class Phases:
    """Activity of one layer in both phases, kept as the free state and its changes so that differences are precise.

    Attributes:
        free: activity at the free fixed point; the clamped input itself for the lowest path.
        low: change from it in the minus phase; None for none (the free phase is the minus phase, or nothing moves).
        high: change in the plus phase; None where the input is clamped.
    """

    free: Tensor
    low: Tensor | None
    high: Tensor | None

    @property
    def minus(self) -> Tensor:
        """Activity in the minus phase."""
        return self.free if self.low is None else self.free + self.low

    @property
    def plus(self) -> Tensor:
        """Activity in the plus phase."""
        return self.free if self.high is None else self.free + self.high

    @property
    def mean(self) -> Tensor:
        """Midway between the phases."""
        if self.high is None:
            return self.free
        return self.free + (self.high if self.low is None else self.low + self.high) / 2

    @property
    def change(self) -> Tensor | None:
        """Plus - minus; None when nothing moves."""
        if self.high is None or self.low is None:
            return self.high
        return self.high - self.low


@dataclass(frozen=True)
class Rule:
    """A learning rule.

    Attributes:
        name: its name.
        sides: 1 when the minus phase is the free one; 2 when it is pushed away as far as the plus phase is drawn in.
        weight: `(path, x, y, winners) -> dw`, before division by beta (or 2 beta).
    """

    name: str
    sides: int
    weight: Callable[[Path, Phases, Phases, Tensor | None], Tensor]

    def bias(self, path: Path, y: Phases) -> Tensor:
        """A bias is a synapse from a unit that is always on: the mean change."""
        change = y.change
        assert change is not None, "layers above the input have a change"
        return path.each(change)

    def __repr__(self) -> str:
        return f"Rule({self.name})"
