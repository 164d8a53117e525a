"""Checkpoints that survive: one safetensors file per step, written beside and renamed, never pickle.

A file holds a tree (dicts, lists, tuples of tensors, numbers and strings): its tensors as safetensors, its
structure as JSON in the header. A full disk or a killed process leaves the files that were there as they were.

    state = snapshot(model, optimizer)      # parameters, moments, random numbers
    save_step("run/checkpoints", 100, state, keep=2)
    restore(load(latest("run/checkpoints")), model, optimizer)
"""

import contextlib
import json
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unrolled.core import tree as trees
from unrolled.core.seeds import RngState
from unrolled.training import parallel

_HEADER = "unrolled-checkpoint"
_NAME = re.compile(r"step-(\d+)\.safetensors")


def save(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write a tree to one file, all or nothing: to a scratch file, flushed to the disk, then renamed.

    Args:
        path: the file; folders on the way are made.
        tree: dicts, lists and tuples of tensors, arrays, numbers, strings, None, dtypes and devices. Tensors that
            share all their memory (tied weights) are stored once.

    Returns:
        The path.

    Raises:
        TypeError: something else in the tree; the message says where.
        OSError: the disk is full or not writable; an older file of this name is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     back = load(save(f"{folder}/x.safetensors", {"w": torch.ones(2), "n": (1, None, math.inf)}))
        >>> back
        {'w': tensor([1., 1.]), 'n': (1, None, inf)}
    """
    target = Path(path)
    tensors: dict[str, Tensor] = {}
    header = {_HEADER: json.dumps(_encode(tree, "", tensors, {}), allow_nan=False)}
    scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, scratch, metadata=header)
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, target)
        _flush_folder(target.parent)
    except (OSError, SafetensorError) as error:
        size = trees.nbytes(tensors) / 2**20
        raise OSError(
            f"could not write {target} ({size:.1f} MiB): {error}. Older checkpoints are unchanged; free some space, "
            f"or save elsewhere, and start again from the last one"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
    return target


def load(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Any:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {os.fspath(path)}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            skeleton = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged: {error}. Delete it to go on from an older one"
        ) from error
    if skeleton is None:
        raise ValueError(f"{os.fspath(path)} is a safetensors file, but no checkpoint of unrolled")
    return _decode(json.loads(skeleton), tensors)


def steps(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """Step -> file of every finished checkpoint in a folder, oldest first."""
    root = Path(folder)
    found = [(_NAME.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The newest finished checkpoint of a folder; None when there is none."""
    return next(reversed(steps(folder).values()), None)


def save_step(folder: str | os.PathLike[str], step: int, tree: Any, *, keep: int = 2) -> Path:
    """Write `step-<step>.safetensors` and, once it is safe, delete all but the last `keep`.

    Raises:
        TypeError, OSError: see `save`; older checkpoints are still there.
        ValueError: keep is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep counts the checkpoints left in place and is at least 1, got {keep}")
    path = save(Path(folder, f"step-{step:08d}.safetensors"), tree)
    for stale in [*list(steps(folder).values())[:-keep], *Path(folder).glob(".step-*.part")]:
        stale.unlink(missing_ok=True)
    return path


def snapshot(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    generators: Sequence[torch.Generator] = (),
) -> dict[str, Any]:
    """All that the next step depends on: parameters and buffers, optimizer, random numbers of every rank.

    Args:
        model: plain, or wrapped by `parallel` or torch.compile: the file is the same.
        optimizer: any `torch.optim.Optimizer`.
        generators: explicit generators in use, in a fixed order; global ones are always taken.

    Returns:
        A tree for `save`. Under DDP or FSDP every rank calls this and rank 0 saves.
    """
    weights, moments = parallel.state(model, optimizer)
    streams = {
        "global": dict(vars(RngState.capture())),
        "generators": [generator.get_state() for generator in generators],
    }
    return {
        "version": 1,
        "model": weights,
        "optimizer": None if optimizer is None else {"class": type(optimizer).__name__, "state": moments},
        "rng": parallel.gather(streams, model),
    }


def restore(
    tree: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    generators: Sequence[torch.Generator] = (),
    source: str | os.PathLike[str] = "the checkpoint",
) -> None:
    """Put a snapshot back into a model and an optimizer of the same shape. All is checked before anything changes.

    Args:
        tree: from `snapshot`, through `load`.
        model: as it was built before.
        optimizer: of the same class and groups.
        generators: as many as were saved.
        source: what to call the checkpoint in messages.

    Raises:
        ValueError: another model, optimizer or set of generators; the message says what differs.
    """
    saved = tree["model"]
    _check_model(saved, parallel.unwrap(model).state_dict(), source)
    moments = tree["optimizer"]
    if optimizer is not None:
        _check_optimizer(moments, optimizer, source)
    streams = tree["rng"]
    rank = parallel.rank() if parallel.replicas(model) > 1 else 0
    if len(streams) != parallel.replicas(model):
        warnings.warn(
            f"{source} was written by {len(streams)} processes, this run has {parallel.replicas(model)}: weights "
            f"and moments are restored, but random numbers differ from those of an uninterrupted run",
            stacklevel=2,
        )
    mine = streams[rank] if rank < len(streams) else None
    if mine is not None and len(mine["generators"]) != len(generators):
        raise ValueError(
            f"{source} holds {len(mine['generators'])} generators, {len(generators)} were passed: pass the same ones"
        )
    parallel.load_state(model, optimizer, saved, None if optimizer is None else moments["state"])
    if mine is not None:
        for generator, value in zip(generators, mine["generators"]):
            generator.set_state(value)
        RngState(**mine["global"]).restore()


def _check_model(saved: Mapping[str, Any], live: Mapping[str, Any], source: Any) -> None:
    wrong = [f"{name} is not in the model" for name in saved if name not in live]
    wrong += [f"{name} is not in the file" for name in live if name not in saved]
    for name in saved.keys() & live.keys():
        old, new = saved[name], live[name]
        if isinstance(old, Tensor) and isinstance(new, Tensor):
            if old.shape != new.shape:
                wrong.append(f"{name} is {list(old.shape)} in the file, {list(new.shape)} in the model")
            elif old.dtype != new.dtype:
                wrong.append(f"{name} is {old.dtype} in the file, {new.dtype} in the model")
    if wrong:
        more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(
            f"{source} is of another model: {'; '.join(sorted(wrong)[:4])}{more}. Build the model as it was, or "
            f"choose another checkpoint folder"
        )


def _check_optimizer(saved: Mapping[str, Any] | None, live: torch.optim.Optimizer, source: Any) -> None:
    if saved is None:
        raise ValueError(f"{source} holds no optimizer state")
    if saved["class"] != type(live).__name__:
        raise ValueError(
            f"{source} holds the state of {saved['class']}, the optimizer is {type(live).__name__}"
        )
    old = [len(group["params"]) for group in saved["state"]["param_groups"]]
    new = [len(group["params"]) for group in live.param_groups]
    if old != new:
        raise ValueError(
            f"{source} holds optimizer groups of {old} parameters, the optimizer has groups of {new}: build it from "
            f"the same parameters, in the same groups"
        )


def _flush_folder(folder: Path) -> None:
    # The rename itself must reach the disk. Some systems cannot open a folder: there it is up to them.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _encode(node: Any, where: str, tensors: dict[str, Tensor], known: dict[Any, str]) -> Any:
    """JSON of a tree; plain scalars stand for themselves, everything else is an object with one key."""
    if node is None or isinstance(node, bool | int | str):
        return node
    if isinstance(node, float):
        return node if math.isfinite(node) else {"float": repr(node)}
    if isinstance(node, Tensor):
        return _encode_tensor(node, where, tensors, known)
    if isinstance(node, np.ndarray):
        return {"array": _encode_tensor(torch.from_numpy(node), where, tensors, known)["tensor"]}
    if isinstance(node, np.generic):
        return _encode(node.item(), where, tensors, known)
    if isinstance(node, torch.dtype | torch.device):
        return {type(node).__name__: str(node).removeprefix("torch.")}
    if isinstance(node, Mapping):
        for key in node:
            if not (key is None or isinstance(key, str | int)):
                raise TypeError(
                    f"cannot store the key {key!r} of {where or 'the tree'}: keys are strings and ints"
                )
        pairs = [[key, _encode(value, f"{where}/{key}", tensors, known)] for key, value in node.items()]
        return {"dict": pairs}
    if isinstance(node, list | tuple):
        kind = "list" if isinstance(node, list) else "tuple"
        return {kind: [_encode(value, f"{where}/{i}", tensors, known) for i, value in enumerate(node)]}
    raise TypeError(
        f"cannot store {where or 'the tree'}, a {type(node).__name__}: checkpoints hold tensors, arrays, numbers, "
        f"strings, None, and dicts, lists and tuples of them"
    )


def _encode_tensor(node: Tensor, where: str, tensors: dict[str, Tensor], known: dict[Any, str]) -> Any:
    if type(node) not in (Tensor, nn.Parameter) or node.layout != torch.strided or node.is_meta:
        raise TypeError(
            f"cannot store {where}, a {type(node).__name__} of layout {node.layout} on {node.device}: checkpoints "
            f"hold plain dense tensors"
        )
    plain = node.detach()
    kind = "tensor"
    if plain.is_complex():
        plain, kind = torch.view_as_real(plain.resolve_conj()), "complex"
    key = (plain.data_ptr(), plain.dtype, plain.shape, plain.stride(), plain.device)
    if plain.numel() and key in known:
        return {kind: known[key]}
    name = where.strip("/") or "tensor"
    while name in tensors:
        name += "'"
    known[key] = name
    # safetensors refuses views into one another: a copy of each, unless it is all there is in its memory.
    storage = plain.untyped_storage()
    owner = known.setdefault(("storage", storage.data_ptr(), plain.device), name)
    whole = plain.is_contiguous() and storage.nbytes() == plain.numel() * plain.element_size()
    if plain.numel() and not (whole and owner == name):
        plain = plain.clone(memory_format=torch.contiguous_format)
    tensors[name] = plain
    return {kind: name}


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    match kind:
        case "tensor":
            return tensors[value]
        case "complex":
            return torch.view_as_complex(tensors[value])
        case "array":
            return tensors[value].cpu().numpy()
        case "float":
            return float(value)
        case "dtype":
            return getattr(torch, value)
        case "device":
            return torch.device(value)
        case "dict":
            return {key: _decode(child, tensors) for key, child in value}
        case "list":
            return [_decode(child, tensors) for child in value]
        case "tuple":
            return tuple(_decode(child, tensors) for child in value)
        case _:
            raise ValueError(f"a checkpoint of a newer version: unknown node {kind!r}")
