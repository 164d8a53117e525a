"""The kinds of exhibits there are, what each must hold, and whether a given one does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


class ExhibitError(ValueError):
    """What was given cannot be drawn as the kind it claims to be."""


@dataclass(frozen=True)
class Kind:
    """What an exhibit of a kind holds.

    Attributes:
        arrays: name (`"*"`: any) -> axes, alternatives by `|`; a name that ends in `?` may be missing, an axis that ends
            in `?` is there when `data` names its entries. Equal letters are equal sizes.
        data: key -> what it must be, as a key of `_CHECKS` or `"names n"` (as many names as axis n has entries); a key that
            ends in `?` may be missing.
        moves: every array with an axis T has it; there are times.
    """

    arrays: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    moves: bool = False


_AXES = {"xlabel?": "text", "ylabel?": "text"}

KINDS: dict[str, Kind] = {
    "lines": Kind(
        {"*": "T | T n"},
        {
            **_AXES,
            "log?": "log",
            "bands?": "bands",
            "names?": "texts by array",
            "columns?": "names by array",
            "roles?": "roles",
        },
        moves=True,
    ),
    "raster": Kind(
        {"values": "T n"},
        {
            "ylabel?": "text",
            "groups?": "spans",
            "labels?": "names n",
            "bands?": "bands",
            "range?": "range",
            "diverging?": "flag",
        },
        moves=True,
    ),
    "heatmap": Kind(
        {"*": "T h w"},
        {
            **_AXES,
            "rows?": "labels",
            "columns?": "labels",
            "range?": "range",
            "diverging?": "flag",
            "follow?": "axis",
            "names?": "texts by array",
        },
    ),
    "bars": Kind(
        {"values": "T g? n", "error?": "T g? n"},
        {
            "labels": "names n",
            "groups?": "names g",
            "stacked?": "flag",
            "range?": "range",
            "ylabel?": "text",
            "mark?": "index n",
        },
    ),
    "graph": Kind(
        {"edges": "T n n", "size?": "T n", "ring?": "T n"},
        {
            "nodes": "names n",
            "edge?": "text",
            "size?": "text",
            "ring?": "text",
            "least?": "number",
            "positions?": "positions n",
        },
    ),
    "frontier": Kind(
        {"weight": "T n", "truth?": "T n"},
        {
            "nodes": "names n",
            "edges": "pairs n",
            "start": "index n",
            "goals?": "indices n",
            "positions?": "positions n",
            "weight?": "text",
        },
    ),
    "transcript": Kind({}, {"entries": "entries", "speakers?": "names"}),
    "lens": Kind(
        {"probability": "T r k"},
        {
            "text": "words",
            "rows?": "names r",
            "row?": "text",
            "chosen?": "names",
        },
    ),
    "phase": Kind(
        {"x": "T | T m", "y": "T | T m", "u?": "h w", "v?": "h w"},
        {
            **_AXES,
            "xrange?": "range",
            "yrange?": "range",
            "points?": "points",
            "names?": "names",
            "log?": "log",
        },
        moves=True,
    ),
    "scatter": Kind(
        {"x": "T n", "y": "T n", "group?": "n"},
        {
            **_AXES,
            "log?": "log",
            "groups?": "names",
            "labels?": "names n",
            "diagonal?": "flag",
        },
    ),
    "frames": Kind({"*": "T h w | T h w c"}, {"names?": "texts by array", "range?": "range"}),
    "table": Kind({}, {"columns": "names", "rows": "rows", "index?": "integers"}),
    "talk": Kind(
        {},
        {
            "about": "text",
            "examples": "names",
            "model": "text",
            "opening?": "entries",
            "settings?": "settings",
        },
    ),
}
"""The kinds there are, and what each must hold."""

_LAYOUT = {"order": "number", "wide": "flag"}  # keys that every kind may have


def check(
    name: str, kind: str, t: Sequence[float] | None, data: dict[str, Any], shapes: dict[str, list[int]]
) -> None:
    """Hold an exhibit against its kind.

    Raises:
        ExhibitError: what was found, and what was expected.
    """
    what, spec = f"exhibit {name!r} ({kind})", KINDS[kind]
    if t is None and kind == "lines":
        spec = Kind({"x": "n", "*": "n"}, spec.data)
    if t is None and spec.moves:
        raise ExhibitError(f"{what}: needs t, the times")
    if t is not None:
        if not t:
            raise ExhibitError(f"{what}: t is empty; give at least one time, or None when nothing moves")
        if not all(math.isfinite(x) for x in t) or any(b <= a for a, b in pairwise(t)):
            raise ExhibitError(f"{what}: t must be finite and increase from one to the next")
    sizes: dict[str, int] = {} if t is None else {"T": len(t)}
    _check_arrays(what, spec, t is not None, data, shapes, sizes)
    known = {key.rstrip("?"): rule for key, rule in spec.data.items()} | _LAYOUT
    for key in data:
        if key not in known:
            raise ExhibitError(
                f"{what}: data has {key!r}, which nobody reads; it may have {', '.join(known)}"
            )
    for key, rule in [*spec.data.items(), *((f"{k}?", v) for k, v in _LAYOUT.items())]:
        bare = key.rstrip("?")
        if bare not in data:
            if not key.endswith("?"):
                raise ExhibitError(f"{what}: data needs {bare!r}, {_told(rule)}")
            continue
        if not _fits(rule, data[bare], sizes, shapes):
            raise ExhibitError(
                f"{what}: data[{bare!r}] is {_told(rule)}{_size(rule, sizes)}, got {_short(data[bare])}"
            )
    if kind == "lens" and not _words_fit(data["text"], shapes["probability"]):
        raise ExhibitError(
            f"{what}: data['text'] is nested lists in the shape of 'probability', {shapes['probability']}"
        )


def _check_arrays(
    what: str,
    spec: Kind,
    timed: bool,
    data: dict[str, Any],
    shapes: dict[str, list[int]],
    sizes: dict[str, int],
) -> None:
    wanted = {key.rstrip("?"): axes for key, axes in spec.arrays.items()}
    for key, axes in spec.arrays.items():
        missing = not set(shapes) - set(wanted) if key == "*" else key in wanted and key not in shapes
        if missing:
            named = "an array of any name" if key == "*" else f"an array {key!r}"
            raise ExhibitError(f"{what}: needs {named}, axes [{axes}]; there are {list(shapes) or 'none'}")
    for key, shape in shapes.items():
        axes = wanted.get(key, wanted.get("*"))
        if axes is None:
            raise ExhibitError(
                f"{what}: nobody reads array {key!r}; it takes {', '.join(wanted) or 'no arrays'}"
            )
        for option in axes.split("|"):
            names = [a.rstrip("?") for a in option.split() if not a.endswith("?") or "groups" in data]
            still = [a for a in names if a != "T"]
            for tried in ([names] if timed else []) + ([] if spec.moves else [still]):
                found = _bind(tried, shape, sizes)
                if found is not None:
                    break
            else:
                continue
            # Arrays of any name have sizes of their own, time excepted.
            sizes.update(found if key in wanted and key != "*" else {})
            break
        else:
            known = ", ".join(f"{k} = {v}" for k, v in sizes.items())
            raise ExhibitError(
                f"{what}: array {key!r} has shape {shape}, expected axes [{axes}]" + (f" where {known}" if known else "")
                + ("" if spec.moves or "T" not in axes else "; T is left out of what does not move" if timed else "; without t, T is left out")
            )  # fmt: skip


def _bind(axes: list[str], shape: list[int], sizes: dict[str, int]) -> dict[str, int] | None:
    """The sizes after this array, or None when its shape does not fit."""
    made = dict(sizes)
    fits = len(axes) == len(shape) > 0 and all(made.setdefault(a, n) == n for a, n in zip(axes, shape))
    return made if fits and made.get("c", 3) == 3 else None


def _told(rule: str) -> str:
    word = rule.split()[0]
    return _CHECKS[rule][0] if rule in _CHECKS else _COUNTED[word]


def _size(rule: str, sizes: dict[str, int]) -> str:
    axis = rule.split()[-1]
    return f" ({axis} = {sizes[axis]})" if axis in sizes and rule not in _CHECKS else ""


def _fits(rule: str, value: Any, sizes: dict[str, int], shapes: dict[str, list[int]]) -> bool:
    if rule in _CHECKS:
        return _CHECKS[rule][1](value)
    word, axis = rule.split()
    count = sizes.get(axis, -1)
    if word == "names":
        return _texts(value) and len(value) == count
    if word == "index":
        return _whole(value) and 0 <= value < count
    if word == "indices":
        return isinstance(value, list) and all(_whole(v) and 0 <= v < count for v in value)
    if word == "pairs":
        return isinstance(value, list) and all(
            isinstance(p, list) and len(p) == 2 and all(_whole(v) and 0 <= v < count for v in p)
            for p in value
        )
    return isinstance(value, list) and len(value) == count and all(_numbers(p, 2) for p in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: Any, count: int | None = None) -> bool:
    return isinstance(value, list) and all(map(_number, value)) and count in (None, len(value))


def _span(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _text(value.get("label"))
        and _numbers([value.get("start"), value.get("stop")])
    )


def _entry(value: Any) -> bool:
    """`speaker` and `text`; where it is known `index` into t, `role`, `note`, `moved_by` (speaker -> weight)."""
    if not isinstance(value, dict) or not (_text(value.get("speaker")) and _text(value.get("text"))):
        return False
    moved = value.get("moved_by", {})
    return (
        set(value) <= {"speaker", "text", "index", "role", "note", "moved_by"}
        and _whole(value.get("index", 0))
        and _text(value.get("role", ""))
        and _text(value.get("note", ""))
        and isinstance(moved, dict)
        and all(map(_number, moved.values()))
    )


def _point(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _numbers([value.get("x"), value.get("y")])
        and _text(value.get("label", ""))
    )


def _by_array(inner: Any) -> Any:
    return lambda value: isinstance(value, dict) and all(map(inner, value.values()))


def _all(inner: Any) -> Any:
    return lambda value: isinstance(value, list) and all(map(inner, value))


_CHECKS: dict[str, tuple[str, Any]] = {
    "text": ("a text", _text),
    "number": ("a number", _number),
    "flag": ("true or false", lambda v: isinstance(v, bool)),
    "names": ("a list of texts", _texts),
    "integers": ("a list of integers", _all(_whole)),
    "range": ("two numbers, the lower first", lambda v: _numbers(v, 2) and v[0] < v[1]),
    "axis": ("'rows' or 'columns': the axis of a still map that is time", lambda v: v in ("rows", "columns")),
    "log": ("'x', 'y' or 'xy': the axes that are logarithmic", lambda v: v in ("x", "y", "xy")),
    "roles": ("array -> 'minus' or 'plus'", _by_array(lambda v: v in ("minus", "plus"))),
    "texts by array": ("array -> text", _by_array(_text)),
    "names by array": ("array -> list of texts", _by_array(_texts)),
    "labels": ("a list of texts, or array -> list of texts", lambda v: _texts(v) or _by_array(_texts)(v)),
    "spans": ("a list of {label, start, stop}", _all(_span)),
    "bands": ("a list of {label, start, stop, role?}", _all(_span)),
    "entries": ("a list of {speaker, text, index?, role?, note?, moved_by?}", _all(_entry)),
    "points": ("a list of {x, y, label?, stable?}", _all(_point)),
    "words": ("nested lists of texts, in the shape of 'probability'", lambda v: isinstance(v, list)),
    "rows": ("a list of rows, each a list of numbers, texts or nulls",
             _all(_all(lambda v: v is None or isinstance(v, bool) or _number(v) or _text(v)))),
    "settings": ("name -> number, text or flag", _by_array(lambda v: isinstance(v, str | int | float | bool))),
}  # fmt: skip

_COUNTED = {
    "names": "a list of texts, one for each",
    "index": "an index",
    "indices": "a list of indices",
    "pairs": "a list of pairs of indices",
    "positions": "a list of [x, y], one for each",
}


def _words_fit(value: Any, shape: list[int]) -> bool:
    if not shape:
        return isinstance(value, str)
    return isinstance(value, list) and len(value) == shape[0] and all(_words_fit(v, shape[1:]) for v in value)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
