"""The naive twin: one cycle of the network, layer by layer, in the order and symbols of the cortex fact sheet, section 5.

It shares weights and parameters with its network and is a system of its own. The fused cycle is held equal to it.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon import cell, learning
from unrolled.cortex.axon.inhibition import FSFFFB, PoolGi
from unrolled.cortex.axon.kinds import Moment
from unrolled.cortex.axon.layer import Layer
from unrolled.cortex.axon.state import POOL_VARIABLES, VARIABLES, WAITING, filled, start_of
from unrolled.cortex.kinase._linear import BIN

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

State = dict[str, Any]
Vars = dict[str, Tensor]


class Naive:
    """A network as the equations say it, for reading and for tests.

    Its state is a tree: `layers` -> name -> variable `[data, neurons]` (and `bins` `[data, bins, neurons]`), `pools` ->
    name -> variable `[data, pools]`, `paths` -> name -> `GSyn` and the ring `GBuf` `[data, delay + 1, neurons]`, and
    the count of cycles.
    """

    def __init__(self, net: "Network") -> None:
        self.net = net

    def init(self, input: Moment, *, rng: torch.Generator | None = None) -> State:
        """The state at rest, for the batch of the input."""
        net, data = self.net.ready(), self.net.data_of(input)
        layers: dict[str, Vars] = {}
        for name, layer in net.layers.items():
            s = {v: filled((data, layer.n), start_of(v, layer.params), net.like) for v in VARIABLES}
            s |= {v: filled((data, layer.n), value, net.like) for v, value in layer.kind.variables().items()}
            layers[name] = s | {"bins": filled((data, net.n_bins, layer.n), 0, net.like)}
        pools = {
            name: {v: filled((data, layer.pools), 0, net.like) for v in POOL_VARIABLES}
            for name, layer in net.layers.items()
        }
        paths = {
            name: {
                "GSyn": filled((data, path.recv.n), 0, net.like),
                "GBuf": filled((data, path.params.delay + 1, path.recv.n), 0, net.like),
            }
            for name, path in net.paths.items()
        }
        return {"layers": layers, "pools": pools, "paths": paths, "cycle": 0, "ended": False}

    @torch.no_grad()
    def step(self, state: State, input: Moment, *, rng: torch.Generator | None = None) -> State:
        """One cycle (section 5.1): gather, inhibit, integrate, spike, send."""
        net, moment, cycle = self.net, input, state["cycle"]
        net.check_moment(moment)
        layers = {name: dict(s) for name, s in state["layers"].items()}
        pools = {name: dict(p) for name, p in state["pools"].items()}
        paths = {name: dict(p) for name, p in state["paths"].items()}
        for name, layer in net.layers.items():
            if layer.kind.acts:  # kinds write in place
                layers[name] = {v: x.clone() for v, x in layers[name].items()}

        if moment.first and moment.phase == "minus":
            for name, layer in net.layers.items():
                self.new_state(layer, layers[name], pools[name], [paths[p.name] for p in net.incoming(layer)])
        if moment.first and moment.plus:
            for name in moment.targets:
                layers[name] |= {v: torch.full_like(layers[name][v], -1) for v in ("ISI", "ISIAvg")}
                layers[name]["ActInt"] = torch.zeros_like(layers[name]["ActInt"])
        max_ca_d = {name: s["CaD"].amax(-1, keepdim=True) for name, s in layers.items()}

        for name, layer in net.layers.items():
            self.gather_spikes(layer, layers[name], paths, cycle)
        for name, layer in net.layers.items():
            self.inhibit(layer, layers[name], pools[name], moment)
        others = layers.__getitem__
        for name, layer in net.layers.items():
            layers[name]["GeExt"] = torch.zeros_like(layers[name]["GeExt"])
            if layer.kind.acts:  # sees what the others did in the cycle before
                layers[name] |= {v: layers[name][v].clone() for v in ("GeRaw", "GeSyn", "SSGiDend")}
                layer.kind.drive(layers[name], others, moment)
        for name, layer in net.layers.items():
            self.cell(layer, layers[name], moment, cycle)
        for name, layer in net.layers.items():
            layer.kind.spiked(layers[name], others, moment)
        for path in net.paths.values():
            if path.conductance != "context":
                self.send_spike(path, layers[path.send.name], paths[path.name], cycle)

        ended = moment.last and moment.plus
        for name, layer in net.layers.items():
            s = layers[name]
            if moment.last and moment.phase == "minus":
                s["ActM"] = s["ActInt"].clone()  # a kind may clear ActInt
                layer.kind.minus_ended(s)
            if ended:
                self.plus_end(layer, s, max_ca_d[name])
            for scratch in ("GeSyn", "GiSyn", "SSGiDend", "GMaintRaw", "NmdaCa"):
                s.pop(scratch, None)
        return {"layers": layers, "pools": pools, "paths": paths, "cycle": cycle + 1, "ended": ended}

    def new_state(self, layer: Layer, s: Vars, p: Vars, into: list[Vars]) -> None:
        """Section 5.6: what a new minus phase forgets."""
        decay, rest = layer.params.decay, layer.params.membrane.v_init
        d, g, ahp = decay.act, decay.glong, decay.ahp
        s["CaDPrev"] = s["CaD"]
        s["ISIAvg"] = torch.full_like(s["ISIAvg"], -1)
        for v in ("ActInt", "GeRaw", "GeExt"):
            s[v] = torch.zeros_like(s[v])
        if d > 0:
            s["Spike"] = torch.zeros_like(s["Spike"])
        for v in ("Act", "Ge", "Gi", "Gk"):
            s[v] = s[v] - d * s[v]
        s["Vm"] = s["Vm"] - d * (s["Vm"] - rest)
        s["VmDend"] = s["VmDend"] - g * (s["VmDend"] - rest)
        for v in ("GababM", "GababX", "GnmdaSyn", "VgccM", "VgccH"):
            s[v] = s[v] - g * s[v]
        for v in ("MahpN", "SahpCa", "SahpN", "GknaMed", "GknaSlow"):
            s[v] = s[v] - ahp * s[v]
        for v in POOL_VARIABLES:
            p[v] = p[v] - d * p[v]
        if decay.gbufs:
            for path in into:
                path |= {v: torch.zeros_like(path[v]) for v in ("GSyn", "GBuf")}
        layer.kind.minus_started(s)

    def gather_spikes(self, layer: Layer, s: Vars, paths: dict[str, Vars], cycle: int) -> None:
        """Section 5.2: what arrives now, and the synaptic conductances it adds to."""
        membrane, zero = layer.params.membrane, torch.zeros_like(s["GeRaw"])
        s |= {"GeRaw": zero, "GeSyn": zero, "GiSyn": zero, "GMaintRaw": zero}
        for path in self.net.incoming(layer):
            p = paths[path.name]
            raw = p["GBuf"][:, cycle % (path.params.delay + 1)]
            if path.conductance == "excitatory":
                p["GSyn"] = p["GSyn"] + raw - p["GSyn"] / membrane.ge_tau
                s["GeRaw"], s["GeSyn"] = s["GeRaw"] + raw, s["GeSyn"] + p["GSyn"]
            elif path.conductance == "inhibitory":
                p["GSyn"] = p["GSyn"] + raw - p["GSyn"] / membrane.gi_tau
                s["GiSyn"] = s["GiSyn"] + p["GSyn"]
            elif path.conductance == "maintenance":
                s["GMaintRaw"] = s["GMaintRaw"] + raw
        s["GeSynPaths"], s["GiSynPaths"] = s["GeSyn"], s["GiSyn"]

    def inhibit(self, layer: Layer, s: Vars, p: Vars, moment: Moment) -> None:
        """Section 5.3: FS-FFFB inhibition from this cycle's GeRaw and last cycle's Spike and GeExt."""
        inhib = layer.params.inhib
        clamped = torch.tensor([layer.kind.is_input or (layer.kind.is_target and moment.plus)]).to(
            s["Spike"].device
        )

        def means(v: str, pools: int) -> Tensor:
            return s[v].unflatten(-1, (pools, -1)).mean(-1)

        def step(level: FSFFFB, part: slice, pools: int) -> PoolGi:
            fsi, ssi, ssf = (p[v][:, part] for v in POOL_VARIABLES)
            return level.step(
                fsi, ssi, ssf, means("GeRaw", pools), means("Spike", pools), means("GeExt", pools), clamped
            )

        made = step(inhib.layer, slice(0, 1), 1)
        total, ssgi = made.total, made.ssgi
        parts = [made]
        if layer.sub_pools:
            made = step(inhib.pool, slice(1, None), layer.sub_pools)
            parts.append(made)
            total, ssgi = torch.maximum(made.total, total), made.ssgi
        p["FSi"], p["SSi"], p["SSf"] = (
            torch.cat([getattr(m, v) for m in parts], -1) for v in ("fsi", "ssi", "ssf")
        )

        per_pool = layer.n // max(layer.sub_pools, 1)
        s["Gi"] = self.net.gi_mult[layer.name] * total.repeat_interleave(per_pool, -1) + s["GiSyn"].clamp(
            min=0
        )
        gain = layer.params.dend.ssgi if layer.kind.slow_inhibited else 0.0
        s["SSGiDend"] = gain * ssgi.repeat_interleave(per_pool, -1)

    def cell(self, layer: Layer, s: Vars, moment: Moment, cycle: int) -> None:
        """Sections 5.4 and 5.5: conductances, potentials, spikes, calcium and its bins."""
        pattern = self.net.clamp_of(layer, moment)
        ext = torch.zeros_like(s["Vm"]) if pattern is None else pattern * layer.params.clamp.ge
        cell.conductances(layer.params, s, ext, torch.tensor(pattern is not None, device=ext.device))
        cell.membrane(layer.params, s)
        cell.calcium(layer.params, s, moment.plus, layer.params.learn_ca.etrace_scale > 0)
        b = cycle // BIN % self.net.n_bins
        bins = s["bins"].clone()
        bins[:, b] = (0 if cycle % BIN == 0 else bins[:, b]) + s["CaSyn"] / BIN
        s["bins"] = bins

    def send_spike(self, path: Any, sender: Vars, p: Vars, cycle: int) -> None:
        """Section 5.2: each spike adds scale x Wt to its receivers, delay + 1 cycles from now."""
        buffer = p["GBuf"].clone()
        buffer[:, cycle % (path.params.delay + 1)] = sender["Spike"] @ (self.net.scale[path.name] * path.wt)
        p["GBuf"] = buffer

    def plus_end(self, layer: Layer, s: Vars, max_ca_d: Tensor) -> None:
        """Sections 5.4 (sAHP), 5.5 and 5.7 (RLRate): the end of the plus phase, when learning happens."""
        s["ActP"] = s["ActInt"]
        s["SahpN"], s["SahpCa"] = layer.params.sahp.trial(s["SahpCa"], s["CaD"])
        s["CaDiff"] = layer.params.learn_ca.difference(s["LearnCaP"], s["LearnCaD"])
        s["RLRate"] = layer.params.rlrate(s["CaP"], s["CaD"], max_ca_d)

    def dwt(self, state: State) -> dict[str, Tensor]:
        """Section 5.7: the change of every path's linear weights, `[send, recv]`, summed over data."""
        net, made = self.net, {}
        for name, path in net.paths.items():
            if not path.params.learn:
                continue
            s, r = state["layers"][path.send.name], state["layers"][path.recv.name]
            dwt = torch.zeros_like(path.lwt)
            for d in range(len(s["Spike"])):
                if path.recv.kind.is_target:
                    weights = path.params.dwt.weights(BIN * net.theta.bins, net.theta.plus)
                    seen = net.trial_bins(state["cycle"])
                    syn = s["bins"][d, seen].unsqueeze(-1) * r["bins"][d, seen].unsqueeze(
                        -2
                    )  # [bins, send, recv]
                    ca_p, ca_d = (torch.tensordot(w.to(syn), syn, dims=1) for w in weights)
                    dwt += learning.target(ca_p, ca_d, r["RLRate"][d], path.lwt, path.params.dwt)
                else:
                    seen = net.window_bins(state["cycle"], path.recv.params.window.cycles)
                    learns = r["CaD"][d] > path.recv.params.window.thr
                    recv = torch.where(learns, r["CaDiff"][d] * r["RLRate"][d] * r["ETrLearn"][d], 0.0)
                    syn = learning.credit(s["bins"][d, seen], r["bins"][d, seen])
                    trace = (
                        syn
                        if path.trace is None
                        else path.trace[d] + (syn - path.trace[d]) / path.params.dwt.syn_tau
                    )
                    dwt += learning.cortex(syn, trace, recv, path.lwt, path.params.dwt)
            dwt = dwt if path.mask is None else dwt * path.mask
            made[name] = learning.sub_mean(path.params.lrate * dwt, path.params.dwt.sub_mean)
        return made

    def flat(self, state: State) -> State:
        """The same state in the form of the network: layers side by side, paths of one conductance added up."""
        net, layers, pools = self.net, state["layers"], state["pools"]
        made: State = {
            v: torch.cat([s.get(v, torch.zeros_like(s["Vm"])) for s in layers.values()], -1)
            for v in net.variables
        }
        made |= {v: torch.cat([p[v] for p in pools.values()], -1) for v in POOL_VARIABLES}
        made["bins"] = torch.cat([s["bins"] for s in layers.values()], -1)
        for conductance, leaf in WAITING.items():
            mine = [path for path in net.paths.values() if path.conductance == conductance]
            slots = max((path.params.delay for path in mine), default=0) + 1
            ring = filled((len(made["Vm"]), slots, net.n), 0, net.like)
            for path in mine:
                own = path.params.delay + 1
                for k in range(own):  # what arrives in k cycles from now
                    arrival = state["cycle"] + k
                    ring[:, arrival % slots, path.recv.part] += state["paths"][path.name]["GBuf"][
                        :, arrival % own
                    ]
            if mine or conductance == "excitatory":
                made[leaf] = ring
        return made | {"cycle": state["cycle"], "ended": state["ended"]}
