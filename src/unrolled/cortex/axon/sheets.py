"""Parameter sheets: a readable list of who gets which value, and why.

>>> from unrolled.cortex import Network
>>> net = Network()
>>> _ = net.layer("Hidden", (2, 2))
>>> net.apply([Rule("Layer", {"inhib.layer.gi": 1.05}, "1.1 is better in the long run")])
>>> net["Hidden"].params.inhib.layer.gi
1.05
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One entry of a sheet.

    Attributes:
        select: `"Layer"` or `"Path"` for all of them, `".tag"` for those with a tag (kinds are tags: `".back"`,
            `".input"`), `"#name"` for one by name (`"#Output"`, `"#Input->Hidden"`).
        set: dotted field of `LayerParams` or `PathParams` -> value.
        why: the reason, for the reader.
    """

    select: str
    set: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def matches(self, kind: str, name: str, tags: frozenset[str]) -> bool:
        """Whether it speaks of this layer or path; `kind` is `"Layer"` or `"Path"`."""
        if self.select.startswith("."):
            return self.select[1:] in tags
        if self.select.startswith("#"):
            return self.select[1:] == name
        return self.select == kind


def replace(params: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of nested frozen parameters with dotted fields replaced.

    Raises:
        ValueError: no such field (with the nearest one there is), or a value of the wrong kind.

    Example:
        >>> from unrolled.cortex.axon.layer import LayerParams
        >>> replace(LayerParams(), {"nmda.mgc": 1.2}).nmda.mgc
        1.2
    """
    for dotted, value in changes.items():
        params = _replace(params, dotted.split("."), value, dotted)
    return params


def differences(params: Any, default: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted fields whose values differ from the default: what makes a layer special, at a glance.

    Example:
        >>> from unrolled.cortex.axon.layer import LayerParams
        >>> differences(replace(LayerParams(), {"spike.tr": 1}), LayerParams())
        {'spike.tr': 1}
    """
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(params):
        a, b = getattr(params, entry.name), getattr(default, entry.name)
        if dataclasses.is_dataclass(a) and not isinstance(a, type):
            found |= differences(a, b, f"{prefix}{entry.name}.")
        elif a != b:
            found[prefix + entry.name] = a
    return found


def fields(params: Any, prefix: str = "") -> list[str]:
    """Every dotted field."""
    found: list[str] = []
    for entry in dataclasses.fields(params):
        value = getattr(params, entry.name)
        nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
        found += fields(value, f"{prefix}{entry.name}.") if nested else [prefix + entry.name]
    return found


def _replace(params: Any, path: list[str], value: Any, dotted: str, whole: Any = None) -> Any:
    whole = params if whole is None else whole
    name = path[0]
    if not hasattr(params, name) or name not in {entry.name for entry in dataclasses.fields(params)}:
        near = difflib.get_close_matches(dotted, fields(whole), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{type(whole).__name__} has no field {dotted!r}{hint}")
    old = getattr(params, name)
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise ValueError(f"{type(whole).__name__} has no field {dotted!r}: {name!r} is a value")
        return dataclasses.replace(params, **{name: _replace(old, path[1:], value, dotted, whole)})
    if dataclasses.is_dataclass(old):
        if type(value) is not type(old):
            raise ValueError(
                f"{dotted!r} is a group of values: set one of {', '.join(fields(old, dotted + '.'))}"
            )
    elif not _alike(old, value):
        raise ValueError(f"{dotted!r} is of type {type(old).__name__} ({old!r}), got {value!r}")
    return dataclasses.replace(params, **{name: value})


def _alike(old: Any, value: Any) -> bool:
    """Whether a value is of a field's type; a whole number may stand for a float."""
    if isinstance(old, bool) or isinstance(value, bool):
        return isinstance(old, bool) and isinstance(value, bool)
    if isinstance(old, int):
        return isinstance(value, int)
    return isinstance(value, int | float) if isinstance(old, float) else isinstance(value, type(old))
