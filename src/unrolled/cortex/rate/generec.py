"""GeneRec: dw = x^- (y^+ - y^-). What the sender was, times how the receiver changed."""

from torch import Tensor

from unrolled.cortex.rate.paths import Path
from unrolled.cortex.rate.rule import Phases, Rule


def _weight(path: Path, x: Phases, y: Phases, winners: Tensor | None) -> Tensor:
    assert y.change is not None
    return path.product(x.minus, y.change, winners)


generec = Rule("generec", 1, _weight)
"""GeneRec (O'Reilly 1996; cortex fact sheet, section 2.1): dw = x^- (y^+ - y^-), from the free to the plus phase."""
