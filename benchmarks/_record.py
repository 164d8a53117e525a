"""What every benchmark needs: the machine in words, peak memory, a dated record."""

import ctypes
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unrolled.runs import environment

RECORDS = Path(__file__).parent / "records"


def write(name: str, found: dict[str, Any]) -> Path:
    """Write `records/<date>-<name>.json` with the machine, and say where."""
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": environment.hardware(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **found,
    }
    path = RECORDS / f"{record['date']}-{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path


def peak_bytes(fn: Callable[[], Any]) -> tuple[int, int]:
    """Resident bytes before a call, and the peak during it (Linux; the kernel's own accounting)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    fn()
    return before, _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
