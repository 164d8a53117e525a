"""Feedback alignment: errors sent down through fixed random weights, on the same feed-forward network."""

import torch
from torch import Tensor

from unrolled.cortex.rate.learn import Step, finite, losses, misses
from unrolled.cortex.rate.net import Net


@torch.no_grad()
def feedback_alignment(net: Net, images: Tensor, labels: Tensor) -> Step:
    """Backprop with each path's transpose replaced by its fixed random `back` (Lillicrap et al. 2016).

    delta_L = -dC/dn_L, delta_l = f'(n_l) B_{l+1}^T delta_{l+1}, dw_l = delta_l y_{l-1}: a pass down with explicit errors
    and slopes, which no cell of the cortex has; a baseline.

    Args:
        net: with `feedback="random"`; with symmetric feedback this is backprop without autograd.
        images: `[batch, *shape]`.
        labels: integers `[batch]`, or targets `[batch, outputs]`.

    Raises:
        ValueError: as `changes`.

    Example:
        >>> from unrolled.cortex.rate import backprop
        >>> net = Net(3, [4, 2], rng=0, dtype=torch.float64)
        >>> x, labels = torch.eye(3, dtype=torch.float64), torch.tensor([0, 1, 1])
        >>> a, b = feedback_alignment(net, x, labels).changes, backprop(net, x, labels).changes
        >>> all(torch.allclose(a[name], b[name]) for name in b)
        True
    """
    x, target = net.batch(images, labels)
    ys, nets, winners = [x], [], []
    for k, path in enumerate(net.paths):
        drive, won = path.up(ys[-1])
        nets.append(path.add_bias(drive))
        winners.append(won)
        ys.append(net.activity(k, nets[-1]))
    loss = finite(float(losses(net, nets[-1], target).mean()))
    delta = target - ys[-1]
    if net.cost == "squared" and net.output == "softmax":
        delta = ys[-1] * (delta - (ys[-1] * delta).sum(-1, keepdim=True))
    elif net.cost == "squared" and net.output == "logistic":
        delta = delta * ys[-1] * (1 - ys[-1])
    made: dict[str, Tensor] = {}
    for k in reversed(range(len(net.paths))):
        path = net.paths[k]
        made[f"{path.name}.weight"] = path.product(ys[k], delta, winners[k])
        made[f"{path.name}.bias"] = path.each(delta)
        if k:
            delta = net.activation.slope(nets[k - 1]) * path.down(delta, winners[k])
    return Step(made, loss, misses(nets[-1], labels), len(x))
