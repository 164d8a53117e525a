"""How fast is the spiking cortex, against its own naive twin and over sizes and batches?

An epoch of ra25 with weights that change after every trial; the same cycles by the twin that reads like the equations;
and Axon's benchmark of five layers of 1,024 units, trial and learning together, over batches and over sizes. On a CPU
times are seconds of one core, the fewest of a few repeats: what it takes when nothing else runs, and an upper bound for
two cores. On a GPU they are the clock's.
"""

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from unrolled.cortex import Network
from unrolled.cortex.tasks import ra25
from unrolled.instruments.reading import axes
from unrolled.runs import Claim, Run
from unrolled.studies import _cortex as cortex

PAPER = cortex.PAPER
METHODS = ("axon",)
AXON = (0.30, 0.46)
"""Axon's CPU and GPU notes for five layers of 1,024 units on an M1, seconds a trial of one sample (section 6)."""


@dataclass(frozen=True)
class Config:
    """What is timed."""

    preset: str = "tiny"
    seed: int = 0
    repeats: int = 2
    """of each measurement; the fastest counts"""
    side: int = 32
    """of each of the five layers of the benchmark"""
    batches: tuple[int, ...] = (1, 8, 64)
    sides: tuple[int, ...] = (16, 32)
    """of layers, over which cost against synapses is read, at the first batch"""
    device: str = "cpu"


def tiny() -> Config:
    """Batches of 1, 8 and 64; a minute."""
    return Config()


def small() -> Config:
    """Four batches up to 64, four sizes; two minutes."""
    return Config(preset="small", repeats=3, batches=(1, 4, 16, 64), sides=(12, 16, 24, 32))


def paper() -> Config:
    """On a GPU, batches up to 256."""
    return Config(preset="paper", repeats=3, batches=(1, 16, 64, 256), sides=(16, 32, 48), device="cuda")


def bench(side: int, seed: int, device: str = "cpu") -> Network:
    """Axon's benchmark network: an input, three hidden layers and an output of side x side units, seven full paths."""
    net = Network(seed=seed, device=device)
    names = ("Input", "Hidden1", "Hidden2", "Hidden3", "Output")
    for name in names:
        net.layer(name, (side, side), {"Input": "input", "Output": "target"}.get(name, "hidden"))
    net.connect("Input", "Hidden1")
    for below, above in pairwise(names[1:]):
        net.connect(below, above, back=True)
    return net.build()


def seconds(work: Any, repeats: int, device: str = "cpu") -> float:
    """The fewest of some repeats, after one that does not count: of one core on a CPU, of the clock on a GPU."""
    threads = torch.get_num_threads()
    clock = time.process_time if device == "cpu" else time.perf_counter

    def once() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - start

    torch.set_num_threads(1)  # threads that wait for one another burn time too
    try:
        once()
        return min(once() for _ in range(repeats))
    finally:
        torch.set_num_threads(threads)


