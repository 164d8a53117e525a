"""The fused cycle: all layers side by side in one buffer, few and fat kernels, nothing allocated.

Equal to the naive twin up to rounding; `tests/cortex/test_fused.py` holds it there. What makes it fast on a CPU:

* one tensor `[variable, data, neurons]` holds every layer, so an equation is one kernel whatever the number of layers,
  and variables with equations of the same form (`x += (in - x) / tau`, `x = in + keep x`) are neighbours and share it;
* kernels write into buffers that exist (`out=`), conditions are 0/1 masks multiplied in (`where` is slow on a CPU);
* every gate is logistic in the potential, so one `sigmoid` serves all of them, one `tanh` the mAHP rates and the
  calcium drive: t / tanh(t) is both (a + b) of mAHP and, less t, z / (e^z - 1);
* the membrane current is B - A V with one A and B for all channels;
* large batches go through in chunks that stay near the cache, and numbers too small to matter are flushed to 0.

The hard corners of the VGCC gates (1 above -10 mV and so on) are left to the logistic function, which is within 2e-8 of
them there; only m = 0 below -60 mV is kept exact, so that silence stays silence.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon.kinds import Moment
from unrolled.cortex.axon.state import POOL_VARIABLES, WAITING
from unrolled.cortex.kinase._linear import BIN

if TYPE_CHECKING:
    from unrolled.cortex.axon.fused import Fused


class Cycle:
    """Buffers and kernels of a cycle for a chunk of data.

    Args:
        fused: the network's fused cycle, with its constants and gathers.
        data: size of the chunk.
    """

    def __init__(self, fused: "Fused", data: int) -> None:
        net = fused.net
        self.net, self.c, self.fused, self.data = net, fused.c, fused, data
        self.names = net.variables
        like, n, pools = net.like, fused.c.n, fused.c.n_pools
        new = like.new_zeros
        self.x = new(len(self.names), data, n)
        self.row = {name: self.x[i] for i, name in enumerate(self.names)}
        self.pool = dict(zip(POOL_VARIABLES, new(3, data, pools)))
        self.ring = {g: new(slots, data, n) for g, slots in fused.slots.items()}
        self.bins = new(net.n_bins, data, n)
        self.ext, self.clamped = new(data, n), new(n)
        self.any_clamped, self.cycles = False, 0
        self.apart = (
            bool(fused.c.kinds) or fused.compiled is not None
        )  # GeSyn and NMDA are not gathered in one kernel
        self._clamp: tuple[Any, ...] = ()

        def block(first: str, last: str) -> Tensor:
            return self.x[self.names.index(first) : self.names.index(last) + 1]

        self.seen = block("GeRaw", "GeExt")  # GeRaw, Spike, GeExt: what inhibition averages
        self.bound = block("GeSynPaths", "GnmdaLrn")
        self.gates = block("VgccM", "VgccH")
        self.kna = block("GknaMed", "GknaSlow")
        self.v = block("Vm", "VmDend")
        self.ca_m = block("CaM", "CaSyn")  # CaM, LearnCaM, CaSyn
        self.ca_p = block("CaP", "LearnCaP")
        self.ca_d = block("CaD", "LearnCaD")
        # scratch
        self.means, self.p = new(3, data, pools), list(new(4, data, pools))
        self.sums = [
            (self.seen[..., part].unflatten(-1, (count, -1)), self.means[..., into])
            for part, into, count in fused.c.sums
        ]
        self.t = list(new(8, data, n))
        self.logistic, self.half, self.tanh = new(6, data, n), new(2, data, n), new(2, data, n)
        self.nmda, self.two, self.a, self.b = (
            new(2, data, n),
            new(2, data, n),
            new(2, data, n),
            new(2, data, n),
        )
        self.gi, self.ca_in, self.v_old = new(2, data, n), new(3, data, n), new(data, n)
        self.ge_syn, self.maintenance = new(data, n), new(data, n)
        self.views = {x.name: self._view(x.part) for x in net.layers.values()} if fused.c.kinds else {}

    def _view(self, part: slice) -> dict[str, Tensor]:
        made = {name: row[:, part] for name, row in self.row.items()}
        scratch = {"GeSyn": self.ge_syn, "SSGiDend": self.gi[1], "GMaintRaw": self.maintenance}
        return made | {name: x[:, part] for name, x in scratch.items()}

    # -- in and out

    def load(self, state: dict[str, Any], part: slice) -> None:
        """Take over a chunk of a state."""
        n = self.net.n
        for name, row in self.row.items():
            row[:, :n].copy_(state[name][part])
        for name, pool in self.pool.items():
            pool.copy_(state[name][part])
        for g, ring in self.ring.items():
            ring[..., :n].copy_(state[WAITING[g]][part].transpose(0, 1))
        self.bins[..., :n].copy_(state["bins"][part].transpose(0, 1))
        self.cycles, self._clamp = state["cycle"], ()

    def store(self, final: dict[str, Any], part: slice) -> None:
        """Put the chunk where it belongs in a state."""
        n = self.net.n
        for name, row in self.row.items():
            final[name][part] = row[:, :n]
        for name, pool in self.pool.items():
            final[name][part] = pool
        for g, ring in self.ring.items():
            final[WAITING[g]][part] = ring[..., :n].transpose(0, 1)
        final["bins"][part] = self.bins[..., :n].transpose(0, 1)

    def readout(self, name: str) -> Tensor:
        """A readout of the present cycle."""
        layer, _, variable = name.rpartition(".")
        row = self.row[variable]
        return row[:, self.net.layers[layer].part] if layer else row[:, : self.net.n]

    # -- one cycle

    def step(self, moment: Moment, part: slice) -> None:
        """One cycle of 1 ms (cortex fact sheet, section 5.1)."""
        c, net = self.c, self.net
        if moment.first:
            self._first(moment)
        if self._clamp != (key := (id(moment.inputs), id(moment.targets), moment.phase)):
            self._set_clamp(moment, part)
            self._clamp = key
        ended = moment.last and moment.plus
        most = self._layer_max("CaD") if ended else {}
        self._gather()
        self._inhibit(moment.plus)
        if c.kinds:
            self.row["GeExt"].zero_()
            for layer in c.kinds:
                layer.kind.drive(self.views[layer.name], self.views.__getitem__, moment)
        if self.fused.compiled is not None:
            self.fused.compiled(self, moment.plus)
        else:
            self._conductances()
            self._membrane()
            self._calcium(3.0 if moment.plus else 1.0)
        self._bin()
        for layer in c.kinds:
            layer.kind.spiked(self.views[layer.name], self.views.__getitem__, moment)
        for g, gathers in self.fused.gathers.items():
            for i, gather in enumerate(gathers):
                gather.send(self.row["Spike"], self.ring[g], self.cycles, i == 0)
        self.cycles += 1
        if moment.last and moment.phase == "minus":
            self.row["ActM"].copy_(self.row["ActInt"])
            for layer in c.kinds:
                layer.kind.minus_ended(self.views[layer.name])
        if ended:
            for name, layer in net.layers.items():
                self._plus_end(name, layer, most[name])

    def _set_clamp(self, moment: Moment, part: slice) -> None:
        self.ext.zero_()
        self.clamped.zero_()
        for layer in self.net.layers.values():
            pattern = self.net.clamp_of(layer, moment)
            if pattern is not None:
                torch.mul(pattern[part], layer.params.clamp.ge, out=self.ext[:, layer.part])
                self.clamped[layer.part] = 1
        self.any_clamped = any(
            self.net.clamp_of(layer, moment) is not None for layer in self.net.layers.values()
        )

    def _first(self, moment: Moment) -> None:
        """What a phase begins with (sections 5.5 and 5.6)."""
        c, r = self.c, self.row
        if moment.plus:
            for name in moment.targets:
                part = self.net.layers[name].part
                for variable, value in (("ISI", -1.0), ("ISIAvg", -1.0), ("ActInt", 0.0)):
                    r[variable][:, part] = value
        if moment.phase != "minus":
            return
        r["CaDPrev"].copy_(r["CaD"])
        r["ISIAvg"].fill_(-1)
        for name in ("ActInt", "GeRaw", "GeExt"):
            r[name].zero_()
        r["Spike"].mul_(c.spike_stays)
        for rate, names in (
            (c.decay, ("Act", "Ge", "Gi", "Gk")),
            (c.glong, ("GababM", "GababX", "GnmdaSyn", "VgccM", "VgccH")),
            (c.ahp, ("MahpN", "SahpCa", "SahpN", "GknaMed", "GknaSlow")),
        ):
            for name in names:
                r[name].mul_(1 - rate)
        r["Vm"].lerp_(c.v_init, c.decay)
        r["VmDend"].lerp_(c.v_init, c.glong)
        for pool in self.pool.values():
            pool.mul_(c.pool_keep)
        for x in (r["GeSynPaths"], r["GiSynPaths"], *self.ring.values()):
            x.mul_(c.buffers_stay)
        for layer in self.net.layers.values():
            if layer.kind.acts:
                layer.kind.minus_started(self.views[layer.name])

    def _gather(self) -> None:
        """Section 5.2: what arrives now."""
        c, r = self.c, self.row
        ring = self.ring["excitatory"]
        r["GeRaw"].copy_(ring[self.cycles % len(ring)])
        if not self.apart:
            torch.addcmul(r["GeRaw"], self.bound, c.syn_keep, out=self.bound)
        else:
            torch.addcmul(r["GeRaw"], self.bound[0], c.syn_keep[0], out=self.bound[0])
            self.ge_syn.copy_(self.bound[0])
        if "inhibitory" in self.ring:
            ring = self.ring["inhibitory"]
            torch.addcmul(ring[self.cycles % len(ring)], r["GiSynPaths"], c.gi_keep, out=r["GiSynPaths"])
        if "maintenance" in self.ring:
            ring = self.ring["maintenance"]
            self.maintenance.copy_(ring[self.cycles % len(ring)])

    def _inhibit(self, plus: bool) -> None:
        """Section 5.3: pools, then the neurons in them."""
        c, (t0, t1, t2, t3), means = self.c, self.p, self.means
        fsi, ssi, ssf = self.pool.values()
        for neurons, pools in self.sums:
            torch.sum(neurons, -1, out=pools)
        ffs, fbs, ext = means.mul_(c.share)
        torch.addcmul(ffs, fbs, c.pool_fb, out=t0)
        torch.addcmul(t0, fsi, c.fs_keep, out=fsi)
        torch.mul(ssf, fbs, out=t0)
        ssi.lerp_(t0, c.ssi_rate)
        torch.sub(c.ssf_keep, fbs, out=t0)
        torch.addcmul(fbs, ssf, t0, out=ssf)
        if c.pools_off:
            for pool in (fsi, ssi, ssf):
                pool.mul_(c.pool_on)
        torch.sub(fsi, c.fs0, out=t0).relu_()
        torch.le(ext, c.driven[plus], out=t1)
        t0.mul_(t1).add_(ext)
        torch.mul(ssi, c.pool_ss, out=t2)
        torch.addcmul(t2, t0, c.pool_gi, out=t3)
        if c.owner is not None:
            t3 = torch.maximum(t3, t3.index_select(1, c.owner))
        gi, gi_dend = self.gi
        torch.mm(t3, c.spread, out=gi)
        torch.mm(t2, c.ssgi, out=gi_dend)
        if "inhibitory" in self.ring:
            gi.add_(self.row["GiSynPaths"])
        self.row["Gi"].copy_(gi)

    def _conductances(self) -> None:
        """Section 5.4: Ge and Gk from the potentials of the previous cycle."""
        c, r, t = self.c, self.row, self.t
        vd, logistic, half, ratio = r["VmDend"], self.logistic, self.half, self.tanh
        torch.addcmul(c.gate_shift, vd, c.gate_slope, out=logistic).sigmoid_()
        m_inf, _, ak, gaba_v, *_ = logistic

        torch.addcmul(c.mahp_shift, r["Vm"], c.mahp_slope, out=half[0])
        torch.mul(vd, c.ca_half, out=half[1])
        torch.tanh(half, out=ratio)
        torch.add(ratio[0], c.one, out=t[0]).mul_(c.half)  # n_inf of mAHP
        torch.div(half, ratio, out=ratio)
        ratio.nan_to_num_(nan=1.0)  # 0 / tanh 0
        torch.mul(ratio[0], c.mahp_rate, out=t[1])
        r["MahpN"].lerp_(t[0], t[1])

        # calcium drive x 0.0756: z / (e^z - 1), and its approximation within 0.5 mV of 0
        drive, near = t[0], t[1]
        torch.sub(ratio[1], half[1], out=drive)
        torch.gt(vd, c.near, out=near)
        torch.maximum(half[1], c.near_half, out=t[2]).add_(c.one).reciprocal_()
        drive.lerp_(t[2], near)

        if self.apart:
            torch.addcmul(r["GeRaw"], self.bound[1:], c.syn_keep[1:], out=self.bound[1:])
        nmda = torch.mul(logistic[4:], self.bound[1:], out=self.nmda).mul_(vd).mul_(c.nmda_g)
        nmda[1].mul_(drive)  # NmdaCa
        ge = torch.add(self.ge_syn if self.apart else self.bound[0], nmda[0], out=r["Ge"])
        if c.has_vgcc:
            m, h = self.gates
            torch.mul(m, m, out=t[1]).mul_(m).mul_(h).mul_(drive)
            ge.addcmul_(t[1], c.vgcc_g)
            m_inf.sub_(c.least_m).relu_()
            self.gates.lerp_(logistic[:2], c.mh_rate)
        ge.relu_()
        if self.any_clamped:
            ge.lerp_(self.ext, self.clamped)
        if c.kinds:
            r["GeExt"].lerp_(self.ext, self.clamped)  # kinds may have set the others
        else:
            r["GeExt"].copy_(self.ext)

        # potassium
        spike = r["Spike"]
        rate = torch.addcmul(c.kna_decay, spike, c.kna_more, out=self.two)
        self.kna.lerp_(torch.mul(spike, c.kna_g, out=self.a), rate)
        gk = torch.mul(r["MahpN"], c.mahp_g, out=r["Gk"])
        gk.addcmul_(r["SahpN"], c.sahp_g).add_(self.kna[0]).add_(self.kna[1])
        gk.addcmul_(torch.minimum(ak, c.ak_most, out=t[1]), c.ak_g)

        gi, m, x = self.gi[0], r["GababM"], r["GababX"]
        released = torch.addcmul(c.gabab_shift, gi, c.gabab_slope, out=t[1]).sigmoid_()
        torch.maximum(released, torch.gt(gi, c.gabab_full, out=t[2]), out=released)
        m.lerp_(torch.mul(x, c.gabab_factor, out=t[2]), c.gabab_rise)
        torch.addcmul(released, x, c.gabab_keep, out=x)
        drive = torch.sub(vd, c.gabab_rest, out=t[1]).relu_().mul_(gaba_v)
        drive.mul_(torch.add(m, c.gabab_base, out=t[2]))
        gk.addcmul_(drive, c.gabab_g)

    def _membrane(self) -> None:
        """Section 5.5: both potentials, then the spike and its intervals."""
        c, r, t, v = self.c, self.row, self.t, self.v
        isi = r["ISI"]
        spiked_once = torch.ge(isi, c.zero, out=t[0])
        refractory = torch.lt(isi, c.tr, out=t[1]).mul_(spiked_once)
        free = torch.sub(c.one, refractory, out=t[2])

        gi = self.gi
        gi[1].add_(gi[0])
        gk = torch.mul(r["Gk"], c.g_k, out=t[3])
        a, b = self.a, self.b
        torch.mul(gk, c.e_k, out=t[4])
        gk.addcmul_(r["Ge"], c.g_e)
        if c.has_e_e:
            t[4].addcmul_(r["Ge"], c.g_e_e_e)
        torch.addcmul(gk, gi, c.g_i, out=a)
        torch.addcmul(t[4], gi, c.g_i_e_i, out=b)
        leak = torch.addcmul(c.g_l, refractory, c.g_r, out=t[3])
        a[0].add_(c.g_l)
        a[1].add_(leak)
        b[0].addcmul_(c.g_l, c.e_l)
        b[1].addcmul_(leak, c.e_l)

        old = self.v_old.copy_(v[0])
        current = self.two
        for _ in range(2):
            torch.addcmul(b, a, v, value=-1, out=current)
            torch.clamp(current, min=-c.most_current, max=c.most_current, out=current)
            v.addcmul_(current, c.half_step).clamp_(c.v_min, c.v_max)
        i_exp = torch.add(v[0], old, out=t[3])
        torch.addcmul(c.exp_shift, i_exp, c.exp_slope, out=i_exp).exp_().clamp_(max=c.most_current).mul_(free)
        v.addcmul_(i_exp, c.exp_step).clamp_(c.v_min, c.v_max)
        last = torch.eq(isi, c.last_tr, out=t[3])
        torch.addcmul(c.r_rate, last, c.r_rest, out=last)
        v[0].lerp_(old.lerp_(c.v_r, last), refractory)

        spike = torch.ge(v[0], c.exp_thr, out=r["Spike"])
        self._intervals(spike, isi, r["ISIAvg"], spiked_once)
        rate = torch.div(c.act_of_isi, r["ISIAvg"], out=t[3]).clamp_(0, 1)
        r["Act"].lerp_(rate, c.act_rate)

    def _intervals(self, spike: Tensor, isi: Tensor, avg: Tensor, spiked_once: Tensor) -> None:
        """ISI and ISIAvg; the new average is the same expression with and without a spike, of one interval more."""
        c, t = self.c, self.t
        one = c.one
        nxt = torch.add(isi, one, out=t[1])
        quiet = torch.sub(one, spike, out=t[2])
        late = torch.le(nxt, c.longest, out=t[3])
        # where an average is due: an interval ended by a spike, or one that is overdue
        overdue = torch.mul(avg, c.overdue, out=t[4])
        torch.lt(overdue, nxt, out=overdue).mul_(spiked_once).mul_(late).mul_(quiet)
        overdue.mul_(torch.ge(avg, c.zero, out=t[5]))
        none = torch.eq(avg, c.none, out=t[5])
        ended = torch.gt(isi, c.zero, out=t[6]).mul_(spike)
        ended.sub_(none.mul_(spike)).relu_()
        due = overdue.add_(ended)
        # how far it moves there: all the way at first, and when the interval is much shorter
        far = torch.lt(nxt, torch.mul(avg, c.short, out=t[6]), out=t[6])
        torch.maximum(far, torch.le(avg, c.zero, out=t[7]), out=far)
        torch.addcmul(c.isi_rate, far, c.isi_rest, out=far)
        avg.lerp_(nxt, far.mul_(due)).sub_(none)
        # ISI: 0 after a spike, one more after that, -1 without one or after 200
        torch.mul(nxt.add_(one), spiked_once, out=isi)
        isi.mul_(late).sub_(one).mul_(quiet)

    def _calcium(self, speed: float) -> None:
        """Section 5.5: calcium, bins and the activity over the phase."""
        c, r = self.c, self.row
        spike, vg, ca_in = r["Spike"], r["VgccCaInt"], self.ca_in
        torch.mul(spike, c.vgcc_spike, out=self.t[0])
        torch.addcmul(self.t[0], vg, c.vgcc_keep, out=vg)
        torch.mul(spike, c.spike_m, out=ca_in[0])
        torch.add(self.nmda[1], vg, out=ca_in[1]).mul_(c.ca_norm)
        torch.mul(spike, c.spike_syn, out=ca_in[2])
        self.ca_m.lerp_(ca_in, c.m_rate)
        self.ca_p.lerp_(self.ca_m[:2], c.p_rate)
        self.ca_d.lerp_(self.ca_p, c.d_rate)
        if c.has_etrace:
            trace = r["ETrace"].lerp_(torch.sub(r["CaD"], r["CaDPrev"], out=self.t[0]), c.etrace_rate)
            torch.mul(trace, c.etrace_scale, out=r["ETrLearn"]).add_(c.one).relu_()
        r["ActInt"].lerp_(r["Act"], c.int_rate * speed if speed != 1 else c.int_rate)

    def _bin(self) -> None:
        now, ca_syn = self.bins[self.cycles // BIN % len(self.bins)], self.row["CaSyn"]
        if self.cycles % BIN == 0:
            torch.mul(ca_syn, 1 / BIN, out=now)
        else:
            now.add_(ca_syn, alpha=1 / BIN)

    def _layer_max(self, name: str) -> dict[str, Tensor]:
        return {x.name: self.row[name][:, x.part].amax(-1, keepdim=True) for x in self.net.layers.values()}

    def _plus_end(self, name: str, layer: Any, max_ca_d: Tensor) -> None:
        """The end of the plus phase, once per trial: the equations as they stand."""
        s = {variable: row[:, layer.part] for variable, row in self.row.items()}
        p = layer.params
        s["ActP"].copy_(s["ActInt"])
        n, ca = p.sahp.trial(s["SahpCa"], s["CaD"])
        s["SahpN"].copy_(n)
        s["SahpCa"].copy_(ca)
        s["CaDiff"].copy_(p.learn_ca.difference(s["LearnCaP"], s["LearnCaD"]))
        s["RLRate"].copy_(p.rlrate(s["CaP"], s["CaD"], max_ca_d))
