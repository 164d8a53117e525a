"""What is wrong with a network, by name: silent, saturated or hallucinating layers, and the parameter to look at.

>>> import torch
>>> from unrolled.cortex import Network, Rule, diagnose
>>> net = Network()
>>> _ = net.layer("Input", (4, 4), kind="input")
>>> _ = net.layer("Hidden", (4, 4))
>>> _ = net.connect("Input", "Hidden")
>>> net.apply([Rule("#Hidden", {"inhib.layer.gi": 30.0})])
>>> finding = diagnose(net, torch.eye(16)[:3].sum(0))[0]
>>> finding.what, finding.layer, finding.look_at
('silent', 'Hidden', 'inhib.layer.gi of Hidden')
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unrolled.core import Trajectory, rollout

if TYPE_CHECKING:
    from unrolled.cortex.axon.layer import Layer
    from unrolled.cortex.network import Network

QUIET = 50
"""Last cycles of the prediction without any spike that make a layer silent."""
BUSY = 0.3
"""Mean activity (of neurons, samples and the last 50 cycles of prediction) above which a layer may be saturated..."""
TIMES = 3.0
"""... when it is also this many times its nominal activity."""
TOP_DOWN = 0.5
"""Share of a layer's excitation from top-down paths, in the prediction, above which it hallucinates."""
NEEDED = ("Spike", "Act", "Ge", "Gi", "Gk", "VmDend", "GababM")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        layer: where.
        what: `"silent"`, `"saturated"` or `"hallucinating"`.
        since: first cycle of it.
        look_at: the parameter to look at, and whose.
        message: all of it in one line, with the numbers.
    """

    layer: str
    what: str
    since: int
    look_at: str
    message: str

    def __str__(self) -> str:
        return self.message


def diagnose(
    net: "Network", input: Any, target: Any = None, *, state: Any = None, trajectory: Trajectory | None = None
) -> list[Finding]:
    """Present a pattern, without learning and without touching the network's state, and say what is wrong.

    All of it is about the prediction, the minus phase: a layer is silent when it has not fired for its last 50 cycles,
    saturated when its mean activity in them exceeds 0.3 and three times its nominal activity, and hallucinating when
    more than half of the excitation it gets comes from top-down paths.

    Args:
        net: the network.
        input: as `Network.present`.
        target: as `Network.present`.
        state: what to go on from; rest by default.
        trajectory: read this theta cycle instead of presenting; it needs records of all variables in `NEEDED`.

    Returns:
        Findings, upstream layers first; empty when nothing is wrong.

    Raises:
        ValueError: as `Network.present`, or a trajectory without what is needed.
    """
    if trajectory is None:
        moments = net.moments(input, target)
        trajectory = rollout(net, moments, len(moments), state=state, record=list(NEEDED))
    missing = [name for name in NEEDED if name not in trajectory.records]
    if missing or len(trajectory) != net.theta.length + 1:
        raise ValueError(
            f"to diagnose, present with record={list(NEEDED)} over a whole theta cycle; this trajectory has "
            f"{len(trajectory)} times and lacks {missing}"
        )
    records = {name: trajectory[name][1:] for name in NEEDED}
    found: list[Finding] = []
    for layer in net.layers.values():
        mine = {name: series[:, :, layer.part] for name, series in records.items()}
        if layer.kind.is_input and not bool(mine["Ge"].any()):
            continue  # shown nothing
        checks = (_silent,) if layer.kind.is_input else (_silent, _saturated, _hallucinating)
        each = (check(net, layer, mine, records["Spike"]) for check in checks)
        found += [finding for finding in each if finding is not None]
    return found


def _prediction(net: "Network") -> slice:
    return slice(net.theta.rest, net.theta.rest + net.theta.minus)


def _silent(net: "Network", layer: "Layer", mine: Mapping[str, Tensor], spikes: Tensor) -> Finding | None:
    end = _prediction(net).stop
    fired = mine["Spike"][:end].flatten(1).any(1).nonzero().flatten()
    since = int(fired[-1]) + 1 if len(fired) else 0
    if end - since < QUIET:
        return None
    stretch = slice(max(since, end - 2 * QUIET), end)
    mean = {name: series[stretch].mean(0).flatten() for name, series in mine.items()}
    at = int(mean["Ge"].argmax())  # the neuron with the most excitation comes closest
    ge, gi, gk, vd, gabab_m = (mean[name][at] for name in ("Ge", "Gi", "Gk", "VmDend", "GababM"))
    adaptation = float(gk - layer.params.gabab.conductance(vd, gabab_m))
    ge, gi, gk = float(ge), float(gi), float(gk)
    needed, uninhibited = _threshold(layer, gi, gk), _threshold(layer, 0.0, adaptation)
    paths = [p for p in net.incoming(layer) if p.conductance == "excitatory"]
    numbers = f"excitation Ge {ge:.2g}, {needed:.2g} needed to fire"
    own = "pool" if layer.sub_pools else "layer"
    if ge < 0.01 * uninhibited and paths and not any(_fires(net, p.send.name, spikes[:end]) for p in paths):
        senders = ", ".join(p.send.name for p in paths if p.kind != "back") or paths[0].send.name
        look_at, why = f"what drives {senders}", f"nothing reaches it from {senders}"
    elif ge > uninhibited:
        look_at = f"inhib.{own}.gi of {layer.name}"
        why = f"inhibition Gi {gi:.2g} holds it down ({numbers}); inhib.{own}.gi is {_gi(layer, own):g}"
    elif ge > _threshold(layer, 0.0, 0.0):
        look_at = f"mahp.gk, kna.gk and sahp.gk of {layer.name}"
        why = f"adaptation Gk {adaptation:.2g} holds it down ({numbers})"
    else:
        path = max(paths, key=lambda p: (p.kind != "back", p.params.scale.rel))
        look_at = f"scale.abs of {path.name}"
        why = f"its excitation is too weak even without inhibition ({numbers}); scale.abs is {path.params.scale.abs:g}"
    return _finding(layer, "silent", since, look_at, why)


def _saturated(net: "Network", layer: "Layer", mine: Mapping[str, Tensor], spikes: Tensor) -> Finding | None:
    part = _prediction(net)
    course = mine["Act"][part].flatten(1).mean(1)
    nominal, activity = layer.params.inhib.nominal, float(course[-QUIET:].mean())
    limit = max(BUSY, TIMES * nominal)
    if activity <= limit:
        return None
    since = (
        part.start + int((course > limit).nonzero()[0]) if bool((course > limit).any()) else part.stop - QUIET
    )
    own = "pool" if layer.sub_pools else "layer"
    gi = float(mine["Gi"][part][-QUIET:].mean())
    why = (
        f"{100 * activity:.0f} % mean activity against {100 * nominal:.0f} % nominal, inhibition Gi {gi:.2g}; "
        f"inhib.{own}.gi is {_gi(layer, own):g}"
    )
    return _finding(layer, "saturated", since, f"inhib.{own}.gi of {layer.name}", why)


def _hallucinating(
    net: "Network", layer: "Layer", mine: Mapping[str, Tensor], spikes: Tensor
) -> Finding | None:
    part = _prediction(net)
    paths = [p for p in net.incoming(layer) if p.conductance == "excitatory"]
    top_down = [p for p in paths if p.kind == "back"]
    if not top_down or len(top_down) == len(paths) or not bool(mine["Spike"][part].any()):
        return None
    total = spikes[part].sum(0)
    drive = {p.name: float((total[:, p.send.part] @ p.wt).mean()) * net.scale[p.name] for p in paths}
    everything = sum(drive.values())
    share = sum(drive[p.name] for p in top_down) / everything if everything > 0 else 0.0
    if share <= TOP_DOWN:
        return None
    worst = max(top_down, key=lambda p: drive[p.name])
    since = part.start + int(mine["Spike"][part].flatten(1).any(1).nonzero()[0])
    why = (
        f"{100 * share:.0f} % of its excitation is top-down, most of it from {worst.send.name}; scale.rel of {worst.name} "
        f"is {worst.params.scale.rel:g}, 0.1 to 0.3 is usual"
    )
    return _finding(layer, "hallucinating", since, f"scale.rel of {worst.name}", why)


def _threshold(layer: "Layer", gi: float, gk: float) -> float:
    """Ge at which the membrane rests at the spike threshold: the currents at V = thr add up to 0."""
    m, v = layer.params.membrane, layer.params.spike.thr
    outward = m.g_l * (v - m.e_l) + m.g_i * gi * (v - m.e_i) + m.g_k * gk * (v - m.e_k)
    return outward / (m.g_e * (m.e_e - v))


def _fires(net: "Network", name: str, spikes: Tensor) -> bool:
    return bool(spikes[:, :, net.layers[name].part].any())


def _gi(layer: "Layer", own: str) -> float:
    return getattr(layer.params.inhib, own).gi


def _finding(layer: "Layer", what: str, since: int, look_at: str, why: str) -> Finding:
    message = f"{layer.name}: {what} since cycle {since}; {why}; look at {look_at}"
    return Finding(layer.name, what, since, look_at, message)
