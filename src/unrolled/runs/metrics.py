"""metrics.jsonl: one row a line, appended and flushed; a torn last line is dropped; parquet once the run has ended."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unrolled.runs import atomic, plain

Row = dict[str, Any]

CLOCK = "time"
"""The one field that two equal runs do not share: Unix seconds when the row was logged."""


class Metrics:
    """The metrics of one run: read by anyone, appended to by the one process that writes the run.

    Args:
        folder: the run folder.

    Example:
        >>> import tempfile
        >>> metrics = Metrics(Path(tempfile.mkdtemp()))
        >>> metrics.append({"step": 0, "loss": float("nan")})
        >>> metrics.rows()
        [{'step': 0, 'loss': nan}]
    """

    def __init__(self, folder: Path) -> None:
        self.jsonl = folder / "metrics.jsonl"
        self.parquet = folder / "metrics.parquet"
        self._file: int | None = None

    def rows(self) -> list[Row]:
        """Every whole row, in the order logged.

        Raises:
            ValueError: a line in the middle is damaged; the message names it.
            ImportError: the run was compacted and pyarrow is not installed.
        """
        if not self.jsonl.exists() and self.parquet.exists():
            return _from_parquet(self.parquet)
        return [row for row, _ in self._lines()]

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; after it returns, the row survives the death of this process.

        Raises:
            DiskFull: no space left; earlier rows are whole.
        """
        data = (plain.dumps(row, where="a logged row") + "\n").encode()
        if self._file is None:
            self.repair()
            self._file = os.open(self.jsonl, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        try:
            with atomic.full_disk(self.jsonl):
                written = 0
                while written < len(data):
                    written += os.write(self._file, data[written:])
        except BaseException:  # Ctrl-C in the middle of a line as well
            os.ftruncate(self._file, size)
            raise

    def sync(self) -> None:
        """Flush to disk: rows logged before a checkpoint must not be younger than it after a power cut."""
        if self._file is not None:
            with atomic.full_disk(self.jsonl):
                os.fsync(self._file)

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def repair(self) -> None:
        """Cut a torn last line off, and turn compacted metrics back into lines, so that rows can be appended."""
        if self.jsonl.exists():
            end = max((end for _, end in self._lines()), default=0)
            if end < self.jsonl.stat().st_size:
                os.truncate(self.jsonl, end)
            self.parquet.unlink(missing_ok=True)
        elif self.parquet.exists():
            rows = _from_parquet(self.parquet)
            atomic.write_text(self.jsonl, "".join(plain.dumps(row) + "\n" for row in rows))
            self.parquet.unlink()

    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows())

    def cut(self, rows: int) -> None:
        """Keep the first `rows` rows.

        Raises:
            ValueError: there are fewer, so what was kept elsewhere does not belong to this run.
        """
        self.repair()
        self.close()
        ends = [0, *(end for _, end in self._lines())] if self.jsonl.exists() else [0]
        if rows >= len(ends):
            raise ValueError(f"{self.jsonl} has {len(ends) - 1} rows, {rows} were expected")
        if rows < len(ends) - 1:
            os.truncate(self.jsonl, ends[rows])

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Keep the rows that are wanted, atomically."""
        self.repair()
        self.close()
        rows = self.rows()
        kept = [row for row in rows if wanted(row)]
        if len(kept) < len(rows):
            atomic.write_text(self.jsonl, "".join(plain.dumps(row) + "\n" for row in kept))

    def compact(self) -> bool:
        """Turn the lines into metrics.parquet, if pyarrow is there and gives every row back as it was.

        Returns:
            Whether it did; otherwise the lines stay.
        """
        self.close()
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            return False
        try:
            rows = self.rows() if self.jsonl.exists() else []
            if not rows:
                return False
            names = list(dict.fromkeys(name for row in rows for name in row))
            table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
            with atomic.replacing(self.parquet) as scratch:
                pq.write_table(table, scratch, compression="zstd")
                if [_exact(row) for row in _from_parquet(scratch)] != [_exact(row) for row in rows]:
                    raise ValueError("a column mixes kinds that parquet cannot keep apart")
        except Exception:  # whatever it is, the lines say it all: a finished run does not fail of it
            return False
        self.jsonl.unlink()
        return True

    def _lines(self) -> Iterator[tuple[Row, int]]:
        """Each whole row and the offset where its line ends."""
        if not self.jsonl.exists():
            return
        end = 0
        with open(self.jsonl, "rb") as file:
            for number, line in enumerate(file, 1):
                row = None
                if line.endswith(b"\n"):
                    with contextlib.suppress(ValueError):
                        row = plain.loads(line.decode())
                if not isinstance(row, dict):
                    if file.read(1):
                        raise ValueError(
                            f"{self.jsonl}, line {number} is damaged: {line[:60]!r}. "
                            "Remove the line to read the rest"
                        )
                    return
                end += len(line)
                yield row, end


def _from_parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"{path} is read with pyarrow ({error}); install it with: pip install 'unrolled[report]'"
        ) from error
    # A field that a row lacks comes back as None.
    return [{k: v for k, v in row.items() if v is not None} for row in pq.read_table(path).to_pylist()]


def _exact(row: Row) -> str:
    """A row as text: NaN equals NaN, 1 differs from 1.0, and the order of fields does not count."""
    return json.dumps(row, sort_keys=True)
