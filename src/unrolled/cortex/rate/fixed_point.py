"""Fixed point: weights of 8 bits and traces of 8 bits while learning, as a chip has them.

Nothing is kept beside the integers: no float copy of the weights, no velocity. A change smaller than the least bit is
rounded up or down by chance, so that it counts in the mean.

>>> from unrolled.cortex.rate import Net, centered, learn
>>> net = Net(4, [16, 2], rng=0)
>>> x, labels = torch.eye(4), torch.tensor([0, 1, 0, 1])
>>> weights = Weights(net, lr=0.5, rng=0)
>>> steps = [learn(net, x, labels, weights, rule=traces(centered, rng=0)) for _ in range(200)]
>>> steps[-1].wrong, weights.integers["hidden1.weight"].dtype, bool(net.paths[0].weight.unique().numel() <= 255)
(0.0, torch.int8, True)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.cortex.rate.net import Net
from unrolled.cortex.rate.paths import Path
from unrolled.cortex.rate.rule import Phases, Rule

BIAS_BITS = 16
"""A unit has one bias and many synapses: it can afford more."""


def unit(most: float, bits: int) -> float:
    """The least power of two of which `2^(bits-1) - 1` reach `most`: the worth of the least bit; 1 for nothing.

    Example:
        >>> unit(127.0, 8), unit(1.0, 8), unit(1.0, 4)
        (1.0, 0.015625, 0.25)
    """
    if not math.isfinite(most):
        raise ValueError(
            f"the largest value is {most}: there are no integers for it; the network has diverged"
        )
    return 2.0 ** math.ceil(math.log2(most / (2 ** (bits - 1) - 1))) if most > 0 else 1.0


def rounded(x: Tensor, rng: torch.Generator | None) -> Tensor:
    """To whole numbers: up or down by chance, so that the mean is x; to the nearest without a generator.

    Example:
        >>> x = torch.full((10_000,), 0.3)
        >>> float(rounded(x, None).sum()), abs(float(rounded(x, seeds.generator(0)).mean()) - 0.3) < 0.02
        (0.0, True)
    """
    if rng is None:
        return x.round()
    chance = torch.rand(x.shape, generator=rng, dtype=torch.float32, device=rng.device).to(x)
    return (x + chance).floor()


@dataclass(frozen=True)
class Traced(Rule):
    """A rule that hears both ends of a synapse through traces of few bits; made by `traces`."""

    bits: int = 8
    subtract: bool = False
    rng: torch.Generator | None = None

    def __call__(self, x: Phases) -> Phases:
        """What is left of a layer's phases."""
        if x.high is None:
            return Phases(self.quantized(x.free), None, None)
        if self.subtract:
            worth = unit(float(torch.maximum(x.minus.abs().max(), x.plus.abs().max())), self.bits)
            low, high = (self.quantized(y, worth) for y in (x.minus, x.plus))
            return Phases(low, None, high - low)
        change = x.change
        assert change is not None
        mean, moved = self.quantized(x.mean), self.quantized(change)
        return Phases(mean - moved / 2, None, moved)

    def quantized(self, y: Tensor, worth: float | None = None) -> Tensor:
        """A trace's values, as the numbers that its integers stand for."""
        worth = unit(float(y.abs().max()), self.bits) if worth is None else worth
        most = 2 ** (self.bits - 1) - 1
        return rounded(y / worth, self.rng).clamp_(-most, most) * worth

    def bias(self, path: Path, y: Phases) -> Tensor:
        """The mean change, of the trace."""
        return super().bias(path, self(y))


def traces(
    rule: Rule, bits: int = 8, *, subtract: bool = False, rng: int | torch.Generator | None = 0
) -> Traced:
    """A rule whose synapses read activities in few bits.

    Each layer's traces share one power of two, the least that covers the batch; products of traces are summed wide, as
    in any integer multiplier.

    Args:
        rule: `generec`, `midpoint`, `chl` or `centered`.
        bits: of a trace, its sign included; 2 to 16.
        subtract: False sends the mean activity and its change, a trace each, the change formed inside the cell before
            it is rounded (which is what fast minus slow integral does). True sends the activity of the two phases and
            subtracts afterwards: with a weak nudge the difference is below the least bit.
        rng: seed of rounding by chance; None rounds to the nearest.

    Raises:
        ValueError: a number of bits that makes no sense.

    Example:
        >>> from unrolled.cortex.rate import centered
        >>> phases = Phases(torch.tensor([1.0, 0.5]), torch.tensor([-1e-4, 0.0]), torch.tensor([1e-4, 0.0]))
        >>> together, apart = (traces(centered, subtract=s, rng=None)(phases) for s in (False, True))
        >>> [round(float(v), 6) for v in together.change], apart.change.tolist()
        ([0.0002, 0.0], [0.0, 0.0])
    """
    _check(bits, "bits")

    def weight(path: Path, x: Phases, y: Phases, winners: Tensor | None) -> Tensor:
        return rule.weight(path, made(x), made(y), winners)

    made = Traced(f"{rule.name}, {bits} bits", rule.sides, weight, bits, subtract, seeds.generator(rng))
    return made


