"""Synaptic products, once per trial: the sums of `unrolled.cortex.axon.learning` over data and bins as matrix products.

Credit is a sum over bins of sender x receiver calcium and is never negative, so the soft bound depends on the sign of
the receiver's error alone: the changes of all samples become two products [send, data x bins] @ [data x bins, recv],
one for receivers that gain and one for those that lose. With a threshold on credit each sample needs its own product;
on a CPU that is formed for the few neurons that were active at all.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon import learning
from unrolled.cortex.axon.paths import Path
from unrolled.cortex.kinase._linear import BIN

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

CHUNK = 2**22
"""Synapses x samples formed at once; bounds memory."""
SPARSE = 2**18
"""Synapses x samples from which a CPU forms credit for active neurons only."""


def change(net: "Network", path: Path, state: Any, rate: float = 1.0) -> Tensor:
    """Change of a path's linear weights `[send, recv]`, summed over data, by its rule (fact sheet, section 5.7)."""
    if path.rule is not None:
        dwt = path.rule(net, path, state)
    elif (own := path.recv.kind.dwt(net, path, state)) is not None:
        dwt = own
    elif path.recv.kind.is_target:
        dwt = target(net, path, state)
    else:
        dwt = cortex(net, path, state)
    dwt = dwt * (rate * path.params.lrate)
    if path.mask is not None:
        dwt = dwt * path.mask
    amount = path.params.dwt.sub_mean
    return learning.sub_mean(dwt, amount) if amount else dwt


def cortex(net: "Network", path: Path, state: Any) -> Tensor:
    """The kinase rule for cortical receivers: credit x CaDiff RLRate ETrLearn, bounded softly."""
    recv_part, dwt = path.recv.part, path.params.dwt
    learns = state["CaD"][:, recv_part] > path.recv.params.window.thr
    error = state["CaDiff"] * state["RLRate"] * state["ETrLearn"]
    error = error[:, recv_part] * learns
    seen = net.window_bins(state["cycle"], path.recv.params.window.cycles)
    s, r = state["bins"][:, seen, path.send.part], state["bins"][:, seen, recv_part]
    scale = 8.0 / len(seen)
    if dwt.syn_tau != 1:
        return _traced(path, s, r, error, scale)
    few = s.device.type == "cpu" and len(s) * path.lwt.numel() > SPARSE
    if few and (dwt.learn_thr > 0 or len(s) <= 4):
        return _few(path, s, r, error, scale)
    if dwt.learn_thr == 0:
        senders = s.flatten(0, 1).T
        up, down = (
            senders @ (r * (scale * e).unsqueeze(1)).flatten(0, 1)
            for e in (error.clamp(min=0), error.clamp(max=0))
        )
        return up - path.lwt * (up - down)
    up, down = torch.zeros_like(path.lwt), torch.zeros_like(path.lwt)
    size = max(1, CHUNK // path.lwt.numel())
    for start in range(0, len(s), size):
        part = slice(start, start + size)
        syn = torch.bmm(s[part].mT, scale * r[part])
        syn = torch.nn.functional.threshold(syn, dwt.learn_thr, 0.0)
        e = error[part].unsqueeze(1)
        up += (syn * e.clamp(min=0)).sum(0)
        down += (syn * e.clamp(max=0)).sum(0)
    return up * (1 - path.lwt) + down * path.lwt


def _few(path: Path, s: Tensor, r: Tensor, error: Tensor, scale: float) -> Tensor:
    """Sample by sample, for senders with any calcium and receivers with any error."""
    total, thr = torch.zeros_like(path.lwt), path.params.dwt.learn_thr
    for d in range(len(s)):
        senders, receivers = s[d].any(0).nonzero().flatten(), error[d].nonzero().flatten()
        syn = s[d][:, senders].T @ (scale * r[d][:, receivers])
        syn = torch.nn.functional.threshold(syn, thr, 0.0) if thr > 0 else syn
        _add_bounded(total, path.lwt, syn * error[d, receivers], senders, receivers)
    return total


def _add_bounded(total: Tensor, lwt: Tensor, dw: Tensor, senders: Tensor, receivers: Tensor) -> None:
    """Add a softly bounded change at some rows and columns."""
    at = (senders.unsqueeze(1), receivers.unsqueeze(0))
    here = lwt[at]
    total.index_put_(at, dw * torch.lerp(here, 1 - here, (dw > 0).to(dw)), accumulate=True)


def _traced(path: Path, s: Tensor, r: Tensor, error: Tensor, scale: float) -> Tensor:
    """With credit that outlives the theta cycle: every sample keeps a trace of its own."""
    if path.trace is None or len(path.trace) != len(s):
        path.trace = torch.zeros(len(s), *path.lwt.shape, dtype=s.dtype, device=s.device)
    syn = torch.bmm(s.mT, scale * r)
    path.trace = path.trace + (syn - path.trace) / path.params.dwt.syn_tau
    total = torch.zeros_like(path.lwt)
    for d in range(len(s)):
        total += learning.cortex(syn[d], path.trace[d], error[d], path.lwt, path.params.dwt)
    return total


def target(net: "Network", path: Path, state: Any) -> Tensor:
    """The rule for targets: RLRate (CaP_syn - CaD_syn), bounded softly; its sign belongs to the synapse."""
    seen = net.trial_bins(state["cycle"])
    s, r = state["bins"][:, seen, path.send.part], state["bins"][:, seen, path.recv.part]
    cap, cad = path.params.dwt.weights(BIN * net.theta.bins, net.theta.plus)
    weight = (path.params.dwt.ca_p_scale * cap - cad).to(s)
    r = r * state["RLRate"][:, path.recv.part].unsqueeze(1)
    up, down = torch.zeros_like(path.lwt), torch.zeros_like(path.lwt)
    if s.device.type == "cpu" and len(s) * path.lwt.numel() > SPARSE:
        for d in range(len(s)):
            senders = s[d].any(0).nonzero().flatten()
            dw = (s[d][:, senders] * weight.unsqueeze(-1)).T @ r[d]
            up.index_add_(0, senders, dw.clamp(min=0))
            down.index_add_(0, senders, dw.clamp_(max=0))
        return up * (1 - path.lwt) + down * path.lwt
    size = max(1, CHUNK // path.lwt.numel())
    for start in range(0, len(s), size):
        part = slice(start, start + size)
        dw = torch.bmm((s[part] * weight.unsqueeze(-1)).mT, r[part])
        up += dw.clamp(min=0).sum(0)
        down += dw.clamp(max=0).sum(0)
    return up * (1 - path.lwt) + down * path.lwt
