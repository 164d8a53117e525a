"""Inhibition of a pool of neurons: fast-spiking and slow-spiking, feed-forward and feedback (FS-FFFB)."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


class PoolGi(NamedTuple):
    """State of a pool's inhibition and what it gives, each `[data, pools]`."""

    fsi: Tensor
    """Fast-spiking (parvalbumin) interneuron activity."""
    ssi: Tensor
    """Slow-spiking (somatostatin) interneuron activity."""
    ssf: Tensor
    """Facilitation of the slow-spiking interneurons' input, 0 to 1."""
    total: Tensor
    """Inhibitory conductance on the soma, in units of gbar I."""
    ssgi: Tensor
    """Its slow-spiking part, which dendrites feel."""


@dataclass(frozen=True)
class FSFFFB:
    """Parameters of one level of inhibition, layer or sub-pool (cortex fact sheet, section 5.3).

    Example:
        A silent pool that is clamped from outside is inhibited in proportion to the clamp:

        >>> zero = torch.zeros(1, 1)
        >>> gi = FSFFFB(gi=0.9).step(zero, zero, zero, zero, zero, torch.full((1, 1), 0.3), torch.tensor([True]))
        >>> round(float(gi.total), 4)
        0.27
    """

    on: bool = True
    """Off gives no inhibition at all."""
    gi: float = 1.0
    """Overall gain, dimensionless; 0.9 for inputs, 1.0 to 1.1 for hidden layers, 1.3 and more for very sparse ones, 2.2 for CT."""
    fb: float = 1.0
    """Gain of feedback (the pool's own spikes) relative to feed-forward input; 0.5 to 4."""
    ss: float = 30.0
    """Gain of slow-spiking inhibition, dimensionless; 0 or more, 30 in Axon."""
    fs_tau: float = 6.0
    """Decay of fast-spiking activity, ms; at least 1, 6 in Axon."""
    ssf_tau: float = 20.0
    """Decay of facilitation, ms; at least 1, 20 in Axon."""
    ssi_tau: float = 50.0
    """Time constant of slow-spiking activity, ms; at least 1, 50 in Axon."""
    fs0: float = 0.1
    """Fast-spiking activity without effect, dimensionless; 0 to 1, 0.1 in Axon."""
    clamp_ext_min: float = 0.05
    """Mean external drive, in units of gbar, above which a clamped pool is inhibited by the drive alone; 0 to 1."""

    def __post_init__(self) -> None:
        validate(self)

    def step(
        self, fsi: Tensor, ssi: Tensor, ssf: Tensor, ffs: Tensor, fbs: Tensor, ext: Tensor, clamped: Tensor
    ) -> PoolGi:
        """One cycle, from the pool's mean GeRaw `ffs`, the mean of last cycle's spikes `fbs` and mean GeExt `ext`.

        FSi += FFs + FB FBs - FSi / 6; SSi += (SSf FBs - SSi) / 50; then SSf += FBs (1 - SSf) - SSf / 20.
        """
        if not self.on:
            zero = torch.zeros_like(fsi)
            return PoolGi(zero, zero, zero, zero, zero)
        fsi = fsi + ffs + self.fb * fbs - fsi / self.fs_tau
        driven = clamped & (ext > self.clamp_ext_min)
        fsgi = self.gi * torch.where(driven, ext, (fsi - self.fs0).clamp(min=0) + ext)
        ssi = ssi + (ssf * fbs - ssi) / self.ssi_tau
        ssf = ssf + fbs * (1 - ssf) - ssf / self.ssf_tau
        ssgi = self.gi * self.ss * ssi
        return PoolGi(fsi, ssi, ssf, fsgi + ssgi, ssgi)


@dataclass(frozen=True)
class Inhibition:
    """Inhibition of a layer and its sub-pools, and the activity it aims at (fact sheet, sections 5.3 and 5.8)."""

    SIGNED: ClassVar[tuple[str, ...]] = ("offset",)

    layer: FSFFFB = field(default_factory=FSFFFB)
    """Of the whole layer; with sub-pools, a sub-pool feels the larger of its own and this."""
    pool: FSFFFB = field(default_factory=FSFFFB)
    """Of each sub-pool, in layers that have them."""
    nominal: float = 0.1
    """Expected proportion of active neurons, 0 to 1: scales what the layer sends; the target of `adapt`."""
    adapt: bool = False
    """Adapt the gain of inhibition to keep the layer near `nominal`."""
    offset: float = 0.0
    """Added to `nominal` for the target of `adapt`, as a proportion; 0 to 1."""
    hi_tol: float = 0.0
    """Tolerance above the target, as a proportion of it; 0 to 1."""
    lo_tol: float = 0.8
    """Tolerance below the target, as a proportion of it; 0 to 1."""
    adapt_rate: float = 0.1
    """Step per unit of relative error, dimensionless; 0.05 to 0.1."""
    adapt_max: float = 0.01
    """Largest step, dimensionless; 0 to 0.1."""

    def __post_init__(self) -> None:
        validate(self)
        if not 0 < self.nominal <= 1:
            raise ValueError(
                f"Inhibition.nominal={self.nominal}: a proportion of active neurons is above 0 and at most 1"
            )
