"""Time of one `optim.Muon` step against `torch.optim.Muon` with `torch.optim.AdamW` for the rest, same model and process.

Run with `python -m benchmarks muon_step`; one thread, medians over rounds that alternate between the optimizers.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unrolled import optim
from unrolled.training import gpt

ROUNDS = 9
SHAPES = {
    "2 layers, width 64": gpt.tiny(),
    "4 layers, width 128": gpt.small(),
    "4 layers, width 256": gpt.GPTConfig(layers=4, heads=4, width=256),
}


def measure(config: gpt.GPTConfig) -> dict[str, float]:
    """Median milliseconds of a step, by optimizer."""
    model = gpt.GPT(config)
    for i, p in enumerate(model.parameters()):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    theirs = [torch.optim.Muon(hidden, lr=1e-4), torch.optim.AdamW(rest, lr=1e-4)]
    steps: dict[str, Callable[[], Any]] = {
        "torch.optim.Muon + AdamW": lambda: [one.step() for one in theirs],
        "optim.Muon, bfloat16": optim.Muon(model, lr=1e-4, polar_dtype=torch.bfloat16).step,
        "optim.Muon": optim.Muon(model, lr=1e-4).step,
        "optim.Muon, svd": optim.Muon(model, lr=1e-4, polar="svd").step,
        "torch.optim.AdamW": torch.optim.AdamW(model.parameters(), lr=1e-4).step,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main(argv: Sequence[str]) -> int:
    """Measure, print ratios, and write a dated record."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {name: measure(config) for name, config in SHAPES.items()}
    finally:
        torch.set_num_threads(threads)
    for shape, times in found.items():
        base = times["torch.optim.Muon + AdamW"]
        print(shape)
        for name, milliseconds in times.items():
            print(f"  {name:26} {milliseconds:8.2f} ms  {milliseconds / base:5.2f} x")
    day = datetime.now(UTC).date().isoformat()
    record = Path(__file__).parent / "records" / f"{day}-muon-step.json"
    record.parent.mkdir(exist_ok=True)
    about = {
        "date": day,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "rounds": ROUNDS,
    }
    record.write_text(json.dumps({**about, "milliseconds": found}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {record}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
