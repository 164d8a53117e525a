"""A checkpoint of anything that is a dict of tensors; one safetensors file a step, never pickle."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.runs import atomic, plain


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after a step.

    Attributes:
        step: steps taken.
        tensors: name -> tensor, on the CPU.
        meta: plain values saved along.
        rows: how many rows of metrics had been logged.
    """

    step: int
    tensors: dict[str, Any]
    meta: dict[str, Any]
    rows: int


def save(folder: Path, step: int, tensors: Mapping[str, Any], meta: Mapping[str, Any], rows: int) -> Path:
    """Write `step-<step>.safetensors` atomically and remove all but the last two.

    Raises:
        DiskFull: no space left; earlier checkpoints are whole.
        TypeError: `tensors` holds something else, or `meta` what JSON cannot.
    """
    import torch
    from safetensors.torch import save_file

    other = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
    if other:
        raise TypeError(f"a checkpoint holds tensors; give {', '.join(map(repr, other))} as meta instead")
    header = plain.dumps({"step": step, "rows": rows, "meta": dict(meta)}, where="the checkpoint's meta")
    # Own copies: safetensors refuses views that share memory.
    flat = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    path = folder / f"step-{step:09d}.safetensors"
    with atomic.replacing(path) as scratch:
        save_file(flat, scratch, metadata={"unrolled": header})
    for old in _files(folder)[:-2]:
        old.unlink(missing_ok=True)
    return path


def load(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None. A damaged one is passed over with a warning."""
    from safetensors import SafetensorError, safe_open

    for path in reversed(_files(folder)):
        try:
            with safe_open(path, framework="pt") as file:
                header = plain.loads((file.metadata() or {})["unrolled"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return Checkpoint(header["step"], tensors, header["meta"], header["rows"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            warnings.warn(f"{path} cannot be read ({error}); going back to the one before", stacklevel=3)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
