"""Atomic writes: a reader, or a crash, sees the old file or the new one and nothing between."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from unrolled.runs.plain import dumps

_FULL = {errno.ENOSPC, errno.EDQUOT}
_serial = count()


class DiskFull(OSError):
    """No space left while a run was being written; what was there before is whole."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" within the block into a `DiskFull` that says what to do.

    Raises:
        DiskFull: the disk, or the quota, is full.
    """
    try:
        yield
    except Exception as error:
        # safetensors reports the system's error as text only.
        told = "No space left" in str(error) or "os error 28" in str(error)
        if isinstance(error, DiskFull) or not (told or getattr(error, "errno", None) in _FULL):
            raise
        raise DiskFull(
            errno.ENOSPC,
            f"the disk is full: {path.name} could not be written. Earlier files in {path.parent} are whole; "
            "free some space and resume the run",
            str(path),
        ) from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a scratch path beside `path`; when the block ends well, it takes the place of `path`.

    The scratch file is flushed to disk first; when the block fails it is removed and `path` stays as it was.

    Args:
        path: the file to write.

    Raises:
        DiskFull: no space left.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "note.txt")
        >>> with replacing(path) as scratch:
        ...     _ = scratch.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    target = Path(path)
    scratch = target.with_name(f".{target.name}.{os.getpid()}-{next(_serial)}.part")
    try:
        with full_disk(target):
            yield scratch
            _sync(scratch)
            os.replace(scratch, target)
            _sync(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically.

    Raises:
        DiskFull: no space left; the old file is whole.
    """
    with replacing(path) as scratch:
        scratch.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file, in UTF-8, atomically.

    Raises:
        DiskFull: no space left; the old file is whole.
    """
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON atomically; see `plain.plain` for what it may hold.

    Raises:
        DiskFull: no space left; the old file is whole.
        TypeError: JSON cannot hold the value.
    """
    write_text(path, dumps(value, indent=2, where=Path(path).stem) + "\n")


def _sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # some systems cannot open folders
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
