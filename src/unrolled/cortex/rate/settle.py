"""Settling: sweeps down and up from a feed-forward start, and the same for the small change that a nudge makes."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.core import Stop
from unrolled.cortex.rate.anderson import Anderson
from unrolled.cortex.rate.layers import ACTIVATIONS, softmax_difference
from unrolled.cortex.rate.net import Net, Nudged, State

PATIENCE = 3
"""Sweeps in a row over which the change has to grow before settling is given up."""

ROUNDING = 1e-2
"""Part of the first change below which growth is not judged: it is that of rounding errors."""


FEW = 8
"""Samples that are watched when nothing is to stop early."""
RUNAWAY = 2.0
"""Growth of the change from one sweep to the next at which a phase of fixed length is given up."""


class NotSettling(RuntimeError):
    """A network that moves away from any fixed point.

    Attributes:
        layer: the one that moves most.
        radius: by how much the change of state grows per sweep: an estimate of the spectral radius of the sweep.
    """

    def __init__(self, layer: str, radius: float, sweeps: int, gain: float) -> None:
        self.layer, self.radius = layer, radius
        super().__init__(
            f"the network does not settle: after {sweeps} sweeps {layer} changes {radius:.3g} times as much as a sweep before "
            f"(spectral radius of a sweep: about {radius:.3g}, below 1 settles); lower gain (now {gain:g}), the learning "
            "rate, or raise weight decay"
        )


@dataclass
class Settled:
    """A settled state, and how it came about.

    Attributes:
        x: the clamped input.
        ys: activity of each layer above the input, `[batch, ...]`.
        nets: their net inputs.
        winners: of each path's max pools; None where there is none.
        sweeps: made, the feed-forward start not counted.
        residuals: largest change of an activity in each sweep; of the first eight samples when no `tol` was given.
        stop: `"settled"`, or `"steps"` when the last change was still above the tolerance.
    """

    x: Tensor
    ys: list[Tensor]
    nets: list[Tensor]
    winners: list[Tensor | None]
    sweeps: int
    residuals: list[float]
    stop: Stop

    def state(self, net: Net) -> State:
        """As a state of the system."""
        won = {f"{name}.winners": w for name, w in zip(net.names, self.winners) if w is not None}
        return {**dict(zip(net.names, self.ys)), **won}


@torch.no_grad()
def settle(
    net: Net,
    images: Tensor,
    *,
    sweeps: int = 50,
    tol: float | None = 1e-5,
    anderson: int = 0,
    state: State | None = None,
) -> Settled:
    """Settle freely: the minus phase, the network's prediction.

    Starts from a feed-forward sweep, which already is the fixed point when nothing comes down; each sweep then goes down
    and up once, so that news from either end reaches every layer in one (symmetric Gauss-Seidel). The input's drive is
    computed once.

    Args:
        net: the network.
        images: `[batch, *shape]`.
        sweeps: at most.
        tol: settled when no activity changed by more in a sweep; None makes `sweeps` sweeps, and looks at eight samples alone.
        anderson: how many earlier sweeps to extrapolate from (Anderson acceleration); each costs a network state of
            memory, and pays for gains that settle slowly. 0 for none.
        state: where to start instead.

    Raises:
        NotSettling: the change grows sweep after sweep, doubles in the last of a fixed number, or is not finite.
        ValueError: images that the network does not take.

    Example:
        y = 0.5 (x + z), z = 0.5 y for linear units at gain 1: y = 0.5 x / (1 - 0.25).

        >>> net = Net(1, [1, 1], activation="linear", output="linear", cost="squared", gain=1.0)
        >>> for path in net.paths:
        ...     path.put(lambda name, value: torch.full_like(value, 0.5 * (name == "weight")))
        >>> found = settle(net, torch.ones(1, 1), tol=1e-6)
        >>> round(float(found.ys[0]), 5), round(float(found.ys[1]), 5), found.stop.reason
        (0.66667, 0.33333, 'settled')
    """
    x = net.images(images)
    top = len(net.paths) - 1
    if state is None:
        ys, bottoms, winners = net.feed(x)
    elif any(len(state[name]) != len(x) for name in net.names):
        raise ValueError(f"a state of {len(state[net.names[0]])} samples for {len(x)} images")
    else:
        ys, winners = (
            [state[name] for name in net.names],
            [state.get(f"{name}.winners") for name in net.names],
        )
        bottoms = _heard(net, x, ys, winners)
    # Once a layer has moved, what it heard from the side that speaks next is forgotten: it will be heard anew.
    nets, tops = list(bottoms), list[Tensor | None]([None] * (top + 1))
    heard: list[Tensor | None] = list(bottoms)
    del bottoms
    memory = Anderson(anderson) if anderson else None
    watch = _Watch(net, tol)
    made, reason = 0, "steps"

    def move(k: int) -> None:
        nets[k] = _both(heard[k], tops[k])
        new = net.activity(k, nets[k])
        watch.see(k, ys[k], new)
        ys[k] = new

    while made < sweeps and reason == "steps" and top:
        before = list(ys) if memory else []
        for k in reversed(range(top)):
            tops[k] = net.gain * net.paths[k + 1].down(ys[k + 1], winners[k + 1])
            move(k)
            if k:
                heard[k] = None
        for k in range(1, top + 1):
            heard[k] = net.paths[k].drive(ys[k - 1], winners[k])
            move(k)
            tops[k] = None
        made += 1
        reason = watch.judge(made)
        if memory is not None and reason == "steps" and made < sweeps:
            ys = memory.next(ys, before)
            heard[1:] = _heard(net, x, ys, winners)[1:]
    watch.finish(made)
    if not made:
        reason = "settled"
    return Settled(x, ys, nets, winners, made, watch.residuals, Stop(reason, made))


@torch.no_grad()
def nudge(
    net: Net,
    base: Settled,
    target: Tensor,
    beta: float,
    *,
    sweeps: int = 10,
    tol: float | None = 1e-3,
) -> tuple[list[Tensor], int]:
    """Settle under a nudge of the output from a free state: the plus phase, as the change d that the nudge makes.

    d_l = f(n_l + w_l d_{l-1} + gain w_{l+1}^T d_{l+1}) - f(n_l), with the nudge at the output: the very dynamics of
    settling, written for the difference of the states, and computed without subtracting the two. Without a nudge d = 0
    exactly, however well the free state had settled, and a change of 1e-10 is as precise as one of 1: in bfloat16 too. Pools keep the winners of the free
    state.

    Args:
        net: the network.
        base: its free state.
        target: `[batch, outputs]`.
        beta: strength; negative for a push away.
        sweeps: up and down, at most, after the first way down.
        tol: settled when no change differs by more than this part of the largest in its layer.

    Returns:
        d of each layer, and how many sweeps were made.
    """
    top = len(net.paths) - 1
    ds = list(base.ys)
    # The drives that changed: each is heard anew before it is used again, so a layer keeps the one from one side only.
    bottoms, tops = (list[Tensor | None]([None] * (top + 1)) for _ in range(2))
    for k in reversed(range(top + 1)):
        if k < top:
            tops[k] = net.gain * net.paths[k + 1].down(ds[k + 1], base.winners[k + 1])
        ds[k] = change(net, base, k, tops[k], target, beta, None)
    watch = _Watch(net, tol, relative=True)

    def move(k: int) -> None:
        new = change(net, base, k, _sum(bottoms[k], tops[k]), target, beta, ds[k])
        watch.see(k, ds[k], new)
        ds[k] = new

    made = 0
    while made < sweeps and top and net.gain:
        for k in range(1, top + 1):
            bottoms[k] = net.paths[k].up(ds[k - 1], base.winners[k])[0]
            move(k)
            tops[k] = None
        for k in reversed(range(top)):
            tops[k] = net.gain * net.paths[k + 1].down(ds[k + 1], base.winners[k + 1])
            move(k)
            bottoms[k] = None
        made += 1
        if watch.judge(made) == "settled":
            break
    return ds, made


@torch.no_grad()
def descend(
    net: Net, base: Settled, target: Tensor, betas: tuple[float, ...]
) -> Iterator[tuple[int, list[Tensor]]]:
    """The first way down of nudges, layer by layer from the output: each layer hears the one above it once.

    Yields:
        The layer, and its change under each beta. Whoever does not keep them has two layers' changes in memory.
    """
    top = len(net.paths) - 1
    above: list[Tensor] = []
    for k in reversed(range(top + 1)):
        if k == top:
            above = [change(net, base, k, None, target, beta, None) for beta in betas]
        else:
            path, won = net.paths[k + 1], base.winners[k + 1]
            above = [change(net, base, k, net.gain * path.down(d, won), target, 0.0, None) for d in above]
        yield k, above


def change(
    net: Net, base: Settled, k: int, heard: Tensor | None, target: Tensor, beta: float, so_far: Tensor | None
) -> Tensor:
    """By how much layer k's activity changes when its net input changes by `heard`, under a nudge of the output."""
    n = base.nets[k]
    if k < len(net.paths) - 1:
        return net.activation.difference(n, torch.zeros_like(n) if heard is None else heard)
    pull = target - base.ys[k]
    if net.cost == "cross_entropy":  # z' + beta (t - z') - z
        moved = torch.zeros_like(n) if heard is None else _output_difference(net, n, heard)
        return (1 - beta) * moved + beta * pull
    if net.output == "linear":  # the fixed point of d = heard + beta (t - z - d)
        return _both(beta * pull, heard) / (1 + beta)
    return _output_difference(net, n, _both(beta * (pull if so_far is None else pull - so_far), heard))


