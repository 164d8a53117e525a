"""The table of all runs: an SQLite file beside them, which only saves reading; the folders are the truth.

Every query looks at the folders first and reads again those that changed, so the index is never out of date; one that
is missing, damaged, locked or on a read-only disk is rebuilt, in memory if need be, without a word.
"""

import contextlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.runs import config, plain
from unrolled.runs.folder import STATES, RunError, judge

if TYPE_CHECKING:
    import pandas

FILE = "index.sqlite"
_VERSION = 1
_FILES = ("config.json", "status.json", "environment.json", "claims.json")


def query(
    root: str | os.PathLike[str] = "runs",
    *,
    study: str | None = None,
    state: str | None = None,
    preset: str | None = None,
    where: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The runs under a root, oldest first.

    Args:
        root: the folder that holds all runs; one that does not exist holds none.
        study: only this study.
        state: only this state, e.g. `"lost"`.
        preset: only this preset.
        where: only runs whose configuration has these values; values are compared as text as well, so that
            `{"seed": "0"}` finds seed 0.

    Returns:
        One dict a run: `id`, `path`, `study`, `preset`, `seed`, `state`, `phase`, `step`, `steps`, `created`, `ended`, `spent`
        (seconds of work), `host`, `pid`, `error`, `hash`, `source`, `claims` (status -> number), `config`.

    Raises:
        ValueError: no such state.

    Example:
        >>> query("no/such/folder")
        []
    """
    if state is not None and state not in STATES:
        raise ValueError(f"no state {state!r}{config.nearest(state, STATES)} There are {', '.join(STATES)}")
    rows = [_present(row) for row in _rows(Path(root))]
    rows.sort(key=lambda row: (row["created"] or 0.0, row["id"]))
    return [
        row
        for row in rows
        if (study is None or row["study"] == study)
        and (state is None or row["state"] == state)
        and (preset is None or row["preset"] == preset)
        and all(_equal(_dig(row["config"], key), value) for key, value in (where or {}).items())
    ]


def rebuild(root: str | os.PathLike[str] = "runs") -> int:
    """Throw the index away and make it anew; how many runs there are."""
    for name in (FILE, f"{FILE}-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(Path(root) / name)
    return len(_rows(Path(root)))


def frame(root: str | os.PathLike[str] = "runs", **filters: Any) -> "pandas.DataFrame":
    """`query` as a pandas DataFrame; each field of the configurations is a column `config.<field>`.

    Raises:
        ImportError: pandas is not installed.
    """
    from unrolled.core import require

    pandas = require("pandas", extra="report")
    rows = query(root, **filters)
    return pandas.DataFrame(
        [{**{k: v for k, v in row.items() if k not in ("config", "claims")},
          **{f"config.{k}": v for k, v in row["config"].items()}} for row in rows]
    )  # fmt: skip


def find(reference: str, root: str | os.PathLike[str] = "runs", *, states: Sequence[str] = STATES) -> Path:
    """The folder of a run.

    Args:
        reference: its path, its id, the beginning of its id or of its hash, or `"last"`: the one made last.
        root: the folder that holds all runs.
        states: what `"last"` may be.

    Raises:
        RunError: there is none, or several fit.
    """
    if (Path(reference) / "config.json").is_file():
        return Path(reference)
    rows = query(root)
    if not rows:
        raise RunError(f"no run {reference!r}: there are no runs under {root}")
    if reference == "last":
        rows = [row for row in rows if row["state"] in states]
        if not rows:
            raise RunError(f"no run under {root} is {' or '.join(states)}")
        return Path(rows[-1]["path"])
    fitting = [
        row
        for row in rows
        if reference and (row["id"].startswith(reference) or _hash(row["id"]).startswith(reference))
    ]
    if len(fitting) == 1:
        return Path(fitting[0]["path"])
    if fitting:
        some = ", ".join(row["id"] for row in fitting[-5:])
        raise RunError(f"{reference!r} fits {len(fitting)} runs, {some} among them: give more of the id")
    near = config.nearest(reference, [row["id"] for row in rows] + [_hash(row["id"]) for row in rows])
    raise RunError(f"no run {reference!r} under {root}{near} `unrolled runs` lists them")


def _hash(id: str) -> str:
    return id.rpartition("-")[2]


def _dig(values: Mapping[str, Any], key: str) -> Any:
    """A field of a configuration; `model.depth` looks into a nested one."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _equal(found: Any, wanted: Any) -> bool:
    if found == wanted or str(found) == str(wanted):
        return True
    try:
        return not isinstance(found, str) and float(found) == float(wanted)
    except (TypeError, ValueError):
        return False


def _present(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a user sees it: the state is judged now, because no file changes when a process is killed."""
    status = judge(row["status"])
    values = row["config"]
    claims: dict[str, int] = {}
    for claim in row["claims"]:
        claims[claim] = claims.get(claim, 0) + 1
    return {
        "id": Path(row["path"]).name,
        "path": row["path"],
        "study": Path(row["path"]).parent.name,
        "preset": values.get("preset", ""),
        "seed": values.get("seed"),
        **{key: status.get(key) for key in ("state", "phase", "step", "steps", "created", "ended", "spent", "host", "pid", "error")},
        "hash": row["hash"],
        "source": row["source"],
        "claims": claims,
        "config": values,
    }  # fmt: skip


def _rows(root: Path) -> list[dict[str, Any]]:
    """Every run under the root, from the index where its folder has not changed since."""
    folders = _folders(root)
    if not folders:
        return []
    for attempt in range(2):
        try:
            return _through(root / FILE, root, folders)
        except sqlite3.DatabaseError:  # damaged, locked or not writable
            if attempt == 0:
                with contextlib.suppress(OSError):
                    _remove_damaged(root / FILE)
        except ValueError:  # sound to SQLite, but not ours inside
            with contextlib.suppress(OSError):
                (root / FILE).unlink(missing_ok=True)
    return _through(None, root, folders)


def _through(file: Path | None, root: Path, folders: dict[str, str]) -> list[dict[str, Any]]:
    """Bring the index in line with the folders, and read it."""
    database = sqlite3.connect(":memory:" if file is None else file, timeout=1.0)
    with contextlib.closing(database), database:
        if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            database.execute("DROP TABLE IF EXISTS runs")
            database.execute(
                "CREATE TABLE runs (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, row TEXT NOT NULL)"
            )
            database.execute(f"PRAGMA user_version = {_VERSION}")
        known = {path: (stamp, row) for path, stamp, row in database.execute("SELECT * FROM runs")}
        found: list[dict[str, Any]] = []
        changed: list[tuple[str, str, str]] = []
        for path, stamp in folders.items():
            if path in known and known[path][0] == stamp:
                text = known[path][1]
            else:
                text = plain.dumps(_read_folder(root / path))
                changed.append((path, stamp, text))
            found.append({**plain.loads(text), "path": str(root.absolute() / path)})
        gone = known.keys() - folders.keys()
        if changed or gone:
            database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", changed)
            database.executemany("DELETE FROM runs WHERE path = ?", [(path,) for path in gone])
        return found


def _folders(root: Path) -> dict[str, str]:
    """Each run's path below the root, with a stamp that changes when one of its files does."""
    found: dict[str, str] = {}
    for study in _subfolders(root):
        for run in _subfolders(study.path):
            stamps: list[str] = []
            for name in _FILES:
                try:
                    stat = os.stat(f"{run.path}/{name}")
                    stamps.append(f"{stat.st_mtime_ns}.{stat.st_size}.{stat.st_ino}")
                except OSError:
                    stamps.append("")
            if stamps[0]:
                found[f"{study.name}/{run.name}"] = "|".join(stamps)
    return found


def _subfolders(path: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []


def _read_folder(folder: Path) -> dict[str, Any]:
    """What the index keeps of a run; a damaged file counts as an empty one."""
    read: dict[str, Any] = {}
    for name in _FILES:
        try:
            read[name] = plain.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            read[name] = None
    values, status, environment, claims = (read[name] for name in _FILES)
    values = values if isinstance(values, dict) else {}
    environment = environment if isinstance(environment, dict) else {}
    status = dict(status) if isinstance(status, dict) else {}
    status.pop("traceback", None)
    claims = claims if isinstance(claims, list) else []
    return {
        "config": values,
        "status": status,
        "claims": [claim.get("status", "") for claim in claims if isinstance(claim, dict)],
        "hash": config.identity(folder.parent.name, values),
        "source": environment.get("source"),
    }


def _remove_damaged(file: Path) -> None:
    """Remove an index that SQLite cannot read; one that is only locked by another process stays."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0.1)) as database:
            database.execute("SELECT path, stamp, row FROM runs LIMIT 1").fetchall()
            broken = database.execute("PRAGMA quick_check").fetchone()[0] != "ok"
    except sqlite3.OperationalError as error:
        broken = "no such" in str(error)
    except sqlite3.DatabaseError:
        broken = True
    if broken:
        file.unlink(missing_ok=True)
        file.with_name(f"{FILE}-journal").unlink(missing_ok=True)
