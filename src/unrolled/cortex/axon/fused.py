"""The fused run: a stretch of cycles for a batch, in chunks that stay near the cache, on all cores.

The cycle itself is in `unrolled.cortex.axon.cycle`. Samples are independent, so a chunk goes through the whole stretch
before the next, and on a CPU chunks run on as many threads as torch has.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon.compiled import compiled
from unrolled.cortex.axon.constants import Constants
from unrolled.cortex.axon.cycle import Cycle
from unrolled.cortex.axon.gather import Gather
from unrolled.cortex.axon.kinds import Moment
from unrolled.cortex.axon.state import POOL_VARIABLES, VARIABLES, WAITING, filled, start_of

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

CHUNK = 98304
"""Neurons x data that go through a stretch together on a CPU, at most: the cache then holds what a kernel touches."""
LEAST = 8192
"""Neurons x data that are worth a thread."""


class Fused:
    """The cycle of one network; keeps buffers and constants between runs, and no state.

    Args:
        net: a built network.
    """

    def __init__(self, net: "Network") -> None:
        self.net, self.version = net, net.version
        self.c = Constants(net)
        self.gathers: dict[str, list[Gather]] = {}
        self.slots: dict[str, int] = {}
        for conductance in ("excitatory", "inhibitory", "maintenance"):
            mine = [path for path in net.paths.values() if path.conductance == conductance]
            delays = sorted({path.params.delay for path in mine}, reverse=True)
            if mine or conductance == "excitatory":
                self.slots[conductance] = max(delays, default=0) + 1
                self.gathers[conductance] = [
                    Gather(net, [p for p in mine if p.params.delay == delay], delay, self.c.n)
                    for delay in delays
                ]
        self.compiled = compiled(net, self.c.n, net.backend) if net.backend else None
        self._spare: dict[int, list[Cycle]] = {}

    def updated(self, net: "Network") -> "Fused":
        """The same cycle with the weights of now."""
        for gathers in self.gathers.values():
            for gather in gathers:
                gather.refresh(net)
        self.c.refresh(net)
        self.version = net.version
        return self

    def initial(self, data: int) -> dict[str, Any]:
        """The state at rest."""
        net, like = self.net, self.net.like
        state: dict[str, Any] = {}
        for variable in net.variables:
            parts = []
            for layer in net.layers.values():
                extra = layer.kind.variables()
                value = (
                    start_of(variable, layer.params) if variable in VARIABLES else extra.get(variable, 0.0)
                )
                parts.append(filled((data, layer.n), value, like))
            state[variable] = torch.cat(parts, -1)
        state |= {v: filled((data, self.c.n_pools), 0, like) for v in POOL_VARIABLES}
        state |= {WAITING[g]: filled((data, slots, net.n), 0, like) for g, slots in self.slots.items()}
        return state | {"bins": filled((data, net.n_bins, net.n), 0, like), "cycle": 0, "ended": False}

    def run(
        self, state: dict[str, Any], moments: Sequence[Moment], record: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state after these cycles, and the records `[cycles, data, ...]`; the state handed in is left alone."""
        net, data = self.net, len(state["Spike"])
        self._check(state, data, moments)
        parts, threads = self._split(data)
        records = {name: self._empty_record(name, len(moments), data) for name in record}
        final = self._empty_state(data)

        def through(part: slice) -> None:
            with torch.no_grad(), _flushing(net.like):
                self._through(part, state, moments, final, records)

        with _single_threaded(threads > 1 or (net.like.device.type == "cpu" and data * net.n <= CHUNK)):
            if threads == 1:
                for part in parts:
                    through(part)
            else:  # a thread per chunk beats all threads on one kernel after the other
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(through, parts))
        ended = moments[-1].last and moments[-1].plus if moments else state["ended"]
        return final | {"cycle": state["cycle"] + len(moments), "ended": ended}, records

    def _split(self, data: int) -> tuple[list[slice], int]:
        """Chunks of the batch, and how many threads share them."""
        if self.net.like.device.type != "cpu":
            return [slice(0, data)], 1
        size, threads = data * self.net.n, torch.get_num_threads()
        pieces = max(-(-size // CHUNK), min(threads, size // LEAST))
        if pieces > 1:
            pieces = -(-pieces // threads) * threads
        pieces = max(1, min(pieces, data))
        ends = [data * i // pieces for i in range(pieces + 1)]
        parts = [slice(a, b) for a, b in pairwise(ends)]
        return parts, min(threads, pieces) if pieces > 1 else 1

    def _through(
        self,
        part: slice,
        state: dict[str, Any],
        moments: Sequence[Moment],
        final: dict[str, Any],
        records: dict[str, Tensor],
    ) -> None:
        spare = self._spare.setdefault(part.stop - part.start, [])
        cycle = spare.pop() if spare else Cycle(self, part.stop - part.start)
        try:
            cycle.load(state, part)
            for i, moment in enumerate(moments):
                cycle.step(moment, part)
                for name, series in records.items():
                    series[i, part] = cycle.readout(name)
            cycle.store(final, part)
        finally:
            spare.append(cycle)

    def _empty_state(self, data: int) -> dict[str, Any]:
        """Room for a state: the variables of neurons in one block."""
        net, new = self.net, self.net.like.new_empty
        made: dict[str, Any] = dict(zip(net.variables, new(len(net.variables), data, net.n)))
        made |= dict(zip(POOL_VARIABLES, new(len(POOL_VARIABLES), data, self.c.n_pools)))
        made |= {WAITING[g]: new(data, slots, net.n) for g, slots in self.slots.items()}
        return made | {"bins": new(data, net.n_bins, net.n)}

    def _empty_record(self, name: str, steps: int, data: int) -> Tensor:
        self.net.check_readout(name)
        layer, _, _ = name.rpartition(".")
        return self.net.like.new_empty(steps, data, self.net.layers[layer].n if layer else self.net.n)

    def _check(self, state: dict[str, Any], data: int, moments: Sequence[Moment]) -> None:
        if state["Spike"].shape[1] != self.net.n or state["bins"].shape[1] != self.net.n_bins:
            raise ValueError(
                f"this state is of another network: it has {state['Spike'].shape[1]} neurons, this one {self.net.n}"
            )
        for g, slots in self.slots.items():
            if state[WAITING[g]].shape[1] != slots:
                raise ValueError("this state has other delays than the network; start from init()")
        given = next((len(x) for m in moments for x in [*m.inputs.values(), *m.targets.values()]), data)
        if given != data:
            raise ValueError(
                f"the patterns are a batch of {given}, the state one of {data}; start from init()"
            )


@contextmanager
def _single_threaded(wanted: bool) -> Iterator[None]:
    """Let torch use one thread a kernel for a while: on small kernels threads wait for one another longer than they work."""
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _flushing(like: Tensor) -> Iterator[None]:
    """Treat numbers below 1e-38 as 0 for a while: what decays for a whole trial gets there, where a CPU is 100x slower."""
    least = torch.finfo(torch.float32).tiny
    already = bool((torch.tensor(least) * 0.5) == 0)
    if like.device.type != "cpu" or already or not torch.set_flush_denormal(True):
        yield
        return
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
