"""One cell in a process of its own: the command, its threads, its output, and its end when the sweep dies."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from unrolled.runs.environment import cores

PARENT = "UNROLLED_PARENT"
"""Environment variable with the pid of the process that a cell must not outlive."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def split(workers: int | None, cells: int) -> tuple[int, int]:
    """How many cells at once, and how many threads each.

    Raises:
        ValueError: fewer than one worker.

    Example:
        >>> split(1, 5)[0], split(None, 1)[0]
        (1, 1)
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is at least 1, got {workers}")
    at_once = max(1, min(workers or cores(), cells))
    return at_once, max(1, cores() // at_once)


def start(path: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start `unrolled resume <path>` with pinned threads; what it prints goes to output.log in the folder."""
    pinned = dict.fromkeys(_THREADS, str(threads))
    with open(path / "output.log", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "unrolled", "resume", str(path), "--no-report"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **pinned, PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which then ends its cells in order
        )


def stop(processes: list[subprocess.Popen[bytes]], patience: float = 20.0) -> None:
    """Interrupt cells, so that they write down where they were; kill those that do not end."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def reason(path: Path, code: int) -> str:
    """Why a cell ended, for one that could not say so itself."""
    if code == 0:
        return ""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"ended by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
    try:
        lines = (path / "output.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return " ".join(line.strip() for line in lines[-4:]) or f"ended with exit code {code}"


def watch_parent() -> None:
    """End this process, in order, when the process named in `UNROLLED_PARENT` is no longer its parent."""
    parent = os.environ.pop(PARENT, "")
    if not parent.isdigit():
        return

    def watch() -> None:
        waiting = threading.Event()
        while os.getppid() == int(parent):
            waiting.wait(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
