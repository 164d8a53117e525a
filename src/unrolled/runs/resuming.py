"""Resumed equals uninterrupted: which metrics stay when a run goes on from its newest checkpoint.

Two rules, and neither asks anything of the study but to log a step before it saves it:

1. Whenever the newest file under `checkpoints/` changes, the number of rows logged by then is noted beside the run.
   On resume, later rows are dropped: the run is about to log them again. A run without checkpoints starts over.
2. A resumed study also repeats what precedes its checkpoint: a count at the start, a summary of a finished part. A
   row that is already there, equal in every field but the clock, is not written twice.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unrolled.runs import atomic, plain
from unrolled.runs.metrics import CLOCK, Metrics


class Ledger:
    """How many rows belong to the newest checkpoint.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._checkpoints = folder / "checkpoints"
        self._file = folder / ".rows.json"
        # A resumed run notes the checkpoint it goes on from with its first row.
        self._seen: list[Any] | None = None

    def note(self, metrics: Metrics, rows: int) -> None:
        """Called before each row is logged: if there is a new checkpoint, `rows` is its number of rows."""
        newest = self._newest()
        if newest != self._seen:
            metrics.sync()
            atomic.write_text(self._file, json.dumps({"newest": newest, "rows": rows}))
            self._seen = newest

    def rows(self, there: int) -> int:
        """How many of the rows that are there belong to the newest checkpoint."""
        newest = self._newest()
        if newest is None:
            return 0
        try:
            noted = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return there
        # A checkpoint that was not noted is younger than the last row.
        if noted.get("newest") != newest:
            return there
        if noted["rows"] > there:
            warnings.warn(
                f"{self._checkpoints.parent} has {there} rows of metrics, its checkpoint is {noted['rows']} rows in: "
                "the difference was lost, as in a power cut",
                stacklevel=2,
            )
        return min(noted["rows"], there)

    def _newest(self) -> list[Any] | None:
        """The newest checkpoint file: path, size, time and inode. A replaced file has another inode."""
        best: tuple[int, list[Any]] | None = None
        folders = [os.fspath(self._checkpoints)]
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except FileNotFoundError:
                continue
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                if best is None or (stat.st_mtime_ns, entry.path) > (best[0], best[1][0]):
                    best = stat.st_mtime_ns, [entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ino]
        if best is None:
            return None
        return [os.path.relpath(best[1][0], self._checkpoints), *best[1][1:]]


class Replay:
    """The rows that a resumed run has already; logging one of them again does nothing.

    Example:
        >>> replay = Replay([{"step": 0, "loss": 2.0, "time": 1.0}])
        >>> replay.repeats({"step": 0, "loss": 2.0, "time": 9.0}), replay.repeats({"step": 1, "loss": 2.0})
        (True, False)
    """

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._there = Counter(map(_key, rows))

    def repeats(self, row: Mapping[str, Any]) -> bool:
        """Whether this row is there; each row that is there answers once."""
        key = _key(row) if self._there else None
        if key is None or not self._there[key]:
            return False
        self._there[key] -= 1
        return True


def _key(row: Mapping[str, Any]) -> str:
    return plain.dumps({name: row[name] for name in sorted(row) if name != CLOCK})
