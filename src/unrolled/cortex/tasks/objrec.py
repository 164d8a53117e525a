"""objrec: name 20 LED objects wherever they are, from what a primary visual cortex sees of them.

An object is 3 of 6 line segments. Each image shifts, scales and turns it at random, so that no pixel tells objects
apart; V1's oriented edges go through V4 and IT, which have to find what stays.

Where the sources are silent this file chooses, and says so: lines are drawn with a soft edge of one pixel; the Gabor
filters have the size, wavelength and spacing of `v1`'s defaults; orientations inhibit one another at each place by their
mean, and an image's strongest response is 1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

from unrolled.core.seeds import generator
from unrolled.cortex import thalamus
from unrolled.cortex.axon.layer import Layer
from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.network import Network
from unrolled.cortex.theta import ThetaCycle

SEGMENTS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "bottom": ((-1, 1), (1, 1)),
    "left": ((-1, -1), (-1, 1)),
    "right": ((1, -1), (1, 1)),
    "top": ((-1, -1), (1, -1)),
    "center h": ((-1, 0), (1, 0)),
    "center v": ((0, -1), (0, 1)),
}
"""Segment -> its two ends (x, y), y down, in units of half the object's size."""

OBJECTS: tuple[tuple[str, ...], ...] = (
    ("center h", "center v", "right"), ("top", "center v", "bottom"), ("top", "right", "bottom"),
    ("bottom", "center v", "right"), ("left", "center h", "right"), ("left", "center v", "center h"),
    ("left", "center v", "right"), ("left", "center v", "bottom"), ("left", "center h", "top"),
    ("left", "center h", "bottom"), ("top", "center v", "right"), ("bottom", "center v", "center h"),
    ("right", "center h", "bottom"), ("top", "center h", "bottom"), ("left", "top", "right"),
    ("top", "center h", "right"), ("left", "center v", "top"), ("top", "left", "bottom"),
    ("left", "bottom", "right"), ("top", "center v", "center h"),
)  # fmt: skip
"""The 20 objects: every choice of 3 of the 6 segments, in the order of Axon's simulation."""

SIZE, PIXELS, WIDTH = 0.6, 40, 0.04
"""An object's size and a line's width as shares of the image; pixels of an image's side."""
FAINT = 1e-3
"""Strongest response, of a full-contrast edge's, below which an image is blank to V1."""
UNITS_PER = 5
"""Output units of each object; spikes of several say more than those of one."""


class Transforms(NamedTuple):
    """How each object is seen, each `[n]`."""

    x: Tensor
    """Shift to the right, in halves of the image."""
    y: Tensor
    """Shift down, in halves of the image."""
    scale: Tensor
    angle: Tensor
    """Degrees."""


def transforms(
    n: int, *, shift: float = 0.25, scale: tuple[float, float] = (0.7, 1.0), angle: float = 3.6, rng: int | torch.Generator | None = 0
) -> Transforms:  # fmt: skip
    """Uniform draws: shift +-0.25, scale 0.7 to 1, angle +-3.6 degrees by default (fact sheet, section 5.11).

    Example:
        >>> t = transforms(1000)
        >>> bool((t.x.abs() <= 0.25).all()), bool(((t.scale >= 0.7) & (t.scale <= 1)).all())
        (True, True)
    """
    u = torch.rand(4, n, generator=generator(rng), dtype=torch.float64)
    return Transforms(
        (2 * u[0] - 1) * shift,
        (2 * u[1] - 1) * shift,
        scale[0] + u[2] * (scale[1] - scale[0]),
        (2 * u[3] - 1) * angle,
    )


