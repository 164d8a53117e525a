"""Contrastive Hebbian learning: dw = x^+ y^+ - x^- y^-. Hebb in the plus phase, anti-Hebb in the minus phase."""

from torch import Tensor

from unrolled.cortex.rate.paths import Path
from unrolled.cortex.rate.rule import Phases, Rule


def contrast(path: Path, x: Phases, y: Phases, winners: Tensor | None) -> Tensor:
    """x^+ y^+ - x^- y^-, as <x> dy + dx <y>: the same number without the loss of digits."""
    assert y.change is not None
    made = path.product(x.mean, y.change, winners)
    return made if x.change is None else made + path.product(x.change, y.mean, winners)


chl = Rule("chl", 1, contrast)
"""CHL (Movellan 1991; cortex fact sheet, section 2.1) from the free to the plus phase: the midpoint rule plus its transpose."""
