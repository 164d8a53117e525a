"""Weights: a slow structural SWt and a fast linear LWt, joined by contrast enhancement into the effective Wt."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate


@dataclass(frozen=True)
class SWt:
    """Weights of a path: how they start, what bounds them, how they adapt (cortex fact sheet, sections 5.7 and 5.8).

    Example:
        A weight set to 0.15 where the structural weight is 0.5 has this linear weight:

        >>> round(float(SWt().linear(torch.tensor(0.15, dtype=torch.float64), 0.5)), 7)
        0.4282242
    """

    mean: float = 0.5
    """Mean initial weight; 0.4 to 0.5."""
    var: float = 0.25
    """Half width of the uniform initial spread, in units of weight; 0 to 0.4."""
    spct: float = 0.5
    """Proportion of the spread that is structural, 0 to 1; 0.5 small nets, 1 deep nets, 0 into targets."""
    sym: bool = True
    """Start reciprocal paths as each other's transpose."""
    low: float = 0.2
    """Lower bound of SWt, a weight; 0 to 1."""
    high: float = 0.8
    """Upper bound of SWt, a weight; 0 to 1."""
    adapt: bool = True
    """Let SWt follow what is learned, slowly."""
    rate: float = 0.1
    """Rate of SWt per slow step; 0.1 small nets, 0.01 to 0.0002 larger ones."""
    sub_mean: float = 1.0
    """Proportion of the mean change per receiver that is subtracted from it, 0 to 1."""
    hi_mean_decay: float = 0.0008
    """Decay of LWt, per slow step and unit of mean weight above `hi_mean_thr`; 0 to 0.001."""
    hi_mean_thr: float = 0.5
    """Mean weight of a receiver above which its weights decay; 0 to 1."""
    gain: float = 6.0
    """Steepness of contrast enhancement, dimensionless; 1 (off) to 6."""

    def __post_init__(self) -> None:
        validate(self)
        if not self.low < self.high or self.gain <= 0 or self.spct > 1:
            raise ValueError(
                f"SWt: expected low < high, gain > 0 and spct of at most 1; got low={self.low}, high={self.high}, "
                f"gain={self.gain}, spct={self.spct}"
            )

    def effective(self, swt: Tensor, lwt: Tensor) -> Tensor:
        """Wt = SWt 2 / (1 + ((1 - LWt) / LWt)^gain): 1 x SWt at LWt = 0.5, up to 2 x SWt."""
        odds = (1 - lwt).div_(lwt)
        if self.gain == 6:  # what pow does, ten times faster
            odds = (odds * odds).mul_(odds)
            odds.mul_(odds)
        else:
            odds = odds**self.gain
        return odds.add_(1).reciprocal_().mul_(2).mul_(swt)

    def linear(self, wt: Tensor, swt: Tensor | float) -> Tensor:
        """LWt that gives a Wt: 1 / (1 + ((1 - w / 2) / (w / 2))^{1 / gain}) of w = Wt / SWt."""
        half = (wt / swt / 2).clamp(0, 1)
        return 1 / (1 + ((1 - half) / half) ** (1 / self.gain))

    def draw(
        self,
        shape: tuple[int, int],
        mask: Tensor | None,
        target: bool,
        rng: torch.Generator,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Initial `(SWt, LWt)`, each `[send, recv]`, on the generator's device (fact sheet, section 5.8, Init).

        Wt = mean + U(-var, var); SWt = clip(mean + spct deviation), 0.5 where spct is 0 or the receivers are targets;
        LWt = linear(Wt, SWt); then SWt is shifted per receiver to the mean, targets excepted.
        """
        deviation = self.var * (2 * torch.rand(shape, generator=rng, dtype=dtype, device=rng.device) - 1)
        spct = 0.0 if target else self.spct
        swt = (self.mean + spct * deviation).clamp(self.low, self.high)
        if spct == 0:
            swt = torch.full_like(swt, 0.5)
        lwt = self.linear(self.mean + deviation, swt)
        if self.adapt and not target:
            swt = self.shift(swt, torch.ones_like(swt) if mask is None else mask.to(swt))
        return swt, lwt

    def shift(self, swt: Tensor, mask: Tensor) -> Tensor:
        """SWt moved per receiver so that its mean is `mean`, leaving out those at the bound they would move to.

        Receivers with a single connection stay as they are.
        """
        n = mask.sum(0)
        total = (swt * mask).sum(0)
        gap = self.mean - total / n.clamp(min=1)
        at_high, at_low = ((swt >= self.high) * mask).sum(0), ((swt <= self.low) * mask).sum(0)
        free = torch.where(gap > 0, n - at_high, n - at_low)
        some_stuck = torch.where(gap > 0, at_high > 0, at_low > 0) & (free > 0)
        gap = torch.where(some_stuck, self.mean - total / free.clamp(min=1), gap)
        return torch.where(n > 1, (swt + gap).clamp(self.low, self.high), swt)