def images(objects: Tensor, seen: Transforms, pixels: int = PIXELS) -> Tensor:
    """Draw objects: white lines on black, `[n, pixels, pixels]` float32 in 0 to 1.

    Args:
        objects: `[n]`, index into `OBJECTS`.
        seen: of `transforms`.
        pixels: side of the image.

    Raises:
        ValueError: an object that there is not.

    Example:
        Object 1 is an I: its middle column is lit from top to bottom, the middle row only there.

        >>> still = Transforms(*torch.tensor([[0.0], [0.0], [1.0], [0.0]], dtype=torch.float64))
        >>> i = images(torch.tensor([1]), still)[0]
        >>> bool((i[8:32, 19:21] > 0.5).all()), float(i[20, :18].max())
        (True, 0.0)
    """
    if len(objects) and not 0 <= int(objects.min()) <= int(objects.max()) < len(OBJECTS):
        raise ValueError(f"objects are 0 to {len(OBJECTS) - 1}, got {objects.tolist()}")
    half = pixels / 2
    at = (torch.arange(pixels, dtype=torch.float64) + 0.5 - half) / half
    turn = seen.angle * math.pi / 180
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    dx, dy = at[None, None, :] - seen.x[:, None, None], at[None, :, None] - seen.y[:, None, None]
    grow = SIZE * seen.scale[:, None, None]
    u, v = (cos * dx + sin * dy) / grow, (cos * dy - sin * dx) / grow  # the pixel in the object's own frame
    nearest = torch.full(u.shape, math.inf, dtype=torch.float64)
    for name, ((x0, y0), (x1, y1)) in SEGMENTS.items():
        has = torch.tensor([name in segments for segments in OBJECTS])[objects][:, None, None]
        away_u, away_v = (u - u.clamp(min(x0, x1), max(x0, x1))), (v - v.clamp(min(y0, y1), max(y0, y1)))
        nearest = torch.where(has, torch.minimum(nearest, torch.hypot(away_u, away_v)), nearest)
    away = nearest * grow * half  # pixels
    return (0.5 + WIDTH * pixels / 2 * seen.scale[:, None, None] - away).clamp(0, 1).to(torch.float32)


def gabors(size: int = 6, wavelength: float = 6.0, length: float = 0.3, width: float = 0.2) -> Tensor:
    """Four odd Gabor filters at 0, 45, 90 and 135 degrees, `[4, size, size]`, each of zero mean and unit L1 norm.

    Args:
        size: side, pixels.
        wavelength: of the sine across the edge, pixels.
        length: width of the Gaussian along the edge, share of the size.
        width: across it.

    Example:
        >>> bank = gabors()
        >>> bool((bank.sum((1, 2)).abs() < 1e-6).all()), torch.allclose(bank[0], bank[2].T.flip(1).flip(0).flip(1), atol=1e-6)
        (True, True)
    """
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    bank = []
    for k in range(4):
        angle = k * math.pi / 4
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        bell = torch.exp(-0.5 * ((along / (length * size)) ** 2 + (across / (width * size)) ** 2))
        wave = bell * torch.sin(2 * math.pi * across / wavelength)
        wave = wave - wave.mean()
        bank.append(wave / wave.abs().sum())
    return torch.stack(bank).to(torch.float32)


def v1(pictures: Tensor, spacing: int = 2) -> Tensor:
    """What V1 sees: `[n, rows, columns, 5, 4]` in 0 to 1, 10x10 pools of a 40x40 image.

    Simple cells are rectified Gabor responses of both polarities, every `spacing` pixels, pooled by their maximum over
    2x2 neighbours. The five rows of a pool are: two polarities of simple cells, length (mean of three pools in a row
    along the orientation), and end-stopping at either end (length minus what goes on beyond that end). The four columns
    are orientations.

    Args:
        pictures: `[n, pixels, pixels]`.
        spacing: pixels between neighbours.

    Raises:
        ValueError: images whose side does not divide into pools.

    Example:
        >>> still = Transforms(*torch.tensor([[0.0], [0.0], [1.0], [0.0]], dtype=torch.float64))
        >>> seen = v1(images(torch.tensor([1]), still))
        >>> seen.shape, float(seen.max()), bool(seen[0, 5, 4:6, :2, 2].max() > 2 * seen[0, 5, 4:6, :2, 0].max())
        (torch.Size([1, 10, 10, 5, 4]), 1.0, True)
    """
    n, side = pictures.shape[0], pictures.shape[-1]
    if side % (2 * spacing):
        raise ValueError(f"images of {side} pixels do not divide into pools of 2 x {spacing} pixels")
    bank = gabors()
    size = bank.shape[-1]
    before = (size - spacing) // 2
    around = (before, size - spacing - before) * 2
    edges = conv2d(
        pad(pictures.unsqueeze(1).float(), around, mode="replicate"), bank.unsqueeze(1), stride=spacing
    )
    simple = torch.stack([edges.relu(), (-edges).relu()], 1)  # [n, polarity, angle, 20, 20]
    simple = (simple - simple.mean((1, 2), keepdim=True)).relu()
    simple = max_pool2d(simple.flatten(1, 2), 2).unflatten(1, (2, 4))
    angles = simple.amax(1)  # [n, angle, 10, 10]
    steps = ((0, 1), (1, 1), (1, 0), (1, -1))  # one pool on along each orientation
    length, first, second = (torch.zeros_like(angles) for _ in range(3))
    for k, (dy, dx) in enumerate(steps):
        here = angles[:, k]
        ahead, behind = _shifted(here, dy, dx), _shifted(here, -dy, -dx)
        length[:, k] = (here + ahead + behind) / 3
        first[:, k] = ((here + behind) / 2 - ahead).relu()
        second[:, k] = ((here + ahead) / 2 - behind).relu()
    rows = torch.stack([simple[:, 0], simple[:, 1], length, first, second], 1)  # [n, row, angle, y, x]
    most = rows.flatten(1).amax(1).reshape(n, 1, 1, 1, 1)
    return torch.where(most > FAINT, rows / most.clamp(min=FAINT), 0.0).permute(0, 3, 4, 1, 2).contiguous()


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """The map whose value at a place is that of the place (dy, dx) on; 0 beyond the border."""
    return torch.roll(pad(x, (1, 1, 1, 1)), (-dy, -dx), (-2, -1))[..., 1:-1, 1:-1]


