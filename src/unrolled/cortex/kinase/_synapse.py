"""One synapse, cycle by cycle: the cascade CaM -> CaP -> CaD and the calcium that drives it."""

from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.cortex.td import integral

SPIKE_CA = 8.0
"""Calcium per spike, and gain of the pre x post product; dimensionless, Axon's range 8 to 12."""

TAU_SYN = 30.0
"""Time constant of a neuron's synaptic calcium trace CaSyn, ms."""

TAU_M, TAU_P, TAU_D = 5.0, 40.0, 40.0
"""Time constants of CaM, CaP and CaD, ms; CaP and CaD grow in proportion to the theta cycle (60 for 300 ms)."""


class Cascade(NamedTuple):
    """CaM, CaP and CaD along the first axis; `difference` is the error signal CaP - CaD."""

    m: Tensor
    p: Tensor
    d: Tensor

    @property
    def difference(self) -> Tensor:
        """CaP - CaD at every cycle."""
        return self.p - self.d


def cascade(
    calcium: Tensor,
    tau_m: float = TAU_M,
    tau_p: float = TAU_P,
    tau_d: float = TAU_D,
    start: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Cascade:
    """The cascade CaM -> CaP -> CaD (cortex fact sheet, sections 2.3 and 5.5).

    CaM += (Ca - CaM) / tau_m; CaP += (CaM - CaP) / tau_p; CaD += (CaP - CaD) / tau_d; each uses the value just made.

    Args:
        calcium: Ca, `[cycles, ...]`, one cycle = 1 ms.
        tau_m: of CaM, ms (5 for spikes and synapses, 2 for a neuron's learning calcium).
        tau_p: of CaP, ms.
        tau_d: of CaD, ms.
        start: CaM, CaP, CaD before the first cycle, each `[...]`; zeros by default.

    Returns:
        The three series, each `[cycles, ...]`.

    Raises:
        ValueError: a time constant below 1.

    Example:
        A constant driver is caught up with, so the derivative vanishes:

        >>> late = cascade(torch.ones(2000, dtype=torch.float64))
        >>> [round(float(x[-1]), 6) for x in (*late, late.difference)]
        [1.0, 1.0, 1.0, 0.0]
    """
    m0, p0, d0 = start if start is not None else (0.0, 0.0, 0.0)
    m = integral(calcium, tau_m, m0)
    p = integral(m, tau_p, p0)
    return Cascade(m, p, integral(p, tau_d, d0))


def trace(spikes: Tensor, start: Tensor | float = 0.0) -> Tensor:
    """A neuron's synaptic calcium CaSyn: += (8 spike - CaSyn) / 30, along the first axis (fact sheet, section 5.5).

    Example:
        >>> round(float(trace(torch.tensor([1.0]))[0]), 4)
        0.2667
    """
    return integral(SPIKE_CA * spikes, TAU_SYN, start)


class Synapse(NamedTuple):
    """Calcium state of a synapse: the traces of its two neurons and its cascade, each `[...]`."""

    pre: Tensor
    post: Tensor
    m: Tensor
    p: Tensor
    d: Tensor


def synapse(pre: Tensor, post: Tensor, start: Synapse | None = None) -> tuple[Cascade, Synapse]:
    """Integrate a synapse's calcium at every cycle: the cascade of 8 CaSyn_pre CaSyn_post (fact sheet, section 3).

    Args:
        pre: presynaptic spikes 0 or 1, `[cycles, ...]`.
        post: postsynaptic spikes, same shape.
        start: the state to go on from; at rest by default.

    Returns:
        The cascade, and the state after the last cycle.

    Raises:
        ValueError: different shapes, or no cycles at all.

    Example:
        >>> train = torch.zeros(200, dtype=torch.float64)
        >>> train[0:100:40] = train[100::20] = 1  # 25 Hz, then 50 Hz
        >>> round(float(synapse(train, train)[0].difference[-1]), 4)
        0.2144
    """
    if pre.shape != post.shape or not len(pre):
        raise ValueError(
            f"pre and post are [cycles, ...] of one shape: got {tuple(pre.shape)} and {tuple(post.shape)}"
        )
    rest = (0.0, 0.0, 0.0, 0.0, 0.0)
    s0, r0, *kinases = rest if start is None else start
    s, r = trace(pre, s0), trace(post, r0)
    made = cascade(SPIKE_CA * s * r, start=None if start is None else tuple(kinases))  # pyright: ignore[reportArgumentType]
    return made, Synapse(s[-1], r[-1], made.m[-1], made.p[-1], made.d[-1])


def regular(hz: float, cycles: int) -> Tensor:
    """A regular spike train, `[cycles]` float64: the first spike at 0, then one every round(1000 / hz) ms.

    Raises:
        ValueError: a rate below 0 or above 1000 Hz.

    Example:
        >>> regular(25, 100).nonzero().flatten().tolist()
        [0, 40, 80]
    """
    if not 0 <= hz <= 1000:
        raise ValueError(f"hz={hz}: a train with 1-ms cycles fires at 0 to 1000 Hz")
    train = torch.zeros(cycles, dtype=torch.float64)
    if hz:
        train[:: round(1000 / hz)] = 1
    return train


def poisson(hz: Tensor, rng: torch.Generator | int) -> Tensor:
    """Independent spikes with probability hz / 1000 in every cycle; the shape, dtype and device are those of `hz`.

    Example:
        >>> 0.045 < float(poisson(torch.full((20000,), 50.0), 0).mean()) < 0.055
        True
    """
    return (torch.rand(hz.shape, generator=seeds.generator(rng, hz.device), device=hz.device) < hz / 1000).to(
        hz
    )
