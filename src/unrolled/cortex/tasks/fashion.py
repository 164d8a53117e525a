"""fashion: name pictures of clothes in spikes, Fashion-MNIST through a V1, two layers and the kinase rule.

An image goes through the oriented edges of `objrec.v1`, 7x7 places of 5x4 cells. One hidden layer and ten groups of output
units learn from the difference of the phases.

>>> import torch
>>> from unrolled.cortex.tasks import fashion
>>> fashion.encode(torch.zeros(2, 1, 28, 28)).shape
torch.Size([2, 980])
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.network import Network
from unrolled.cortex.tasks import objrec
from unrolled.cortex.theta import ThetaCycle

CLASSES, UNITS_PER, SIDE = 10, 5, 28
"""Classes; output units of each; pixels of an image's side."""
INPUTS = 7 * 7 * 5 * 4
DATA = 32
"""Trials side by side."""

SHEET = (
    Rule("Layer", {"decay.act": 1.0, "decay.glong": 1.0}, "every image is seen afresh: images are independent"),
    Rule("#Input", {"inhib.nominal": 0.15}, "many edges at once"),
    Rule("#Hidden", {"inhib.nominal": 0.06, "inhib.layer.gi": 1.05}, "sparse"),
    Rule("#Hidden", {"inhib.adapt": True, "inhib.adapt_rate": 0.1, "inhib.adapt_max": 0.05}, "and kept so over long training"),
    Rule("#Output", {"inhib.nominal": 0.1, "inhib.layer.gi": 0.65, "spike.tr": 1}, "five units of fifty"),
    Rule("Path", {"lrate": 0.1, "dwt.sub_mean": 1.0, "dwt.learn_thr": 0.1}, "zero-sum change keeps late learning stable"),
    Rule("Path", {"swts.spct": 1.0, "swts.rate": 0.0001}, "larger networks"),
    Rule("#Hidden->Output", {"lrate": 0.05}, "targets learn slower"),
    Rule(".back", {"scale.rel": 0.2}, "top-down is weak"),
)  # fmt: skip
"""Parameters, from ra25's and objrec's sheets; rates and decay chosen on 2,400 images."""


def encode(pictures: Tensor) -> Tensor:
    """What the input layer is clamped to: `[n, 980]` in 0 to 1.

    Args:
        pictures: `[n, 1, 28, 28]` or `[n, 28, 28]` in 0 to 1.

    Raises:
        ValueError: images of another size, or values that are not finite.
    """
    if tuple(pictures.shape[-2:]) != (SIDE, SIDE) or pictures.numel() != len(pictures) * SIDE**2:
        raise ValueError(
            f"images of shape {tuple(pictures.shape)}: expected [n, {SIDE}, {SIDE}] or [n, 1, {SIDE}, {SIDE}]"
        )
    if not bool(torch.isfinite(pictures).all()):
        raise ValueError(f"images with {int((~torch.isfinite(pictures)).sum())} values that are not finite")
    return objrec.v1(pictures.reshape(-1, SIDE, SIDE).float()).flatten(1)


def outcome(labels: Tensor) -> Tensor:
    """The plus phase's pattern, `[n, 50]`: five units of the class.

    Raises:
        ValueError: labels out of range.

    Example:
        >>> outcome(torch.tensor([1]))[0, :10].tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < CLASSES:
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())}: there are {CLASSES} classes, from 0"
        )
    return one_hot(labels.long(), CLASSES).repeat_interleave(UNITS_PER, 1).float()


def named(output: Tensor) -> Tensor:
    """The class that an output layer names: the largest sum over its units, `[n, 50]` -> `[n]`; -1 for silence."""
    sums = output.unflatten(1, (CLASSES, UNITS_PER)).sum(2)
    return torch.where(sums.amax(1) > 0, sums.argmax(1), -1)


def network(theta: ThetaCycle | None = None, *, seed: int = 0, hidden: int = 16) -> Network:
    """Input 980, Hidden 16x16, Output 10 classes x 5 units; fully connected, both ways above the input.

    Example:
        >>> network()
        Network(Input 1x980 input, Hidden 16x16 hidden, Output 10x5 target; 3 paths)
    """
    net = Network(theta, seed=seed, slow_interval=640, gi_interval=640)
    net.layer("Input", (1, INPUTS), kind="input")
    net.layer("Hidden", (hidden, hidden))
    net.layer("Output", (CLASSES, UNITS_PER), kind="target")
    net.connect("Input", "Hidden")
    net.connect("Hidden", "Output", back=True)
    net.apply(SHEET)
    return net


class Went(NamedTuple):
    """How a stretch of images went."""

    error: float
    """Share of images in whose minus phase another class, or none, was named."""
    activity: dict[str, float]
    """Layer -> mean ActM."""
    spikes: float
    """Spikes per image, all layers."""


def show(
    net: Network, pictures: Tensor, labels: Tensor, *, data: int = DATA, learn: bool = True, rate: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Went:  # fmt: skip
    """Show images in order, and learn after each batch.

    Without learning there is no outcome either, and the network's state of before is put back.

    Args:
        net: of `network`.
        pictures: `[n, 1, 28, 28]` in 0 to 1.
        labels: `[n]`.
        data: trials side by side.
        learn: False only tests.
        rate: factor of every learning rate.
        progress: called as `progress(image, images)`.

    Raises:
        ValueError: images of another size, labels out of range, or not one for each.
    """
    if len(pictures) != len(labels) or not len(labels):
        raise ValueError(f"{len(pictures)} images and {len(labels)} labels: one for each, and at least one")
    targets, kept, total = outcome(labels), net.state, len(labels)
    if not learn:
        net.state = None
    errors, spikes, activity = 0, 0.0, dict.fromkeys(net.layers, 0.0)
    for start in range(0, total, data):
        part = slice(start, start + data)
        trial = net.present(encode(pictures[part]), targets[part] if learn else None, record=["Spike"])
        errors += int((named(net.read(trial, "Output", "ActM").flatten(1)) != labels[part]).sum())
        spikes += float(trial["Spike"].sum())
        for name in activity:
            activity[name] += float(net.read(trial, name, "ActM").mean(tuple(range(1, 3))).sum()) / total
        if learn:
            net.learn(trial, rate=rate)
        if progress is not None:
            progress(min(start + data, total), total)
    if not learn:
        net.state = kept
    return Went(errors / total, activity, spikes / total)
