"""What learning does to a network: weight changes at the end of a theta cycle, and slow adaptation every so often."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon import slow
from unrolled.cortex.axon.building import refresh
from unrolled.cortex.axon.layer import Layer
from unrolled.cortex.axon.learning import apply
from unrolled.cortex.axon.products import change

if TYPE_CHECKING:
    from unrolled.cortex.network import Network


def learn(net: "Network", state: Any, rate: float) -> dict[str, Tensor]:
    """Apply one theta cycle's changes (cortex fact sheet, sections 5.7 and 5.8) and adapt slowly when it is time.

    Returns:
        Path -> change of its linear weights `[send, recv]`, before the bounds of 0 and 1.
    """
    changes = {name: change(net, path, state, rate) for name, path in net.paths.items() if path.params.learn}
    for layer in net.layers.values():
        follow(net, layer, state)
    for name, dwt in changes.items():
        path = net.paths[name]
        path.dswt = path.dswt + dwt
        path.lwt, path.wt = apply(path.params.swts, path.swt, path.lwt, dwt)
        if path.mask is not None:
            path.wt = path.wt * path.mask
    data = len(state["Spike"])
    net.trials, net.since_slow, net.since_gi = net.trials + data, net.since_slow + data, net.since_gi + data
    if net.since_slow >= net.slow_interval:
        net.since_slow = 0
        adapt_weights(net)
    if net.since_gi >= net.gi_interval:
        net.since_gi = 0
        adapt_inhibition(net)
    net.version += 1
    return changes


def follow(net: "Network", layer: Layer, state: Any) -> None:
    """Long-run averages and targets of a layer after a trial: ActAvg += sum over data of (ActM - ActAvg) / 20."""
    mine, part, params = net.activity[layer.name], layer.part, layer.params
    act_m = state["ActM"][:, part]
    mine["act_avg"] = mine["act_avg"] + (act_m - mine["act_avg"]).sum(0) / params.membrane.long_tau
    mean = float(act_m.mean()) if params.inhib.adapt else 0.0
    if mean >= 1e-4:
        mine["act_m_avg"] = mine["act_m_avg"] + (mean - mine["act_m_avg"]) / params.membrane.long_tau
    if layer.adapts:
        error = params.trg.err_rate * (state["CaP"][:, part] - state["CaD"][:, part]).sum(0)
        mine["trg_avg"] = params.trg.follow(pooled(layer, mine["trg_avg"]), pooled(layer, error)).flatten()


def pooled(layer: Layer, x: Tensor) -> Tensor:
    """`[pools, neurons]` of a layer's `[neurons]`: sub-pools where targets work within them, else one."""
    return x.reshape(layer.sub_pools if layer.sub_pools and layer.params.trg.pool else 1, -1)


def adapt_weights(net: "Network") -> None:
    """One step of slow adaptation: structural weights, then synaptic scaling (fact sheet, section 5.8)."""
    for path in net.paths.values():
        swts, recv = path.params.swts, path.recv
        if not path.params.learn:
            continue
        mask = torch.ones_like(path.lwt) if path.mask is None else path.mask.to(path.lwt)
        if swts.adapt and not recv.kind.is_target:
            path.swt, path.lwt = slow.structural(swts, path.swt, path.lwt, path.wt, path.dswt, mask)
            path.dswt = torch.zeros_like(path.dswt)
        if recv.adapts and path.conductance != "inhibitory":
            mine = net.activity[recv.name]
            within = [x.reshape(max(recv.sub_pools, 1), -1) for x in (mine["act_avg"], mine["trg_avg"])]
            deviation = recv.params.trg.deviation(*within).flatten()
            path.lwt = slow.scale(path.lwt, path.swt, deviation, recv.params.trg.scale_rate)
        refresh(path)


def adapt_inhibition(net: "Network") -> None:
    """One step of the gain of inhibition, in layers that adapt it; never of inputs."""
    for name, layer in net.layers.items():
        if not layer.kind.is_input:
            average = net.activity[name]["act_m_avg"]
            net.gi_mult[name] = slow.adapt_gi(layer.params.inhib, net.gi_mult[name], average)
