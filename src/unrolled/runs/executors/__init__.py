"""Executors run queued run folders: `local` in processes on this machine, `ray` on a Ray cluster.

Both start the same command for a folder, `unrolled resume <folder>`, so a cell does exactly what it would do alone.
"""

from typing import Protocol

from unrolled.runs.config import nearest


class Executor(Protocol):
    """Runs every folder, and says when each starts and how it ended; a failure is a reason, not an exception."""

    def __call__(self, paths, *, workers, started, ended) -> None:
        """Return when all have ended."""
        ...


NAMES = ("local", "ray")


def get(name: str) -> Executor:
    """The executor of that name.

    Raises:
        ValueError: there is none; the nearest is suggested.

    Example:
        >>> get("locl")
        Traceback (most recent call last):
        ValueError: no executor 'locl'; did you mean 'local'? There are local, ray
    """
    if name == "local":
        from unrolled.runs.executors.local import run
    elif name == "ray":
        from unrolled.runs.executors.ray import run
    else:
        raise ValueError(f"no executor {name!r}{nearest(name, NAMES)} There are {', '.join(NAMES)}")
    return run
