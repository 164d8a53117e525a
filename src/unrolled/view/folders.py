"""What a run folder holds, as the app shows it: plain dicts for JSON, whatever is damaged said to be damaged.

Everything generic becomes an exhibit here too: the records of a trajectory, readings and metrics; so a panel knows one
interface, and a user's own system shows up without new code.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.report import text
from unrolled.runs import index, kinds, plain
from unrolled.runs.folder import judge
from unrolled.view import arrays, paths, series
from unrolled.view.paths import Refused

PICTURES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}  # fmt: skip

_INDEXED = ("config.json", "status.json", "environment.json", "claims.json")
_TIMES = 5000  # more times than this are sent as numbers in binary


class Missing(KeyError):
    """There is no such run, or it has no such part; the message is a sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


def runs(root: Path) -> list[dict[str, Any]]:
    """One row for each run under the root, latest first; those reached through links are left out."""
    linked = _linked(root)
    rows: list[dict[str, Any]] = []
    for row in index.query(root):
        if row["study"] in linked or f"{row['study']}/{row['id']}" in linked:
            continue
        kept = ("id", "study", "preset", "seed", "state", "phase", "step", "steps", "created", "ended", "spent", "error", "hash", "claims")  # fmt: skip
        rows.append({**{key: row[key] for key in kept}, "system": _system(row["study"])})
    return rows[::-1]


def run(root: Path, study: str, id: str) -> dict[str, Any]:
    """Everything of a run that is small: state, command, configuration, claims, and which panels it has.

    Raises:
        Missing: there is no such run.
        Refused, PermissionError: see `paths.opened`.
    """
    problems: list[str] = []
    config = _json(root, (study, id, "config.json"), problems, needed=True)
    status = judge(_json(root, (study, id, "status.json"), problems))
    environment = _json(root, (study, id, "environment.json"), problems)
    command = environment.pop("command", [])
    return {
        "id": id,
        "study": study,
        "system": _system(study),
        "folder": str(root / study / id),
        **{key: status.get(key) for key in ("state", "phase", "step", "steps", "created", "ended", "spent", "time", "host", "error")},
        "traceback": "\n".join(str(status.get("traceback", "")).splitlines()[-30:]),
        "command": text.command(command) if isinstance(command, list) and all(isinstance(word, str) for word in command) else "",
        "config": text.flat(config),
        "environment": text.flat(environment),
        "claims": _claims(root, study, id, problems),
        "panels": _panels(root, study, id, problems),
        "figures": _pictures(root, study, id, problems),
        "report": "report.html" in paths.files(root, study, id, suffix=".html"),
        "problems": problems,
    }  # fmt: skip


def exhibit(root: Path, study: str, id: str, name: str) -> dict[str, Any]:
    """A saved exhibit.

    Raises:
        Missing: there is no such exhibit.
        ValueError: it is damaged.
        Refused, PermissionError: see `paths.opened`.
    """
    made = _load(root, (study, id, "exhibits", f"{name}.json"), "exhibit")
    if not isinstance(made.get("kind"), str):
        raise ValueError(f"exhibit {name!r} has no kind")
    bare = {"title": name, "caption": "", "unit": "", "t": None, "data": {}, "arrays": {}}
    told = {**bare, **made, "name": name}
    if told["kind"] in kinds.KINDS:  # of a kind that nobody knows, what it holds is shown as it is
        try:
            shapes = {key: list(array["shape"]) for key, array in told["arrays"].items()}
            kinds.check(name, told["kind"], told["t"], told["data"], shapes)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"exhibit {name!r} is damaged: {error}") from error
    return told


def exhibit_file(root: Path, study: str, id: str, name: str) -> arrays.File:
    """The arrays of an exhibit.

    Raises:
        Missing: it has none.
        ValueError, Refused, PermissionError: see `arrays.File.open`.
    """
    return _arrays(root, study, id, "exhibits", f"{name}.safetensors")


def trajectory_file(root: Path, study: str, id: str) -> arrays.File:
    """The trajectory; its records are the arrays `records/<name>`, its times are `t`.

    Raises:
        Missing: the run saved none.
        ValueError, Refused, PermissionError: see `arrays.File.open`.
    """
    return _arrays(root, study, id, "trajectory.safetensors")


def trajectory(root: Path, study: str, id: str) -> dict[str, Any]:
    """Each record of the trajectory as an exhibit of kind `record`; they share `t`.

    Raises:
        Missing: the run saved none.
        ValueError, Refused, PermissionError: see `arrays.File.open`.
    """
    file = trajectory_file(root, study, id)
    try:
        header = json.loads(file.meta["unrolled"])
        names, stop, meta = list(header["records"]), dict(header["stop"]), dict(header["meta"])
        times = file.entries["t"]
        found = {name: file.entries[f"records/{name}"] for name in names if f"records/{name}" in file.entries}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"trajectory.safetensors holds no trajectory: {error}") from error
    count = times.shape[0] if times.shape else 0
    if count <= _TIMES:
        t: Any = _spell(file.part("t").values)
    else:
        even = file.spacing("t")
        t = {"count": count} | ({"array": "t"} if even is None else {"start": even[0], "step": even[1]})
    complex_ones = set(header.get("complex", ()))
    shared = {key: value for key, value in meta.items() if isinstance(value, str | int | float | list)}
    return {
        "t": t,
        "unit": str(meta.get("unit", "step")),
        "records": [
            {
                "kind": "record",
                "title": name,
                "caption": "",
                "unit": str(meta.get("unit", "step")),
                "data": {"record": name, "stop": plain.plain(stop), "meta": shared}
                | ({"complex": True} if f"records/{name}" in complex_ones else {}),
                "arrays": {"values": arrays.described(entry)},
            }
            for name, entry in found.items()
        ],
    }


