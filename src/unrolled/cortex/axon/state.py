"""The state of a network: every variable of a neuron, its unit, and its value at the start."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Variable(NamedTuple):
    """A variable of a neuron: what it is (with its unit) and its value at the start, a number or a field of `Membrane`."""

    doc: str
    start: float | str = 0.0


VARIABLES: dict[str, Variable] = {
    "GeRaw": Variable("excitation that arrived in this cycle, units of gbar E"),
    "Spike": Variable("1 in a cycle with a spike, else 0"),
    "GeExt": Variable("excitation from outside, units of gbar E; inhibition feels it one cycle later"),
    "GeSynPaths": Variable("AMPA conductance of all paths, units of gbar E"),
    "GnmdaSyn": Variable("glutamate bound to NMDA receptors"),
    "GnmdaLrn": Variable("glutamate bound to the NMDA receptors of learning"),
    "VgccM": Variable("activation of VGCC, 0 to 1"),
    "VgccH": Variable("inactivation of VGCC, 0 to 1"),
    "GknaMed": Variable("medium sodium-gated potassium conductance, units of gbar K"),
    "GknaSlow": Variable("slow sodium-gated potassium conductance, units of gbar K"),
    "Vm": Variable("potential of the soma, mV", "v_init"),
    "VmDend": Variable("potential of the dendrite, mV", "v_init"),
    "CaM": Variable("calmodulin of spikes"),
    "LearnCaM": Variable("calmodulin of learning calcium"),
    "CaSyn": Variable("synaptic calcium trace, 30 ms: what credit multiplies"),
    "CaP": Variable("CaMKII-like integral of CaM, 40 ms: where the neuron is"),
    "LearnCaP": Variable("the same of learning calcium: outcome"),
    "CaD": Variable("DAPK1-like integral of CaP, 40 ms: where the neuron was"),
    "LearnCaD": Variable("the same of learning calcium: prediction"),
    "ISI": Variable("cycles since the last spike, -1 without one", -1.0),
    "ISIAvg": Variable("average interval between spikes, ms; -1 without a spike, -2 after one", -1.0),
    "Act": Variable("firing rate relative to 180 Hz, 0 to 1"),
    "ActInt": Variable("Act integrated over a phase"),
    "ActM": Variable("ActInt at the end of the minus phase: the prediction"),
    "ActP": Variable("ActInt at the end of the plus phase: the outcome"),
    "MahpN": Variable("gate of the medium afterhyperpolarization, 0 to 1"),
    "SahpCa": Variable("calcium of the slow afterhyperpolarization"),
    "SahpN": Variable("gate of the slow afterhyperpolarization, 0 to 1"),
    "GababM": Variable("GABA-B activation"),
    "GababX": Variable("GABA-B rise"),
    "VgccCaInt": Variable("VGCC calcium of learning"),
    "CaDPrev": Variable("CaD at the end of the trial before"),
    "ETrace": Variable("eligibility trace"),
    "ETrLearn": Variable("factor of learning from eligibility", 1.0),
    "CaDiff": Variable("LearnCaP - LearnCaD: the error signal"),
    "RLRate": Variable("learning rate of the neuron, made in the last cycle of the plus phase", 1.0),
    "GiSynPaths": Variable("GABA-A conductance of inhibitory paths, units of gbar I"),
    "Ge": Variable("total excitatory conductance, units of gbar E"),
    "Gi": Variable("total inhibitory conductance on the soma, units of gbar I"),
    "Gk": Variable("total potassium conductance, units of gbar K"),
}
"""Name -> what it is. Each is a leaf `[data, neurons]` of a network's state, the layers one after the other; kinds of
layers may add more. Order matters to the fused cycle: variables that one kernel updates together are neighbours."""

POOL_VARIABLES: dict[str, str] = {
    "FSi": "fast-spiking interneuron activity",
    "SSi": "slow-spiking interneuron activity",
    "SSf": "facilitation of slow-spiking input, 0 to 1",
}
"""Name -> what it is; each is a leaf `[data, pools]`: per layer its own pool, then its sub-pools."""

WAITING = {"excitatory": "GeBuf", "inhibitory": "GiBuf", "maintenance": "GMaintBuf"}
"""Conductance -> leaf `[data, cycles, neurons]`: what is on its way, one slot per cycle of delay."""


def start_of(name: str, params: Any) -> float:
    """Value of a variable at the start, for a layer with these parameters."""
    value = VARIABLES[name].start
    return getattr(params.membrane, value) if isinstance(value, str) else value


def filled(shape: tuple[int, ...], value: float, like: Tensor) -> Tensor:
    """A tensor of one value with the dtype and device of another."""
    return torch.full(shape, value, dtype=like.dtype, device=like.device)
