"""The in-vitro test of the rule: Jang et al. 2026, and what a Hebbian rule says instead.

Slices were induced with two 100-ms halves, each at a low or a high rate, ten times 400 ms apart. A rule that follows the
temporal derivative strengthens low-high, weakens high-low and leaves the flat conditions; a Hebbian rule does not.
"""

from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from unrolled.cortex.kinase._synapse import regular, synapse, trace

HALF = 100
"""Cycles (ms) of each half of the theta window."""

Rates = float | tuple[float, float]


@dataclass(frozen=True)
class Condition:
    """Published EPSP 30 to 35 minutes after induction, normalized to the baseline (1 = no change)."""

    first_hz: float
    second_hz: float
    mean: float
    sem: float
    n: int


JANG: dict[str, Condition] = {
    "25-25": Condition(25, 25, 1.12, 0.15, 12),
    "25-50": Condition(25, 50, 1.42, 0.15, 12),
    "50-25": Condition(50, 25, 0.73, 0.10, 18),
    "50-50": Condition(50, 50, 1.09, 0.08, 11),
}
"""Jang et al. 2026, bioRxiv 10.64898/2026.06.05.730489: mean and standard error over n cells (fact sheet, section 3)."""


def jang_protocol(
    first_hz: float, second_hz: float, pre: Rates | None = None, repeats: int = 10, gap: int = 400
) -> float:
    """What the kinase rule learns from the in-vitro induction (cortex fact sheet, section 3).

    Each induction is a 200-ms window: 100 ms at the first rate, 100 ms at the second, regular trains, followed by `gap`
    ms of silence in which the cascade goes on. The change is CaP - CaD at the end of a window.

    Args:
        first_hz: postsynaptic rate in the first half (prediction), Hz.
        second_hz: postsynaptic rate in the second half (outcome), Hz.
        pre: presynaptic rate, one number or one per half; the postsynaptic rates by default.
        repeats: number of inductions.
        gap: silence after each, ms.

    Returns:
        Mean over the repeats of CaP - CaD at the end of each window. From rest and with 400 ms of silence the
        repeats differ by less than 1e-3.

    Raises:
        ValueError: no repeats, a negative gap, or rates outside 0 to 1000 Hz.

    Example:
        >>> [round(jang_protocol(*rates), 4) for rates in ((25, 25), (25, 50), (50, 25), (50, 50))]
        [0.0173, 0.2144, -0.1235, 0.0713]
    """
    sender, receiver = _trains(first_hz, second_hz, pre, repeats, gap)
    silence, state = torch.zeros(gap, dtype=torch.float64), None
    changes: list[float] = []
    for _ in range(repeats):
        course, state = synapse(sender, receiver, state)
        changes.append(float(course.difference[-1]))
        if gap:
            _, state = synapse(silence, silence, state)
    return sum(changes) / repeats


def hebbian_protocol(
    first_hz: float, second_hz: float, pre: Rates | None = None, repeats: int = 10, gap: int = 400
) -> float:
    """The baseline: the same induction under a Hebbian rule, dW = mean over the window of CaSyn_pre CaSyn_post.

    It rewards co-activity, so it is largest at 50-50 and never negative: the data say otherwise.

    Returns:
        Mean per repeat.

    Raises:
        ValueError: as `jang_protocol`.

    Example:
        >>> hebbian_protocol(50, 50) > hebbian_protocol(25, 50) > 0
        True
    """
    sender, receiver = _trains(first_hz, second_hz, pre, repeats, gap)
    silence = torch.zeros(gap, dtype=torch.float64)
    once = [torch.cat([train, silence]) for train in (sender, receiver)]
    s, r = (trace(train.repeat(repeats)).reshape(repeats, -1)[:, : 2 * HALF] for train in once)
    return float((s * r).mean())


def fitted_gain(rule: Any = jang_protocol) -> float:
    """The one free number of the comparison: EPSP change per unit of dW, so that 25-50 Hz matches the data.

    Args:
        rule: `jang_protocol` or `hebbian_protocol`.

    Example:
        >>> round(fitted_gain(), 2)
        1.96
    """
    target = JANG["25-50"]
    return (target.mean - 1) / rule(target.first_hz, target.second_hz)


def epsp(change: float | Tensor, gain: float | None = None) -> Any:
    """Map a synaptic change to a normalized EPSP: 1 + gain * change (1 = baseline).

    Args:
        change: CaP - CaD from `jang_protocol`, a number or a tensor.
        gain: EPSP per unit of change; the kinase rule's `fitted_gain` by default.

    Returns:
        The EPSP, of the type of `change`.

    Example:
        Fitted on 25-50 Hz alone, the other three conditions are predictions (data: 0.73, 1.12, 1.09):

        >>> [round(epsp(jang_protocol(*rates)), 2) for rates in ((50, 25), (25, 25), (50, 50))]
        [0.76, 1.03, 1.14]
    """
    return 1 + (fitted_gain() if gain is None else gain) * change


def statistics() -> dict[str, float]:
    """Two-tailed p-values that the published means, standard errors and cell numbers imply; the paper prints none.

    `"25-50 = 1"` is a one-sample t-test against no change; `"25-50 = 50-25"` is Welch's test between conditions.

    Example:
        Learning follows the derivative clearly on the side of depression; potentiation against the flat 50-50 Hz is
        a trend:

        >>> p = statistics()
        >>> round(p["50-25 = 50-50"], 3), round(p["25-50 = 50-50"], 3)
        (0.009, 0.069)
    """
    values: dict[str, float] = {}
    names = list(JANG)
    for name, data in JANG.items():
        values[f"{name} = 1"] = float(2 * stats.t.sf(abs(data.mean - 1) / data.sem, data.n - 1))
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            values[f"{a} = {b}"] = _welch(JANG[a], JANG[b])
    return values


def _welch(a: Condition, b: Condition) -> float:
    variance = a.sem**2 + b.sem**2
    freedom = variance**2 / (a.sem**4 / (a.n - 1) + b.sem**4 / (b.n - 1))
    return float(2 * stats.t.sf(abs(a.mean - b.mean) / variance**0.5, freedom))


def _trains(
    first_hz: float, second_hz: float, pre: Rates | None, repeats: int, gap: int
) -> tuple[Tensor, Tensor]:
    """Pre- and postsynaptic spikes of one window, each `[200]`."""
    if repeats < 1 or gap < 0:
        raise ValueError(f"repeats={repeats}, gap={gap}: at least one induction, and a gap of 0 ms or more")
    post = (first_hz, second_hz)
    if pre is None:
        pre = post
    elif not isinstance(pre, tuple):
        pre = (pre, pre)
    sender, receiver = (torch.cat([regular(hz, HALF) for hz in rates]) for rates in (pre, post))
    return sender, receiver


__all__ = ["JANG", "Condition", "epsp", "fitted_gain", "hebbian_protocol", "jang_protocol", "statistics"]
