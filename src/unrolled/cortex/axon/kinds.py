"""Kinds of layers: what they are to the outside, and what they do at set points of a cycle beyond the equations.

The base kind does nothing. A kind with more to it (a thalamic relay, a context layer) overrides the methods it needs;
the naive twin and the fused cycle call them at the same points with the same views, so it is written once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

View = Mapping[str, Any]
"""A layer's variables at this moment, name -> `[data, neurons]`; write with `view["GeRaw"].add_(...)`, never rebind."""


class Moment(NamedTuple):
    """What a network receives in one cycle.

    A constant `Moment` is a valid input of `rollout`; `ThetaCycle.moments` makes the list of a whole theta cycle.
    """

    inputs: dict[str, Tensor] = {}  # noqa: RUF012 - never written to
    """Layer -> pattern `[data, neurons]`, clamped in both phases but not at rest."""
    targets: dict[str, Tensor] = {}  # noqa: RUF012
    """Layer -> pattern `[data, neurons]`, clamped in the plus phase."""
    phase: str = "minus"
    """`"minus"`, `"plus"`, or `"rest"` between theta cycles."""
    first: bool = False
    """First cycle of its phase: before it, minus forgets part of the last trial, plus resets the targets."""
    last: bool = False
    """Last cycle of its phase: after it, minus keeps ActM; plus keeps ActP and what learning needs."""
    cycle: int = 0
    """Index within the theta cycle."""
    length: int = 200
    """Cycles of the theta cycle."""

    @property
    def plus(self) -> bool:
        """Whether this is the plus phase."""
        return self.phase == "plus"


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    Attributes:
        name: as in `network.layer(..., kind=name)`.
        is_input: clamped from the start; the layer's inhibition follows its clamp.
        is_target: clamped in the plus phase, learns by the rule for targets, has no slow adaptation.
        params: overrides of the default `LayerParams`, dotted field -> value.
    """

    name: str = "hidden"
    is_input: bool = False
    is_target: bool = False
    params: tuple[tuple[str, Any], ...] = ()

    @property
    def takes_pattern(self) -> bool:
        """Whether a pattern can be given to such a layer."""
        return self.is_input or self.is_target

    def variables(self) -> dict[str, float]:
        """Extra state of each neuron: name -> value at the start."""
        return {}

    @property
    def slow_inhibited(self) -> bool:
        """Whether slow (somatostatin) inhibition reaches its dendrites; input and target layers have none."""
        return not self.takes_pattern

    @property
    def history(self) -> int:
        """Cycles of binned calcium that its learning looks back on, beyond its window of credit."""
        return 0

    def dwt(self, net: Any, path: Any, state: Any) -> Tensor | None:
        """How a path into such a layer learns, as a path's own `rule`; None for the usual rules."""
        return None

    def drive(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """After synaptic input and inhibition, before conductances: may change `GeRaw`, `GeSyn`, `SSGiDend`, `GeExt`.

        `GeRaw` goes on to NMDA, `GeSyn` to Ge, and `GeExt` to the inhibition of the next cycle. `GMaintRaw` is what
        arrived along maintenance paths. `others(name)` is another layer's view, as the cycle before left it.
        """

    def spiked(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """After this cycle's spikes and calcium, before they are sent."""

    def minus_started(self, view: View) -> None:
        """After what a new minus phase forgets."""

    def minus_ended(self, view: View) -> None:
        """After the last cycle of the minus phase."""

    @property
    def acts(self) -> bool:
        """Whether the kind does anything within a cycle; the others cost nothing."""
        mine = type(self)
        return any(
            getattr(mine, name) is not getattr(Kind, name)
            for name in ("drive", "spiked", "minus_started", "minus_ended")
        )


INPUT = Kind(
    "input", is_input=True, params=(("clamp.ge", 1.5), ("inhib.layer.gi", 0.9), ("inhib.pool.gi", 0.9))
)
"""A sensory layer: clamped through both phases, drives with 1.5, inhibited at 0.9."""

HIDDEN = Kind("hidden")
"""A superficial cortical layer: learns from its own temporal derivative."""

TARGET = Kind("target", is_target=True)
"""An output layer: free in the minus phase, clamped to the outcome in the plus phase."""
