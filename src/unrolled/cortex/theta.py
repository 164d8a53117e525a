"""The theta cycle: a prediction, then an outcome, in the same cells."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unrolled.cortex.axon.kinds import Moment
from unrolled.cortex.kinase._linear import BIN


@dataclass(frozen=True)
class ThetaCycle:
    """Lengths of the phases of one trial, in cycles of 1 ms.

    Attributes:
        minus: prediction; inputs are clamped, targets are free.
        plus: outcome; inputs and targets are clamped. At least one bin of 10 ms.
        rest: before the minus phase, without a pattern (a saccade); usually 0.

    Raises:
        ValueError: a plus phase that is as long as the whole cycle or longer, too short a phase, or a cycle that does
            not divide into bins of 10 ms.

    Example:
        >>> theta = ThetaCycle(minus=150, plus=50)
        >>> theta.length, theta.bins
        (200, 20)
        >>> ThetaCycle(100, 100).length  # the textbook's 100 + 100 ms
        200
    """

    minus: int = 150
    plus: int = 50
    rest: int = 0

    def __post_init__(self) -> None:
        for name in ("minus", "plus", "rest"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"ThetaCycle.{name}={value!r}: a number of cycles (ms), 0 or more")
        if self.plus < BIN or self.minus < BIN:
            raise ValueError(
                f"ThetaCycle(minus={self.minus}, plus={self.plus}): each phase lasts at least {BIN} ms, a bin of calcium"
            )
        if self.length % BIN or (self.minus + self.plus) % BIN:
            raise ValueError(
                f"ThetaCycle(minus={self.minus}, plus={self.plus}, rest={self.rest}): minus + plus, and the whole, are "
                f"multiples of {BIN} ms, the width of a bin of calcium"
            )

    @staticmethod
    def of(length: int, plus: int) -> "ThetaCycle":
        """A theta cycle of a given total length, of which the last `plus` cycles are the plus phase.

        Raises:
            ValueError: a plus phase longer than the cycle, and as the class.

        Example:
            >>> ThetaCycle.of(200, plus=250)
            Traceback (most recent call last):
            ...
            ValueError: plus=250: the plus phase is part of the cycle of 200 ms and leaves at least 10 ms for the minus phase
        """
        if plus > length - BIN:
            raise ValueError(
                f"plus={plus}: the plus phase is part of the cycle of {length} ms and leaves at least {BIN} ms for the "
                "minus phase"
            )
        return ThetaCycle(length - plus, plus)

    @property
    def length(self) -> int:
        """Cycles of a trial."""
        return self.rest + self.minus + self.plus

    @property
    def bins(self) -> int:
        """Bins of calcium in the minus and plus phases."""
        return (self.minus + self.plus) // BIN

    def moments(
        self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor] | None = None
    ) -> list[Moment]:
        """What the network receives in every cycle: one `Moment` per cycle, as `rollout` takes it.

        Args:
            inputs: layer -> pattern `[data, neurons]`, clamped in both phases.
            targets: layer -> pattern `[data, neurons]`, clamped in the plus phase.

        Example:
            >>> moments = ThetaCycle(20, 10).moments({})
            >>> [m.cycle for m in moments if m.first], [m.cycle for m in moments if m.last], moments[20].phase
            ([0, 20], [19, 29], 'plus')
        """
        given, wanted = dict(inputs), dict(targets or {})
        length, ends = self.length, {self.rest + self.minus - 1, self.length - 1}
        starts = {self.rest, self.rest + self.minus}
        made: list[Moment] = []
        for t in range(length):
            phase = "rest" if t < self.rest else "minus" if t < self.rest + self.minus else "plus"
            made.append(Moment(given, wanted, phase, t in starts, t in ends, t, length))
        return made
