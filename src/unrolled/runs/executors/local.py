"""Cells as processes on this machine."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from unrolled.runs.executors import process


def run(
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    started: Callable[[Path], None],
    ended: Callable[[Path, str], None],
) -> None:
    """Run folders in processes, the cores divided among them.

    Args:
        paths: run folders.
        workers: how many at once; by default one per core.
        started: called with a folder when its process starts.
        ended: called with a folder, and the reason if it did not end well.
    """
    at_once, threads = process.split(workers, len(paths))
    waiting = list(paths)
    running: dict[Path, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                path = waiting.pop(0)
                running[path] = process.start(path, threads)
                started(path)
            for path, child in list(running.items()):
                code = child.poll()
                if code is not None:
                    del running[path]
                    ended(path, process.reason(path, code))
            time.sleep(0.05)
    except BaseException:
        process.stop(list(running.values()))
        raise
