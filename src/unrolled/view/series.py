"""Metrics as series: each number that was logged, split by the labels beside it, against its step.

A run that is going on appends lines; only what is new is read. A finished run has a parquet file, read column by column.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.runs import plain
from unrolled.runs.metrics import CLOCK
from unrolled.view import paths

LABELS = 32
"""A text field with more distinct values than this is a note, and splits nothing."""
SERIES = 400
"""Series of one run."""


@dataclass
class Series:
    """One number over the steps.

    Attributes:
        name: the field.
        labels: the text fields that tell it from others of its name.
        x: `[n]` steps; row numbers in a run that logged none.
        y: `[n]` values.
    """

    name: str
    labels: dict[str, str]
    x: np.ndarray
    y: np.ndarray


@dataclass
class Table:
    """All rows of a run's metrics, by column.

    Attributes:
        rows: how many.
        series: the numbers.
        once: numbers logged without a step in a run whose other rows have one, name -> the last value.
        notes: what could not be read or is not shown.
    """

    rows: int
    series: list[Series]
    once: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Columns:
    """Columns that grow; a field that a row lacks is None there."""

    stamp: str = ""
    inode: int = -1
    end: int = 0
    rows: int = 0
    values: dict[str, list[Any]] = field(default_factory=dict)
    note: str = ""
    table: Table | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            column = self.values.setdefault(name, [])
            column.extend([None] * (self.rows - len(column)))
            column.append(value)
        self.rows += 1


_cache: OrderedDict[Path, _Columns] = OrderedDict()
_guard = threading.Lock()


def read(root: Path, *parts: str) -> Table:
    """The metrics of a run.

    Args:
        root: folder of all runs.
        parts: names of the run's folder below it.

    Returns:
        The table; empty, with a note, where the files are missing or damaged. A torn last line is left out.

    Raises:
        Refused, PermissionError: see `paths.opened`.
    """
    key = root.joinpath(*parts)
    with _guard:
        columns = _cache.setdefault(key, _Columns())
        _cache.move_to_end(key)
        while len(_cache) > 16:
            _cache.popitem(last=False)
    with columns.lock:
        try:
            _lines(columns, root, parts)
        except FileNotFoundError:
            _parquet(columns, root, parts)
        if columns.table is None:
            columns.table = _table(columns)
        return columns.table


def _lines(columns: _Columns, root: Path, parts: tuple[str, ...]) -> None:
    with paths.opened(root, *parts, "metrics.jsonl") as file:
        status = os.fstat(file.fileno())
        stamp = f"{status.st_ino}.{status.st_mtime_ns}.{status.st_size}"
        if stamp == columns.stamp:
            return
        if status.st_ino != columns.inode or status.st_size < columns.end:  # another file, or one cut back
            _clear(columns)
        file.seek(columns.end)
        columns.table, columns.note = None, ""
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                row = plain.loads(line.decode())
                if not isinstance(row, dict):
                    raise ValueError("a row is an object")
            except ValueError:
                if file.read(1):
                    columns.note = (
                        f"line {columns.rows + 1} of metrics.jsonl is damaged; what follows it is not shown"
                    )
                break
            columns.add(row)
            columns.end += len(line)
        columns.stamp, columns.inode = stamp, status.st_ino


def _parquet(columns: _Columns, root: Path, parts: tuple[str, ...]) -> None:
    try:
        with paths.opened(root, *parts, "metrics.parquet") as file:
            status = os.fstat(file.fileno())
            stamp = f"{status.st_ino}.{status.st_mtime_ns}.{status.st_size}"
            if stamp == columns.stamp:
                return
            _clear(columns)
            columns.stamp = stamp
            try:
                import pyarrow.parquet as pq
            except ImportError:
                columns.note = "metrics.parquet is read with pyarrow: pip install 'unrolled[report]'"
                return
            try:
                opened = pq.ParquetFile(file)
                for name in opened.schema_arrow.names:
                    columns.values[name] = opened.read([name]).column(0).to_pylist()
                columns.rows = opened.metadata.num_rows
            except Exception as error:  # pyarrow's errors have many types and one meaning
                columns.values, columns.rows = {}, 0
                columns.note = f"metrics.parquet is damaged: {str(error).partition(chr(10))[0]}"
    except FileNotFoundError:
        _clear(columns)


def _clear(columns: _Columns) -> None:
    columns.stamp, columns.inode, columns.end, columns.rows = "", -1, 0, 0
    columns.values, columns.note, columns.table = {}, "", None


def _table(columns: _Columns) -> Table:
    notes = [columns.note] if columns.note else []
    rows = columns.rows
    numbers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    labels: dict[str, list[str]] = {}
    for name, column in columns.values.items():
        column = column + [None] * (rows - len(column))
        if any(isinstance(value, str) for value in column):
            texts = [value if isinstance(value, str) else "" for value in column]
            if len(set(texts)) <= LABELS:
                labels[name] = texts
            else:
                notes.append(f"{name!r} has {len(set(texts)):,} values and is not used to split the series")
        elif name not in (CLOCK, "step"):
            # A NaN that was logged is a number; a field that a row lacks is none.
            there = np.array([isinstance(value, int | float) for value in column], bool)
            if there.any():
                numbers[name] = np.array([_number(value) for value in column], np.float64), there
    steps = columns.values.get("step", [])
    x = np.array([_number(value) for value in steps] + [np.nan] * (rows - len(steps)))
    stepped = ~np.isnan(x)
    once: dict[str, float] = {}
    if stepped.any():
        for name, (column, there) in numbers.items():
            loose = np.flatnonzero(there & ~stepped)
            if len(loose):
                once[name] = float(column[loose[-1]])
                there &= stepped
    else:
        x = np.arange(rows, dtype=np.float64)
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, group in enumerate(zip(*labels.values())) if labels else ():
        groups.setdefault(group, []).append(row)
    made: list[Series] = []
    for group, members in groups.items() if labels else [((), range(rows))]:
        chosen = np.fromiter(members, np.int64)
        told = {name: value for name, value in zip(labels, group) if value}
        for name, (column, there) in numbers.items():
            members_there = chosen[there[chosen]]
            if len(members_there):
                made.append(Series(name, told, x[members_there], column[members_there]))
    if len(made) > SERIES:
        notes.append(f"{len(made):,} series were logged; the first {SERIES} are shown")
    return Table(rows, made[:SERIES], once, notes)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