def reading(root: Path, study: str, id: str, name: str) -> dict[str, Any]:
    """A saved reading as an exhibit of kind `reading`; its longer values are arrays.

    Raises:
        Missing: there is no such reading.
        ValueError: it is damaged.
        Refused, PermissionError: see `paths.opened`.
    """
    told = _load(root, (study, id, "readings", f"{name}.json"), "reading")
    values = told.get("values")
    if not isinstance(values, Mapping):
        raise ValueError(f"reading {name!r} has no values")
    label, along = _along(told.get("index"))
    given = {key: _array(value) for key, value in values.items()}
    return {
        "kind": "reading",
        "title": str(told.get("name", name)),
        "caption": str(told.get("definition", "")),
        "unit": label,
        "t": None if along is None else _spell(along),
        "data": {
            **{key: told.get(key, "") for key in ("name", "definition", "units", "method", "status", "reason")},
            "notes": told.get("notes") or [],
            "values": {key: {"array": key} if given[key] is not None else value for key, value in values.items()},
            "index": None if along is None else {"name": label, "values": _spell(along)},
        },
        "arrays": {key: {"shape": list(made.shape), "dtype": "float64"} for key, made in given.items() if made is not None},
    }  # fmt: skip


def reading_array(root: Path, study: str, id: str, name: str, key: str) -> np.ndarray:
    """A value of a reading that is an array.

    Raises:
        Missing: there is none of this name.
        ValueError, Refused, PermissionError: see `reading`.
    """
    values = _load(root, (study, id, "readings", f"{name}.json"), "reading").get("values")
    made = _array(values.get(key)) if isinstance(values, Mapping) else None
    if made is None:
        raise Missing(f"reading {name!r} has no array {key!r}")
    return made


def metrics(root: Path, study: str, id: str) -> dict[str, Any]:
    """The metrics as one exhibit of kind `metrics`; series `i` has the arrays `x<i>` and `y<i>`.

    Raises:
        Missing: there is no such run.
        Refused, PermissionError: see `paths.opened`.
    """
    if "config.json" not in paths.files(root, study, id):
        raise Missing(f"there is no run {study}/{id}")
    table = series.read(root, study, id)
    steps = np.unique(np.concatenate([one.x for one in table.series])) if table.series else np.empty(0)
    if len(steps) > _TIMES:
        steps = steps[np.linspace(0, len(steps) - 1, _TIMES).astype(int)]
    return {
        "kind": "metrics",
        "title": "metrics",
        "caption": "; ".join([*_once(table.once), *table.notes]),
        "unit": "step",
        "t": _spell(steps) if len(steps) else None,
        "data": {
            "rows": table.rows,
            "once": table.once,
            "series": [
                {"name": one.name, "labels": one.labels, "array": f"y{i}", "x": f"x{i}"}
                for i, one in enumerate(table.series)
            ],
        },
        "arrays": {
            f"{axis}{i}": {"shape": [len(one.y)], "dtype": "float64"}
            for i, one in enumerate(table.series)
            for axis in "xy"
        },
    }


def metrics_array(root: Path, study: str, id: str, key: str) -> np.ndarray:
    """`x<i>` or `y<i>` of the metrics.

    Raises:
        Missing: there is none of this name.
        Refused, PermissionError: see `paths.opened`.
    """
    table = series.read(root, study, id)
    place = int(key[1:]) if key[:1] in ("x", "y") and key[1:].isascii() and key[1:].isdigit() else -1
    if not 0 <= place < len(table.series):
        raise Missing(f"the metrics have no array {key!r}")
    return table.series[place].x if key[0] == "x" else table.series[place].y


def stamps(root: Path, study: str, id: str) -> dict[str, str]:
    """What of a run has changed since: part -> a stamp. Parts are `run`, `metrics`, `trajectory`, `exhibits/...`."""
    top = paths.files(root, study, id)
    told = {"run": "|".join(top.get(name, "") for name in _INDEXED)}
    told["metrics"] = top.get("metrics.jsonl", "") or top.get("metrics.parquet", "")
    told["trajectory"] = top.get("trajectory.safetensors", "")
    for folder in ("exhibits", "readings", "figures"):
        for name, stamp in paths.files(root, study, id, folder).items():
            stem = name if folder == "figures" else name.rpartition(".")[0]
            told[f"{folder}/{stem}"] = told.get(f"{folder}/{stem}", "") + stamp
    return told


