"""The folder of a run before and between its processes: made, queued, locked, and judged by its status."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unrolled.runs import atomic, config, environment, plain
from unrolled.runs.liveness import alive, owner

STATES = ("queued", "running", "finished", "failed", "interrupted", "lost")
"""*lost* is never written: it is a run whose status says queued or running, but whose process is gone."""


class RunError(RuntimeError):
    """A run that cannot be used as asked; the message says why and what to do."""


def make(study: str, values: dict[str, Any], root: Path, source: str | None, *, state: str) -> Path:
    """Make a new run folder `<root>/<study>/<date>-<hash>`; no two are alike, whoever makes them.

    Args:
        study: the study's name.
        values: its configuration as a plain dict.
        root: the folder that holds all runs.
        source: the study's file, when it does not ship with the package.
        state: `"running"`, or `"queued"` for one that `Run.resume` will start.

    Raises:
        RunError: the study's name is no name, or the folder cannot be made.
    """
    if not study or "/" in study or study.startswith("."):
        raise RunError(f"a study's name is one word such as 'curvature-text', got {study!r}")
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    identity = config.identity(study, values)
    study_folder = root.absolute() / study
    while True:
        text = json.dumps([identity, time.time_ns(), os.getpid(), os.urandom(8).hex()])
        path = study_folder / f"{stamp}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        try:
            with atomic.full_disk(path):
                path.mkdir(parents=True)
                (path / "checkpoints").mkdir()
                (path / "figures").mkdir()
            break
        except atomic.DiskFull:
            raise
        except OSError as error:
            if isinstance(error, FileExistsError) and study_folder.is_dir():
                continue
            raise RunError(
                f"no folder for runs at {study_folder}: {error.strerror}; give another root"
            ) from error
    described = {"study": study, "source": source, "hash": identity}
    if state == "running":
        described |= environment.snapshot()
    atomic.write_json(path / "environment.json", described)
    status = {"state": state, **owner(), "created": round(now, 3), "starts": 0, "time": round(now, 3)}
    atomic.write_json(path / "status.json", status)
    # Last: a folder is a run as soon as it has a config.
    atomic.write_json(path / "config.json", values)
    return path


def requeue(path: Path) -> None:
    """Put an unfinished run that nobody runs back into this process's queue; `Run.resume` starts it."""
    status = read(path / "status.json")
    left = {
        key: status[key] for key in ("phase", "step", "steps", "created", "starts", "spent") if key in status
    }
    atomic.write_json(
        path / "status.json", {"state": "queued", **owner(), **left, "time": round(time.time(), 3)}
    )


def give_up(path: Path, reason: str) -> None:
    """Mark a queued run as failed: what was to run it ended before the run could start."""
    atomic.write_json(
        path / "status.json", {**read(path / "status.json"), "state": "failed", "error": reason}
    )


def read(path: Path) -> dict[str, Any]:
    """A JSON file that may be missing or damaged, which counts as empty."""
    try:
        value = plain.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def judge(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status as read, with its state as it is now: *lost* when its process is gone, or when it cannot be read.

    Example:
        >>> judge({"state": "running", "pid": 1, "host": "elsewhere", "time": 0.0})["state"]
        'lost'
    """
    state = status.get("state")
    if state not in STATES or (state in ("queued", "running") and not alive(status)):
        state = "lost"
    return {**status, "state": state}


class Lock:
    """One process writes a run at a time. The system lets the lock go when that process ends, however it ends.

    Args:
        path: the run folder.

    Raises:
        RunError: another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        try:
            import fcntl
        except ImportError:  # not on Windows: the status has to do
            fcntl = None
        if fcntl is not None:
            handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._handle = handle
            except BlockingIOError as error:
                os.close(handle)
                raise self._busy() from error
            except OSError:  # a file system without locks
                os.close(handle)
        status = read(path / "status.json")
        if status.get("state") == "running" and status.get("pid") != os.getpid() and alive(status):
            self.release()
            raise self._busy()

    def release(self) -> None:
        """Let others have the run."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _busy(self) -> RunError:
        status = read(self._path / "status.json")
        return RunError(
            f"{self._path} is being written by process {status.get('pid')} on {status.get('host')}; "
            "end that process first, or wait for it"
        )
