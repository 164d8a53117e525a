"""The naive twin: each phase settled from nothing by stepping all layers at once, and CHL as it is written down.

This is how equilibrium propagation is usually run (T1 = 250 free and T2 = 60 nudged steps in the logs that the cortex
fact sheet cites, section 8.1). It is what `settle`, `nudge` and `centered` are held equal to, and what they are timed
against.
"""

import torch
from torch import Tensor

from unrolled.cortex.rate.net import Net, Nudged
from unrolled.cortex.rate.settle import output


@torch.no_grad()
def settled(
    net: Net,
    images: Tensor,
    steps: int,
    *,
    target: Tensor | None = None,
    beta: float = 0.0,
    start: list[Tensor] | None = None,
) -> list[Tensor]:
    """y_l <- f(w_l y_{l-1} + b_l + gain w_{l+1}^T y_{l+1}), all layers at once, `steps` times, from 0.

    Args:
        net: the network.
        images: `[batch, *shape]`.
        steps: how many.
        target: what the output is nudged to; None for the free phase.
        beta: how strongly.
        start: activities to start from.

    Returns:
        Activity of each layer.
    """
    images = net.images(images)
    winners = _winners(net, images)
    nudged = None if target is None else Nudged(images, target, beta)
    ys = start or [images.new_zeros(len(images), *path.shape) for path in net.paths]
    top = len(ys) - 1
    for _ in range(steps):
        new: list[Tensor] = []
        for k, path in enumerate(net.paths):
            n = path.drive(images if k == 0 else ys[k - 1], winners[k])
            if k < top:
                n = n + net.gain * net.paths[k + 1].down(ys[k + 1], winners[k + 1])
                new.append(net.activity(k, n))
            else:
                new.append(output(net, n, ys[k], nudged))
        ys = new
    return ys


@torch.no_grad()
def changes(
    net: Net, images: Tensor, labels: Tensor, *, beta: float = 0.1, free: int = 250, nudged: int = 60
) -> dict[str, Tensor]:
    """Centered CHL, c_l (x^b y^b - x^-b y^-b) / 2b for every path: descent of the mean loss, by name as `changes`."""
    images, target = net.images(images), net.targets(labels)
    winners = _winners(net, images)
    rest = settled(net, images, free)
    high = settled(net, images, nudged, target=target, beta=beta, start=rest)
    low = settled(net, images, nudged, target=target, beta=-beta, start=rest)
    made: dict[str, Tensor] = {}
    for k, (path, scale) in enumerate(zip(net.paths, net.scales)):
        below = [images if k == 0 else ys[k - 1] for ys in (low, high)]
        minus, plus = (path.product(x, ys[k], winners[k]) for x, ys in zip(below, (low, high)))
        made[f"{path.name}.weight"] = scale * (plus - minus) / (2 * beta)
        made[f"{path.name}.bias"] = scale * (path.each(high[k]) - path.each(low[k])) / (2 * beta)
        if path.back is not None and net.feedback == "learned":
            made[f"{path.name}.back"] = made[f"{path.name}.weight"]
    return made


def _winners(net: Net, images: Tensor) -> list[Tensor | None]:
    state = net.init(images)
    return [state.get(f"{name}.winners") for name in net.names]
