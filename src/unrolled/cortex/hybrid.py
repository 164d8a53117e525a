"""Hybrid: a rate-coded network learns fast, a spiking one starts from what it knows.

>>> import torch
>>> from unrolled.cortex import Network, hybrid
>>> from unrolled.cortex.rate import Net
>>> rate = Net(4, [9, 2], rng=0)
>>> net = Network(seed=0)
>>> _ = net.layer("Input", (2, 2), kind="input")
>>> _ = net.layer("Hidden", (3, 3))
>>> _ = net.layer("Output", (2, 3), kind="target")
>>> _ = net.connect("Input", "Hidden")
>>> _ = net.connect("Hidden", "Output", back=True)
>>> hybrid.put(net, rate, {"hidden1": "Hidden", "output": "Output"})
>>> bool(torch.equal(net["Hidden->Output"].wt, net["Output->Hidden"].wt.T))
True
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from unrolled.cortex.axon.building import refresh
from unrolled.cortex.network import Network
from unrolled.cortex.rate.layers import Conv
from unrolled.cortex.rate.net import Net


def excitatory(weight: Tensor, spread: float = 0.45, reach: float = 2.0) -> Tensor:
    """Signed weights `[units, senders]` as excitatory ones around 0.5: 0.5 + spread clip((w - mean) / (reach std), -1, 1).

    Mean and deviation are each unit's own. A spiking layer's inhibition grows with what comes in, for all its units
    alike: it takes away a mean, and leaves who stands out. A unit's bias and the size of its weights have no place in it.

    Args:
        weight: of a rate-coded path.
        spread: largest distance from 0.5; below 0.5.
        reach: deviations at which it is reached.

    Example:
        >>> excitatory(torch.tensor([[-3.0, 0.0, 3.0]]), spread=0.25, reach=1.0).tolist()
        [[0.25, 0.5, 0.75]]
    """
    w = weight.flatten(1)
    centered = w - w.mean(1, keepdim=True)
    size = centered.square().mean(1, keepdim=True).sqrt()
    return 0.5 + spread * (centered / (reach * size).clamp_min(torch.finfo(w.dtype).tiny)).clamp(-1, 1)


@torch.no_grad()
def put(
    net: Network, rate: Net, layers: Mapping[str, str], *, spread: float = 0.45, reach: float = 2.0
) -> None:
    """Start a spiking network from a rate-coded one of the same layers.

    Forward weights become excitatory (see `excitatory`); the way down becomes their transpose. A spiking layer with k
    times the units of its rate-coded one has k neighbours for each. What else the spiking network has learned of, it
    keeps: structural weights go to 0.5, so that both directions can be learned from here.

    Args:
        net: the spiking network; changed in place.
        rate: dense layers, of non-negative activity: of `activation="relu"`, `"logistic"` or `"hard"`, trained on what
            the input layer is clamped to.
        layers: rate-coded layer -> spiking layer, in order from below; the input is the layer below the first.
        spread: of the weights around 0.5, 0 to below 0.5.
        reach: deviations at which it is reached.

    Raises:
        ValueError: layers of other sizes, or without a path between them; convolutions; weights that are not finite; a
            spread out of range.
    """
    if not (0 < spread < 0.5 and reach > 0 and math.isfinite(reach)):
        raise ValueError(f"spread={spread}, reach={reach}: a spread above 0 and below 0.5, a reach above 0")
    if list(layers) != rate.names:
        raise ValueError(f"layers name {list(layers)}; the rate-coded network has, from below, {rate.names}")
    net.ready()
    planned: list[tuple[str, Tensor]] = []
    above = {
        recv: [p for p in net.paths.values() if p.recv.name == recv and p.kind == "forward"]
        for recv in layers.values()
    }
    below = ""
    for path, name in zip(rate.paths, layers.values()):
        if isinstance(path.layer, Conv):
            raise ValueError(
                f"{path.name} is a convolution: its weights are shared, a spiking path's are not; use Dense layers"
            )
        found = [p for p in above[name] if not below or p.send.name == below]
        if name not in net.layers or len(found) != 1:
            raise ValueError(
                f"{path.name}: expected one forward path{f' from {below}' if below else ''} into {name!r}; there are {', '.join(net.paths)}"
            )
        target = found[0]
        units, senders = path.weight.shape[0], math.prod(path.below)
        times, again = target.recv.n / units, target.send.n / senders
        if target.mask is not None or times != int(times) or again != int(again) or not times or not again:
            raise ValueError(
                f"{path.name} is {senders} -> {units}, {target.name} {target.send.n} -> {target.recv.n}: full, and of the same "
                "sizes or whole multiples"
            )
        if not bool(torch.isfinite(path.weight).all()):
            raise ValueError(f"{path.name}: weights that are not finite; train it again")
        wt = excitatory(path.weight.to(net.like), spread, reach)
        planned.append(
            (target.name, wt.repeat_interleave(int(times), 0).repeat_interleave(int(again), 1).T.contiguous())
        )
        below = name
    for name, wt in planned:
        path = net.paths[name]
        back = [p for p in net.paths.values() if p.send is path.recv and p.recv is path.send and p.kind == "back"]  # fmt: skip
        for one, value in [(path, wt), *((p, wt.T.contiguous()) for p in back)]:
            one.swt = torch.full_like(value, 0.5)
            one.lwt = one.params.swts.linear(value, one.swt)
            one.dswt = torch.zeros_like(value)
            refresh(one)
    net.changed()
