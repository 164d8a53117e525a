"""KNa: sodium-gated potassium channels, medium (Slick) and slow (Slack) adaptation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class KNa:
    """A sodium-gated potassium conductance that rises with each spike (cortex fact sheet, section 5.4).

    Example:
        >>> round(float(KNa().step(torch.tensor(0.0), torch.tensor(1.0))), 4)
        0.002
    """

    gk: float = 0.1
    """Conductance it rises to, in units of gbar K; 0 (off) to 0.2."""
    rise_tau: float = 50.0
    """Time constant while spiking, ms; 50 medium, 1000 slow."""
    decay_tau: float = 200.0
    """Time constant between spikes, ms; 200 medium, 1000 slow."""

    def __post_init__(self) -> None:
        validate(self)

    def step(self, g: Tensor, spike: Tensor) -> Tensor:
        """G + (gk - g) / rise_tau where the neuron spiked in the previous cycle, else g - g / decay_tau."""
        return torch.where(spike > 0, g + (self.gk - g) / self.rise_tau, g - g / self.decay_tau)
