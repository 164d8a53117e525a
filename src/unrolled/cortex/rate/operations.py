"""Synaptic operations of an update, and what they would cost in energy."""

from dataclasses import dataclass

from unrolled.cortex.rate.net import Net

PICOJOULES = {"float32": 4.6, "int8": 0.23, "spike": 0.9}
"""Energy of one synaptic operation in pJ, arithmetic alone, 45 nm at 0.9 V (Horowitz, ISSCC 2014, table of operations):
float32 multiply 3.7 + add 0.9; int8 multiply 0.2 + add 0.03; a spike adds a float32 weight. Moving weights from memory
costs far more on a processor (a 32-bit word from DRAM: 640 pJ) and is not in it; on a chip whose synapses hold their
weights there is none to move."""


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates for one sample.

    Attributes:
        up: drives from below.
        down: drives from above.
        product: changes of weights.
    """

    up: int
    down: int
    product: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.up + self.down + self.product

    def joules(self, kind: str = "float32") -> float:
        """Energy of them all, arithmetic alone, by `PICOJOULES`.

        Raises:
            KeyError: no such kind.
        """
        return self.total * PICOJOULES[kind] * 1e-12


def operations(
    net: Net, *, sweeps: int = 2, nudged: int = 1, sides: int = 2, products: int = 2
) -> Operations:
    """Synaptic operations of one local update: counted, not timed.

    The first path is heard once (its input is clamped) and never sends down; the others are heard once by the
    feed-forward start, once up and once down in each sweep; in each nudged phase once down, then up and down `nudged`
    times. A rule takes 1 product of a path (GeneRec, midpoint) or 2 (CHL, centered; 1 for the lowest path).

    Args:
        net: the network.
        sweeps: of the free phase, as made.
        nudged: of each nudged phase, as made.
        sides: nudged phases.
        products: of the rule.

    Example:
        >>> net = Net(10, [20, 5])
        >>> operations(net, sweeps=1, nudged=0)
        Operations(up=400, down=300, product=400)
        >>> of_backprop(net)
        Operations(up=300, down=100, product=300)
    """
    first, rest = net.paths[0].macs, sum(path.macs for path in net.paths[1:])
    if len(net.paths) == 1:
        sweeps = nudged = 0
    up = first + rest * (1 + sweeps + sides * nudged)
    down = rest * (sweeps + sides * (1 + nudged))
    return Operations(up, down, first + products * rest)


def of_backprop(net: Net) -> Operations:
    """Synaptic operations of one backprop step on the same weights: forward, errors down, changes.

    Example:
        >>> of_backprop(Net(10, [5])).total  # a single layer sends no error down
        100
    """
    first, rest = net.paths[0].macs, sum(path.macs for path in net.paths[1:])
    return Operations(first + rest, rest, first + rest)
