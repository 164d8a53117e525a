"""Cells on a Ray cluster: the one at `RAY_ADDRESS`, or a local one made for the occasion.

The run folders must lie where every machine of the cluster sees them, and `unrolled` must be installed there.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unrolled.runs.executors import process


def run(
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    started: Callable[[Path], None],
    ended: Callable[[Path, str], None],
) -> None:
    """Run folders as Ray tasks; see `unrolled.runs.executors.local.run` for the arguments.

    On a cluster that is there, `workers` bounds how many run at once; by default Ray decides.

    Raises:
        ImportError: ray is not installed.
    """
    # Usage statistics would be sent over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from unrolled.core import require

    ray: Any = require("ray", extra="ray")
    at_once, threads = process.split(workers, len(paths))
    mine = not ray.is_initialized()
    if mine and os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        at_once = workers or len(paths)
    elif mine:
        ray.init(num_cpus=at_once * threads, include_dashboard=False, log_to_driver=False)

    task = ray.remote(num_cpus=threads, max_retries=0)(_cell)
    waiting = list(paths)
    running: dict[Any, Path] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                path = waiting.pop(0)
                running[task.remote(str(path), threads)] = path
                started(path)
            done, _ = ray.wait(list(running), timeout=1.0)
            for reference in done:
                path = running.pop(reference)
                try:
                    reason = ray.get(reference)
                except ray.exceptions.RayError as error:
                    reason = f"Ray lost it: {str(error).strip().splitlines()[0]}"
                ended(path, reason)
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=True)
        raise
    finally:
        if mine:
            ray.shutdown()


def _cell(path: str, threads: int) -> str:
    """The task: the same process as the local executor's, on whichever machine Ray chose."""
    child = process.start(Path(path), threads)
    return process.reason(Path(path), child.wait())
