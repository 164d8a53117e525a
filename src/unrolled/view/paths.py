"""Files below a root and nowhere else: every name is checked, and no symbolic link is followed on the way."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_NAME = re.compile(r"[\w][\w.@=+,() -]*", re.UNICODE)
_LONGEST = 200
# Elsewhere (Windows) the same checks are made by path, without the guarantee against an exchange in between.
_GUARANTEED = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


class Refused(PermissionError):
    """A path that leads, or may lead, out of the root."""


def name(text: str) -> str:
    """One step of a path, or an error.

    Raises:
        Refused: it could mean another folder: separators, a leading dot, control characters, an empty name.

    Example:
        >>> name("20261124-003741-89234dc3")
        '20261124-003741-89234dc3'
        >>> name("..")
        Traceback (most recent call last):
        unrolled.view.paths.Refused: '..' is no name of a file or folder of a run
    """
    if len(text) > _LONGEST or not _NAME.fullmatch(text):
        raise Refused(f"{text[:60]!r} is no name of a file or folder of a run")
    return text


@contextlib.contextmanager
def opened(root: Path, *parts: str) -> Iterator[BinaryIO]:
    """Open a regular file below a root for reading.

    Each folder on the way is opened from the one before, so that nothing can be exchanged for a link in between.

    Args:
        root: a folder; it may itself be a link, because whoever started the server named it.
        parts: names below it.

    Raises:
        Refused: a part is no plain name, a link, or the file is a pipe, a device or a folder.
        FileNotFoundError: there is no such file.
        PermissionError: the system does not let this process read it.
    """
    if not parts:
        raise Refused("a file has a name")
    with _folder(root, parts[:-1]) as parent:
        descriptor = _open(parent, name(parts[-1]), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Refused(f"{parts[-1]!r} is no regular file")
        with open(descriptor, "rb") as file:
            yield file


def read(root: Path, *parts: str, limit: int = 64 * 2**20) -> bytes:
    """The whole of a small file.

    Raises:
        ValueError: it is larger than `limit` bytes.
        Refused, FileNotFoundError, PermissionError: see `opened`.
    """
    with opened(root, *parts) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{parts[-1]} has {size:,} bytes; the view reads such files up to {limit:,}")
        return file.read()


def files(root: Path, *parts: str, suffix: str = "") -> dict[str, str]:
    """The regular files of a folder, links and hidden ones left out: name -> a stamp that changes with the file.

    A folder that is not there has none.

    Raises:
        Refused: a part is no plain name, or a link.
        PermissionError: the system does not let this process read it.
    """
    try:
        with _folder(root, parts) as folder:
            found: dict[str, str] = {}
            for entry in sorted(os.listdir(folder)):
                if not entry.endswith(suffix) or not _NAME.fullmatch(entry) or len(entry) > _LONGEST:
                    continue
                with contextlib.suppress(OSError):
                    status = _stat(folder, entry)
                    if stat.S_ISREG(status.st_mode):
                        found[entry] = f"{status.st_mtime_ns}.{status.st_size}.{status.st_ino}"
            return found
    except FileNotFoundError:
        return {}


def is_linked(root: Path, *parts: str) -> bool:
    """Whether a step below the root is a symbolic link."""
    path = root
    for part in parts:
        path = path / part
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return True
    return False


@contextlib.contextmanager
def _folder(root: Path, parts: tuple[str, ...]) -> Iterator[Any]:
    """A folder to open entries of: a descriptor, or a path where the system cannot open from descriptors."""
    if not _GUARANTEED:
        if is_linked(root, *map(name, parts)):
            raise Refused(f"{'/'.join(parts)!r} goes through a link; the view follows none")
        yield root.joinpath(*parts)
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            inner = _open(descriptor, name(part), os.O_RDONLY | os.O_DIRECTORY)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open(folder: Any, entry: str, flags: int) -> int:
    if not _GUARANTEED:
        if (folder / entry).is_symlink():
            raise Refused(f"{entry!r} is a link; the view follows none")
        return os.open(folder / entry, flags | getattr(os, "O_BINARY", 0))
    try:
        return os.open(entry, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        # A link gives ELOOP, or ENOTDIR where a folder was wanted.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(_stat(folder, entry).st_mode):
                raise Refused(f"{entry!r} is a link; the view follows none") from error
        if isinstance(error, NotADirectoryError):
            raise FileNotFoundError(error.errno, f"{entry!r} is no folder") from error
        raise


def _stat(folder: Any, entry: str) -> os.stat_result:
    if not _GUARANTEED:
        return os.lstat(folder / entry)
    return os.stat(entry, dir_fd=folder, follow_symlinks=False)
