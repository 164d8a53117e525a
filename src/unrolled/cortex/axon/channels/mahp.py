"""mAHP: the M-type potassium current, adaptation over tens of spikes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


def e_fun(z: Tensor) -> Tensor:
    """E(z) = z / (e^z - 1), 1 - z / 2 near 0.

    Example:
        >>> [round(float(x), 4) for x in e_fun(torch.tensor([-2.0, 0.0, 2.0]))]
        [2.313, 1.0, 0.313]
    """
    near = z.abs() < 1e-4
    return torch.where(near, 1 - z / 2, torch.where(near, 1.0, z) / torch.expm1(torch.where(near, 1.0, z)))


@dataclass(frozen=True)
class MAHP:
    """The medium afterhyperpolarization (cortex fact sheet, section 5.4).

    Example:
        The gate at the half-activation voltage goes to one half:

        >>> n = torch.tensor(0.5)
        >>> float(MAHP().step(torch.tensor(-30.0), n))
        0.5
    """

    SIGNED: ClassVar[tuple[str, ...]] = ("off",)

    gk: float = 0.05
    """Conductance, in units of gbar K; 0 (off) to 0.1."""
    off: float = -30.0
    """Voltage of half activation, mV; -100 to 0, -30 in Axon."""
    slope: float = 9.0
    """Slope of the activation, mV; not 0."""
    max_tau: float = 1000.0
    """Inverse of the gate's rate per mV, ms; at least 1, 1000 in Axon."""
    q10: float = 2.3 ** ((37.0 - 23.0) / 10.0)
    """Factor that takes the rates from 23 to 37 degrees; 3.2094."""

    def __post_init__(self) -> None:
        validate(self)

    def step(self, v: Tensor, n: Tensor) -> Tensor:
        """N + (n_inf - n) / tau: rates a = E(-vo / slope) slope / max_tau and b = E(vo / slope) slope / max_tau."""
        z = (v - self.off) / self.slope
        a, b = self.slope / self.max_tau * e_fun(-z), self.slope / self.max_tau * e_fun(z)
        n_inf, tau = a / (a + b), 1 / (a + b) / self.q10
        return n + (n_inf - n) / tau

    def conductance(self, n: Tensor) -> Tensor:
        """Gmahp = q10 gk n."""
        return self.q10 * self.gk * n
