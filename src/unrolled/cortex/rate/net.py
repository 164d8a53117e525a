"""A rate-coded network whose layers talk both ways and settle."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.cortex.rate.layers import ACTIVATIONS, OUTPUTS, Conv, Dense
from unrolled.cortex.rate.paths import Path

FEEDBACK = ("symmetric", "learned", "random")
State = dict[str, Tensor]


@dataclass(frozen=True)
class Nudged:
    """What a network settles under when its output is drawn towards an outcome.

    Attributes:
        images: `[batch, *shape]`, clamped.
        target: `[batch, outputs]`.
        beta: how strongly the output is drawn; negative pushes away.
    """

    images: Tensor
    target: Tensor
    beta: float


class Net:
    """Layers of rates with feedback: y_l = f(w_l y_{l-1} + b_l + gain * w_{l+1}^T y_{l+1}) at the fixed point.

    With symmetric feedback of any gain, fixed points are those of an energy
    E = sum_l c_l [sum F(y_l) - b_l y_l - y_l w_l y_{l-1}], F' = f^-1, c_l = gain^-(L-l): the two-phase rules then read
    off the exact gradient of the loss at the free fixed point, and that of the feed-forward network as the gain goes to
    0 (Xie & Seung 2003; Scellier & Bengio 2017; cortex fact sheet, section 2.1). The sheet's usual gain is 0.1 to 0.3;
    too high a gain and the network hallucinates, or does not settle.

    It follows the `System` protocol: the state is the activity of each layer by name, a step one sweep down and up, the
    input images or `Nudged`.

    Args:
        shape: of one input: `(1, 28, 28)`, or a number of units.
        layers: `Dense`, `Conv`, or a number for `Dense`; the last is the output and dense.
        activation: of hidden units: `"relu"`, `"logistic"`, `"tanh"`, `"hard"`.
        output: `"softmax"`, `"logistic"` or `"linear"`.
        cost: what the outcome's pull descends: `"cross_entropy"` (the output itself moves a part beta of its way to the
            target; beta = 1 clamps it) or `"squared"` (half the squared error; the pull is on the output's input).
            `"linear"` outputs take `"squared"`.
        gain: of the way down, relative to the way up.
        feedback: `"symmetric"` (the transpose), `"learned"` (its own weights, which get the same local update, so that
            decay makes them alike: Kolen & Pollack 1994), `"random"` (its own, fixed: feedback alignment).
        rng: seed or generator of the weights: normal, variance 2 / fan-in for relu, else 1 / fan-in.
        dtype: of weights and states.
        matmul: dtype of the products, `torch.bfloat16` for one; that of the weights when None.

    Raises:
        ValueError: what makes no network, saying what does.

    Example:
        >>> net = Net(4, [3, 2], activation="logistic", output="logistic", gain=0.0, rng=0)
        >>> x = torch.ones(1, 4)
        >>> state = net.step(net.init(x), x)  # without feedback, the feed-forward network
        >>> first, second = net.paths
        >>> hidden = (x @ first.weight.T).sigmoid()
        >>> bool(torch.allclose(state["output"], (hidden @ second.weight.T).sigmoid()))
        True
        >>> net
        Net(4 -> hidden1 3 -> output 2, gain 0, symmetric feedback, 18 synapses)
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        layers: Sequence[Dense | Conv | int],
        *,
        activation: str = "relu",
        output: str = "softmax",
        cost: str = "cross_entropy",
        gain: float = 0.1,
        feedback: str = "symmetric",
        rng: "int | torch.Generator" = 0,
        dtype: torch.dtype = torch.float32,
        matmul: torch.dtype | None = None,
    ) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        made = [Dense(one) if isinstance(one, int) else one for one in layers]
        if not made or not isinstance(made[-1], Dense):
            raise ValueError(
                f"layers={list(layers)}: a network has at least one layer, and the last, its output, is Dense"
            )
        if activation not in ACTIVATIONS or output not in OUTPUTS:
            raise ValueError(
                f"activation={activation!r}, output={output!r}: hidden units are one of {', '.join(ACTIVATIONS)}, outputs one of {', '.join(OUTPUTS)}"
            )
        if cost not in ("cross_entropy", "squared") or (cost == "cross_entropy" and output == "linear"):
            raise ValueError(
                f"cost={cost!r} of {output} outputs: 'squared', or 'cross_entropy' of softmax or logistic ones"
            )
        if feedback not in FEEDBACK:
            raise ValueError(f"feedback={feedback!r} is none of {', '.join(FEEDBACK)}")
        if not (math.isfinite(gain) and gain >= 0):
            raise ValueError(
                f"gain={gain}: the way down is scaled by a number from 0 on; 0.1 to 0.3 is usual"
            )
        generator = seeds.generator(rng)
        assert generator is not None
        self.activation, self.output, self.cost = ACTIVATIONS[activation], output, cost
        self.gain, self.feedback = float(gain), feedback
        self.paths: list[Path] = []
        below = self.shape
        for k, layer in enumerate(made):
            last = k == len(made) - 1
            self.paths.append(
                Path(
                    layer, below, "output" if last else f"hidden{k + 1}", generator,
                    feedback=feedback if k else "symmetric",  # nothing goes down to the clamped input
                    scale=math.sqrt(2.0) if activation == "relu" and not last else 1.0, dtype=dtype, matmul=matmul,
                )
            )  # fmt: skip
            below = self.paths[-1].shape

    # -- what it is

    @property
    def names(self) -> list[str]:
        """Names of the layers above the input: hidden1, hidden2, ..., output."""
        return [path.name for path in self.paths]

    @property
    def outputs(self) -> int:
        """How many output units."""
        return self.paths[-1].shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and states."""
        return self.paths[0].weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.paths[0].weight.device

    @property
    def scales(self) -> list[float]:
        """c_l = gain^-(L-l): by how much the phases' difference in a layer is smaller than its gradient.

        Without feedback nothing reaches the hidden layers and nothing is to be scaled up: 0 for them.
        """
        top = len(self.paths) - 1
        return [self.gain ** -(top - k) if self.gain else float(k == top) for k in range(top + 1)]

    def activity(self, k: int, net: Tensor) -> Tensor:
        """Activity of layer k (0 is the first above the input) for its net input."""
        if k < len(self.paths) - 1:
            return self.activation.f(net)
        return net.softmax(-1) if self.output == "softmax" else ACTIVATIONS[self.output].f(net)

    def tensors(self) -> dict[str, Tensor]:
        """All weights, by layer and name: `hidden1.weight`, `hidden1.bias`, `hidden2.back`, ..."""
        return {f"{p.name}.{name}": value for p in self.paths for name, value in p.tensors().items()}

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> "Net":
        """Move the weights; returns the network."""
        for path in self.paths:
            path.put(lambda _, value: value.to(device=device, dtype=dtype))
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights (safetensors), atomically."""
        from unrolled.training.checkpoint import save

        save(path, self.tensors())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read weights that `save` wrote.

        Raises:
            ValueError: they are another network's.
        """
        from unrolled.training.checkpoint import load

        self.put(load(path), source=str(path))

    def put(self, tensors: dict[str, Tensor], *, source: str = "these weights") -> None:
        """Take weights over, by name.

        Raises:
            ValueError: they are another network's.
        """
        mine = {name: tuple(value.shape) for name, value in self.tensors().items()}
        theirs = {name: tuple(value.shape) for name, value in tensors.items()}
        if mine != theirs:
            odd = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
            name = odd[0]
            raise ValueError(
                f"{source}: another network's weights; {name} is {theirs.get(name, 'missing')} there, {mine.get(name, 'missing')} here"
            )
        for path in self.paths:
            path.put(lambda name, value: tensors[f"{path.name}.{name}"].to(value, copy=True))  # noqa: B023 - called at once

    def __repr__(self) -> str:
        sizes = [
            "x".join(map(str, self.shape)),
            *(f"{p.name} {'x'.join(map(str, p.shape))}" for p in self.paths),
        ]
        synapses = sum(p.weight.numel() for p in self.paths)
        return (
            f"Net({' -> '.join(sizes)}, gain {self.gain:g}, {self.feedback} feedback, {synapses:,} synapses)"
        )

    # -- what goes in

    def images(self, images: Tensor) -> Tensor:
        """Check a batch of inputs and bring it to the network's dtype and device.

        Raises:
            ValueError: another shape than the network's, or values that are not finite.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"images of shape {tuple(images.shape)}: this network takes [batch, {', '.join(map(str, self.shape))}]"
            )
        if not bool(torch.isfinite(images).all()):
            bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(
                f"NaN or infinity in {len(bad)} of {len(images)} images, the first is number {bad[0]} of the batch"
            )
        return images.to(self.device, self.dtype)

    def targets(self, labels: Tensor) -> Tensor:
        """Class labels as one-hot targets; floating-point targets as they are.

        Raises:
            ValueError: labels out of range, or targets of another shape or not finite.
        """
        if labels.is_floating_point():
            if tuple(labels.shape[1:]) != (self.outputs,) or not bool(torch.isfinite(labels).all()):
                raise ValueError(
                    f"targets of shape {tuple(labels.shape)}: finite numbers [batch, {self.outputs}], or integer labels [batch]"
                )
            return labels.to(self.device, self.dtype)
        if labels.dim() != 1:
            raise ValueError(f"labels of shape {tuple(labels.shape)}: integers [batch]")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.outputs:
            raise ValueError(
                f"labels from {int(labels.min())} to {int(labels.max())}: the network has {self.outputs} outputs, so labels are 0 to {self.outputs - 1}"
            )
        return torch.nn.functional.one_hot(labels.long(), self.outputs).to(self.device, self.dtype)

    def batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A batch of inputs and its targets, checked.

        Raises:
            ValueError: as `images` and `targets`, or not one label for each image.
        """
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                f"{len(images) or 'no'} images and {len(labels)} labels: one for each, and at least one"
            )
        return self.images(images), self.targets(labels)

    # -- as a system

    def init(self, input: Any, *, rng: torch.Generator | None = None) -> State:
        """Activity after a feed-forward sweep: the fixed point if nothing came down.

        The sweep also decides which unit wins each max pool; the winners are part of the state (`hidden1.winners`) and
        keep their pool, because a winner that feedback could unseat would never settle.
        """
        ys, _, winners = self.feed(input.images if isinstance(input, Nudged) else input)
        won = {f"{name}.winners": w for name, w in zip(self.names, winners) if w is not None}
        return {**dict(zip(self.names, ys)), **won}

    def feed(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """A feed-forward sweep: activity, net input and winners of each layer."""
        ys: list[Tensor] = []
        nets: list[Tensor] = []
        winners: list[Tensor | None] = []
        for k, path in enumerate(self.paths):
            drive, won = path.up(ys[-1] if ys else x)
            nets.append(path.add_bias(drive))
            winners.append(won)
            ys.append(self.activity(k, nets[k]))
        return ys, nets, winners

    def step(self, state: State, input: Any, *, rng: torch.Generator | None = None) -> State:
        """One sweep: down, each layer hearing the new state of the one above, then up, hearing that of the one below."""
        from unrolled.cortex.rate.settle import output

        nudged = input if isinstance(input, Nudged) else None
        x: Tensor = input.images if isinstance(input, Nudged) else input
        ys = [state[name] for name in self.names]
        winners = [state.get(f"{name}.winners") for name in self.names]
        bottoms = [path.drive(below, won) for path, below, won in zip(self.paths, [x, *ys], winners)]
        top = len(self.paths) - 1
        tops: list[Tensor | float] = [0.0] * (top + 1)
        ys[top] = output(self, bottoms[top], ys[top], nudged)
        for k in reversed(range(top)):
            tops[k] = self.gain * self.paths[k + 1].down(ys[k + 1], winners[k + 1])
            ys[k] = self.activity(k, bottoms[k] + tops[k])
        for k in range(1, top + 1):
            net = self.paths[k].drive(ys[k - 1], winners[k]) + tops[k]
            ys[k] = output(self, net, ys[k], nudged) if k == top else self.activity(k, net)
        return {**state, **dict(zip(self.names, ys))}
