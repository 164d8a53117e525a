"""Calcium of a neuron: of its spikes (statistics, credit) and of its NMDA receptors and spikes (the error signal)."""

from dataclasses import dataclass

from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class SpikeCa:
    """Calcium driven by spikes alone (cortex fact sheet, section 5.5); the same cascade as a synapse's.

    Example:
        >>> import torch
        >>> m, p, d = SpikeCa().cascade(torch.tensor(1.0), *torch.zeros(3))
        >>> [round(float(x), 4) for x in (m, p, d)]
        [1.6, 0.04, 0.001]
    """

    spike: float = 8.0
    """CaM per spike; 8 to 12."""
    syn: float = 8.0
    """CaSyn per spike; 8 to 12."""
    syn_tau: float = 30.0
    """Time constant of CaSyn, ms; at least 1, 30 in Axon."""
    m_tau: float = 5.0
    """Time constant of CaM, ms; 2 to 5."""
    p_tau: float = 40.0
    """Time constant of CaP, ms; 40 for a 200-ms theta cycle, in proportion for longer ones."""
    d_tau: float = 40.0
    """Time constant of CaD, ms; as CaP, 40 to 80."""

    def __post_init__(self) -> None:
        validate(self)

    def cascade(self, spike: Tensor, m: Tensor, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """CaM += (8 spike - CaM) / 5; CaP += (CaM - CaP) / 40; CaD += (CaP - CaD) / 40."""
        m = m + (self.spike * spike - m) / self.m_tau
        p = p + (m - p) / self.p_tau
        return m, p, d + (p - d) / self.d_tau

    def trace(self, spike: Tensor, syn: Tensor) -> Tensor:
        """CaSyn += (8 spike - CaSyn) / 30: what a synapse multiplies."""
        return syn + (self.syn * spike - syn) / self.syn_tau


@dataclass(frozen=True)
class LearnCa:
    """Calcium that carries the error: NMDA plus spike-driven VGCC (cortex fact sheet, section 5.5).

    Example:
        >>> import torch
        >>> vg, ca = LearnCa().influx(*torch.tensor([1.0, 5.0, 10.0], dtype=torch.float64))
        >>> float(vg), float(ca)
        (39.5, 0.61875)
    """

    norm: float = 80.0
    """Calcium that counts as 1, dimensionless; above 0, 80 in Axon."""
    spike_vgcc: float = 35.0
    """VGCC calcium per spike; 0 to 60."""
    vgcc_tau: float = 10.0
    """Decay of VGCC calcium, ms; at least 1, 10 in Axon."""
    pos_bias: float = 1.0
    """Factor of LearnCaP in CaDiff; 0.95 to 1.05."""
    m_tau: float = 2.0
    """Time constant of LearnCaM, ms; 2 to 5."""
    p_tau: float = 40.0
    """Time constant of LearnCaP, ms; 40 for a 200-ms theta cycle, in proportion for longer ones."""
    d_tau: float = 40.0
    """Time constant of LearnCaD, ms; as LearnCaP, 40 to 80."""
    etrace_tau: float = 4.0
    """Time constant of the eligibility trace, ms; 2 to 4."""
    etrace_scale: float = 0.0
    """Factor of eligibility in learning, dimensionless; 0 (off) to 0.5."""

    def __post_init__(self) -> None:
        validate(self)
        if self.norm == 0:
            raise ValueError("LearnCa.norm=0: calcium is divided by it; expected about 80")

    def influx(self, spike: Tensor, vg: Tensor, nmda_ca: Tensor) -> tuple[Tensor, Tensor]:
        """Vg += 35 spike - Vg / 10; LearnCa = (NmdaCa + Vg) / 80."""
        vg = vg + self.spike_vgcc * spike - vg / self.vgcc_tau
        return vg, (nmda_ca + vg) / self.norm

    def cascade(self, ca: Tensor, m: Tensor, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """LearnCaM, LearnCaP and LearnCaD one cycle on, each from the value just made."""
        m = m + (ca - m) / self.m_tau
        p = p + (m - p) / self.p_tau
        return m, p, d + (p - d) / self.d_tau

    def difference(self, p: Tensor, d: Tensor) -> Tensor:
        """CaDiff = LearnCaP - LearnCaD: outcome minus prediction."""
        return self.pos_bias * p - d

    def eligibility(self, ca_d: Tensor, ca_d_prev: Tensor, trace: Tensor) -> tuple[Tensor, Tensor]:
        """E += ((CaD - CaD of the trial before) - e) / tau; ETrLearn = max(0, 1 + scale e)."""
        trace = trace + ((ca_d - ca_d_prev) - trace) / self.etrace_tau
        return trace, (1 + self.etrace_scale * trace).clamp(min=0)
