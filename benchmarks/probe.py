"""What a curvature probe costs a training run: time at its defaults and with a split, idle time, peak memory.

Run with `python -m benchmarks probe`. A plain step and a probed step alternate in one process; the overhead of a run that
probes every k-th step is (probed - plain) / (k * plain). The same ratio is then measured on a whole run.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import unrolled as un
from benchmarks import _record
from unrolled.training import gpt

ROUNDS = 7
EVERY = 500  # the probe's default


def main(argv: Sequence[str]) -> int:
    """Measure, print, write a dated record."""
    config = gpt.GPTConfig(layers=4, heads=4, width=256, context=256)
    model = gpt.GPT(config)
    tokens = torch.randint(0, 256, (8, 257), generator=torch.Generator().manual_seed(0))
    batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train() -> None:
        optimizer.zero_grad()
        summed, count = gpt.loss(model, batch)
        (summed / count).backward()
        optimizer.step()

    def under(probe: Any) -> Callable[[], None]:
        def step() -> None:
            with probe.step(batch):
                train()

        return step

    probes = {
        "total (the default)": un.curvature.Probe(model, optimizer, gpt.loss, every=1),
        "total, double backward": un.curvature.Probe(
            model, optimizer, gpt.loss, every=1, method="double_backward"
        ),
        "split by signs, 4 draws": un.curvature.Probe(model, optimizer, gpt.loss, every=1, split="signs"),
        "exact split, 6 groups": un.curvature.Probe(model, optimizer, gpt.loss, every=1, split="exact"),
    }
    idle = un.curvature.Probe(model, optimizer, gpt.loss, every=10**9)
    idle.steps = 1
    steps: dict[str, Callable[[], None]] = {
        "plain": train, "idle probe": under(idle), **{name: under(probe) for name, probe in probes.items()},
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i:
                times[name].append(time.perf_counter() - start)
    plain = statistics.median(times["plain"])
    rows: dict[str, Any] = {}
    for name, values in times.items():
        ratio = statistics.median(value / base for value, base in zip(values, times["plain"]))
        rows[name] = {"ms": 1e3 * statistics.median(values), "steps": ratio}
        if name in probes:
            rows[name]["overhead_percent"] = 100 * (ratio - 1) / EVERY
            rows[name]["method"] = probes[name].records[-1].method

    train()
    before, peak = _record.peak_bytes(train)
    step_bytes = peak - before
    memory = {"gradient step": step_bytes}
    for name in probes:
        base, high = _record.peak_bytes(steps[name])
        memory[name] = (high - base) - step_bytes
        rows[name]["extra_peak_in_gradient_steps"] = memory[name] / step_bytes
    print(f"plain step {1e3 * plain:.0f} ms, its peak {step_bytes / 2**20:.0f} MiB")
    for name, row in rows.items():
        extra = "".join(
            f", {k} {v:.3g}" if isinstance(v, float) else f", {v}"
            for k, v in row.items()
            if k not in ("ms", "steps")
        )
        print(f"{name:26s} {row['ms']:8.1f} ms = {row['steps']:.3f} steps{extra}")
    _record.write(
        "probe",
        {
            "model": "GPT 4 layers, width 256, batch 8 x 256",
            "every": EVERY,
            "rows": rows,
            "memory_bytes": memory,
        },
    )
    return 0


if __name__ == "__main__":
    main([])