# -------------------------------------------------------------------- parts


def _once(numbers: Mapping[str, float]) -> list[str]:
    """Numbers that belong to no step, in a line."""
    told = [f"{name} {text.number(value)}" for name, value in list(numbers.items())[:12]]
    return [f"Besides: {', '.join(told)}{', …' if len(numbers) > 12 else ''}"] if told else []


def _system(study: str) -> str:
    """The first word of a study's name: `debate` of `debate-recorded`."""
    return study.partition("-")[0].partition("_")[0]


def _linked(root: Path) -> set[str]:
    """Studies and runs that are links, or whose small files are."""
    found: set[str] = set()
    for study in _scanned(str(root)):
        if study.is_symlink():
            found.add(study.name)
            continue
        for run in _scanned(study.path):
            if run.is_symlink() or any(
                entry.name in _INDEXED and entry.is_symlink() for entry in _scanned(run.path)
            ):
                found.add(f"{study.name}/{run.name}")
    return found


def _scanned(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _json(root: Path, parts: tuple[str, ...], problems: list[str], *, needed: bool = False) -> dict[str, Any]:
    try:
        value = plain.loads(paths.read(root, *parts).decode())
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        return value
    except FileNotFoundError as error:
        if needed:
            raise Missing(f"there is no run {parts[0]}/{parts[1]}") from error
        problems.append(f"{parts[-1]} is missing")
    except Refused:
        raise
    except PermissionError as error:
        if needed:
            raise
        problems.append(f"{parts[-1]} may not be read: {error.strerror}")
    except ValueError as error:
        problems.append(f"{parts[-1]} is damaged: {error}")
    return {}


def _load(root: Path, parts: tuple[str, ...], what: str) -> dict[str, Any]:
    try:
        value = plain.loads(paths.read(root, *parts).decode())
    except FileNotFoundError as error:
        raise Missing(f"there is no {what} {parts[-1].removesuffix('.json')!r}") from error
    except ValueError as error:
        raise ValueError(f"{what} {parts[-1]} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{what} {parts[-1]} is no JSON object")
    return value


def _arrays(root: Path, *parts: str) -> arrays.File:
    try:
        return arrays.File.open(root, *parts)
    except FileNotFoundError as error:
        raise Missing(f"there is no {parts[-1]}") from error


def _claims(root: Path, study: str, id: str, problems: list[str]) -> list[dict[str, Any]]:
    try:
        rows = plain.loads(paths.read(root, study, id, "claims.json").decode())
    except FileNotFoundError:
        return []
    except (ValueError, PermissionError) as error:
        problems.append(f"claims.json could not be read: {error}")
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _panels(root: Path, study: str, id: str, problems: list[str]) -> list[dict[str, str]]:
    """Which exhibits there are: where each lies, and its kind if it is known without opening it."""
    panels: list[dict[str, str]] = []

    def attempt(part: str, look: Callable[[], list[dict[str, str]]]) -> None:
        try:
            panels.extend(look())
        except (ValueError, PermissionError, Missing) as error:
            problems.append(f"{part} could not be read: {error}")

    for folder, kind in (("exhibits", ""), ("readings", "reading")):
        attempt(folder, lambda folder=folder, kind=kind: [
            {"source": f"{folder}/{name.removesuffix('.json')}", "kind": kind}
            for name in paths.files(root, study, id, folder, suffix=".json")
        ])  # fmt: skip
    there = paths.files(root, study, id)
    if "trajectory.safetensors" in there:
        attempt("trajectory.safetensors", lambda: [
            {"source": f"trajectory/{record['title']}", "kind": "record"}
            for record in trajectory(root, study, id)["records"]
        ])  # fmt: skip
    if "metrics.jsonl" in there or "metrics.parquet" in there:
        panels.append({"source": "metrics", "kind": "metrics"})
    return panels


def _pictures(root: Path, study: str, id: str, problems: list[str]) -> list[str]:
    try:
        there = paths.files(root, study, id, "figures")
    except PermissionError as error:
        problems.append(f"figures could not be read: {error}")
        return []
    return [name for name in there if Path(name).suffix.lower() in PICTURES]


def _along(told: Any) -> tuple[str, np.ndarray | None]:
    """The index of a reading: `[name, values]` or `{"name", "values"}`."""
    if isinstance(told, Mapping):
        told = [told.get("name", ""), told.get("values")]
    if not isinstance(told, list) or len(told) != 2:
        return "", None
    return str(told[0]), _array(told[1])


def _array(value: Any) -> np.ndarray | None:
    """A nested list of numbers as an array; None for anything else."""
    if not isinstance(value, list) or not value:
        return None
    try:
        made = np.array(value, np.float64)
    except (ValueError, TypeError):
        return None
    return made if made.ndim else None


def _spell(values: np.ndarray) -> list[float]:
    """Times as JSON holds them; those that are no numbers become their place."""
    return [
        float(value) if math.isfinite(value) else float(place) for place, value in enumerate(values.ravel())
    ]
