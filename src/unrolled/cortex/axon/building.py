"""Initial weights, averages and targets of a network."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrolled.cortex.axon.paths import Path

if TYPE_CHECKING:
    from unrolled.cortex.network import Network


def draw(net: "Network", rng: torch.Generator) -> None:
    """Draw everything that is random at the start (cortex fact sheet, section 5.8): on the CPU, in order of making."""
    for layer in net.layers.values():
        trg = layer.params.trg
        groups = layer.sub_pools if layer.sub_pools and trg.pool else 1
        targets = torch.cat([trg.initial(layer.n // groups, rng, net.like.dtype) for _ in range(groups)]).to(
            net.like
        )
        nominal = layer.params.inhib.nominal
        net.activity[layer.name] = {"act_avg": nominal * targets, "trg_avg": targets, "act_m_avg": nominal}
        net.gi_mult[layer.name] = 1.0
    for path in net.paths.values():
        mask = None if path.mask is None else path.mask.cpu()
        shape, target = (path.send.n, path.recv.n), path.recv.kind.is_target
        path.swt, path.lwt = (
            w.to(net.like) for w in path.params.swts.draw(shape, mask, target, rng, net.like.dtype)
        )
    for path in net.paths.values():
        for other in net.paths.values():
            mirrored = other.send is path.recv and other.recv is path.send
            like = path.conductance == other.conductance == "excitatory"
            wanted = path.params.swts.sym and other.params.swts.sym
            if mirrored and like and wanted and path.recv.index >= path.send.index:
                share(path, other)
    for path in net.paths.values():
        refresh(path)
        path.dswt, path.trace = torch.zeros_like(path.lwt), None


def share(path: Path, other: Path) -> None:
    """Give the reciprocal path the transposed weights, where both connect; a path to itself becomes symmetric."""
    for name in ("swt", "lwt"):
        mine: Tensor = getattr(path, name)
        if path is other:
            mirrored = mine.triu() + mine.triu(1).T
        else:
            mirrored = mine.T.contiguous()
        if other.mask is not None or path.mask is not None:
            both = torch.ones_like(mirrored, dtype=torch.bool) if other.mask is None else other.mask
            both = both if path.mask is None else both & path.mask.T
            mirrored = torch.where(both, mirrored, getattr(other, name))
        setattr(other, name, mirrored)


def refresh(path: Path) -> None:
    """The effective weight from the structural and the linear one; 0 where there is no connection."""
    wt = path.params.swts.effective(path.swt, path.lwt)
    path.wt = wt if path.mask is None else wt * path.mask
