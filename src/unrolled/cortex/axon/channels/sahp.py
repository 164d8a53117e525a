"""sAHP: the slow afterhyperpolarization, one step per theta cycle."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unrolled.cortex.axon._sheet import validate
from unrolled.cortex.axon.channels.mahp import e_fun


@dataclass(frozen=True)
class SAHP:
    """The slow afterhyperpolarization (cortex fact sheet, section 5.4): a hard limit on activity over many trials.

    Example:
        >>> import torch
        >>> n, ca = SAHP().trial(torch.tensor(0.8), torch.tensor(0.3))
        >>> round(float(n), 4), round(float(ca), 4)
        (0.5, 0.7)
    """

    SIGNED: ClassVar[tuple[str, ...]] = ("off",)

    gk: float = 0.05
    """Conductance, in units of gbar K; 0 (off) to 1."""
    ca_tau: float = 5.0
    """Time constant of its calcium, in theta cycles; at least 1, 5 in Axon."""
    off: float = 0.8
    """Calcium of half activation, in the unit of CaD; 0 to 1, 0.8 in Axon."""
    slope: float = 0.02
    """Slope of the activation, in the unit of CaD; not 0."""

    def __post_init__(self) -> None:
        validate(self)

    def trial(self, ca: Tensor, ca_d: Tensor) -> tuple[Tensor, Tensor]:
        """At the end of a plus phase: n = n_inf(SahpCa) as it was, then SahpCa += (CaD - SahpCa) / ca_tau."""
        z = (ca - self.off) / self.slope
        a, b = e_fun(-z), e_fun(z)
        return a / (a + b), ca + (ca_d - ca) / self.ca_tau
