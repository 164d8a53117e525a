"""Parameters of all layers as vectors over all neurons, in the combinations the fused cycle multiplies with."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrolled.cortex.axon.layer import Layer, LayerParams

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

CA = 0.0756
"""Slope of the calcium drive, 1/mV (cortex fact sheet, section 5.4)."""
LANES = 32
"""Rows are padded to a multiple of this with neurons that never fire, so that no kernel ends a row with scalar code:
a row of a batch is then, bit for bit, what it is alone."""
LEAST_M = 1.0263e-10
"""The logistic m_inf of VGCC at -60 mV."""


class Constants:
    """Vectors `[neurons]`, `[rows, 1, neurons]` and `[pools]` made from the sheets; names as in the equations."""

    def __init__(self, net: "Network") -> None:
        layers, like = list(net.layers.values()), net.like
        n = self.n = -(-net.n // LANES) * LANES
        fill = [(x.n, x.params) for x in layers] + [(n - net.n, layers[0].params)]

        def per(value: Callable[[LayerParams], float]) -> Tensor:
            return torch.cat([torch.full((k,), float(value(p)), dtype=torch.float64) for k, p in fill]).to(
                like
            )

        def rows(*values: Callable[[LayerParams], float]) -> Tensor:
            return torch.stack([per(value) for value in values]).unsqueeze(1).contiguous()

        # numbers as tensors: a kernel takes them faster than Python numbers
        def number(value: float) -> Tensor:
            return torch.tensor(value, dtype=like.dtype, device=like.device)

        self.zero, self.half, self.one, self.none = number(0.0), number(0.5), number(1.0), number(-1.0)
        self.short, self.overdue, self.longest = number(0.8), number(1.2), number(200.0)
        self.ca_half, self.near, self.near_half = number(CA / 2), number(-0.5), number(-CA / 4)
        self.least_m = number(LEAST_M)

        # synaptic conductances and NMDA: x = raw + keep x
        self.syn_keep = rows(
            lambda p: 1 - 1 / p.membrane.ge_tau,
            lambda p: 1 - 1 / p.nmda.tau,
            lambda p: 1 - 1 / p.learn_nmda.tau,
        )
        self.gi_keep = per(lambda p: 1 - 1 / p.membrane.gi_tau)

        # gates that are logistic in VmDend: m and h of VGCC, AK, GABA-B, NMDA and learning NMDA
        def block(mgc: float) -> float:
            return -math.log(mgc / 3.57) if mgc > 0 else math.inf

        self.gate_slope = rows(
            lambda p: 1, lambda p: -2, lambda p: p.ak.mf, lambda p: -0.1, lambda p: 0.062, lambda p: 0.062
        )
        self.gate_shift = rows(
            lambda p: 37,
            lambda p: -82,
            lambda p: p.ak.mf * p.ak.v_off,
            lambda p: 0.1 * p.gabab.v_rest - 1,
            lambda p: block(p.nmda.mgc),
            lambda p: block(p.learn_nmda.mgc),
        )
        self.ak_most = per(lambda p: 1 / (1 + math.exp(-p.ak.mf * (p.ak.v_max + p.ak.v_off))))
        self.ak_g = per(lambda p: p.ak.gk * p.ak.hf)
        self.nmda_g = rows(lambda p: -p.nmda.ge, lambda p: -p.learn_nmda.ge / CA)
        self.vgcc_g = per(lambda p: p.vgcc.ge / CA)
        self.has_vgcc = any(x.params.vgcc.ge > 0 for x in layers)
        self.mh_rate = rows(
            lambda p: (p.vgcc.ge > 0) / p.vgcc.m_tau, lambda p: (p.vgcc.ge > 0) / p.vgcc.h_tau
        )
        self.mahp_slope = per(lambda p: 0.5 / p.mahp.slope)
        self.mahp_shift = per(lambda p: -0.5 * p.mahp.off / p.mahp.slope)
        self.mahp_rate = per(lambda p: 2 * p.mahp.slope / p.mahp.max_tau * p.mahp.q10)
        self.mahp_g = per(lambda p: p.mahp.q10 * p.mahp.gk)
        self.sahp_g = per(lambda p: p.sahp.gk)
        self.kna_decay = rows(lambda p: 1 / p.kna.decay_tau, lambda p: 1 / p.kna_slow.decay_tau)
        self.kna_more = rows(
            lambda p: 1 / p.kna.rise_tau - 1 / p.kna.decay_tau,
            lambda p: 1 / p.kna_slow.rise_tau - 1 / p.kna_slow.decay_tau,
        )
        self.kna_g = rows(lambda p: p.kna.gk, lambda p: p.kna_slow.gk)
        self.gabab_slope = per(lambda p: p.gabab.gi_spike / 1.4)
        self.gabab_shift = per(lambda p: -7.1 / 1.4)
        self.gabab_full = per(lambda p: 20 / p.gabab.gi_spike if p.gabab.gi_spike > 0 else math.inf)
        self.gabab_factor = per(lambda p: p.gabab.factor)
        self.gabab_rise = per(lambda p: 1 / p.gabab.rise_tau)
        self.gabab_keep = per(lambda p: 1 - 1 / p.gabab.decay_tau)
        self.gabab_rest = per(lambda p: p.gabab.v_rest)
        self.gabab_base = per(lambda p: p.gabab.base)
        self.gabab_g = per(lambda p: p.gabab.gk)

        # membrane: I = B - A V
        self.g_e = per(lambda p: p.membrane.g_e)
        self.g_i = per(lambda p: p.membrane.g_i)
        self.g_k = per(lambda p: p.membrane.g_k)
        self.g_l = per(lambda p: p.membrane.g_l)
        self.e_l = per(lambda p: p.membrane.e_l)
        self.g_e_e_e = per(lambda p: p.membrane.g_e * p.membrane.e_e)
        self.has_e_e = any(x.params.membrane.e_e != 0 for x in layers)
        self.g_i_e_i = per(lambda p: p.membrane.g_i * p.membrane.e_i)
        self.e_k = per(lambda p: p.membrane.e_k)
        self.g_r = per(lambda p: p.dend.g_r * p.membrane.g_l)
        self.most_current = per(lambda p: p.membrane.max_current)
        self.half_step = rows(lambda p: 0.5 / p.membrane.c, lambda p: 0.5 / p.membrane.c_dend)
        self.exp_step = rows(lambda p: 1 / p.membrane.c, lambda p: p.dend.g_exp / p.membrane.c_dend)
        self.v_min = per(lambda p: p.membrane.v_min)
        self.v_max = per(lambda p: p.membrane.v_max)
        self.exp_slope = per(lambda p: 0.5 / p.spike.exp_slope)
        self.exp_shift = per(
            lambda p: (
                math.log(p.membrane.g_l * p.spike.exp_slope) - p.spike.thr / p.spike.exp_slope
                if p.membrane.g_l > 0
                else -math.inf
            )
        )
        self.tr = per(lambda p: p.spike.tr - 0.5)
        self.last_tr = per(lambda p: p.spike.tr - 1)
        self.r_rate = per(lambda p: 1 / p.spike.r_tau)
        self.r_rest = per(lambda p: 1 - 1 / p.spike.r_tau)
        self.v_r = per(lambda p: p.spike.v_r)
        self.exp_thr = per(lambda p: p.spike.exp_thr)
        self.isi_rate = per(lambda p: 1 / p.spike.isi_tau)
        self.isi_rest = per(lambda p: 1 - 1 / p.spike.isi_tau)
        self.act_of_isi = per(lambda p: 1000 / p.spike.max_hz)
        self.act_rate = per(lambda p: p.spike.act_dt)

        # calcium
        self.spike_m = per(lambda p: p.spike_ca.spike)
        self.spike_syn = per(lambda p: p.spike_ca.syn)
        self.m_rate = rows(
            lambda p: 1 / p.spike_ca.m_tau, lambda p: 1 / p.learn_ca.m_tau, lambda p: 1 / p.spike_ca.syn_tau
        )
        self.p_rate = rows(lambda p: 1 / p.spike_ca.p_tau, lambda p: 1 / p.learn_ca.p_tau)
        self.d_rate = rows(lambda p: 1 / p.spike_ca.d_tau, lambda p: 1 / p.learn_ca.d_tau)
        self.vgcc_spike = per(lambda p: p.learn_ca.spike_vgcc)
        self.vgcc_keep = per(lambda p: 1 - 1 / p.learn_ca.vgcc_tau)
        self.ca_norm = per(lambda p: 1 / p.learn_ca.norm)
        self.int_rate = per(lambda p: 1 / p.membrane.int_tau)
        self.has_etrace = any(x.params.learn_ca.etrace_scale > 0 for x in layers)
        self.etrace_scale = per(lambda p: p.learn_ca.etrace_scale)
        self.etrace_rate = per(lambda p: (p.learn_ca.etrace_scale > 0) / p.learn_ca.etrace_tau)

        # what a new minus phase forgets
        self.decay = per(lambda p: p.decay.act)
        self.glong = per(lambda p: p.decay.glong)
        self.ahp = per(lambda p: p.decay.ahp)
        self.v_init = per(lambda p: p.membrane.v_init)
        self.spike_stays = per(lambda p: p.decay.act == 0)
        self.buffers_stay = per(lambda p: not p.decay.gbufs)

        # pools
        pools = [(x, i) for x in layers for i in range(x.pools)]
        self.n_pools = len(pools)
        self.spread = torch.zeros(self.n_pools, n, dtype=like.dtype, device=like.device)
        self.ssgi = torch.zeros_like(self.spread)
        owner: list[int] = []
        for k, (layer, i) in enumerate(pools):
            size = layer.n if i == 0 else layer.n // layer.sub_pools
            first = layer.start + (0 if i == 0 else (i - 1) * size)
            own = slice(first, first + size)
            gives = i > 0 or not layer.sub_pools
            if gives:
                self.spread[k, own] = 1.0
                self.ssgi[k, own] = layer.params.dend.ssgi if layer.kind.slow_inhibited else 0.0
            owner.append(layer.pool)
        self.belongs = self.spread.clone()
        self.refresh(net)
        self.owner = torch.tensor(owner, device=like.device) if any(x.sub_pools for x in layers) else None

        self.sums: list[tuple[slice, slice, int]] = []
        for layer in layers:
            self.sums.append((layer.part, slice(layer.pool, layer.pool + 1), 1))
            if layer.sub_pools:
                self.sums.append(
                    (layer.part, slice(layer.pool + 1, layer.pool + layer.pools), layer.sub_pools)
                )

        def per_pool(value: Callable[[Layer, int], float]) -> Tensor:
            return torch.tensor([float(value(x, i)) for x, i in pools], dtype=torch.float64).to(like)

        def gi(layer: Layer, i: int) -> float:
            inhib = layer.params.inhib
            own = inhib.pool if i else inhib.layer
            return own.gi if own.on else 0.0

        def level(name: str) -> Callable[[Layer, int], float]:
            return lambda x, i: getattr(x.params.inhib.pool if i else x.params.inhib.layer, name)

        self.share = per_pool(lambda x, i: 1 / (x.n // x.sub_pools if i else x.n))
        self.pool_gi = per_pool(gi)
        self.pool_ss = per_pool(lambda x, i: gi(x, i) * level("ss")(x, i))
        self.pool_fb = per_pool(level("fb"))
        self.pool_on = per_pool(lambda x, i: level("on")(x, i))
        self.fs_keep = per_pool(lambda x, i: 1 - 1 / level("fs_tau")(x, i))
        self.ssf_keep = per_pool(lambda x, i: 1 - 1 / level("ssf_tau")(x, i))
        self.ssi_rate = per_pool(lambda x, i: 1 / level("ssi_tau")(x, i))
        self.fs0 = per_pool(level("fs0"))
        least = level("clamp_ext_min")
        self.driven = {
            plus: per_pool(
                lambda x, i, plus=plus: (
                    least(x, i) if x.kind.is_input or (x.kind.is_target and plus) else math.inf
                )
            )
            for plus in (False, True)
        }
        self.pool_keep = per_pool(lambda x, i: 1 - x.params.decay.act)
        self.pools_off = any(not (f.on) for x in layers for f in (x.params.inhib.layer, x.params.inhib.pool))
        self.kinds = [x for x in layers if x.kind.acts]

    def refresh(self, net: "Network") -> None:
        """Take over the adapted gains of inhibition."""
        for layer in net.layers.values():
            part = layer.pool_part
            torch.mul(self.belongs[part], net.gi_mult[layer.name], out=self.spread[part])
