# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Take part of a batch: the first rows of every tensor in it, whatever it is made of."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def leading(batches: Sequence[Any], fraction: float) -> list[Any]:
    """The first `fraction` of a list of micro-batches: whole ones, or the first rows of the first.

    Raises:
        ValueError: less than one micro-batch is asked for and it has no rows to take.

    Example:
        >>> import torch
        >>> x, y = torch.arange(8), torch.arange(8)
        >>> [len(part) for part in leading([(x, y)], 0.25)[0]], len(leading([x] * 4, 0.5))
        ([2, 2], 2)
    """
    wanted = fraction * len(batches)
    if wanted >= 1:
        return list(batches[: round(wanted)])
    rows = row_count(batches[0])
    if rows is None:
        raise ValueError(
            f"fraction={fraction} asks for part of a batch of type {type(batches[0]).__name__}, which holds no tensor "
            "with rows; pass fraction=1.0, or batches made of tensors, tuples, lists, dicts or dataclasses"
        )
    return [_rows(batches[0], rows, max(1, math.ceil(wanted * rows)))]


def row_count(batch: Any) -> int | None:
    """Length of the first tensor that has one."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else None
    for part in _parts(batch):
        found = row_count(part)
        if found is not None:
            return found
    return None


def _parts(batch: Any) -> list[Any]:
    if isinstance(batch, Mapping):
        return list(batch.values())
    if isinstance(batch, tuple | list):
        return list(batch)
    if dataclasses.is_dataclass(batch):
        return [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    return []


def _rows(batch: Any, rows: int, take: int) -> Any:
    """Tensors and lists that have `rows` entries are cut; all else stays."""
    if isinstance(batch, Tensor):
        return batch[:take] if batch.ndim and len(batch) == rows else batch
    if isinstance(batch, Mapping):
        return {key: _rows(value, rows, take) for key, value in batch.items()}
    if isinstance(batch, tuple):
        parts = [_rows(part, rows, take) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, list):
        plain = len(batch) == rows and not any(isinstance(part, Tensor) for part in batch)
        return batch[:take] if plain else [_rows(part, rows, take) for part in batch]
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        parts = {f.name: _rows(getattr(batch, f.name), rows, take) for f in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **parts)
    return batch