class Weights:
    """Weights that are integers; in the place of `Momentum`.

    w = q 2^e with |q| < 2^(bits-1), one power of two a tensor, set once from the largest weight at the start and
    `headroom`. `apply` adds lr dw / 2^e, rounded, to q. Biases have 16 bits.

    Args:
        net: its weights are rounded at once.
        lr: learning rate.
        bits: of a weight, its sign included; 2 to 16.
        extra: bits below the least one that the synapse keeps to itself: it learns with `bits + extra`, and is heard with
            `bits`. 0 for none.
        headroom: how far weights can grow beyond the largest at the start; at the bound they stay.
        rng: seed of rounding by chance; None rounds changes to the nearest, where small ones vanish.

    Attributes:
        integers: what is kept, by name, in the smallest integers that hold it.
        saturated: share of weights at the bound.

    Raises:
        ValueError: a rate, a number of bits or a headroom that makes no sense.
    """

    def __init__(
        self, net: Net, lr: float, bits: int = 8, *, extra: int = 0, headroom: float = 4.0, rng: int | torch.Generator | None = 0
    ) -> None:  # fmt: skip
        _check(bits, "bits")
        if not (lr > 0 and math.isfinite(lr) and extra >= 0 and headroom >= 1) or bits + extra > 24:
            raise ValueError(
                f"lr={lr}, extra={extra}, headroom={headroom}: a rate above 0, no more than 24 bits in all, a headroom from 1 on"
            )
        self.lr, self.bits, self.extra, self.rng = lr, bits, extra, seeds.generator(rng)
        self.integers: dict[str, Tensor] = {}
        self.worth: dict[str, float] = {}
        self.bits_of: dict[str, int] = {}
        for name, value in net.tensors().items():
            bias = name.endswith("bias")
            self.bits_of[name] = BIAS_BITS if bias else bits
            most = headroom * (float(value.abs().max()) or 1.0)
            self.worth[name] = unit(most, self.bits_of[name]) / 2 ** self._extra(name)
            self.integers[name] = (value / self.worth[name]).round().to(self._dtype(name))
        self._write(net)

    @torch.no_grad()
    def apply(self, net: Net, changes: Mapping[str, Tensor], factor: float = 1.0) -> None:
        """Move the weights; names without a change stay where they are.

        Args:
            net: the network.
            changes: direction of descent by name, as `Step.changes`.
            factor: of the learning rate: a schedule's.

        Raises:
            ValueError: a change that is not finite; nothing has moved then.
        """
        odd = [name for name, dw in changes.items() if not bool(torch.isfinite(dw).all())]
        if odd:
            raise ValueError(
                f"{odd[0]}: the change is not finite, and no integer is near it; nothing was changed"
            )
        for name, q in self.integers.items():
            if name not in changes:
                continue
            steps = rounded(changes[name] * (self.lr * factor / self.worth[name]), self.rng)
            most = self._most(name)
            q.copy_((q + steps).clamp_(-most, most))
        self._write(net)

    @property
    def saturated(self) -> float:
        """Share of weights, biases left out, at the bound."""
        mine = {name: q for name, q in self.integers.items() if not name.endswith("bias")}
        return sum(int((q.abs() >= self._most(name)).sum()) for name, q in mine.items()) / sum(
            q.numel() for q in mine.values()
        )

    @property
    def bytes(self) -> int:
        """What learning and being heard need: all integers."""
        return sum(q.numel() * q.element_size() for q in self.integers.values())

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the integers, and the generator."""
        rng = None if self.rng is None else self.rng.get_state()
        return {"integers": dict(self.integers), "worth": dict(self.worth), "rng": rng}

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; the network takes its weights from its own."""
        for name, q in self.integers.items():
            q.copy_(kept["integers"][name])
        self.worth = dict(kept["worth"])
        if self.rng is not None and kept["rng"] is not None:
            self.rng.set_state(kept["rng"])

    def _write(self, net: Net) -> None:
        for path in net.paths:
            path.put(lambda name, value: self._heard(f"{path.name}.{name}", value))  # noqa: B023 - called at once

    def _heard(self, name: str, like: Tensor) -> Tensor:
        extra = self._extra(name)
        most = 2 ** (self.bits_of[name] - 1) - 1
        whole = (self.integers[name] / 2.0**extra + 0.5).floor().clamp(-most, most)
        return (whole * (self.worth[name] * 2**extra)).to(like)

    def _extra(self, name: str) -> int:
        return 0 if name.endswith("bias") else self.extra

    def _most(self, name: str) -> int:
        return 2 ** (self.bits_of[name] + self._extra(name) - 1) - 1

    def _dtype(self, name: str) -> torch.dtype:
        bits = self.bits_of[name] + self._extra(name)
        return torch.int8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32


def _check(bits: int, what: str) -> None:
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"{what}={bits!r}: a number of bits with the sign, 2 to 16")
