"""Values as plain JSON and back. NaN and infinities are written as strings, so that every file is valid JSON."""

import dataclasses
import enum
import json
import math
import os
from collections.abc import Mapping
from typing import Any

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any, *, where: str = "value") -> Any:
    """Turn a value into what JSON holds: dicts with string keys, lists, strings, numbers, booleans, None.

    Dataclasses become dicts, tuples and sets lists, paths and enum members strings; zero-dimensional tensors and
    arrays become numbers, others nested lists.

    Args:
        value: what to turn.
        where: its name, for the error.

    Raises:
        TypeError: JSON cannot hold it.

    Example:
        >>> import numpy
        >>> plain({"lr": (0.1, 0.2), 3: numpy.float64(0.5)})
        {'lr': [0.1, 0.2], '3': 0.5}
    """
    if value is None or isinstance(value, str | bool) or type(value) in (int, float):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, where=where)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: plain(getattr(value, f.name), where=f"{where}.{f.name}")
            for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item, where=f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted(plain(item, where=where) for item in value)
    # NumPy scalars and arrays and torch tensors, without importing either.
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return plain(to_list(), where=where)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a run folder cannot hold; "
        "give a number, a string, a list or a dict of those"
    )


def dumps(value: Any, *, indent: int | None = None, where: str = "value") -> str:
    r"""JSON text of a value.

    Example:
        >>> dumps({"loss": float("nan"), "step": 3})
        '{"loss": "NaN", "step": 3}'
    """
    value = plain(value, where=where)
    try:
        return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    except ValueError:  # rare: some number is not finite
        return json.dumps(_spell(value), indent=indent, allow_nan=False, ensure_ascii=False)


def loads(text: str) -> Any:
    """The value of a JSON text, NaN and infinities restored.

    Raises:
        ValueError: not JSON.

    Example:
        >>> loads('{"loss": "NaN", "bound": ["-Infinity"]}')
        {'loss': nan, 'bound': [-inf]}
    """
    value = json.loads(text)
    return _revive(value) if '"NaN"' in text or 'Infinity"' in text else value


def _spell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spell(item) for key, item in value.items()}
    return [_spell(item) for item in value] if isinstance(value, list) else value


def _revive(value: Any) -> Any:
    if isinstance(value, str):
        return _SPECIAL.get(value, value)
    if isinstance(value, dict):
        return {key: _revive(item) for key, item in value.items()}
    return [_revive(item) for item in value] if isinstance(value, list) else value