def _output_difference(net: Net, n: Tensor, d: Tensor) -> Tensor:
    return softmax_difference(n, d) if net.output == "softmax" else ACTIVATIONS[net.output].difference(n, d)


def output(net: Net, n: Tensor, y: Tensor, nudged: Nudged | None) -> Tensor:
    """Activity of the output layer for its net input n, under a nudge if there is one; y is its activity so far."""
    top = len(net.paths) - 1
    if nudged is None:
        return net.activity(top, n)
    target, beta = nudged.target, nudged.beta
    if net.cost == "cross_entropy":
        free = net.activity(top, n)
        return free + beta * (target - free)
    if ACTIVATIONS.get(net.output) is ACTIVATIONS["linear"]:
        return (n + beta * target) / (1 + beta)  # the fixed point of z = n + beta (t - z)
    return net.activity(top, n + beta * (target - y))


class _Watch:
    """How much each layer changes per sweep, and whether that ends.

    Without a tolerance it looks at a few samples and waits for the end with its verdict: next to no cost, and no wait for
    the device between sweeps.
    """

    def __init__(self, net: Net, tol: float | None, *, relative: bool = False) -> None:
        self.net, self.tol, self.relative = net, tol, relative
        self.residuals: list[float] = []
        self._seen: dict[int, Tensor] = {}
        self._rows: list[Tensor] = []

    def see(self, k: int, old: Tensor, new: Tensor) -> None:
        if self.tol is None:
            if self.relative:
                return
            old, new = old[:FEW], new[:FEW]
        change = (new - old).abs().amax()
        if self.relative:
            change = change / new.abs().amax().clamp_min(torch.finfo(new.dtype).tiny)
        self._seen[k] = torch.maximum(change, self._seen[k]) if k in self._seen else change

    def judge(self, made: int) -> str:
        """After a sweep: `"settled"` or `"steps"`."""
        if not self._seen:
            return "steps"
        row = torch.stack([self._seen[k] for k in sorted(self._seen)])
        self._seen = {}
        if self.tol is None:
            self._rows.append(row)
            return "steps"
        return self._weigh(row.tolist(), made, PATIENCE)

    def finish(self, made: int) -> None:
        """After the last sweep without a tolerance: a change that has more than doubled from sweep to sweep runs away."""
        for i, row in enumerate(torch.stack(self._rows).tolist() if self._rows else []):
            self._weigh(row, i + 1, PATIENCE)
        last = self.residuals[-2:]
        if self.tol is None and len(last) == 2 and last[1] > RUNAWAY * last[0] > 0:
            self._give_up(last[1] / last[0], made)

    def _weigh(self, each: list[float], made: int, patience: int) -> str:
        worst = max(each, key=lambda x: math.inf if math.isnan(x) else x)
        self.residuals.append(worst)
        self._layer = self.net.names[each.index(worst)]
        if not math.isfinite(worst):
            self._give_up(math.inf, made)
        if self.tol is not None and worst <= self.tol:
            return "settled"
        last = self.residuals[-patience - 1 :]
        if worst <= ROUNDING * self.residuals[0]:
            return "steps"
        if len(last) > patience and last[0] > 0 and all(b >= a for a, b in itertools.pairwise(last)):
            self._give_up((last[-1] / last[0]) ** (1 / patience), made)
        return "steps"

    def _give_up(self, radius: float, made: int) -> None:
        raise NotSettling(self._layer, radius, made, self.net.gain)


def _heard(net: Net, x: Tensor, ys: list[Tensor], winners: list[Tensor | None]) -> list[Tensor]:
    return [p.drive(below, won) for p, below, won in zip(net.paths, [x, *ys], winners)]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _both(a: Tensor | None, b: Tensor | None) -> Tensor:
    made = _sum(a, b)
    assert made is not None, "a layer hears from at least one side"
    return made