class Batch(NamedTuple):
    """Trials of objrec."""

    objects: Tensor
    inputs: Tensor
    """`[n, 2000]`."""
    outputs: Tensor
    """`[n, 100]`: five units per object."""


def batch(n: int, *, objects: int = len(OBJECTS), rng: int | torch.Generator | None = 0) -> Batch:
    """Random objects under random transforms, as V1 sees them.

    Example:
        >>> b = batch(3)
        >>> b.inputs.shape, b.outputs.sum(1).tolist()
        (torch.Size([3, 2000]), [5.0, 5.0, 5.0])
    """
    draws = generator(rng)
    which = torch.randint(0, objects, (n,), generator=draws)
    outputs = torch.nn.functional.one_hot(which, len(OBJECTS)).repeat_interleave(UNITS_PER, 1).float()
    return Batch(which, v1(images(which, transforms(n, rng=draws))).flatten(1), outputs)


def named(output: Tensor) -> Tensor:
    """The object that an output layer names: the largest sum over its units, `[n, 100]` -> `[n]`; -1 for silence."""
    sums = output.unflatten(1, (len(OBJECTS), UNITS_PER)).sum(2)
    return torch.where(sums.amax(1) > 0, sums.argmax(1), -1)


TRIALS, DATA = 128, 16
"""Trials an epoch, of which so many go side by side."""

SHEET = (
    Rule("Layer", {"decay.act": 0.0, "decay.glong": 0.6, "spike_ca.spike": 12.0}, "12 makes thresholds on CaP right here"),
    Rule("Layer", {"trg.scale_rate": 0.0002, "rlrate.linear": True}, "slow synaptic scaling: larger layers"),
    Rule("Layer", {"inhib.adapt_rate": 0.1, "inhib.adapt_max": 0.05}, "inhibition adapts where it is told to"),
    Rule("#V1", {"inhib.nominal": 0.08, "decay.act": 1.0, "decay.glong": 1.0}, "sees every image afresh"),
    Rule("#V4", {"inhib.nominal": 0.03, "inhib.adapt": True, "inhib.pool.fb": 4.0, "inhib.pool.gi": 0.9}, "sparse in pools"),
    Rule("#IT", {"inhib.nominal": 0.04, "inhib.adapt": True, "inhib.layer.gi": 1.1, "inhib.layer.fb": 4.0}, "sparse"),
    Rule("#Output", {"inhib.nominal": 0.05, "inhib.offset": -0.005, "inhib.adapt": True}, "five units of a hundred"),
    Rule("#Output", {"inhib.layer.gi": 1.2, "inhib.pool.on": False}, "one object at a time, of all of them"),
    Rule("Path", {"lrate": 0.2, "dwt.sub_mean": 1.0, "dwt.learn_thr": 0.1}, "zero-sum change keeps late learning stable"),
    Rule("Path", {"swts.spct": 1.0, "swts.rate": 0.0001, "swts.hi_mean_decay": 0.0}, "deep networks"),
    Rule("#IT->Output", {"lrate": 0.05}, "targets learn slower"),
    Rule(".back", {"scale.rel": 0.2}, "top-down is weak"),
    Rule("#V4->IT", {"scale.abs": 1.2}, "many inputs, few active"),
    Rule("#V1->IT", {"lrate": 0.04, "scale.rel": 0.05, "swts.adapt": False}, "a shortcut past V4"),
)  # fmt: skip
"""Axon's parameters of its object recognition (cortex fact sheet, section 5.11)."""


