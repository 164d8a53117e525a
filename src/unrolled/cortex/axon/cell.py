"""What happens within a neuron in one cycle, from conductances to calcium, in the order of the cortex fact sheet.

The functions take a sheet `p` (`LayerParams`, or one whose numbers are vectors over all neurons) and a dict `s` of
variables `[data, neurons]`, which they rebind and never write to. The naive twin calls them layer by layer; compiled
with vectors for numbers, they are a fast cycle too.
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.axon.channels.nmda import calcium_drive

Vars = dict[str, Tensor]


def conductances(p: Any, s: Vars, ext: Tensor, clamped: Tensor) -> None:
    """Section 5.4: every channel, from the potentials of the previous cycle.

    Args:
        p: parameters.
        s: variables; `GeRaw`, `GeSyn` and `Gi` are this cycle's.
        ext: conductance of the pattern a neuron is clamped to, 0 without one.
        clamped: whether it is, bool.
    """
    vm, vd = s["Vm"], s["VmDend"]
    s["GnmdaSyn"] = p.nmda.bind(s["GnmdaSyn"], s["GeRaw"])
    s["GnmdaLrn"] = p.learn_nmda.bind(s["GnmdaLrn"], s["GeRaw"])
    g_nmda = p.nmda.conductance(s["GnmdaSyn"], vd)
    s["NmdaCa"] = p.learn_nmda.conductance(s["GnmdaLrn"], vd) * calcium_drive(vd)
    g_vgcc = p.vgcc.conductance(vd, s["VgccM"], s["VgccH"])
    m, h = p.vgcc.gates(vd, s["VgccM"], s["VgccH"])
    has_vgcc = torch.as_tensor(p.vgcc.ge > 0, device=vd.device)
    s["VgccM"], s["VgccH"] = torch.where(has_vgcc, m, s["VgccM"]), torch.where(has_vgcc, h, s["VgccH"])
    s["Ge"] = torch.where(clamped, ext, s["GeSyn"] + g_nmda + g_vgcc).clamp(min=0)
    s["GeExt"] = torch.where(clamped, ext, s["GeExt"])

    s["MahpN"] = p.mahp.step(vm, s["MahpN"])
    s["GknaMed"] = p.kna.step(s["GknaMed"], s["Spike"])
    s["GknaSlow"] = p.kna_slow.step(s["GknaSlow"], s["Spike"])
    g_k = p.mahp.conductance(s["MahpN"]) + p.sahp.gk * s["SahpN"] + p.ak.conductance(vd)
    s["GababM"], s["GababX"] = p.gabab.step(s["Gi"], s["GababM"], s["GababX"])
    s["Gk"] = g_k + s["GknaMed"] + s["GknaSlow"] + p.gabab.conductance(vd, s["GababM"])


def membrane(p: Any, s: Vars) -> None:
    """Section 5.5: potentials of soma and dendrite, then the spike and its intervals."""
    m, spike, dend = p.membrane, p.spike, p.dend
    ge, gi, gk, one = m.g_e * s["Ge"], m.g_i * s["Gi"], m.g_k * s["Gk"], torch.ones_like(s["Ge"])
    gi_dend = gi + m.g_i * s["SSGiDend"]
    refractory = spike.refractory(s["ISI"])

    v = m.integrate(s["Vm"], m.c, ge, one, gi, gk)
    i_exp = torch.where(refractory, 0.0, spike.exp_current(v, s["Vm"], m))
    vd = m.integrate(s["VmDend"], m.c_dend, ge, one + dend.g_r * refractory, gi_dend, gk)
    s["VmDend"] = m.add(vd, dend.g_exp * i_exp, m.c_dend)
    s["Vm"] = torch.where(refractory, spike.recover(s["Vm"], s["ISI"]), m.add(v, i_exp, m.c))

    s["Spike"] = (s["Vm"] >= spike.exp_thr).to(one)
    s["ISI"], s["ISIAvg"] = spike.intervals(s["Spike"], s["ISI"], s["ISIAvg"])
    s["Act"] = spike.activity(s["Act"], s["ISIAvg"])


def calcium(p: Any, s: Vars, plus: bool, etrace: bool) -> None:
    """Section 5.5: calcium of spikes and of learning, and the activity over the phase.

    Args:
        p: parameters.
        s: variables.
        plus: whether this is the plus phase, when ActInt moves three times faster.
        etrace: whether any neuron has an eligibility trace.
    """
    spike_ca, learn = p.spike_ca, p.learn_ca
    s["CaM"], s["CaP"], s["CaD"] = spike_ca.cascade(s["Spike"], s["CaM"], s["CaP"], s["CaD"])
    s["CaSyn"] = spike_ca.trace(s["Spike"], s["CaSyn"])
    s["VgccCaInt"], ca = learn.influx(s["Spike"], s["VgccCaInt"], s["NmdaCa"])
    learned = learn.cascade(ca, s["LearnCaM"], s["LearnCaP"], s["LearnCaD"])
    s["LearnCaM"], s["LearnCaP"], s["LearnCaD"] = learned
    if etrace:
        trace, factor = learn.eligibility(s["CaD"], s["CaDPrev"], s["ETrace"])
        has_trace = torch.as_tensor(learn.etrace_scale > 0, device=trace.device)
        s["ETrace"] = torch.where(has_trace, trace, s["ETrace"])
        s["ETrLearn"] = torch.where(has_trace, factor, s["ETrLearn"])
    rate = (3 if plus else 1) / p.membrane.int_tau
    s["ActInt"] = s["ActInt"] + rate * (s["Act"] - s["ActInt"])
