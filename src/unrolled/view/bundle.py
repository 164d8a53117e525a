"""A static bundle: the same page and the answers it would get, as files that open from a disk or any static host.

A page from a file may load neither modules nor data, but it may load scripts. So the modules are put one after the
other into one script, each in a function of its own, and every answer is a script that hands over its value.
"""

import base64
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unrolled.runs import atomic, plain
from unrolled.runs.run import Run
from unrolled.view import arrays, folders, paths
from unrolled.view.arrays import Part

WHOLE = 4_000_000
"""Values of an array that go into a bundle as they are; a larger one is thinned out to this."""

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_MARK = "// A bundle made by `unrolled view --bundle`.\n"
_CHUNK = 512 * 1024

Tell = Callable[[str], None]


def write(runs: Sequence[Run], folder: Path, *, tell: Tell | None = None) -> Path:
    """Write a bundle of runs.

    Args:
        runs: which.
        folder: where; made if need be. A bundle that is there is replaced, anything else is left alone.
        tell: called with a line for each run, and for what could not be taken along.

    Returns:
        Its index.html.

    Raises:
        ValueError: the folder holds something else, or no runs are given.
        DiskFull: no space left.
    """
    if not runs:
        raise ValueError("a bundle needs at least one run, got none")
    _clear(folder)
    tell = tell or (lambda text: None)
    found = kinds()
    index: dict[str, Any] = {"kinds": found, "files": {}, "runs": {"root": "", "runs": []}}
    listed: dict[Path, list[dict[str, Any]]] = {}
    for place, run in enumerate(runs):
        root, study, id = run.path.absolute().parent.parent, run.study, run.id
        if root not in listed:
            listed[root] = folders.runs(root)
        row = next((row for row in listed[root] if (row["study"], row["id"]) == (study, id)), None)
        if row is None:
            raise ValueError(f"{run.path} is reached through a link: give the folder itself")
        index["runs"]["runs"].append(row)
        index["files"][f"{study}/{id}"] = _run(folder / "data", f"r{place}", root, study, id, tell)
        tell(f"{study} {id}")
    index["runs"]["runs"].sort(key=lambda row: -(row["created"] or 0))
    for file in _styles():
        _copy(STATIC / file, folder / "static" / file)
    atomic.write_text(folder / "app.js", _MARK + script(found))
    atomic.write_text(folder / "data" / "index.js", f"globalThis.unrolledBundle = {plain.dumps(index)};\n")
    atomic.write_text(folder / "index.html", _page())
    return folder / "index.html"


def kinds() -> list[str]:
    """The kinds of exhibits that have a panel: their files but for helpers, which begin with an underscore."""
    return sorted(path.stem for path in (STATIC / "panels").glob("*.js") if not path.stem.startswith("_"))


# -------------------------------------------------------------------- data


def _run(data: Path, prefix: str, root: Path, study: str, id: str, tell: Tell) -> dict[str, Any]:
    """The files of one run; what the index says of it."""
    detail = folders.run(root, study, id) | {"folder": "", "host": None, "report": False}
    files: dict[str, Any] = {"run": f"{prefix}/run.js", "exhibits": {}, "figures": {}}
    shown: list[dict[str, str]] = []
    for place, panel in enumerate(detail["panels"]):
        source = panel["source"]
        file = f"{prefix}/e{place}"
        try:
            told = _exhibit(data, file, root, study, id, source)
        except (ValueError, KeyError, OSError) as error:
            detail["problems"].append(f"{source} could not be read: {error}")
            tell(f"  {source} is left out: {error}")
            continue
        _put(data, f"{file}.js", told)
        files["exhibits"][source] = f"{file}.js"
        shown.append(panel)
    for place, name in enumerate(detail["figures"]):
        file = f"{prefix}/f{place}{Path(name).suffix.lower()}"
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(data / file, paths.read(root, study, id, "figures", name))
        files["figures"][name] = file
    _put(data, files["run"], detail | {"panels": shown})
    return files