def study(config: Config, run: Run) -> list[Claim]:
    """Time, and say against what."""
    common = {"preset": config.preset, "hardware": run.hardware}
    if config.device != "cpu" and not torch.cuda.is_available():
        return [
            Claim.not_attempted(id, statement, why="needs a GPU, and this machine has none", command="unrolled run cortex-speed --preset paper", **common)
            for id, statement in (("bench", "five layers of 1,024 units, a trial with learning, per sample"),)
        ]  # fmt: skip
    made = [] if config.device != "cpu" else ra25_claims(config, run, common)

    run.status(phase="five layers of 1,024 units")
    by_batch: dict[int, float] = {}
    by_side: dict[int, float] = {}
    jobs = [(config.side, b) for b in config.batches] + [(s, config.batches[0]) for s in config.sides]
    for side, data in jobs:
        if (side, data) == (config.side, config.batches[0]) and data in by_batch:
            by_side[side] = by_batch[data]
            continue
        net = bench(side, config.seed, config.device)
        rng = torch.Generator().manual_seed(config.seed)
        x, y = ((torch.rand(data, side * side, generator=rng) < 0.1).float() for _ in range(2))

        def trial(net=net, x=x, y=y) -> None:
            net.learn(net.present(x, y))

        took = seconds(trial, config.repeats, config.device) / data
        synapses = sum(path.lwt.numel() for path in net.paths.values())
        run.log(bench=side, data=data, seconds=took, synapses=synapses)
        if side == config.side:
            by_batch[data] = took
        if data == config.batches[0]:
            by_side[side] = took
    largest = max(by_batch)
    limit = 0.08 if config.device == "cpu" else 0.005
    full = largest >= 64 and config.side >= 32
    statement = f"five layers of {config.side**2:,} units, a trial of 200 ms with learning, per sample (batch {largest})"
    if full:
        made.append(
            Claim(
                "bench", statement, paper=f"<= {limit}", ours=by_batch[largest], unit="s",
                status="reproduced" if by_batch[largest] <= limit else "not reproduced",
                note=f"{'CPU seconds of one thread, so at most this on two cores' if config.device == 'cpu' else 'by the clock'}; one sample at a time {by_batch[min(by_batch)]:.3f} s; Axon's notes on an M1: {AXON[0]} to {AXON[1]} s", source="cortex fact sheet, T15", **common,
            )
        )  # fmt: skip
    else:
        made.append(
            Claim.not_attempted(
                "bench", statement, why=f"needs a batch of 64 (at {largest}: {by_batch[largest]:.3f} s per sample)",
                command="unrolled run cortex-speed --preset small", paper=f"<= {limit}", **common,
            )
        )  # fmt: skip
    gain = by_batch[min(by_batch)] / by_batch[largest]
    made.append(
        Claim(
            "batch", f"cost grows less than the batch (per sample, batch {min(by_batch)} over batch {largest})", paper="> 1", ours=gain, unit="x",
            status="reproduced" if gain > 1 else "not reproduced", note=", ".join(f"{b}: {t:.3f} s" for b, t in sorted(by_batch.items())), source="target of ours", **common,
        )
    )  # fmt: skip
    small, large = min(by_side), max(by_side)
    slope = torch.log(torch.tensor(by_side[large] / by_side[small])) / torch.log(
        torch.tensor((large / small) ** 4)
    )
    made.append(
        Claim(
            "synapses", "cost grows at most in proportion to synapses (exponent)", paper="<= 1", ours=float(slope),
            status="reproduced" if float(slope) <= 1.1 else "not reproduced",
            note=", ".join(f"{7 * s**4 / 1e6:.2f} M: {t:.3f} s" for s, t in sorted(by_side.items())) + "; reproduced: at most 1.1", source="target of ours", **common,
        )
    )  # fmt: skip
    return made


def ra25_claims(config: Config, run: Run, common: dict[str, Any]) -> list[Claim]:
    """An epoch of ra25, and the naive twin's time for the same."""
    run.status(phase="ra25")
    net, pairs = ra25.network(seed=config.seed).build(), ra25.patterns(rng=config.seed)
    order = ra25.order(ra25.PAIRS, ra25.TRIALS, config.seed)
    fast = seconds(lambda: ra25.epoch(net, pairs, order), config.repeats)
    moments = net.theta.moments({"Input": pairs.inputs[:1]}, {"Output": pairs.outputs[:1]})
    state = net.naive.init(moments[0])
    for moment in moments[:20]:
        state = net.naive.step(state, moment)

    def cycles() -> None:
        s = state
        for moment in moments[20:60]:
            s = net.naive.step(s, moment)

    last = state | {"ended": True}
    slow = ra25.TRIALS * (
        seconds(cycles, config.repeats) * 200 / 40 + seconds(lambda: net.naive.dwt(last), 1)
    )
    run.log(ra25=fast, naive=slow)
    return [
        Claim(
            "ra25", "an epoch of ra25, 32 trials of 200 ms, weights changing after each", paper="< 5", ours=fast, unit="s",
            status="reproduced" if fast < 5 else "not reproduced", note="CPU seconds of one thread", source="cortex fact sheet, T15", **common,
        ),
        Claim(
            "naive", "over the naive twin, the same epoch", paper=">= 7", ours=slow / fast, unit="x", status="reproduced" if slow / fast >= 7 else "not reproduced",
            note=f"naive {slow:.1f} s, from 40 cycles and one learning step", source="target of ours", **common,
        ),
    ]  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Seconds per trial and sample over the batch, and over synapses."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    rows = [r for r in run.metrics() if "bench" in r]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    one = sorted((r["data"], r["seconds"]) for r in rows if r["bench"] == config.side)
    left.plot(*zip(*one), "o-", color=cortex.PLUS)
    left.set(
        xscale="log",
        yscale="log",
        xlabel="batch",
        ylabel="seconds per trial and sample",
        title=f"5 x {config.side**2:,} units",
    )
    sizes = sorted((r["synapses"], r["seconds"]) for r in rows if r["data"] == config.batches[0])
    right.plot(*zip(*sizes), "o-", color=cortex.PLUS, label=f"batch {config.batches[0]}")
    x, y = sizes[-1]
    right.plot(
        [n for n, _ in sizes], [y * n / x for n, _ in sizes], ":", color="#1c1e21", lw=0.9, label="linear"
    )
    right.set(xscale="log", yscale="log", xlabel="synapses", title="five layers")
    right.legend()
    return {
        "speed": (
            figure,
            "A trial of 200 ms with learning. Left: over the batch. Right: over size; dotted is linear in synapses.",
        )
    }
