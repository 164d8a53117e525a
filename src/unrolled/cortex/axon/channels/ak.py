"""AK: the A-type potassium channel that limits runaway dendritic excitation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class AK:
    """The A-type channel, without dynamics (cortex fact sheet, section 5.4).

    Example:
        >>> [round(float(g), 6) for g in AK().conductance(torch.tensor([-70.0, -37.0, 0.0]))]
        [4.6e-05, 0.000513, 0.000513]
    """

    SIGNED: ClassVar[tuple[str, ...]] = ("v_off", "v_max")

    gk: float = 0.1
    """Conductance, in units of gbar K; 0 (off) to 1."""
    hf: float = 0.076
    """Fraction not inactivated; 0 to 1."""
    mf: float = 0.075
    """Slope of the activation, 1/mV."""
    v_off: float = 2.0
    """Offset of the activation, mV; -100 to 100, 2 in Axon."""
    v_max: float = -37.0
    """Voltage above which it grows no further, mV; -100 to 0, -37 in Axon."""

    def __post_init__(self) -> None:
        validate(self)

    def conductance(self, v: Tensor) -> Tensor:
        """Gak = gk hf / (1 + e^{-mf (min(v, v_max) + v_off)})."""
        return self.gk * self.hf / (1 + torch.exp(-self.mf * (v.clamp(max=self.v_max) + self.v_off)))