def tiles(send: Layer, recv: Layer, size: int = 4, skip: int = 2, start: int = -1) -> Tensor:
    """Each receiving pool sees a square of sending pools; squares overlap by half and wrap around.

    Example:
        >>> a, b = Layer("a", (10, 10, 1, 1)), Layer("b", (7, 7, 1, 1))
        >>> tiles(a, b).sum(0).unique().tolist()
        [16]
    """
    rows, columns = send.shape[:2]
    mask = torch.zeros(rows, columns, recv.shape[0], recv.shape[1], dtype=torch.bool)
    for y in range(recv.shape[0]):
        for x in range(recv.shape[1]):
            ys = [(start + skip * y + k) % rows for k in range(size)]
            xs = [(start + skip * x + k) % columns for k in range(size)]
            mask[torch.tensor(ys).unsqueeze(1), torch.tensor(xs), y, x] = True
    pools = mask.reshape(rows * columns, -1)
    inner = send.n // send.sub_pools, recv.n // recv.sub_pools
    return pools.repeat_interleave(inner[0], 0).repeat_interleave(inner[1], 1)


def network(theta: ThetaCycle | None = None, *, seed: int = 0, v4: int = 10, timing: bool = True) -> Network:
    """V1 10x10x5x4, V4 7x7 pools of 10x10, IT 16x16, Output 4x5 objects x 5 units.

    V4 sees V1 through overlapping squares of 4x4 pools; a tenth of V1 goes to IT directly.

    Args:
        theta: by default 10 ms of rest, 160 + 60 ms.
        seed: of weights and of the shortcut.
        v4: side of V4's pools.
        timing: V4 and IT learn when their own response says so, 50 ms after (section 5.9); else at the end of the trial.
    """
    net = Network(theta or ThetaCycle(160, 60, rest=10), seed=seed, slow_interval=200, gi_interval=200)
    kind = thalamus.Super(timing=thalamus.Timing(learn_cycles=50) if timing else None)
    net.layer("V1", (10, 10, 5, 4), kind="input")
    thalamus.super_layer(net, "V4", (7, 7, v4, v4), kind)
    thalamus.super_layer(net, "IT", (16, 16), kind)
    net.layer("Output", (4, 5, UNITS_PER, 1), kind="target")
    net.connect("V1", "V4", tiles)
    net.connect("V4", "IT", back=True)
    net.connect("IT", "Output", back=True)
    rng = generator(seed)
    net.connect("V1", "IT", torch.rand(2000, 256, generator=rng) < 0.1)
    net.apply(SHEET)
    return net


class Epoch(NamedTuple):
    """How an epoch went."""

    error: float
    """Share of trials in which another object, or none, was named in the minus phase."""
    activity: dict[str, float]
    """Layer -> mean ActM, averaged over trials."""


def epoch(
    net: Network, trials: int, rng: int | torch.Generator, *, data: int = DATA, objects: int = len(OBJECTS), learn: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Epoch:  # fmt: skip
    """Show random objects, each image a new one, and learn after each batch.

    Args:
        net: of `network`.
        trials: how many.
        rng: of the images.
        data: trials side by side.
        objects: the first so many of the objects.
        learn: False only tests.
        progress: called as `progress(trial, trials)`.
    """
    draws, errors, activity = generator(rng), 0, dict.fromkeys(net.layers, 0.0)
    for start in range(0, trials, data):
        shown = batch(min(data, trials - start), objects=objects, rng=draws)
        trial = net.present(shown.inputs, shown.outputs)
        errors += int((named(net.read(trial, "Output", "ActM").flatten(1)) != shown.objects).sum())
        for name in activity:
            activity[name] += float(net.read(trial, name, "ActM").mean()) * len(shown.objects) / trials
        if learn:
            net.learn(trial)
        if progress is not None:
            progress(start + len(shown.objects), trials)
    return Epoch(errors / trials, activity)
