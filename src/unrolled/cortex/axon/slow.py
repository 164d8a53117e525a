"""Slow adaptation, every 100 trials: structural weights, synaptic scaling, and the gain of inhibition."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate
from unrolled.cortex.axon.inhibition import Inhibition
from unrolled.cortex.axon.weights import SWt


@dataclass(frozen=True)
class TrgAvg:
    """Each neuron's target of long-run activity, and scaling towards it (cortex fact sheet, section 5.8)."""

    on: bool = True
    """Scale synapses towards the targets; never for input and target layers."""
    low: float = 0.5
    """Smallest target, relative to the layer's mean; 0 to 1."""
    high: float = 2.0
    """Largest target, relative to the layer's mean; 1 or more."""
    permute: bool = True
    """Give the initial targets, evenly spaced, to neurons in random order within the layer or sub-pool."""
    err_rate: float = 0.02
    """How fast a neuron's target follows its error CaP - CaD, per trial; 0 to 0.1, 0.02 in Axon."""
    sub_mean: float = 1.0
    """Proportion of the mean change of targets that is subtracted, 0 to 1."""
    scale_rate: float = 0.005
    """Rate of synaptic scaling per slow step; 0.005 small nets, 0.0002 large ones."""
    pool: bool = True
    """Work within sub-pools where there are any."""

    def __post_init__(self) -> None:
        validate(self)
        if not self.low <= self.high:
            raise ValueError(f"TrgAvg: expected low <= high, got {self.low} and {self.high}")

    def initial(self, n: int, rng: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Targets of `n` neurons: low to high in even steps, permuted.

        Example:
            >>> sorted(TrgAvg().initial(4, torch.Generator().manual_seed(0), torch.float64).tolist())
            [0.5, 1.0, 1.5, 2.0]
        """
        even = torch.linspace(self.low, self.high, n, dtype=dtype, device=rng.device) if n > 1 else torch.full(
            (1,), self.low, dtype=dtype, device=rng.device
        )  # fmt: skip
        return even[torch.randperm(n, generator=rng, device=rng.device)] if self.permute else even

    def follow(self, target: Tensor, change: Tensor) -> Tensor:
        """Targets after a trial: + the zero-summed change, within bounds; `[pools, neurons]`."""
        change = change - self.sub_mean * change.mean(-1, keepdim=True)
        return (target + change).clamp(self.low, self.high)

    def deviation(self, average: Tensor, target: Tensor) -> Tensor:
        """AvgDif = ActAvg / mean(ActAvg) - TrgAvg within a pool, 0 in pools that are all but silent; `[pools, neurons]`."""
        mean = average.mean(-1, keepdim=True)
        return torch.where(mean < 1e-4, 0.0, average / torch.where(mean < 1e-4, 1.0, mean) - target)


def structural(
    swts: SWt, swt: Tensor, lwt: Tensor, wt: Tensor, dswt: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """`(SWt, LWt)` after a slow step: SWt takes over part of what was learned, LWt is recomputed to keep Wt.

    DSWt *= (high - SWt) if >= 0 else (SWt - low); SWt += rate (DSWt - mean); LWt = linear(Wt, SWt) (1 - decay), with
    decay = clip(0.0008 (mean Wt - 0.5), 0, 0.0008) per receiver. Fact sheet, section 5.8; all `[send, recv]`.
    """
    n = mask.sum(0).clamp(min=1)
    dswt = torch.where(dswt >= 0, dswt * (swts.high - swt), dswt * (swt - swts.low)) * mask
    mean_wt = (wt * mask).sum(0) / n
    decay = (swts.hi_mean_decay * (mean_wt - swts.hi_mean_thr)).clamp(0, swts.hi_mean_decay)
    swt = swt + swts.rate * (dswt - swts.sub_mean * dswt.sum(0) / n)
    lwt = swts.linear(wt, swt)
    return swt, lwt - decay * lwt


def scale(lwt: Tensor, swt: Tensor, deviation: Tensor, rate: float) -> Tensor:
    """LWt after synaptic scaling: a = -rate AvgDif of the receiver; LWt += a SWt (1 - LWt if a >= 0 else LWt).

    Example:
        A receiver that is too active loses, softly:

        >>> one = torch.tensor([[0.5]])
        >>> round(float(scale(one, one, torch.tensor([1.0]), 0.005)), 6)
        0.49875
    """
    a = -rate * deviation
    return lwt + a * swt * torch.where(a >= 0, 1 - lwt, lwt)


def adapt_gi(inhib: Inhibition, gi_mult: float, activity: float) -> float:
    """Gain of inhibition after a step: + clip(rate x relative error, +- max) when activity leaves the tolerance.

    Example:
        >>> inhib = Inhibition(nominal=0.1, adapt=True)
        >>> adapt_gi(inhib, 1.0, 0.2), adapt_gi(inhib, 1.0, 0.09), round(adapt_gi(inhib, 1.0, 0.0101), 4)
        (1.01, 1.0, 0.99)
    """
    if not inhib.adapt:
        return gi_mult
    goal = inhib.nominal + inhib.offset
    error = (activity - goal) / goal
    if error < -inhib.lo_tol or error > inhib.hi_tol:
        gi_mult += max(-inhib.adapt_max, min(inhib.adapt_max, inhib.adapt_rate * error))
    return gi_mult
