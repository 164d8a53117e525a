"""Spikes in snntorch's convention, `[time, batch, neurons]` of 0 and 1: out of a trial, into a network, into a Trajectory."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.cortex.axon.kinds import Kind, Moment

if TYPE_CHECKING:
    from unrolled.cortex.network import Network, Patterns

SPIKES = Kind(
    "spikes",
    is_input=True,
    params=(("clamp.ge", 100.0), ("inhib.layer.on", False), ("inhib.pool.on", False)),
)
"""A layer whose neurons fire when they are told to: 100 x 100 nS for a cycle takes any of them over the threshold at
once, and nothing inhibits them. Refractory as any neuron: of two spikes less than 4 ms apart the second is lost."""


def spikes(trial: Trajectory, layer: str) -> Tensor:
    """Spikes of a recorded trial as snntorch has them: `[time, batch, neurons]` of 0 and 1, without the state at t = 0.

    Raises:
        KeyError: the layer's spikes were not recorded.

    Example:
        >>> from unrolled.cortex.tasks import ra25
        >>> net, pairs = ra25.network(), ra25.patterns()
        >>> trial = net.present(pairs.inputs[:2], record=["Input.Spike"])
        >>> spikes(trial, "Input").shape
        torch.Size([200, 2, 25])
    """
    name = f"{layer}.Spike"
    if name not in trial.records:
        raise KeyError(
            f"{name} was not recorded; present(..., record=[{name!r}]); there are {', '.join(trial.records)}"
        )
    return trial[name][1:] if int(trial.t[0]) == 0 else trial[name]


def recording(layers: Mapping[str, Tensor], *, minus: int | None = None) -> Trajectory:
    """Spikes of any simulator as a `Trajectory`, for instruments and rasters: records `"Layer.Spike"`.

    Args:
        layers: layer -> spikes `[time, batch, neurons]`; one time step is one cycle.
        minus: cycles of the minus phase, where the trial has one.

    Raises:
        ValueError: nothing, other shapes, other lengths, or values besides 0 and 1.

    Example:
        >>> trial = recording({"Out": torch.zeros(200, 2, 10)})
        >>> trial["Out.Spike"].shape, trial.t[:2].tolist()
        (torch.Size([200, 2, 10]), [1, 2])
    """
    steps = {name: _checked(f"spikes of {name!r}", given) for name, given in layers.items()}
    if len(set(steps.values())) != 1:
        raise ValueError(f"expected layers of one number of time steps, got {steps or 'no layers'}")
    length = next(iter(steps.values()))
    meta = {"layers": list(layers), "length": length} | ({} if minus is None else {"minus": minus})
    t = torch.arange(1, length + 1)
    return Trajectory.from_records(t, {f"{name}.Spike": x for name, x in layers.items()}, meta=meta)


def moments(net: "Network", given: Mapping[str, Tensor], target: "Patterns" = None) -> list[Moment]:
    """A theta cycle in which spike trains come in: hand it to `rollout(net, moments, len(moments))`, and that to `learn`.

    The layers are of kind `SPIKES`, `net.layer(name, shape, SPIKES)`; they fire in the very cycles they are told to.

    Args:
        net: the network.
        given: layer -> spikes `[time, batch, neurons]`, a time step for each cycle of the theta cycle.
        target: as `Network.present`.

    Raises:
        ValueError: a layer that is not of kind `SPIKES`, another number of time steps or neurons, or values besides 0 and 1.

    Example:
        >>> from unrolled.core import rollout
        >>> from unrolled.cortex import Network
        >>> net = Network()
        >>> _ = net.layer("In", (1, 3), SPIKES)
        >>> train = torch.zeros(200, 1, 3)
        >>> train[10::20, 0, 1] = 1
        >>> trial = rollout(net, moments(net, {"In": train}), 200, record=["In.Spike"])
        >>> bool((spikes(trial, "In") == train).all())
        True
    """
    length = net.theta.length
    for name, x in given.items():
        layer = net.layers.get(name)
        if layer is None or layer.kind.name != SPIKES.name:
            raise ValueError(
                f"spikes for {name!r}: expected a layer of kind SPIKES, made with layer(name, shape, interop.SPIKES); there are "
                f"{[x.name for x in net.layers.values() if x.kind.name == SPIKES.name] or 'none'}"
            )
        steps = _checked(f"spikes for {name!r}", x)
        if steps != length or x.shape[2] != layer.n:
            raise ValueError(
                f"spikes for {name!r} have shape {list(x.shape)}, expected [{length}, batch, {layer.n}]: a time step for each "
                "cycle of the theta cycle"
            )
    made = net.moments({name: x[0] for name, x in given.items()}, target)
    return [
        moment._replace(inputs={name: x[t].to(net.like) for name, x in given.items()})
        for t, moment in enumerate(made)
    ]


def _checked(what: str, x: Tensor) -> int:
    """The number of time steps of spikes that are spikes."""
    if x.ndim != 3 or not len(x):
        raise ValueError(f"{what} have shape {list(x.shape)}, expected [time, batch, neurons]")
    if not bool(((x == 0) | (x == 1)).all()):
        raise ValueError(f"{what}: expected 0 and 1, got values from {float(x.min())} to {float(x.max())}")
    return len(x)
