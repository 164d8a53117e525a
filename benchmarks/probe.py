"""What a curvature probe costs a training run: time at its defaults and with a split, idle time, peak memory.

Run with `python -m benchmarks probe`. A plain step of one model and a probed step of its twin alternate in one process; the
overhead of a run that probes every k-th step is (probed - plain) / (k * plain). An idle probe's is that of every step.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import unrolled as un
from benchmarks import _record
from unrolled.training import gpt

ROUNDS = 5
EVERY = 500  # the probe's default


KINDS: dict[str, dict[str, Any]] = {
    "idle": {"every": 10**9},
    "total (the default)": {},
    "total, double backward": {"method": "double_backward"},
    "split by signs, 4 draws": {"split": "signs"},
    "exact split, 5 groups": {"split": "exact"},
}


def trainer() -> tuple[Any, Any, Any, Callable[[], None]]:
    """A model of its own, its optimizer, a batch, and one training step."""
    model = gpt.GPT(gpt.GPTConfig(layers=4, heads=4, width=256, context=256))
    tokens = torch.randint(0, 256, (8, 257), generator=torch.Generator().manual_seed(0))
    batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train() -> None:
        optimizer.zero_grad()
        summed, count = gpt.loss(model, batch)
        (summed / count).backward()
        optimizer.step()

    return model, optimizer, batch, train


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """One kind of probe beside a twin that trains without: time and memory of a probed step, in plain steps."""
    *_, plain = trainer()
    model, optimizer, batch, train = trainer()
    probe = un.curvature.Probe(model, optimizer, gpt.loss, **{"every": 1, **options})

    def probed() -> None:
        with probe.step(batch):
            train()

    times: list[tuple[float, float]] = []
    for i in range(ROUNDS + 1):
        pair: list[float] = []
        for step in (plain, probed):
            start = time.perf_counter()
            step()
            pair.append(time.perf_counter() - start)
        if i:  # the first round warms up
            times.append((pair[0], pair[1]))
    ratio = statistics.median(b / a for a, b in times)
    base, high = _record.peak_bytes(plain)
    own_base, own_high = _record.peak_bytes(probed)
    return {
        "plain_ms": 1e3 * statistics.median(a for a, _ in times),
        "probed_ms": 1e3 * statistics.median(b for _, b in times),
        "ratio": ratio,
        "ratios": [b / a for a, b in times],
        "overhead_percent_at_default": 100 * (ratio - 1) / (EVERY if "every" not in options else 1),
        "extra_peak_in_gradient_steps": ((own_high - own_base) - (high - base)) / (high - base),
        "method": probe.records[-1].method if probe.records else "none",
    }


def main(argv: Sequence[str]) -> int:
    """Measure, print, write a dated record."""
    rows: dict[str, dict[str, Any]] = {}
    for name, options in KINDS.items():
        row = rows[name] = measure(options)
        print(
            f"{name:26s} {row['probed_ms']:7.0f} ms, a plain step {row['plain_ms']:5.0f} ms: {row['ratio']:.2f} steps, "
            f"overhead {row['overhead_percent_at_default']:.2f} %, extra peak {row['extra_peak_in_gradient_steps']:.2f} "
            f"gradient steps ({row['method']})",
            flush=True,
        )
    _record.write("probe", {"model": "GPT, 4 layers, width 256, batch 8 x 256", "every": EVERY, "rows": rows})
    return 0


if __name__ == "__main__":
    main([])