def _exhibit(data: Path, file: str, root: Path, study: str, id: str, source: str) -> dict[str, Any]:
    """An exhibit as JSON, and its arrays as files."""
    kind, _, name = source.partition("/")
    parts: dict[str, Part] = {}
    if kind == "trajectory":
        told = folders.trajectory(root, study, id)
        exhibit = next(record for record in told["records"] if record["title"] == name)
        exhibit = {**exhibit, "t": told["t"]}
        opened = folders.trajectory_file(root, study, id)
        parts["values"] = _thin(opened, f"records/{name}")
        if "array" in told["t"]:
            parts["t"] = opened.part("t")
    elif kind == "exhibits":
        exhibit = folders.exhibit(root, study, id, name)
        if exhibit["arrays"]:
            opened = folders.exhibit_file(root, study, id, name)
            parts = {key: _thin(opened, key) for key in opened.entries}
    elif kind == "readings":
        exhibit = folders.reading(root, study, id, name)
        for key in exhibit["arrays"]:
            parts[key] = arrays.thinned(folders.reading_array(root, study, id, name, key))
    else:
        exhibit = folders.metrics(root, study, id)
        for key in exhibit["arrays"]:
            parts[key] = arrays.thinned(folders.metrics_array(root, study, id, key), points=WHOLE)
    thinned = [key for key, part in parts.items() if part.decimated]
    if thinned:
        note = f"Thinned out in this copy: {', '.join(thinned)}."
        exhibit = {**exhibit, "caption": f"{exhibit.get('caption', '')} {note}".strip()}
    made = {key: _array(data, f"{file}a{place}", part) for place, (key, part) in enumerate(parts.items())}
    return {"exhibit": exhibit, "arrays": made}


