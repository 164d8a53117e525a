"""GABA-B: long-lasting inhibition that keeps quiet neurons quiet."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class GABAB:
    """The GABA-B receptor with its inwardly rectifying potassium channel (cortex fact sheet, section 5.4).

    Example:
        >>> GABAB().factor == (50 / 45) ** (45 / 5)
        True
    """

    SIGNED: ClassVar[tuple[str, ...]] = ("v_rest",)

    gk: float = 0.015
    """Conductance per mV of rectified drive, in units of gbar K; 0 (off) to 0.02."""
    rise_tau: float = 45.0
    """Time constant of the rise, ms; at least 1 and shorter than the decay, 45 in Axon."""
    decay_tau: float = 50.0
    """Time constant of the decay, ms; at least 1, 50 in Axon."""
    base: float = 0.2
    """Proportion of the activation that is always there, 0 to 1."""
    gi_spike: float = 10.0
    """Inhibitory spikes per unit of Gi, dimensionless; 0 or more, 10 in Axon."""
    v_rest: float = -90.0
    """Reversal of the channel, mV; -100 to 0, -90 in Axon. It drives nothing below and closes far above."""

    def __post_init__(self) -> None:
        validate(self)
        if self.rise_tau >= self.decay_tau:
            raise ValueError(f"GABAB.rise_tau={self.rise_tau}: expected less than decay_tau={self.decay_tau}")

    @property
    def factor(self) -> float:
        """(decay / rise)^{rise / (decay - rise)}: makes the peak of a response 1; 2.5811748 for 45 and 50 ms."""
        return (self.decay_tau / self.rise_tau) ** (self.rise_tau / (self.decay_tau - self.rise_tau))

    def released(self, gi: Tensor) -> Tensor:
        """S(Gi) = 1 / (1 + e^{-(s - 7.1) / 1.4}) of s = gi_spike Gi; 1 above 20."""
        s = self.gi_spike * gi
        return torch.where(s > 20, 1.0, 1 / (1 + torch.exp(-(s - 7.1) / 1.4)))

    def step(self, gi: Tensor, m: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """M and X one cycle on: dM = (factor X - M) / rise; X += S(Gi) - X / decay; M += dM."""
        dm = (self.factor * x - m) / self.rise_tau
        return m + dm, x + self.released(gi) - x / self.decay_tau

    def conductance(self, v: Tensor, m: Tensor) -> Tensor:
        """Ggabab = gk (v' + 90) / (1 + e^{0.1 (v' + 100)}) (M + base), v' = max(v, v_rest)."""
        ve = v.clamp(min=self.v_rest) - self.v_rest
        return self.gk * ve / (1 + torch.exp(0.1 * (ve + 10))) * (m + self.base)
