"""What a network has learned, as a tree of tensors and numbers, and as one safetensors file."""

import os
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import torch

from unrolled.core import Trajectory, tree
from unrolled.cortex.axon.building import refresh

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

COUNTS = ("trials", "since_slow", "since_gi")


def memory(net: "Network") -> dict[str, Any]:
    """Everything that training changes: weights, long-run averages, counts, and the state the next trial goes on from."""
    net.ready()
    paths = {
        name: {"swt": path.swt, "lwt": path.lwt, "dswt": path.dswt, "trace": path.trace}
        for name, path in net.paths.items()
    }
    counts = {name: getattr(net, name) for name in COUNTS}
    kept = {
        "paths": paths,
        "activity": net.activity,
        "gi_mult": net.gi_mult,
        "counts": counts,
        "state": net.state,
    }
    return tree.clone(kept)


def restore(net: "Network", kept: dict[str, Any]) -> None:
    """Put a memory into a network of the same layers and paths.

    Raises:
        ValueError: a memory of another network.
    """
    net.ready()
    for what, mine, theirs in (
        ("layers", {name: layer.n for name, layer in net.layers.items()}, _sizes(kept)),
        ("paths", {n: tuple(p.lwt.shape) for n, p in net.paths.items()}, _shapes(kept)),
    ):
        if mine != theirs:
            raise ValueError(
                f"a memory of another network: its {what} are {theirs}, this network's are {mine}"
            )
    kept = tree.map(lambda x: x.to(net.like) if x.is_floating_point() else x, tree.clone(kept))
    for name, path in net.paths.items():
        mine = kept["paths"][name]
        path.swt, path.lwt, path.dswt, path.trace = mine["swt"], mine["lwt"], mine["dswt"], mine["trace"]
        refresh(path)
    net.activity, net.gi_mult, net.state = kept["activity"], kept["gi_mult"], kept["state"]
    for name in COUNTS:
        setattr(net, name, kept["counts"][name])
    net.changed()


def save(net: "Network", path: str | os.PathLike[str]) -> FilePath:
    """Write a network's memory; atomic, never pickle. Training that is killed goes on bit-equal from the last one."""
    return Trajectory(torch.tensor([net.trials]), {}, memory(net)).save(path)


def load(net: "Network", path: str | os.PathLike[str]) -> None:
    """Read what `save` wrote into a network of the same layers and paths.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no memory, or one of another network.
    """
    kept = Trajectory.load(path).final
    if not isinstance(kept, dict) or "paths" not in kept:
        raise ValueError(f"{os.fspath(path)} holds no network's memory")
    restore(net, kept)


def _sizes(kept: dict[str, Any]) -> dict[str, int]:
    return {name: len(each["act_avg"]) for name, each in kept["activity"].items()}


def _shapes(kept: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each["lwt"].shape) for name, each in kept["paths"].items()}
