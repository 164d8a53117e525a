"""What an update of a rate-coded network costs in units of one backprop step, at what alignment with the gradient.

Run with `python -m benchmarks cortex_rate` (`--quick`: the smaller network alone). Beside the accelerated phases stands the naive twin at the
schedule of published equilibrium propagation (250 free and 60 nudged steps), on the same network and in the same rounds. Ratios are medians
over interleaved rounds, so that a busy machine meets all alike.
"""

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks import _record
from unrolled.cortex.rate import Conv, Net, align, backprop, changes, midpoint, naive, of_backprop, operations

EP = 29.0
"""Time of an epoch of holomorphic EP over backprop's in its published logs (cortex fact sheet, section 8.1)."""
WAYS: dict[str, dict[str, Any]] = {
    "2 sweeps, 1 nudged (default)": {},
    "1 sweep, one way down": {"sweeps": 1, "nudged": 0},
    "midpoint, 1 sweep, one way down": {"rule": midpoint, "sweeps": 1, "nudged": 0},
    "6 sweeps, 4 nudged": {"sweeps": 6, "nudged": 4},
}
NETS = {
    "Fashion-MNIST, 2 convolutions": ((1, 28, 28), [Conv(16, 5, pool=2), Conv(32, 3, pool=2), 128, 10]),
    "dense, 4 hidden layers": (784, [256, 256, 256, 256, 10]),
}


def measure(name: str, batch: int, rounds: int, slow: bool) -> dict[str, Any]:
    """Ratios to backprop, operations and alignment of every way on one network."""
    shape, layers = NETS[name]
    net = Net(shape, layers, rng=0)
    rng = torch.Generator().manual_seed(0)
    x, labels = torch.rand(batch, *net.shape, generator=rng), torch.randint(10, (batch,), generator=rng)
    ways = {way: lambda o=options: changes(net, x, labels, **o) for way, options in WAYS.items()}
    jobs = {"backprop": lambda: backprop(net, x, labels), **ways}
    times: dict[str, list[float]] = {job: [] for job in jobs}
    for k in range(rounds + 1):
        for job, fn in jobs.items():
            began = perf_counter()
            fn()
            if k:
                times[job].append(perf_counter() - began)
    found: dict[str, Any] = {}
    for way, options in WAYS.items():
        ratio = median(a / b for a, b in zip(times[way], times["backprop"]))
        reading = align(net, (x[:16], labels[:16]), **options)
        counted = operations(
            net, sweeps=options.get("sweeps", 2), nudged=options.get("nudged", 1),
            sides=1 if options.get("rule") is midpoint else 2, products=1 if options.get("rule") is midpoint else 2,
        )  # fmt: skip
        found[way] = {
            "backprop steps": round(ratio, 2),
            "operations over backprop's": round(counted.total / of_backprop(net).total, 2),
            "cosine with the gradient": round(float(reading["total"]), 5),
            "lowest layer": round(float(reading["cosine"].min()), 5),
        }
        print(f"  {way}: {found[way]}", flush=True)
    if slow:
        pairs: list[float] = []
        for _ in range(2):
            began = perf_counter()
            naive.changes(net, x, labels, free=250, nudged=60)
            middle = perf_counter()
            for _ in range(5):
                backprop(net, x, labels)
            pairs.append((middle - began) / ((perf_counter() - middle) / 5))
        found["naive twin, 250 free and 2 x 60 nudged steps"] = {"backprop steps": round(median(pairs), 1)}
        print(
            f"  naive twin: {median(pairs):.1f} backprop steps (EP in its published logs, on a GPU: {EP:g})",
            flush=True,
        )
    return found


def main(argv: Sequence[str]) -> None:
    torch.set_num_threads(1)
    quick = "--quick" in argv
    found: dict[str, Any] = {}
    for name in list(NETS)[1:] if quick else NETS:
        print(name, flush=True)
        found[name] = measure(name, batch=64, rounds=3 if quick else 7, slow=True)
    _record.write("cortex-rate", {"quick": quick, "EP over backprop, published": EP, "networks": found})


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
