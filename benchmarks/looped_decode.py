"""Decoding a 10-million-parameter looped model on a CPU: how much of a step is the weights' way through memory?

A token cannot be made without reading every block's weights once per loop and the read-out once, so a step takes at least
T W / bandwidth. The bandwidth is measured in the same run, beside the steps: the best of products of a matrix with a vector, the
only way in which decoding reads, through as many bytes as a step does, (a) of the model's own matrices and (b) of square ones.
The fraction is that least time over the time taken, on one thread and in processor time, which others at work on the machine
stretch least, though not by nothing: the record has the load. Each step is also taken without `model.decoding()`. `--small` is quick.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import _record
from unrolled.looped import LT2, Cache, LT2Config

SHAPES = {
    "hybrid 4:1": {"pattern": "interleaved:4:1"},
    "gated_delta": {"pattern": "gated_delta"},
    "full": {"pattern": "full"},
}


def config(**changes: Any) -> LT2Config:
    """About ten million parameters in the blocks."""
    return LT2Config(width=384, heads=6, layers=5, hidden=1024, loops=4, context=8192, **changes)


def seconds(fn: Callable[[], Any], repeats: int) -> list[float]:
    took = []
    for _ in range(repeats):
        start = time.thread_time()
        fn()
        took.append(time.thread_time() - start)
    return took


def sweep(matrices: list[torch.Tensor], times: int) -> Callable[[], None]:
    """A product with a vector for every matrix, in order, as often as there are loops: what a step cannot do without."""
    vectors = {m.shape[1]: torch.randn(1, m.shape[1]) for m in matrices}

    def run() -> None:
        for _ in range(times):
            for m in matrices:
                F.linear(vectors[m.shape[1]], m)

    return run


def size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def measure(shape: LT2Config, prompt: int, rounds: int, steps: int) -> dict[str, Any]:
    """Steps and sweeps by turns, so that both meet the same machine."""
    model = LT2(shape).eval()
    cache, token = Cache(), torch.zeros(1, 1, dtype=torch.long)
    own = [p.detach() for p in model.blocks.parameters() if p.ndim == 2 and p.shape[1] > 4]
    traffic = shape.loops * size(model.blocks.parameters()) + size([model.embed.weight])
    square = [torch.randn(1024, 1024) for _ in range(max(1, size(own) // 2**22))]
    once, plain = sweep(own, shape.loops), sweep(square, shape.loops)
    taken, direct, rates = [], [], []
    with torch.inference_mode():
        model(torch.zeros(1, prompt, dtype=torch.long), cache=cache)
        for _ in range(rounds):
            with model.decoding():
                taken.append(median(seconds(lambda: model(token, cache=cache), steps)))
            direct.append(median(seconds(lambda: model(token, cache=cache), steps)))
            rates.append(
                shape.loops
                * max(size(own) / median(seconds(once, steps)), size(square) / median(seconds(plain, steps)))
            )
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "weight_bytes_per_step": traffic,
        "bandwidth_GB_per_s": median(rates) / 1e9,
        "bound_ms": 1e3 * traffic / median(rates),
        "step_ms": 1e3 * median(taken),
        "step_without_decoding_ms": 1e3 * median(direct),
        "fraction": median(traffic / rate / step for rate, step in zip(rates, taken)),
        "fraction_without_decoding": median(traffic / rate / step for rate, step in zip(rates, direct)),
        "fraction_with_cache": median(
            (traffic + cache.bytes()) / rate / step for rate, step in zip(rates, taken)
        ),
        "cache_bytes": cache.bytes(),
    }


def main(argv: Sequence[str]) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    small = "--small" in argv
    rounds, steps = (3, 5) if small else (8, 12)
    found = {}
    for name, changes in SHAPES.items():
        made = found[name] = measure(config(**changes), 64 if small else 512, rounds, steps)
        print(
            f"{name}: {made['parameters'] / 1e6:.1f} M parameters, {made['weight_bytes_per_step'] / 1e6:.0f} MB of weights per step at "
            f"{made['bandwidth_GB_per_s']:.1f} GB/s: {made['bound_ms']:.2f} ms at least; a step takes {made['step_ms']:.2f} ms, so "
            f"{made['fraction']:.2f} of it is the weights' way ({made['fraction_without_decoding']:.2f} without model.decoding()), "
            f"{made['fraction_with_cache']:.2f} with the {made['cache_bytes'] / 1e6:.1f} MB of cache it reads"
        )
    if not small:
        _record.write("looped-decode", {"load": os.getloadavg()[0], "shapes": found})


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
