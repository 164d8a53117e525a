"""Parts of the arrays in a safetensors file: rows are read where they lie, and many are thinned out before they leave.

A file is a header (8 bytes of length, then JSON: name -> dtype, shape, offsets) and the numbers, row after row; so a
stretch of time is one stretch of bytes. What a screen cannot show is not sent: rows that fall into the same column of
pixels become their minimum and maximum (`minmax`), so that no spike is lost, or their `mean` or `max`. For arrays of
millions the extremes of every `BLOCK` rows are kept once computed, and a long stretch is thinned out from those: its
buckets then begin and end at multiples of `BLOCK`, less than half a bucket away.
"""

import json
import math
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np

from unrolled.view import paths

Reduce = Literal["minmax", "mean", "max"]
LIMIT = 32 * 2**20
"""Bytes of one answer."""
BLOCK = 256
"""Rows whose extremes are kept together."""

_HEADER = 64 * 2**20
_CHUNK = 8 * 2**20
_KEPT = 256 * 2**20
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1",
}  # fmt: skip


class TooLarge(ValueError):
    """An answer that would not fit; the message says what to ask for instead."""


@dataclass(frozen=True)
class Entry:
    """Where an array lies in its file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def columns(self) -> int:
        """Numbers in a row: the trailing axes, flattened."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the file."""
        return self.columns * np.dtype(_DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class Part:
    """Some rows of an array.

    Attributes:
        values: `[rows, ...]`, float32 or float64.
        index: `[rows]` the row of the array that each stands at; for two rows of a bucket, its first.
        decimated: whether rows were put together.
    """

    values: np.ndarray
    index: np.ndarray
    decimated: bool


@dataclass
class File:
    """The header of a safetensors file, and the way to its numbers.

    Attributes:
        root: folder of all runs.
        parts: names below it.
        entries: name -> array.
        meta: what the writer put into the header.
        stamp: changes when the file does.
    """

    root: Path
    parts: tuple[str, ...]
    entries: dict[str, Entry] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    stamp: str = ""

    @staticmethod
    def open(root: Path, *parts: str) -> "File":
        """Read a file's header.

        Raises:
            ValueError: no safetensors file, or a truncated one.
            Refused, FileNotFoundError, PermissionError: see `paths.opened`.
        """
        with paths.opened(root, *parts) as file:
            return _header(file, File(root, parts))

    def part(
        self,
        name: str,
        start: int | None = None,
        stop: int | None = None,
        points: int | None = None,
        reduce: Reduce = "minmax",
        columns: tuple[int, int] | None = None,
    ) -> Part:
        """Rows [start, stop) of an array, thinned out to about `points` rows when there are more.

        Args:
            name: the array.
            start: first row; the first there is when None.
            stop: the row after the last; a number past the end is the end.
            points: rows wanted at most; all when None. `minmax` rounds up to an even number.
            reduce: what becomes of rows that share a bucket. NaN counts only where a bucket holds nothing else.
            columns: a slice of the flattened trailing axes; the part then has shape `[rows, b - a]`.

        Raises:
            KeyError: no such array.
            ValueError: a range that is none, or a truncated file.
            TooLarge: more than `LIMIT` bytes.
        """
        if name not in self.entries:
            raise KeyError(f"no array {name!r}; there are {', '.join(map(repr, self.entries)) or 'none'}")
        entry = self.entries[name]
        whole = entry if entry.shape else Entry(entry.dtype, (1,), entry.offset)
        first, last = _range(start, stop, whole.shape[0])
        a, b = _columns(columns, whole.columns)
        if reduce not in get_args(Reduce):
            raise ValueError(f"reduce={reduce!r}; there are {', '.join(get_args(Reduce))}")
        if points is not None and points < 1:
            raise ValueError(f"points={points}: at least one is needed")
        rows = last - first
        sent = rows if points is None or rows <= points else points + points % 2
        size = sent * (b - a) * 4
        if size > LIMIT:
            raise TooLarge(
                f"{name!r}: {sent:,} rows of {b - a:,} are {size:,} bytes, more than {LIMIT:,}: "
                "ask for fewer points, rows or columns"
            )
        shape = whole.shape[1:] if columns is None else (b - a,)
        with paths.opened(self.root, *self.parts) as file:
            if _stamp(file) != self.stamp:
                raise ValueError(f"{self.parts[-1]} was written anew just now: ask again")
            if sent == rows:
                values = (
                    np.concatenate([*_rows(file, whole, first, last, a, b)]) if rows else np.empty((0, b - a))
                )
                return Part(_shaped(values, shape, whole.dtype), np.arange(first, last), False)
            edges = _edges(first, last, points or 1, reduce)
            if (last - first) // (len(edges) - 1) >= 2 * BLOCK:
                levels = _levels(file, self, name, whole)
                edges = np.unique(np.append(edges[:-1] // BLOCK, -(-last // BLOCK)))
                parts = [
                    _bucketed(
                        levels[how][edges[0] : edges[-1], a:b],
                        edges - edges[0],
                        "sum" if how == "count" else how,
                    )
                    for how in _NEEDS[reduce]
                ]
                index = np.clip(edges[:-1] * BLOCK, first, last)
            else:
                parts = _streamed(file, whole, edges, a, b, _NEEDS[reduce])
                index = edges[:-1]
            values = _joined(parts, reduce)
        if reduce == "minmax":
            index = np.repeat(index, 2)
        return Part(_shaped(values, shape, whole.dtype), index, True)

    def spacing(self, name: str) -> tuple[float, float] | None:
        """First value and step of an evenly spaced column, so that millions of times need not be sent; else None.

        Raises:
            ValueError: a truncated file.
        """
        key = (self.stamp, name)
        if key not in _spacings:
            entry = self.entries[name]
            with paths.opened(self.root, *self.parts) as file:
                _spacings[key] = _spacing(_rows(file, entry, 0, entry.shape[0], 0, 1))
            if len(_spacings) > 64:
                _spacings.pop(next(iter(_spacings)))
        return _spacings[key]


def thinned(
    values: np.ndarray,
    start: int | None = None,
    stop: int | None = None,
    points: int | None = None,
    reduce: Reduce = "minmax",
    columns: tuple[int, int] | None = None,
) -> Part:
    """`File.part` for an array that is already there.

    Example:
        >>> part = thinned(np.array([0.0, 9.0, 1.0, 2.0, -7.0, 3.0]), points=4)
        >>> part.values.tolist(), part.index.tolist()
        ([0.0, 9.0, -7.0, 3.0], [0, 0, 3, 3])
    """
    first, last = _range(start, stop, len(values))
    flat = values.reshape(len(values), -1)
    a, b = _columns(columns, flat.shape[1])
    shape = values.shape[1:] if columns is None else (b - a,)
    if points is not None and points < 1:
        raise ValueError(f"points={points}: at least one is needed")
    if reduce not in get_args(Reduce):
        raise ValueError(f"reduce={reduce!r}; there are {', '.join(get_args(Reduce))}")
    chosen = flat[:, a:b]
    if points is None or last - first <= points:
        return Part(_shaped(chosen[first:last], shape, "F64"), np.arange(first, last), False)
    edges = _edges(first, last, points, reduce)
    made = _joined([_bucketed(chosen[:last], edges, how) for how in _NEEDS[reduce]], reduce)
    index = np.repeat(edges[:-1], 2) if reduce == "minmax" else edges[:-1]
    return Part(_shaped(made, shape, "F64"), index, True)


def _header(file: BinaryIO, made: File) -> File:
    where = made.parts[-1]
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(_HEADER, size - 8):
        raise ValueError(f"{where} is no safetensors file, or a truncated one")
    try:
        head = json.loads(file.read(length))
        made.meta = dict(head.pop("__metadata__", {}))
        for name, told in head.items():
            begin, end = told["data_offsets"]
            entry = Entry(told["dtype"], tuple(int(n) for n in told["shape"]), 8 + length + int(begin))
            if entry.dtype not in _DTYPES:
                continue  # eight-bit floats and the like: nothing to draw
            expected = math.prod(entry.shape) * np.dtype(_DTYPES[entry.dtype]).itemsize
            if (
                end - begin != expected
                or begin < 0
                or min(entry.shape, default=0) < 0
                or 8 + length + end > size
            ):
                raise ValueError(f"array {name!r} does not lie within the file")
            made.entries[name] = entry
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} is no safetensors file, or a truncated one: {error}") from error
    made.stamp = _stamp(file)
    return made


def _stamp(file: BinaryIO) -> str:
    status = os.fstat(file.fileno())
    return f"{status.st_dev}.{status.st_ino}.{status.st_mtime_ns}.{status.st_size}"


def _range(start: int | None, stop: int | None, rows: int) -> tuple[int, int]:
    first, last = start or 0, rows if stop is None else min(stop, rows)
    if first < 0 or last < first:
        raise ValueError(f"rows [{first}, {last}) of {rows}: start is 0 or more and not past the end or stop")
    return first, last


def _columns(columns: tuple[int, int] | None, there: int) -> tuple[int, int]:
    a, b = (0, there) if columns is None else columns
    if not 0 <= a <= b <= there:
        raise ValueError(f"columns [{a}, {b}) of {there}")
    return a, b


def _edges(first: int, last: int, points: int, reduce: Reduce) -> np.ndarray:
    """Where the buckets begin, and the end of the last."""
    buckets = max(1, -(-points // 2) if reduce == "minmax" else points)
    return first + (np.arange(buckets + 1, dtype=np.int64) * (last - first)) // buckets


def _rows(file: BinaryIO, entry: Entry, first: int, last: int, a: int, b: int) -> Iterator[np.ndarray]:
    """Rows as `[n, b - a]`, a few megabytes at a time; never mapped, so a file cut short is an error and no crash."""
    step = max(1, _CHUNK // max(entry.row_bytes, 1))
    for row in range(first, last, step):
        rows = min(step, last - row)
        wanted, position = rows * entry.row_bytes, entry.offset + row * entry.row_bytes
        file.seek(position)
        data = file.read(wanted)
        if len(data) < wanted:
            raise ValueError("the file was cut short while it was read")
        values = np.frombuffer(data, _DTYPES[entry.dtype]).reshape(rows, entry.columns)[:, a:b]
        if entry.dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        yield values if values.dtype.kind == "f" and values.itemsize >= 4 else values.astype(np.float64)


def _streamed(
    file: BinaryIO, entry: Entry, edges: np.ndarray, a: int, b: int, hows: tuple[str, ...]
) -> list[np.ndarray]:
    """Buckets from the rows themselves, chunk by chunk: no more than one chunk and one bucket is ever held."""
    made: list[list[np.ndarray]] = [[] for _ in hows]
    held: list[np.ndarray] = []
    position, bucket = int(edges[0]), 0
    for chunk in _rows(file, entry, int(edges[0]), int(edges[-1]), a, b):
        begin, end = position - sum(map(len, held)), position + len(chunk)
        held.append(chunk)
        ready = int(np.searchsorted(edges, end, side="right")) - 1
        if ready > bucket:
            whole = np.concatenate(held) if len(held) > 1 else chunk
            for column, how in zip(made, hows):
                column.append(
                    _bucketed(whole[: edges[ready] - begin], edges[bucket : ready + 1] - begin, how)
                )
            held, bucket = [whole[edges[ready] - begin :]], ready
        position = end
    return [np.concatenate(column) for column in made]


_spacings: dict[tuple[str, str], tuple[float, float] | None] = {}


def _spacing(chunks: Iterator[np.ndarray]) -> tuple[float, float] | None:
    start = step = None
    count = 0
    for chunk in chunks:
        values = chunk[:, 0].astype(np.float64)
        if start is None:
            if len(values) < 2:
                return None
            start, step = float(values[0]), float(values[1] - values[0])
        expected = start + (step or 0.0) * np.arange(count, count + len(values))
        if not np.allclose(values, expected, rtol=1e-12, atol=1e-9 * abs(step or 0.0)):
            return None
        count += len(values)
    return None if start is None or step is None else (start, step)


def _bucketed(rows: np.ndarray, edges: np.ndarray, how: str) -> np.ndarray:
    """Buckets of rows: `min`, `max`, `sum` and `count`, NaN left out; NaN where a bucket holds nothing else."""
    starts = edges[:-1]
    if how == "min":
        return np.fmin.reduceat(rows, starts, axis=0)
    if how == "max":
        return np.fmax.reduceat(rows, starts, axis=0)
    known = ~np.isnan(rows)
    if how == "count":
        return np.add.reduceat(known, starts, axis=0, dtype=np.float64)
    return np.add.reduceat(np.where(known, rows, 0), starts, axis=0, dtype=np.float64)


_NEEDS = {"minmax": ("min", "max"), "mean": ("sum", "count"), "max": ("max",)}


def _joined(parts: list[np.ndarray], reduce: Reduce) -> np.ndarray:
    """What is sent, from what `_NEEDS` names."""
    if reduce == "max":
        return parts[0]
    if reduce == "mean":
        with np.errstate(invalid="ignore"):
            return parts[0] / np.where(parts[1] > 0, parts[1], np.nan)
    return np.stack(parts, 1).reshape(-1, parts[0].shape[-1])


_cache: OrderedDict[tuple[str, str], dict[str, np.ndarray]] = OrderedDict()
_lock = threading.Lock()
_busy: dict[tuple[str, str], threading.Lock] = {}


def _levels(file: BinaryIO, owner: File, name: str, entry: Entry) -> dict[str, np.ndarray]:
    """Minimum, maximum, sum and count of every `BLOCK` rows of an array, computed once per file."""
    key = (owner.stamp, name)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        gate = _busy.setdefault(key, threading.Lock())
    with gate:
        with _lock:
            if key in _cache:
                return _cache[key]
        rows = entry.shape[0]
        edges = np.append(np.arange(0, rows, BLOCK), rows)
        hows: tuple[str, ...] = ("min", "max", "sum", "count")
        made: dict[str, np.ndarray] = dict(zip(hows, _streamed(file, entry, edges, 0, entry.columns, hows)))
        with _lock:
            _cache[key] = made
            _busy.pop(key, None)
            while (
                len(_cache) > 1
                and sum(level.nbytes for kept in _cache.values() for level in kept.values()) > _KEPT
            ):
                _cache.popitem(last=False)
        return made


def _shaped(values: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """As sent: little-endian float32; float64 for 64-bit numbers in one column, which are clocks as often as not."""
    wide = dtype in ("F64", "I64", "U64") and math.prod(shape) == 1
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, "<f8" if wide else "<f4").reshape(len(values), *shape)


def described(entry: Entry) -> dict[str, Any]:
    """Shape and dtype, as an exhibit tells them."""
    return {"shape": list(entry.shape), "dtype": entry.dtype.lower()}
