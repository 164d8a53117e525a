"""Is the process that writes a run still there? A killed process cannot say so itself."""

import os
import socket
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

BEAT = 10.0
"""Seconds between heartbeats of a running run."""

STALE = 300.0
"""Seconds without a heartbeat after which a run on another machine counts as lost."""


def owner() -> dict[str, Any]:
    """This process, well enough described that nobody mistakes another for it.

    A pid alone is reused, by later processes, after a reboot and in every container; so the process's start time,
    the boot id and the pid namespace go with it.

    Example:
        >>> sorted(owner())
        ['boot', 'host', 'pid', 'pid_started']
    """
    pid = os.getpid()
    return {"pid": pid, "pid_started": _started(pid), "host": socket.gethostname(), "boot": _boot()}


def alive(record: Mapping[str, Any], *, now: float | None = None) -> bool:
    """Whether the owner written in a status is still running.

    On the same boot of the same machine the process table decides; elsewhere a heartbeat younger than `STALE`.

    Args:
        record: what `owner` gave, plus `"time"`, the last heartbeat in Unix seconds.
        now: Unix seconds, by default the clock's.

    Example:
        >>> alive(owner())
        True
        >>> alive({**owner(), "pid_started": -1})
        False
        >>> alive({"pid": 1, "host": "elsewhere", "boot": "", "time": 0.0}, now=STALE + 1)
        False
    """
    here = record.get("host") == socket.gethostname() and record.get("boot") == _boot()
    if here and os.name == "posix":
        pid, started = record.get("pid"), record.get("pid_started")
        if not isinstance(pid, int) or not _exists(pid):
            return False
        return started is None or _started(pid) == started
    beat = record.get("time")
    return isinstance(beat, int | float) and (time.time() if now is None else now) - beat < STALE


@cache
def _boot() -> str:
    """Boot id and pid namespace; empty where the system has neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When the process started, in the kernel's ticks since boot; None where /proc does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] == "Z" else int(fields[19])  # a zombie has ended
    except (OSError, IndexError, ValueError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
