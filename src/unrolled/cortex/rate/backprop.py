"""Backprop on the same network without its way down: what the local rules are compared with.

It uses torch's autograd; nothing that learns locally imports this file.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.cortex.rate.layers import Conv
from unrolled.cortex.rate.learn import Step, finite, losses, misses
from unrolled.cortex.rate.net import Net


def backprop(net: Net, images: Tensor, labels: Tensor) -> Step:
    """Descent of the mean loss of the feed-forward network (gain 0), by one backward pass.

    Args:
        net: its weights up are used; those down and the gain are not.
        images: `[batch, *shape]`.
        labels: integers `[batch]`, or targets `[batch, outputs]`.

    Raises:
        ValueError: as `changes`.

    Example:
        As the gain goes to 0 the local rule's change goes there too.

        >>> from unrolled.cortex.rate import changes
        >>> net = Net(3, [4, 2], gain=1e-4, rng=0, dtype=torch.float64)
        >>> x, labels = torch.eye(3, dtype=torch.float64), torch.tensor([0, 1, 1])
        >>> exact, local = backprop(net, x, labels).changes, changes(net, x, labels, beta=1e-3).changes
        >>> all(torch.allclose(exact[name], local[name], rtol=1e-3, atol=1e-5) for name in exact)
        True
    """
    x, target = net.batch(images, labels)
    weights = {name: value for name, value in net.tensors().items() if not name.endswith("back")}
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        y = x
        for k, path in enumerate(net.paths):
            weight, bias = leaves[f"{path.name}.weight"], leaves[f"{path.name}.bias"]
            layer = path.layer
            if isinstance(layer, Conv):
                n = F.conv2d(y, weight, padding=layer.kernel // 2)
                if layer.pool > 1:
                    n = (F.max_pool2d if layer.pool_by == "max" else F.avg_pool2d)(n, layer.pool)
                n = n + bias.view(-1, 1, 1)
            else:
                n = F.linear(y.flatten(1), weight, bias)
            y = net.activity(k, n)
        loss = losses(net, n, target).mean()
        found = torch.autograd.grad(loss, list(leaves.values()))
    made = {name: -value for name, value in zip(leaves, found)}
    return Step(made, finite(float(loss.detach())), misses(n.detach(), labels), len(x))
