"""Hebb: cells that are active together under the outcome, with no prediction to compare it to."""

import torch
from torch import Tensor

from unrolled.cortex.rate.learn import Step, finite, losses, misses
from unrolled.cortex.rate.net import Net


@torch.no_grad()
def hebb(net: Net, images: Tensor, labels: Tensor) -> Step:
    """Hebb with the output clamped to the outcome, dw = (cov(y, x) - var(y) w) / <var(y)>: the control without an error.

    The covariance form of Hebb's rule (Sejnowski 1977) with Oja's decay (1982), which keeps weights bounded; both over
    the batch. The same synapses see the same two ends as in the contrastive rules, but in one phase only. <var(y)>, the
    mean over the layer, makes a learning rate mean the same in every layer, and changes no fixed point. The bias of a
    unit has nothing to learn from and stays.

    Args:
        net: the network; its feed-forward state is used, with the output clamped.
        images: `[batch, *shape]`.
        labels: integers `[batch]`, or targets `[batch, outputs]`.

    Raises:
        ValueError: as `changes`.

    Example:
        A linear unit learns the direction in which its inputs vary, with norm 1: Oja's closed form.

        >>> from unrolled.cortex.rate import Momentum
        >>> net = Net(2, [1, 1], activation="linear", rng=1, dtype=torch.float64)
        >>> memory, x = Momentum(net, 0.1, 0.0), torch.tensor([[3.0, 4.0], [-3.0, -4.0]], dtype=torch.float64)
        >>> for _ in range(200):
        ...     memory.apply(net, hebb(net, x, torch.tensor([0, 0])).changes)
        >>> [round(abs(w), 4) for w in net.paths[0].weight[0].tolist()]
        [0.6, 0.8]
    """
    x, target = net.batch(images, labels)
    below, made, n = x, dict[str, Tensor](), target
    for k, path in enumerate(net.paths):
        drive, winners = path.up(below)
        n = path.add_bias(drive)
        y = net.activity(k, n) if k < len(net.paths) - 1 else target
        post = y - y.mean(0)
        square = path.each(post.square())
        change = path.product(below - below.mean(0), post, winners)
        change = change - square.view(-1, *[1] * (path.weight.dim() - 1)) * path.weight
        made[f"{path.name}.weight"] = change / square.mean().clamp_min(torch.finfo(y.dtype).eps)
        below = y
    loss = finite(float(losses(net, n, target).mean()))
    return Step(made, loss, misses(n, labels), len(x))
