"""NIR, the intermediate representation of neuromorphic hardware: what of a cortex it can carry, out and in.

NIR knows populations of current-based integrate-and-fire neurons, linear maps and delays. A cell of Axon becomes the
`CubaLIF` that it is near rest, where its driving force is constant (cortex fact sheet, section 5.5):

    tau_syn = Ge's decay, 5 ms        tau_mem = C / g_l = 281 / 20 ms        v_leak = E_l = -70 mV
    r = g_e (E_e - E_l) / g_l = 350 mV per unit of Ge        v_threshold = -50 mV        v_reset = -70 mV
    weight [recv, send] = scale x Wt (inhibitory: times -g_i (E_l - E_i) / (g_e (E_e - E_l)) = -2/7)

and `w_in` = tau_syn, so that a spike raises the conductance by its weight. Times are in seconds. `NOT_CARRIED` lists
what is lost: a graph is the network's wiring and strengths, not its dynamics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unrolled.core import require
from unrolled.cortex.axon.building import refresh
from unrolled.cortex.axon.layer import LayerParams
from unrolled.cortex.axon.paths import Path, scales
from unrolled.cortex.axon.sheets import replace
from unrolled.cortex.theta import ThetaCycle

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

NOT_CARRIED = {
    "driving force": "conductances act times (E - V); NIR's currents act alike at every potential",
    "dendrite": "a cell has two compartments, a NIR neuron one",
    "NMDA, GABA-B, VGCC": "channels gated by potential or lasting 50 to 200 ms have no primitive",
    "adaptation": "mAHP, sAHP, AK and KNa currents have no primitive",
    "exponential spike, refractory period": "a NIR neuron fires at its threshold and can fire again at once",
    "inhibition": "FS-FFFB is computed per pool and cycle from all its neurons, not sent along connections",
    "inhibitory synapses' decay": "7 ms, as 5 ms: a CubaLIF has one time constant for all its input",
    "clamping": "an input layer's pattern is a conductance into cells that fire; NIR's Input hands on spikes",
    "phases": "minus and plus, and what a trial forgets, are no part of a graph",
    "learning": "the kinase rule, slow adaptation, and the split of weights into structural and linear",
}
"""What no NIR graph can carry, and why; `not_in_nir` adds what is particular to a network."""

MS = 1e-3


def not_in_nir(net: "Network") -> list[str]:
    """What of this network its NIR graph does not have, a line each.

    Example:
        >>> from unrolled.cortex import Network
        >>> net = Network()
        >>> _ = net.layer("In", (1, 2), "input")
        >>> not_in_nir(net)[0].partition(":")[0]
        'driving force'
    """
    lost = [f"{what}: {why}" for what, why in NOT_CARRIED.items()]
    lost += [
        f"path {path.name}: a {path.kind} path drives nothing that a NIR neuron has"
        for path in net.paths.values()
        if path.conductance not in ("excitatory", "inhibitory")
    ]
    lost += [
        f"layer {layer.name}: what a {layer.kind.name} layer does besides firing"
        for layer in net.layers.values()
        if layer.kind.acts
    ]
    return lost


def to_nir(net: "Network") -> Any:
    """A network as a NIR graph, for `nir.write` or a neuromorphic toolchain.

    Input layers become `Input`, all others `CubaLIF`, target layers also an `Output` (`"Name output"`); each path is a
    `Delay` of delay + 1 ms and a `Linear`. The graph's metadata names the conversion and what it lacks.

    Returns:
        A `nir.NIRGraph`.

    Raises:
        ImportError: without the `nir` package.
    """
    nir = require("nir", extra="nir")
    net.ready()
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    for layer in net.layers.values():
        if layer.kind.is_input:
            nodes[layer.name] = nir.Input(input_type={"input": np.array([layer.n])})
            continue
        cell = _cell(layer.params)
        nodes[layer.name] = nir.CubaLIF(
            **{name: np.full(layer.n, value, dtype=np.float32) for name, value in cell.items()},
            metadata={"kind": layer.kind.name, "shape": list(layer.shape)},
        )
        if layer.kind.is_target:
            out = f"{layer.name} output"
            nodes[out] = nir.Output(output_type={"output": np.array([layer.n])})
            edges.append((layer.name, out))
    for path in net.paths.values():
        if path.conductance not in ("excitatory", "inhibitory") or path.recv.kind.is_input:
            continue
        strength = net.scale[path.name] * path.wt
        if path.conductance == "inhibitory":
            strength = -_inhibition(path.recv.params) * strength
        delay, linear = f"{path.name} delay", path.name
        nodes[delay] = nir.Delay(delay=np.full(path.send.n, (path.params.delay + 1) * MS, dtype=np.float32))
        nodes[linear] = nir.Linear(
            weight=strength.T.cpu().numpy().astype(np.float32), metadata={"kind": path.kind}
        )
        edges += [(path.send.name, delay), (delay, linear), (linear, path.recv.name)]
    lost = "; ".join(not_in_nir(net))
    return nir.NIRGraph(nodes, edges, metadata={"made by": "unrolled.cortex", "not carried": lost})


def from_nir(
    graph: Any,
    *,
    targets: tuple[str, ...] = (),
    kinds: Mapping[str, Any] | None = None,
    theta: ThetaCycle | None = None,
    seed: int = 0,
) -> "Network":
    """A network with a NIR graph's populations, connections, strengths and delays; its cells are Axon's.

    A weight keeps its strength relative to what takes the neuron to its threshold: Ge = W r / (v_threshold - v_leak)
    x 20 mV / 350 mV (of a `CubaLIF` also x w_in / tau_syn). Negative weights become an inhibitory path beside the
    excitatory one. Delays are rounded to milliseconds; at least one is needed, for a spike takes a cycle to arrive.

    Args:
        graph: a flat `nir.NIRGraph` of Input, Output, LIF, CubaLIF, IF, LI, CubaLI, Linear, Affine without bias, Scale, Flatten, Delay.
        targets: populations that are to be target layers, besides those the graph's metadata names.
        kinds: population -> kind of layer, where it is to be another.
        theta: lengths of the phases.
        seed: of what a graph does not have: targets of long-run activity.

    Raises:
        ValueError: a primitive, a bias or a shape that a cortex has not, with its node's name.
    """
    from unrolled.cortex.network import Network

    read = _Graph(graph)
    net = Network(theta, seed=seed)
    wanted = dict.fromkeys(targets, "target") | dict(kinds or {})
    unknown = sorted(set(wanted) - set(read.populations))
    if unknown:
        raise ValueError(
            f"no population {', '.join(unknown)} in this graph; there are {', '.join(read.populations)}"
        )
    names = {name: name.translate(str.maketrans(".:>", "___")) for name in read.populations}
    for name, population in read.populations.items():
        net.layer(names[name], population.shape, wanted.get(name, population.kind))
    strengths: dict[str, Tensor] = {}
    for joint in read.joints():
        per_unit = read.populations[joint.recv].per_unit
        recv = net.layers[names[joint.recv]]
        ge = torch.from_numpy(joint.weight.T * per_unit[None, :]).to(net.like)
        ge = ge * _rheobase(recv.params)
        signs = {joint.kind: ge.clamp(min=0), "inhibitory": (-ge).clamp(min=0) / _inhibition(recv.params)}
        for kind, strength in signs.items():
            if not bool(strength.any()):
                continue
            mask = strength > 0
            whole = bool(mask.all()) or not bool(mask.any(0).all())
            path = net.connect(names[joint.send], recv, "full" if whole else mask, kind=kind)
            path.params = replace(path.params, {"delay": max(round(joint.delay / MS) - 1, 0)})
            strengths[path.name] = strength
    for recv in net.layers.values():
        for name, scale in scales(net.incoming(recv)).items():
            path = net.paths[name]
            path.params = replace(
                path.params, {"scale.abs": float(strengths[name].max()) / scale * path.params.scale.abs}
            )
    net.ready()
    for name, strength in strengths.items():
        _weigh(net.paths[name], strength / net.scale[name])
    net.changed()
    return net


def _weigh(path: Path, wt: Tensor) -> None:
    path.swt = torch.full_like(path.swt, 0.5)
    path.lwt = path.params.swts.linear(wt, path.swt)
    refresh(path)


def _cell(params: LayerParams) -> dict[str, float]:
    m = params.membrane
    return {
        "tau_syn": m.ge_tau * MS,
        "tau_mem": m.c / m.g_l * MS,
        "r": m.g_e * (m.e_e - m.e_l) / m.g_l,
        "v_leak": m.e_l,
        "v_threshold": params.spike.thr,
        "v_reset": params.spike.v_r,
        "w_in": m.ge_tau * MS,
    }


def _rheobase(params: LayerParams) -> float:
    """Ge that takes a cell from rest to its threshold, in the limit of `_cell`."""
    cell = _cell(params)
    return (cell["v_threshold"] - cell["v_leak"]) / cell["r"]


def _inhibition(params: LayerParams) -> float:
    """Current of a unit of Gi relative to one of Ge, at rest."""
    m = params.membrane
    return m.g_i * (m.e_l - m.e_i) / (m.g_e * (m.e_e - m.e_l))


@dataclass
class _Population:
    shape: tuple[int, int]
    kind: str
    per_unit: np.ndarray
    """What a unit of weight is, in units of what takes each neuron to its threshold."""


@dataclass
class _Joint:
    send: str
    recv: str
    weight: np.ndarray
    delay: float
    kind: str


class _Graph:
    """Populations of a graph, and what lies between them."""

    def __init__(self, graph: Any) -> None:
        self.nodes, self.edges = graph.nodes, list(graph.edges)
        self.populations: dict[str, _Population] = {}
        outputs = {a for a, b in self.edges if type(self.nodes[b]).__name__ == "Output"}
        for name, node in self.nodes.items():
            made = self._population(name, node)
            if made is not None:
                if made.kind == "hidden" and name in outputs:
                    made.kind = "target"
                self.populations[name] = made

    def _population(self, name: str, node: Any) -> _Population | None:
        what, meta = type(node).__name__, getattr(node, "metadata", None) or {}
        if what in ("Output", "Linear", "Affine", "Delay", "Scale", "Flatten"):
            return None
        if what == "Input":
            n = int(np.prod(next(iter(node.input_type.values()))))
            return _Population((1, n), "input", np.ones(n))
        if what not in ("LIF", "CubaLIF", "IF", "LI", "CubaLI"):
            raise ValueError(
                f"node {name!r} is a {what}: a cortex has populations (Input, LIF, CubaLIF, IF, LI, CubaLI) joined by "
                "Linear, Affine without bias, Scale, Flatten and Delay; replace it, or flatten the subgraph, first"
            )
        r = np.asarray(node.r, dtype=np.float64).ravel()
        leak = np.asarray(getattr(node, "v_leak", 0.0), dtype=np.float64).ravel()
        threshold = np.asarray(getattr(node, "v_threshold", leak + 1.0), dtype=np.float64).ravel()
        room = threshold - leak
        if not np.all(room > 0):
            raise ValueError(
                f"node {name!r}: expected v_threshold above v_leak, got {room.min():g} between them"
            )
        unit = r / room
        if what.startswith("Cuba"):
            unit = unit * np.asarray(node.w_in).ravel() / np.asarray(node.tau_syn).ravel()
        shape = tuple(int(x) for x in np.atleast_1d(meta.get("shape", ()))) or (1, len(unit))
        kind = str(_text(meta.get("kind", "hidden")))
        kind = kind if kind in ("hidden", "target") else "hidden"
        return _Population(shape, kind, unit)  # pyright: ignore[reportArgumentType]

    def joints(self) -> list[_Joint]:
        """Every way from one population to another, with the product of what lies on it."""
        found: dict[tuple[str, str, float, str], _Joint] = {}
        for name in self.populations:
            for joint in self._back(name, name, None, 0.0, "forward", ()):
                key = (joint.send, joint.recv, joint.delay, joint.kind)
                if key in found:
                    found[key].weight = found[key].weight + joint.weight
                else:
                    found[key] = joint
        return list(found.values())

    def _back(
        self, recv: str, at: str, weight: np.ndarray | None, delay: float, kind: str, seen: tuple[str, ...]
    ) -> list[_Joint]:
        made: list[_Joint] = []
        for before in [a for a, b in self.edges if b == at]:
            if before in seen:
                raise ValueError(
                    f"nodes {' -> '.join((before, *seen))} go round without a population on the way"
                )
            if before in self.populations:
                n = len(self.populations[recv].per_unit)
                whole = np.eye(n) if weight is None else weight
                made.append(_Joint(before, recv, whole, delay, kind))
                continue
            node, w, d, k = self.nodes[before], weight, delay, kind
            what = type(node).__name__
            if what in ("Linear", "Affine"):
                if what == "Affine" and np.any(np.asarray(node.bias)):
                    raise ValueError(
                        f"node {before!r} has a bias: a cortex has none; make it an input that is always on, or a Linear"
                    )
                own = np.asarray(node.weight, dtype=np.float64)
                if own.ndim != 2:
                    raise ValueError(
                        f"node {before!r}: weights of shape {list(own.shape)}, expected [out, in]"
                    )
                w = own if w is None else w @ own
                given = str(_text((getattr(node, "metadata", None) or {}).get("kind", "")))
                k = given if given in ("back", "lateral") else kind
            elif what == "Scale":
                own = np.diag(np.asarray(node.scale, dtype=np.float64).ravel())
                w = own if w is None else w @ own
            elif what == "Delay":
                each = np.unique(np.asarray(node.delay, dtype=np.float64).ravel())
                if len(each) > 1 and np.ptp(each) >= MS / 2:
                    raise ValueError(
                        f"node {before!r}: delays from {each.min():g} to {each.max():g} s; a path has one, give each its own node"
                    )
                d = d + float(each.mean())
            made += self._back(recv, before, w, d, k, (before, *seen))
        return made


def _text(x: Any) -> Any:
    return x.decode() if isinstance(x, bytes) else x
