"""A study's configuration: a frozen dataclass, to a plain dict and back, and its identity."""

import dataclasses
import difflib
import enum
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from unrolled.runs.plain import dumps, plain

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as a plain dict, in the order of its fields.

    Args:
        config: a dataclass or a mapping.

    Raises:
        TypeError: it is neither, or holds what JSON cannot.
    """
    if isinstance(config, Mapping) or (dataclasses.is_dataclass(config) and not isinstance(config, type)):
        return plain(config, where="config")
    raise TypeError(f"a config is a dataclass or a dict, got {type(config).__name__}: {config!r}")


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build a configuration dataclass from what `to_dict` gave.

    Args:
        cls: the dataclass; its annotations say what nested dicts, lists and strings become.
        values: field -> plain value.

    Raises:
        ValueError: fields are unknown or missing, which happens when a study has changed since the run was made.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     seed: int
        ...     rates: tuple[float, ...] = (0.1,)
        >>> from_dict(Config, to_dict(Config(3, (0.1, 0.3)))) == Config(3, (0.1, 0.3))
        True
    """
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}  # pyright: ignore[reportArgumentType]
    unknown = [name for name in values if name not in known]
    missing = [
        name
        for name, field in known.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if unknown or missing:
        told = [f"no field {', '.join(map(repr, unknown))}"] * bool(unknown)
        told += [f"no value for {', '.join(map(repr, missing))}"] * bool(missing)
        raise ValueError(
            f"this config does not fit {cls.__qualname__}: {'; '.join(told)}. Its fields are "
            f"{', '.join(known)}; the study may have changed since the run was made"
        )
    return cls(**{name: _build(hints.get(name, Any), value) for name, value in values.items()})


def identity(study: str, config: Any) -> str:
    """Twelve hex digits that two cells share exactly when study and configuration are equal.

    Example:
        >>> identity("demo", {"seed": 1, "lr": 0.5}) == identity("demo", {"lr": 0.5, "seed": 1})
        True
    """
    text = json.dumps([study, json.loads(dumps(to_dict(config)))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of an error: `"; did you mean X?"` for the nearest of some words, or a full stop when none is near.

    Example:
        >>> nearest("tyny", ["tiny", "small", "paper"])
        "; did you mean 'tiny'?"
    """
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def _build(hint: Any, value: Any) -> Any:
    """A plain value as its annotation wants it; what no rule covers stays as it is."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _build(args[0], value)
    if origin in (Union, types.UnionType):
        return value if value is None else _build_union([arg for arg in args if arg is not type(None)], value)
    if origin is Literal or value is None:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_dict(hint, value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if hint is Path:
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    base = origin or hint
    if base is tuple and isinstance(value, list):
        if not args or (len(args) == 2 and args[1] is Ellipsis):
            return tuple(_build(args[0] if args else Any, item) for item in value)
        return tuple(_build(arg, item) for arg, item in zip(args, value, strict=True))
    if base in (list, set, frozenset) and isinstance(value, list):
        return base(_build(args[0] if args else Any, item) for item in value)
    if base is dict and isinstance(value, Mapping):
        key, item = args or (Any, Any)
        return {(int(k) if key is int else k): _build(item, v) for k, v in value.items()}
    return value


def _build_union(hints: list[Any], value: Any) -> Any:
    """The first alternative that the value fits."""
    for hint in hints:
        try:
            built = _build(hint, value)
        except (ValueError, TypeError):
            continue
        kind = get_origin(hint) or hint
        if not isinstance(kind, type) or isinstance(built, kind):
            return built
    return value
