"""Where a run ran: enough to repeat it, or to understand why a repetition differs."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any


def snapshot() -> dict[str, Any]:
    """Python, torch, platform, processor, threads, GPUs, git commit of the working directory, and the command line.

    Example:
        >>> snapshot()["python"] == platform.python_version()
        True
    """
    return {
        "unrolled": _version("unrolled"),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "platform": platform.platform(),
        "cpu": cpu(),
        "cores": cores(),
        "threads": threads(),
        "gpus": gpus(),
        "git": git(Path.cwd()),
        "command": list(sys.orig_argv),
        "folder": str(Path.cwd()),
    }


def hardware() -> str:
    """One line for a claims table, e.g. `"AMD EPYC 7B13, 2 cores"`; GPUs are named first where there are some.

    Example:
        >>> "core" in hardware()
        True
    """
    many = cores()
    parts = [f"{cpu()}, {many} core{'s' if many != 1 else ''}"]
    found = gpus()
    for name in dict.fromkeys(found):
        number = found.count(name)
        parts.insert(0, name if number == 1 else f"{number} x {name}")
    return "; ".join(parts)


@cache
def cpu() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Threads that torch uses, or would use once imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else cores()


def gpus() -> list[str]:
    """Names of the CUDA devices; empty when torch is not imported, because asking would import it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]


def git(folder: Path) -> dict[str, Any] | None:
    """Commit of a folder and whether its tracked files were changed; None outside a repository."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return None
    changes = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
