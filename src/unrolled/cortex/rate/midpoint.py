"""The midpoint rule: dw = 1/2 (x^- + x^+)(y^+ - y^-). GeneRec with the sender taken between the phases."""

from torch import Tensor

from unrolled.cortex.rate.paths import Path
from unrolled.cortex.rate.rule import Phases, Rule


def _weight(path: Path, x: Phases, y: Phases, winners: Tensor | None) -> Tensor:
    assert y.change is not None
    return path.product(x.mean, y.change, winners)


midpoint = Rule("midpoint", 1, _weight)
"""Midpoint (O'Reilly 1996; cortex fact sheet, section 2.1): second order in time, where GeneRec is first."""
