"""VGCC: voltage-gated calcium channels, open for a moment when the dendrite depolarizes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate
from unrolled.cortex.axon.channels.nmda import calcium_drive


@dataclass(frozen=True)
class VGCC:
    """The L-type calcium channel (cortex fact sheet, section 5.4): fast activation m, slower inactivation h.

    Example:
        >>> m, h = VGCC().gates(torch.tensor([-70.0, -5.0]), torch.zeros(2), torch.zeros(2))
        >>> [round(float(x), 4) for x in (*m, *h)]
        [0.0, 0.2778, 0.0345, 0.0]
    """

    ge: float = 0.02
    """Conductance, in units of gbar per unit of calcium drive; 0 (off) to 0.12."""
    m_tau: float = 3.6
    """Time constant of activation, ms; at least 1, 3.6 in Axon."""
    h_tau: float = 29.0
    """Time constant of inactivation, ms; at least 1, 29 in Axon."""

    def __post_init__(self) -> None:
        validate(self)

    def conductance(self, v: Tensor, m: Tensor, h: Tensor) -> Tensor:
        """Gvgcc = ge C(v) m^3 h, with the gates of the previous cycle."""
        return self.ge * calcium_drive(v) * m**3 * h

    def gates(self, v: Tensor, m: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """M and h one cycle on: m_inf = 1 / (1 + e^{-(v + 37)}), h_inf = 1 / (1 + e^{2 (v + 41)})."""
        v = v.clamp(max=0)
        m_inf = torch.where(v < -60, 0.0, torch.where(v > -10, 1.0, 1 / (1 + torch.exp(-(v + 37)))))
        h_inf = torch.where(v < -50, 1.0, torch.where(v > -10, 0.0, 1 / (1 + torch.exp(2 * (v + 41)))))
        return m + (m_inf - m) / self.m_tau, h + (h_inf - h) / self.h_tau