def _thin(file: arrays.File, name: str) -> Part:
    """An array that fits: whole, as minima and maxima where it has few columns, else with rows left out."""
    entry = file.entries.get(name)
    if entry is None:
        raise KeyError(f"no array {name!r}")
    rows = entry.shape[0] if entry.shape else 1
    most = max(2, WHOLE // max(entry.columns, 1))
    if rows <= most:
        return file.part(name)
    if entry.columns <= 8:
        return file.part(name, points=most)
    kept = np.unique(np.linspace(0, rows - 1, most).astype(np.int64))
    values = [file.part(name, int(row), int(row) + 1).values for row in kept]
    return Part(np.concatenate(values), kept, True)


def _array(data: Path, file: str, part: Part) -> dict[str, Any]:
    def chunks(values: np.ndarray, mark: str) -> list[str]:
        flat = values.tobytes()
        names: list[str] = []
        for place, start in enumerate(range(0, max(len(flat), 1), _CHUNK * 4)):
            names.append(f"{file}{mark}{place}.js")
            _put(data, names[-1], base64.b64encode(flat[start : start + _CHUNK * 4]).decode())
        return names

    wide = part.values.itemsize == 8
    told: dict[str, Any] = {"shape": list(part.values.shape), "dtype": "float64" if wide else "float32"}
    told["files"] = chunks(part.values, "v")
    if part.decimated:
        told["index"] = chunks(np.ascontiguousarray(part.index, "<f8"), "i")
    return told


def _put(data: Path, file: str, value: Any) -> None:
    (data / file).parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(data / file, f"unrolledData({plain.dumps(file)}, {plain.dumps(value)});\n")


# -------------------------------------------------------------------- the page


def _clear(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    script = folder / "app.js"
    if not script.is_file() or not script.read_text(encoding="utf-8").startswith(_MARK):
        raise ValueError(f"{folder} is not empty and holds no bundle: give another folder, or empty it")
    for name in ("data", "static"):
        if not (folder / name).is_symlink():
            shutil.rmtree(folder / name, ignore_errors=True)


def _styles() -> list[str]:
    """What the page links beside scripts, licences of others among it."""
    wanted = [*STATIC.glob("*.css"), *STATIC.glob("panels/*.css"), *STATIC.glob("*.svg")]
    vendored = [path for path in STATIC.glob("vendor/*/*") if path.suffix != ".js"]
    return [path.relative_to(STATIC).as_posix() for path in (*wanted, *vendored)]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(target, source.read_bytes())


def _page() -> str:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    module = '<script type="module" src="static/app.js"></script>\n'
    charset = '<meta charset="utf-8">\n'
    if module not in page or charset not in page:
        raise ValueError("index.html does not load the app as it is expected to")
    page = page.replace(charset, f'{charset}<meta http-equiv="content-security-policy" content="{POLICY}">\n')
    page = re.sub(r'<link rel="modulepreload".*\n', "", page)
    scripts = '<script src="data/index.js" defer></script>\n<script src="app.js" defer></script>\n'
    return page.replace(module, scripts)


_COMMENT = re.compile(r"^[ \t]*/\*.*?\*/[ \t]*$", re.M | re.S)
_IMPORT = re.compile(r'^import\s+([^"\'()]+?)\s+from\s+"([^"]+)";?[ \t]*$', re.M)
_DEFAULT = re.compile(r"^export default function (\w+)", re.M)
_DECLARED = re.compile(r"^export ((?:async )?function\*? |const |class )(\w+)", re.M)
_LISTED = re.compile(r"^export \{([^}]*)\};?[ \t]*$", re.M)
_LEFT = re.compile(r"^(?:import\b(?!\()|export\b).*$", re.M)


def script(panels: Sequence[str]) -> str:
    """The app and these panels as one classic script.

    Args:
        panels: kinds, see `kinds`.

    Raises:
        ValueError: a module imports or exports in a way that this does not know, or modules import each other.
    """
    order: dict[str, str] = {}
    starts = [f"panels/{kind}.js" for kind in panels]
    for start in starts:
        _gather(start, order, ())
    _gather("app.js", order, ())
    places = {name: f"module{place}" for place, name in enumerate(order)}
    app = order.pop("app.js")
    pieces = ['"use strict";\n(() => {\n']
    pieces += [
        f"// {name}\nconst {places[name]} = (() => {{\n{_wrapped(name, text, places)}}})();\n"
        for name, text in order.items()
    ]
    table = ", ".join(f"{plain.dumps(kind)}: {places[start]}.default" for kind, start in zip(panels, starts))
    pieces.append(f"globalThis.unrolledPanels = {{{table}}};\n")
    pieces.append(f"// app.js\n(() => {{\n{_wrapped('app.js', app, places)}}})();\n}})();\n")
    return "".join(pieces)


def _gather(name: str, order: dict[str, str], above: tuple[str, ...]) -> None:
    """Read a module after those that it imports."""
    if name in order:
        return
    if name in above:
        raise ValueError(f"modules import each other: {' -> '.join((*above, name))}")
    file = (STATIC / name).resolve()
    if not file.is_relative_to(STATIC.resolve()) or not file.is_file():
        raise ValueError(f"{above[-1] if above else 'the page'} imports {name}, which is not there")
    # Code that was commented out may look like an export.
    text = _COMMENT.sub("", file.read_text(encoding="utf-8"))
    for _, told in _IMPORT.findall(text):
        _gather(_resolved(name, told), order, (*above, name))
    order[name] = text


def _resolved(name: str, told: str) -> str:
    parts: list[str] = [*PurePosixPath(name).parent.parts]
    for part in told.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _wrapped(name: str, text: str, places: dict[str, str]) -> str:
    """A module's body as that of a function which returns its exports."""
    exports: list[str] = []

    def imported(match: re.Match[str]) -> str:
        what, module = match[1].strip(), places[_resolved(name, match[2])]
        if what.startswith("{"):
            return f"const {what.replace(' as ', ': ')} = {module};"
        if what.startswith("*"):
            return f"const {what.rpartition(' ')[2]} = {module};"
        if not what.isidentifier():
            raise ValueError(f"{name}: cannot bundle `{match[0]}`")
        return f"const {what} = {module}.default;"

    def default(match: re.Match[str]) -> str:
        exports.append(f"default: {match[1]}")
        return f"function {match[1]}"

    def declared(match: re.Match[str]) -> str:
        exports.append(match[2])
        return f"{match[1]}{match[2]}"

    def listed(match: re.Match[str]) -> str:
        for item in filter(None, (piece.strip() for piece in match[1].split(","))):
            inner, _, outer = item.partition(" as ")
            exports.append(f"{outer.strip()}: {inner.strip()}" if outer else inner)
        return ""

    for pattern, replace in (
        (_IMPORT, imported),
        (_DEFAULT, default),
        (_DECLARED, declared),
        (_LISTED, listed),
    ):
        text = pattern.sub(replace, text)
    left = _LEFT.search(text)
    if left:
        raise ValueError(f"{name}: cannot bundle `{left[0][:80]}`")
    return f"{text}\nreturn {{ {', '.join(exports)} }};\n"
