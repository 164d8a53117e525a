"""The neuron: two compartments, conductances and an exponential spike (adaptive exponential integrate-and-fire)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class Membrane:
    """Passive membrane of soma and dendrite (cortex fact sheet, section 5.5).

    Example:
        Without input the membrane stays at the reversal of the leak:

        >>> v = torch.tensor([[-70.0]])
        >>> zero = torch.zeros(1, 1)
        >>> float(Membrane().integrate(v, 281.0, zero, torch.ones(1, 1), zero, zero))
        -70.0
    """

    SIGNED: ClassVar[tuple[str, ...]] = ("e_e", "e_l", "e_i", "e_k", "v_init", "v_min", "v_max")

    c: float = 281.0
    """Capacitance of the soma, pF; above 0, 281 in Axon."""
    c_dend: float = 500.0
    """Capacitance of the dendrite, pF; above 0, 500 in Axon, so slower than the soma."""
    g_e: float = 100.0
    """Excitatory conductance at Ge = 1, nS."""
    g_l: float = 20.0
    """Leak conductance, nS; 0 or more, 20 in Axon."""
    g_i: float = 100.0
    """Inhibitory conductance at Gi = 1, nS."""
    g_k: float = 100.0
    """Potassium conductance at Gk = 1, nS."""
    e_e: float = 0.0
    """Reversal of excitation, mV; -100 to 100, 0 in Axon."""
    e_l: float = -70.0
    """Reversal of the leak, the resting potential, mV; -100 to 0, -70 in Axon."""
    e_i: float = -90.0
    """Reversal of inhibition, mV; -100 to 0, -90 in Axon."""
    e_k: float = -90.0
    """Reversal of potassium, mV; -100 to 0, -90 in Axon."""
    v_init: float = -70.0
    """Potential at the start and what decay between trials goes to, mV; -100 to 0."""
    v_min: float = -100.0
    """Lower bound of both potentials, mV; below `v_max`, -100 in Axon."""
    v_max: float = 0.0
    """Upper bound of both potentials, mV; 0 in Axon."""
    max_current: float = 28100.0
    """Bound of the net current, pA: the capacitance times 100 mV/ms."""
    ge_tau: float = 5.0
    """Decay of excitatory (AMPA) synaptic conductance, ms; at least 1, 5 in Axon."""
    gi_tau: float = 7.0
    """Decay of inhibitory (GABA-A) synaptic conductance, ms; at least 1, 7 in Axon."""
    int_tau: float = 40.0
    """Time constant of ActInt, the activity over a phase, ms; at least 3, 40 in Axon. Three times faster in the plus phase."""
    long_tau: float = 20.0
    """Time constant of ActAvg, the activity over many trials, in trials; at least 1, 20 in Axon."""

    def __post_init__(self) -> None:
        validate(self)
        if self.v_min >= self.v_max or self.c <= 0 or self.c_dend <= 0:
            raise ValueError(
                f"Membrane: capacitances are positive and v_min < v_max, got c={self.c}, c_dend={self.c_dend}, "
                f"v_min={self.v_min}, v_max={self.v_max}"
            )

    def current(self, v: Tensor, ge: Tensor, gl: Tensor, gi: Tensor, gk: Tensor) -> Tensor:
        """I = ge (E_e - v) + 20 gl (E_l - v) + gi (E_i - v) + gk (E_k - v), pA, bounded by `max_current`."""
        i = ge * (self.e_e - v) + gl * self.g_l * (self.e_l - v) + gi * (self.e_i - v) + gk * (self.e_k - v)
        return i.clamp(-self.max_current, self.max_current)

    def add(self, v: Tensor, current: Tensor, c: float, ms: float = 1.0) -> Tensor:
        """V + ms I / c, within the bounds."""
        return (v + ms / c * current).clamp(self.v_min, self.v_max)

    def integrate(self, v: Tensor, c: float, ge: Tensor, gl: Tensor, gi: Tensor, gk: Tensor) -> Tensor:
        """The potential one cycle on, in two half steps."""
        for _ in range(2):
            v = self.add(v, self.current(v, ge, gl, gi, gk), c, ms=0.5)
        return v


@dataclass(frozen=True)
class Dendrite:
    """What the dendrite does unlike the soma (cortex fact sheet, sections 5.4 and 5.5)."""

    g_exp: float = 0.2
    """Strength of the exponential spike current relative to the soma; 0.2 to 0.5."""
    g_r: float = 3.0
    """Extra leak while refractory, relative to the leak; 3 to 6."""
    ssgi: float = 2.0
    """Factor of slow (somatostatin) inhibition on the dendrite; 0 to 2. Input and target layers have none."""

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Spiking:
    """Spike, refractory period and the rate read from intervals (cortex fact sheet, section 5.5).

    Example:
        >>> s = Spiking()
        >>> isi = torch.tensor([-1.0, 0.0, 2.0, 3.0])
        >>> s.refractory(isi).tolist()
        [False, True, True, False]
    """

    SIGNED: ClassVar[tuple[str, ...]] = ("thr", "v_r", "exp_thr")

    thr: float = -50.0
    """Threshold of the exponential current, mV; -100 to 0, -50 in Axon."""
    exp_slope: float = 2.0
    """Slope of the exponential current, mV; 0.5 to 5."""
    exp_thr: float = -10.0
    """Potential at which a spike is counted, mV; above `thr`, -10 in Axon."""
    v_r: float = -70.0
    """Potential after a spike, mV; -100 to 0, -70 in Axon."""
    tr: int = 3
    """Refractory period, ms; 1 to 5."""
    r_tau: float = 1.6667
    """Time constant of the fall to `v_r` while refractory, ms; at least 1, 1.6667 in Axon."""
    max_hz: float = 180.0
    """Firing rate at which Act is 1, Hz."""
    isi_tau: float = 5.0
    """Time constant of the average interval, in spikes; at least 1, 5 in Axon."""
    act_dt: float = 100.0 / 281.0
    """Rate at which Act follows the interval, 1/ms; 0 to 1."""

    def __post_init__(self) -> None:
        validate(self)
        if self.tr < 1 or self.exp_slope == 0 or self.max_hz == 0:
            raise ValueError(f"Spiking: expected tr >= 1, exp_slope > 0, max_hz > 0, got {self}")

    def refractory(self, isi: Tensor) -> Tensor:
        """Whether the last spike was less than `tr` cycles ago, by the interval before this cycle's update."""
        return (isi >= 0) & (isi < self.tr)

    def exp_current(self, v_new: Tensor, v_old: Tensor, membrane: Membrane) -> Tensor:
        """Iexp = g_l slope e^{((v_new + v_old) / 2 - thr) / slope}, pA, bounded by `max_current`."""
        mid = 0.5 * (v_new + v_old)
        i = membrane.g_l * self.exp_slope * torch.exp((mid - self.thr) / self.exp_slope)
        return i.clamp(max=membrane.max_current)

    def recover(self, v: Tensor, isi: Tensor) -> Tensor:
        """The soma while refractory: v + (v_r - v) / r_tau, exactly v_r in the last refractory cycle."""
        return torch.where(isi == self.tr - 1, self.v_r, v + (self.v_r - v) / self.r_tau)

    def average(self, avg: Tensor, isi: Tensor) -> Tensor:
        """AvgFromISI: take the interval if there is no average or it is much shorter, else move there slowly."""
        slow = avg + (isi - avg) / self.isi_tau
        return torch.where((avg <= 0) | (isi < 0.8 * avg), isi, slow)

    def intervals(self, spike: Tensor, isi: Tensor, avg: Tensor) -> tuple[Tensor, Tensor]:
        """ISI and ISIAvg after this cycle's spikes; -1 is no spike yet, an ISIAvg of -2 one spike."""
        fired = spike > 0
        nxt = torch.where(isi >= 0, isi + 1, isi)
        nxt = torch.where(nxt > 200, -1.0, nxt)
        overdue = (avg >= 0) & (nxt > 0) & (nxt > 1.2 * avg)
        quiet = torch.where(overdue, self.average(avg, nxt), avg)
        again = torch.where(isi > 0, self.average(avg, isi + 1), avg)
        active = torch.where(avg == -1, -2.0, again)
        return torch.where(fired, 0.0, nxt), torch.where(fired, active, quiet)

    def activity(self, act: Tensor, avg: Tensor) -> Tensor:
        """Act += act_dt (min(1, (1000 / max_hz) / ISIAvg) - Act), 0 in place of the rate without an interval."""
        rate = torch.where(avg > 0, ((1000 / self.max_hz) / avg.clamp(min=1e-6)).clamp(max=1), 0.0)
        return act + self.act_dt * (rate - act)


@dataclass(frozen=True)
class Clamp:
    """How an external pattern drives a layer (cortex fact sheet, section 5.4)."""

    ge: float = 0.8
    """Excitatory conductance of a clamped value of 1, in units of gbar; 1.5 for inputs, 0.8 for targets."""

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Decay:
    """What is forgotten between theta cycles (cortex fact sheet, section 5.6); proportions, 0 to 1."""

    act: float = 0.2
    """Proportion of activity, conductances, the soma's potential and inhibition; 0 to 1, usually 0, 0.2, 0.5 or 1."""
    glong: float = 0.6
    """Proportion of NMDA, GABA-B, VGCC and the dendrite's potential; 0 to 1."""
    ahp: float = 0.0
    """Proportion of the afterhyperpolarizations; 0 to 1, usually 0."""
    gbufs: bool = False
    """Also clear what is on its way through synapses and delays."""

    def __post_init__(self) -> None:
        validate(self)
        for name in ("act", "glong", "ahp"):
            if getattr(self, name) > 1:
                raise ValueError(f"Decay.{name}={getattr(self, name)}: a proportion is between 0 and 1")
