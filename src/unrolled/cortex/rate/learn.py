"""Learning without a backward pass: settle, nudge, and let every synapse read its own two ends.

>>> import torch
>>> from unrolled.cortex.rate import Momentum, Net, learn
>>> net = Net(4, [8, 2], rng=0)
>>> x, labels = torch.eye(4), torch.tensor([0, 1, 0, 1])
>>> memory = Momentum(net, lr=0.5)
>>> steps = [learn(net, x, labels, memory) for _ in range(60)]
>>> steps[0].wrong, steps[-1].wrong, steps[-1].loss < 0.1 * steps[0].loss
(4.0, 0.0, True)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unrolled.cortex.rate.centered import centered
from unrolled.cortex.rate.net import Net
from unrolled.cortex.rate.rule import Phases, Rule
from unrolled.cortex.rate.settle import descend, nudge, settle

SWEEPS = 2
"""Default sweeps of the free phase beyond its feed-forward start."""
NUDGED = 1
"""Default sweeps of a nudged phase beyond its first way down."""


@dataclass
class Step:
    """What a batch taught.

    Attributes:
        changes: direction of descent of the mean loss for each weight, by name (`hidden1.weight`, ...).
        loss: mean loss of the prediction, before learning.
        wrong: how many predictions missed (integer labels), else NaN.
        count: samples.
        sweeps: of the free phase, and of the nudged phases.
    """

    changes: dict[str, Tensor]
    loss: float
    wrong: float
    count: int
    sweeps: tuple[int, ...] = ()

    @property
    def error(self) -> float:
        """Share of the batch that was predicted wrongly."""
        return self.wrong / self.count


class Memory(Protocol):
    """What turns changes into weights: `Momentum`, or anything else with its `apply`."""

    def apply(self, net: Net, changes: Mapping[str, Tensor], factor: float = 1.0) -> None:
        """Move the weights along the changes, at `factor` times the learning rate."""
        ...


class Momentum:
    """Each synapse's own velocity: v = momentum v + dw - decay w; w += lr v.

    The same for every way to get the changes, so that they compare on equal terms. With `decay` and learned feedback,
    the weights of the two directions become each other's transpose (Kolen & Pollack 1994).

    Args:
        net: whose weights.
        lr: learning rate.
        momentum: 0 to below 1.
        decay: of weights, not of biases.

    Raises:
        ValueError: a rate or factor that makes no sense.
    """

    def __init__(self, net: Net, lr: float, momentum: float = 0.9, decay: float = 0.0) -> None:
        if not (lr > 0 and math.isfinite(lr) and 0 <= momentum < 1 and decay >= 0):
            raise ValueError(
                f"lr={lr}, momentum={momentum}, decay={decay}: a rate above 0, a momentum from 0 to below 1, a decay from 0 on"
            )
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self.velocity = {name: torch.zeros_like(value) for name, value in net.tensors().items()}

    @torch.no_grad()
    def apply(self, net: Net, changes: Mapping[str, Tensor], factor: float = 1.0) -> None:
        """Move the weights; names without a change stay where they are.

        Args:
            net: the network.
            changes: direction of descent by name, as `Step.changes`.
            factor: of the learning rate: a schedule's.
        """
        for name, value in net.tensors().items():
            if name not in changes:
                continue
            v = self.velocity[name].mul_(self.momentum).add_(changes[name])
            if self.decay and not name.endswith("bias"):
                v.add_(value, alpha=-self.decay)
            value.add_(v, alpha=self.lr * factor)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dict(self.velocity)

    def load_state_dict(self, kept: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        for name, value in self.velocity.items():
            value.copy_(kept[name])


def learn(
    net: Net, images: Tensor, labels: Tensor, memory: Memory, *, factor: float = 1.0, **options: Any
) -> Step:
    """One batch: `changes`, applied.

    Args:
        net: learns in place.
        images: `[batch, *shape]`.
        labels: integers `[batch]`, or targets `[batch, outputs]`.
        memory: learning rate and velocities: a `Momentum`, or what has its `apply`.
        factor: of the learning rate.
        options: of `changes`.

    Raises:
        ValueError, NotSettling: as `changes`; the weights are then untouched.
    """
    step = changes(net, images, labels, **options)
    memory.apply(net, step.changes, factor)
    return step


@torch.no_grad()
def changes(
    net: Net,
    images: Tensor,
    labels: Tensor,
    *,
    rule: Rule = centered,
    beta: float = 0.1,
    sides: int | None = None,
    sweeps: int = SWEEPS,
    nudged: int = NUDGED,
    tol: float | None = None,
    anderson: int = 0,
) -> Step:
    """What a rule would change, without changing it: no backward pass, no stored graph, only two phases.

    A layer l below the output hears the nudge through L - l gains; its change is scaled by c_l = gain^-(L-l)
    (`Net.scales`), which makes it the gradient's own size.

    Args:
        net: the network.
        images: `[batch, *shape]`.
        labels: integers `[batch]`, or targets `[batch, outputs]`.
        rule: `generec`, `midpoint`, `chl` or `centered`.
        beta: strength of the nudge; 1 with cross-entropy clamps the output.
        sides: phases pushed away as well as drawn in (2) or the free phase and a drawn one (1); the rule's own.
        sweeps: of the free phase, at most.
        nudged: of each nudged phase, at most, after its first way down; with 0 that way down is all, and no more than two
            layers' changes are held at a time.
        tol: ends a phase early, as in `settle` (free) and `nudge` (relative); None makes all sweeps.
        anderson: as in `settle`.

    Raises:
        ValueError: beta 0, labels out of range, images of the wrong shape or not finite.
        NotSettling: the network does not settle.
    """
    if not math.isfinite(beta) or beta == 0:
        raise ValueError(
            f"beta={beta}: without a nudge the two phases are one and nothing is learned; 0.1 is usual"
        )
    sides = rule.sides if sides is None else sides
    if sides not in (1, 2):
        raise ValueError(f"sides={sides}: 1 (from the free phase) or 2 (centered)")
    x, target = net.batch(images, labels)
    base = settle(net, x, sweeps=sweeps, tol=tol, anderson=anderson)
    loss, wrong = finite(float(losses(net, base.nets[-1], target).mean())), misses(base.nets[-1], labels)
    made: dict[str, Tensor] = {}
    strengths = [scale / (sides * beta) for scale in net.scales]

    def write(k: int, pre: Phases, post: Phases) -> None:
        path = net.paths[k]
        made[f"{path.name}.weight"] = rule.weight(path, pre, post, base.winners[k]).mul_(strengths[k])
        made[f"{path.name}.bias"] = rule.bias(path, post).mul_(strengths[k])
        if path.back is not None and net.feedback == "learned":
            made[f"{path.name}.back"] = made[f"{path.name}.weight"]

    betas = (beta,) if sides == 1 else (beta, -beta)
    counts: list[int] = []
    if nudged:
        phases = [nudge(net, base, target, b, sweeps=nudged, tol=tol) for b in betas]
        counts = [count for _, count in phases]
        pre = Phases(x, None, None)
        for k, y in enumerate(base.ys):
            post = Phases(y, phases[1][0][k] if sides == 2 else None, phases[0][0][k])
            write(k, pre, post)
            pre = post
    else:  # one way down: a layer's changes are needed until the next layer's are there
        post = None
        for k, ds in descend(net, base, target, betas):
            pre = Phases(base.ys[k], ds[1] if sides == 2 else None, ds[0])
            if post is not None:
                write(k + 1, pre, post)
            post = pre
        assert post is not None
        write(0, Phases(x, None, None), post)
        made = {name: made[name] for name in net.tensors() if name in made}
    return Step(made, loss, wrong, len(x), (base.sweeps, *counts))


def losses(net: Net, n: Tensor, target: Tensor) -> Tensor:
    """Loss of each sample, given the output's net input."""
    if net.cost == "squared":
        return (target - net.activity(len(net.paths) - 1, n)).square().sum(-1) / 2
    if net.output == "softmax":
        return -(target * n.log_softmax(-1)).sum(-1)
    return torch.nn.functional.binary_cross_entropy_with_logits(n, target, reduction="none").sum(-1)


def misses(n: Tensor, labels: Tensor) -> float:
    """How many samples' largest output is not the label's; NaN for targets that are no labels."""
    if labels.is_floating_point():
        return math.nan
    return float((n.argmax(-1) != labels.to(n.device)).sum())


def finite(loss: float) -> float:
    """The loss, if it is a number.

    Raises:
        ValueError: it is not.
    """
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss}: the weights have diverged; nothing was changed; lower the learning rate"
        )
    return loss


@torch.no_grad()
def predict(net: Net, images: Tensor, *, sweeps: int = SWEEPS, batch: int = 1000) -> Tensor:
    """Output activity of the settled network, `[images, outputs]`, a batch at a time."""
    return torch.cat([settle(net, part, sweeps=sweeps, tol=None).ys[-1] for part in images.split(batch)])
