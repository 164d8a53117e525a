"""NMDA: slow excitation that needs glutamate and depolarization at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class NMDA:
    """The NMDA channel (cortex fact sheet, section 5.4); it keeps active neurons active over the theta cycle.

    Example:
        >>> g = NMDA().conductance(torch.tensor(1.0, dtype=torch.float64), torch.tensor(-30.0, dtype=torch.float64))
        >>> abs(float(g) - 0.006 * 30 / (1 + 1.4 / 3.57 * 2.718281828459045 ** (0.062 * 30))) < 1e-12
        True
    """

    ge: float = 0.006
    """Conductance per unit of open channels and mV, in units of gbar; 0 (off) to 0.01, 0.006 to 0.007 in cortex."""
    tau: float = 100.0
    """Decay of the glutamate-bound state, ms; 30 to 300."""
    mgc: float = 1.4
    """Extracellular magnesium, mM; 1 to 1.5. More of it blocks the channel at rest more strongly."""

    def __post_init__(self) -> None:
        validate(self)

    def bind(self, syn: Tensor, raw: Tensor) -> Tensor:
        """S + GeRaw - s / tau: glutamate bound after this cycle's raw excitation."""
        return syn + raw.clamp(min=0) - syn / self.tau

    def gate(self, v: Tensor) -> Tensor:
        """B(v) = -v / (1 + (Mg / 3.57) e^{-0.062 v}), 0 at v >= 0; it contains the driving force, so mV."""
        return torch.where(v >= 0, 0.0, -v / (1 + (self.mgc / 3.57) * torch.exp(-0.062 * v)))

    def conductance(self, syn: Tensor, v: Tensor) -> Tensor:
        """Gnmda = ge B(v) s."""
        return self.ge * self.gate(v) * syn


def calcium_drive(v: Tensor) -> Tensor:
    """C(v) = -v / (1 - e^{0.0756 v}), the driving force of calcium; near 0, 1 / (0.0756 (1 + 0.0378 v)).

    Example:
        >>> [round(float(c), 3) for c in calcium_drive(torch.tensor([-70.0, -0.4, 0.0]))]
        [70.354, 13.431, 13.228]
    """
    near = 1 / (0.0756 * (1 + 0.0378 * v.clamp(-0.5, 0.5)))
    far = torch.where(v.abs() < 0.5, -0.5, v)
    return torch.where(v.abs() < 0.5, near, -far / (1 - torch.exp(0.0756 * far)))
