r"""What a trial of spiking cortex costs: ra25 beside the naive twin, five layers of 1,024 units, batch and size.

Run with `python -m benchmarks cortex`; some four minutes on two idle cores (`--quick`: one minute, fewer points).
`--device cuda` measures the large network on a GPU, `--compile` with the cell compiled. Wall-clock times are what counts;
CPU seconds of this process stand beside them, for machines that are not idle.

Axon's own figures, for orientation (its notes, other machines): 0.30 to 0.46 s per trial for the large network on an M1
Max.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import _record
from unrolled.cortex import Network, Rule

RA25 = [
    Rule(
        "Layer",
        {
            "inhib.layer.gi": 1.05,
            "inhib.layer.fb": 0.5,
            "inhib.nominal": 0.06,
            "nmda.mgc": 1.2,
            "vgcc.ge": 0.0,
        },
    ),
    Rule("#Input", {"inhib.layer.gi": 0.9, "inhib.nominal": 0.15}),
    Rule("#Output", {"inhib.layer.gi": 0.65, "inhib.nominal": 0.24, "spike.tr": 1}),
    Rule("Path", {"lrate": 0.06, "dwt.learn_thr": 0.1}),
    Rule(".back", {"scale.rel": 0.3}),
]
TRIALS = 32
"""Trials of an ra25 epoch."""
TARGETS = {
    "ra25 epoch, s": 5.0,
    "times the naive twin": 7.0,
    "5 x 1024, s per trial and sample": {"cpu": 0.08, "cuda": 0.005},
}


def ra25() -> Network:
    """5 x 5 input, two hidden layers of 10 x 10, 5 x 5 output, bidirectional."""
    net = Network()
    net.layer("Input", (5, 5), kind="input")
    net.layer("Hidden1", (10, 10))
    net.layer("Hidden2", (10, 10))
    net.layer("Output", (5, 5), kind="target")
    net.connect("Input", "Hidden1")
    net.connect("Hidden1", "Hidden2", back=True)
    net.connect("Hidden2", "Output", back=True)
    net.apply(RA25)
    return net.build()


def five_layers(side: int, device: str = "cpu") -> Network:
    """Five layers of side x side units with seven full paths, as in Axon's benchmark."""
    net = Network(device=device)
    net.layer("Input", (side, side), kind="input")
    for i in (1, 2, 3):
        net.layer(f"Hidden{i}", (side, side))
    net.layer("Output", (side, side), kind="target")
    net.connect("Input", "Hidden1")
    for a, b in (("Hidden1", "Hidden2"), ("Hidden2", "Hidden3"), ("Hidden3", "Output")):
        net.connect(a, b, back=True)
    net.apply([Rule(".back", {"scale.rel": 0.2})])
    return net.build()


def patterns(net: Network, data: int, layer: str, density: float, seed: int) -> torch.Tensor:
    """Random 0/1 patterns of a layer."""
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(data, net.layers[layer].n, generator=rng) < density).to(net.like)


def timed(fn: Callable[[], Any], device: str = "cpu") -> tuple[float, float]:
    """Wall-clock and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    fn()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def epoch(trials: int) -> dict[str, float]:
    """An ra25 epoch, weights changing after every trial, and the naive twin over one trial and its weight change."""
    net = ra25()
    x, y = patterns(net, 25, "Input", 0.24, 0), patterns(net, 25, "Output", 0.24, 1)

    def fused() -> None:
        for i in range(trials):
            net.learn(net.present(x[i % 25], y[i % 25]))

    moments = net.theta.moments({"Input": x[:1]}, {"Output": y[:1]})

    def naive() -> None:
        state = net.naive.init(moments[0])
        for moment in moments:
            state = net.naive.step(state, moment)
        net.naive.dwt(state)

    net.learn(net.present(x[0], y[0]))  # buffers and warm caches
    times = [timed(fused) for _ in range(2)]
    wall, cpu = (min(t[i] for t in times) * TRIALS / trials for i in (0, 1))
    slow = [t * TRIALS for t in timed(naive)]
    return {
        "epoch_wall_s": wall,
        "epoch_cpu_s": cpu,
        "naive_wall_s": slow[0],
        "naive_cpu_s": slow[1],
        "ratio_wall": slow[0] / wall,
        "ratio_cpu": slow[1] / cpu,
    }


def trial(side: int, data: int, device: str, compiled: bool = False) -> dict[str, float]:
    """One trial and its learning, per sample."""
    net = five_layers(side, device)
    if compiled:
        net.compile()
    x, y = patterns(net, data, "Input", 0.1, 0), patterns(net, data, "Output", 0.1, 1)
    if device != "cpu" or compiled:
        net.learn(net.present(x, y))
    present = timed(lambda: net.present(x, y), device)
    learn = timed(net.learn, device)
    return {
        "side": side,
        "batch": data,
        "synapses": sum(path.lwt.numel() for path in net.paths.values()),
        "present_wall_s": present[0] / data,
        "learn_wall_s": learn[0] / data,
        "wall_s": (present[0] + learn[0]) / data,
        "cpu_s": (present[1] + learn[1]) / data,
    }


def main(argv: Sequence[str]) -> int:
    """Measure, print beside the targets, and write a dated record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cortex", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points")
    parser.add_argument("--device", default="cpu", help="of the large network")
    parser.add_argument("--compile", action="store_true", help="compile the cell of the large network")
    options = parser.parse_args(argv)
    found: dict[str, Any] = {"targets": TARGETS, "device": options.device, "compiled": options.compile}
    found["load"] = os.getloadavg()[0]

    found["ra25"] = one = epoch(8 if options.quick else TRIALS)
    print(f"ra25 epoch of {TRIALS} trials x 200 cycles, weights changing after every trial")
    print(
        f"  fused  {one['epoch_wall_s']:7.2f} s  ({one['epoch_cpu_s']:.2f} s CPU)      target < {TARGETS['ra25 epoch, s']} s"
    )
    print(f"  naive  {one['naive_wall_s']:7.2f} s  ({one['naive_cpu_s']:.2f} s CPU)")
    print(
        f"  ratio  {one['ratio_wall']:7.1f}    ({one['ratio_cpu']:.1f} CPU)         target >= {TARGETS['times the naive twin']}"
    )

    print(
        f"5 layers, 7 full paths, on {options.device}: seconds per trial and sample (present + learn), CPU in brackets"
    )
    points = (
        [(32, 1), (32, 64)]
        if options.quick
        else [(32, 1), (32, 4), (32, 16), (32, 64), (16, 16), (23, 16), (45, 16)]
    )
    found["five_layers"] = []
    for side, data in points:
        one = trial(side, data, options.device, options.compile)
        found["five_layers"].append(one)
        print(
            f"  {side * side:5} units, {one['synapses'] / 1e6:5.1f} M synapses, batch {data:3}:  {one['wall_s']:.4f} "
            f"({one['cpu_s']:.4f})  of which learning {one['learn_wall_s']:.4f}"
        )
    limit = TARGETS["5 x 1024, s per trial and sample"]
    if isinstance(limit, dict):
        print(f"  target for 1,024 units at batch 64: <= {limit.get(options.device, 'none')}")
    _record.write("cortex" if options.device == "cpu" else f"cortex-{options.device}", found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
