"""What learning keeps in memory: two phases of one state, one backward pass, or the whole history of settling.

Every tensor that an update makes is followed from its birth to its end, for the local rule, for backprop through the
feed-forward network (one pass), and for backprop through the settling itself (through time), over depth, batch and
settling steps. The local rule's saving is against backprop through time: one pass of backprop through the feed-forward
network keeps about one state too.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from unrolled.cortex.rate import Conv, Net, backprop, changes, of_backprop, operations, settle
from unrolled.cortex.rate.learn import losses
from unrolled.cortex.rate.operations import PICOJOULES
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _rate as rate

PAPER = rate.PAPER
METHODS = ("kinase", "centered_nudging")

NUDGED = 5
"""Of each nudged phase."""
WAYS = ("local rule", "local rule, one way down", "backprop", "backprop through time")
COLOR = dict(zip(WAYS, (COLORS[1], COLORS[5], COLORS[0], COLORS[3])))


@dataclass(frozen=True)
class Config:
    """How large."""

    preset: str = "tiny"
    seed: int = 0
    width: int = 64
    """units of a dense hidden layer"""
    batch: int = 32
    depths: tuple[int, ...] = (2, 4, 8, 12)
    batches: tuple[int, ...] = (8, 32, 128)
    sweeps: tuple[int, ...] = (20, 50, 100, 200)
    """of the free phase"""
    device: str = "cpu"


def tiny() -> Config:
    """Dense layers of 64; half a minute."""
    return Config()


def small() -> Config:
    """Dense layers of 256, to 24 of them."""
    return Config(preset="small", width=256, depths=(2, 4, 8, 16, 24), batches=(16, 64, 256))


SLACK = 1.005
"""Growth at which the meter looks for the dead among thousands of tensors: its peak is exact to half a per cent there."""


class Meter(TorchDispatchMode):
    """Bytes of the tensors made under it that are alive, and their peak, looked at after every operation.

    What an operation uses only inside itself (a convolution's scratch) is not seen.

    Example:
        >>> with Meter() as meter:
        ...     a = torch.zeros(100)
        ...     for _ in range(3):
        ...         a = a + 1  # the old and the new are alive together
        >>> meter.peak
        800
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._total = 0
        # A weak reference keeps the address of what it refers to from being used again, so addresses are names.
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, then count."""
        given = {t.untyped_storage()._cdata for t in _tensors((args, kwargs or {}))}
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self._total += storage.nbytes()
        # The total holds the dead too until they are looked for: at once while tensors are few, at each half per cent
        # of growth while they are thousands.
        if self._total > self.peak * (1 if len(self._alive) < 1000 else SLACK):
            self._alive = {key: (ref, size) for key, (ref, size) in self._alive.items() if not ref.expired()}
            self._total = sum(size for _, size in self._alive.values())
            self.peak = max(self.peak, self._total)
        return made


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [t for item in tree for t in _tensors(item)] if isinstance(tree, list | tuple) else []


def peak(fn: Callable[[], Any]) -> int:
    """Most bytes that a call's own tensors took at any time, its result included."""
    with Meter() as meter:
        fn()
    return meter.peak


def study(config: Config, run: Run) -> list[Claim]:
    """Measure over settling steps, depth and batch; count operations; time an update."""
    plans: list[tuple[str, str, Net, int, int]] = []
    middle = config.depths[1]
    for kind in ("dense", "convolutional"):
        plans += [
            ("steps", kind, network(config, kind, middle), config.batch, sweeps) for sweeps in config.sweeps
        ]
        plans += [
            ("depth", kind, network(config, kind, depth), config.batch, config.sweeps[0])
            for depth in config.depths
        ]
        plans += [
            ("batch", kind, network(config, kind, middle), batch, config.sweeps[0])
            for batch in config.batches
        ]
    for i, (over, kind, net, batch, sweeps) in enumerate(plans):
        measure(run, config, over, kind, net, batch, sweeps)
        run.progress(i + 1, len(plans))
    return claims(config, run)


def network(config: Config, kind: str, depth: int) -> Net:
    """So many hidden layers of one size."""
    if kind == "dense":
        return Net(
            config.width, [*[config.width] * depth, 10], activation="tanh", gain=0.05, rng=config.seed
        ).to(config.device)
    layers = [*[Conv(8)] * depth, 10]
    return Net((8, 8, 8), layers, gain=0.02, rng=config.seed).to(config.device)


def through_time(net: Net, images: Tensor, labels: Tensor, sweeps: int) -> dict[str, Tensor]:
    """Backprop through the settling: every sweep's state is kept until the pass back."""
    x, target = net.batch(images, labels)
    leaves = {name: v.detach().requires_grad_() for name, v in net.tensors().items()}
    before = net.tensors()
    try:
        for path in net.paths:
            path.put(lambda name, _, p=path.name: leaves[f"{p}.{name}"])
        with torch.enable_grad():
            state = net.init(x)
            for _ in range(sweeps):
                state = net.step(state, x)
            loss = losses(net, net.paths[-1].drive(state[net.names[-2]]), target).mean()
            found = torch.autograd.grad(loss, list(leaves.values()))
    finally:
        for path in net.paths:
            path.put(lambda name, _, p=path.name: before[f"{p}.{name}"])
    return dict(zip(leaves, found))


def measure(run: Run, config: Config, over: str, kind: str, net: Net, batch: int, sweeps: int) -> None:
    """One point: peak bytes of each way, and of settling alone."""
    rng = torch.Generator().manual_seed(config.seed)
    x = torch.randn(batch, *net.shape, generator=rng).to(config.device)
    labels = (torch.arange(batch) % 10).to(config.device)
    weights = sum(p.weight.nbytes + p.bias.nbytes for p in net.paths)
    # A network's state: activity and net input of each unit; both are needed to go on settling.
    state = sum(batch * y[0].numel() * 4 for y in net.init(x[:1]).values()) * 2
    ways: dict[str, Callable[[], Any]] = {
        "settling": lambda: settle(net, x, sweeps=sweeps, tol=None),
        "local rule": lambda: changes(net, x, labels, sweeps=sweeps, nudged=NUDGED),
        "local rule, one way down": lambda: changes(net, x, labels, sweeps=sweeps, nudged=0),
        "backprop": lambda: backprop(net, x, labels),
        "backprop through time": lambda: through_time(net, x, labels, sweeps),
    }
    for way, fn in ways.items():
        most = peak(fn)
        run.log(
            step=sweeps, over=over, kind=kind, way=way, hidden=len(net.paths) - 1, batch=batch, peak=most, weights=weights,
            state=state, extra=most - (weights if way != "settling" else 0) - state,
        )  # fmt: skip


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    shared = rate.common(config, run)
    made: list[Claim] = []

    def extra(way: str, over: str, kind: str, of: str = "extra") -> list[float]:
        return [r[of] for r in rate.rows(run, {"over": over, "kind": kind, "way": way})]

    for kind in ("dense", "convolutional"):
        flat = {way: extra(way, "steps", kind) for way in WAYS}
        local = [max(flat[way]) / min(flat[way]) - 1 for way in WAYS[:2]]
        grown = flat["backprop through time"][-1] / flat["backprop through time"][0]
        made.append(
            Claim(
                f"flat-{kind}", f"{kind}: extra bytes of learning by the local rule from {config.sweeps[0]} to {config.sweeps[-1]} settling steps (growth)", paper="<= 5 %", ours=100 * max(local), unit="%",
                status="reproduced" if max(local) <= 0.05 else "not reproduced",
                note=f"extra: peak less weights' changes and one state; {flat['local rule'][-1] / 1024:.0f} KiB at {config.sweeps[-1]} (one way down: {flat[WAYS[1]][-1] / 1024:.0f}); backprop through time grows {grown:.1f} times to {flat['backprop through time'][-1] / 1024:.0f} KiB", source="local traces, cortex fact sheet, sections 2.3 and 8.1", **shared,
            )
        )  # fmt: skip
        found = rate.rows(run, {"over": "depth", "kind": kind})
        slopes: dict[str, float] = {}
        for way in WAYS:
            mine = [r for r in found if r["way"] == way]
            slopes[way] = (mine[-1]["extra"] - mine[0]["extra"]) / (mine[-1]["state"] - mine[0]["state"])
        made.append(
            Claim(
                f"depth-{kind}", f"{kind}: extra bytes that one more layer costs the local rule, in states of that layer", paper="<= 1 layer's traces", ours=slopes["local rule"], unit="states",
                status="reproduced" if slopes["local rule"] <= 1 else "direction only" if slopes[WAYS[1]] <= 1 else "not reproduced",
                note=f"a state is activity and net input, as are a layer's traces; one way down {slopes[WAYS[1]]:.2f}, backprop {slopes['backprop']:.2f}, backprop through {config.sweeps[0]} sweeps {slopes['backprop through time']:.1f}; direction only: more than one with nudged sweeps, at most one with a single way down", source="local traces, cortex fact sheet, section 2.3", **shared,
            )
        )  # fmt: skip
        peaks = {way: extra(way, "steps", kind, "peak")[-1] for way in WAYS}
        made.append(
            Claim(
                f"total-{kind}", f"{kind}: peak bytes of backprop through {config.sweeps[-1]} sweeps over the local rule's", paper="the saving is here", ours=peaks["backprop through time"] / peaks["local rule"], unit="times",
                status="reproduced" if peaks["backprop through time"] > 2 * peaks["local rule"] else "not reproduced",
                note=f"against one pass of backprop through the feed-forward network there is none: the local rule takes {peaks['local rule'] / peaks['backprop']:.2f} times as much, with one way down {peaks[WAYS[1]] / peaks['backprop']:.2f}", source="cortex fact sheet, section 8.1", **shared,
            )
        )  # fmt: skip
    made.append(energy(config, run))
    return made


def energy(config: Config, run: Run) -> Claim:
    """Synaptic operations of an update beside backprop's, and an estimate of their energy."""
    net = Net((1, 28, 28), [Conv(16, 5, pool=2), Conv(32, 3, pool=2), 128, 10])
    whole, one, theirs = operations(net), operations(net, sweeps=1, nudged=0), of_backprop(net)
    factor = whole.total / theirs.total
    return Claim(
        "operations", "synaptic operations of a local update over those of a backprop step (network of cortex-fashion)", paper="29 (EP, time)", ours=factor, unit="times",
        status="reproduced" if factor <= 6 else "not reproduced",
        note=f"{whole.total / 1e6:.2f} M multiply-accumulates a sample against {theirs.total / 1e6:.2f} M; one sweep and one way down {one.total / theirs.total:.2f} times; "
        f"arithmetic alone {1e6 * whole.joules():.1f} uJ against {1e6 * theirs.joules():.1f} uJ in float32, {1e6 * whole.joules('int8'):.1f} uJ in int8 ({PICOJOULES['float32']} and {PICOJOULES['int8']} pJ, "
        "45 nm, Horowitz 2014): a count times a table, no measurement", source="cortex fact sheet, section 8.1", **rate.common(config, run),
    )  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Peak bytes over settling steps, depth and batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    panels = figure.subplots(2, 3)
    for row, kind in zip(panels, ("dense", "convolutional")):
        for ax, (over, field, label) in zip(
            map(axes, row), (("steps", "step", "settling sweeps"), ("depth", "hidden", "hidden layers"), ("batch", "batch", "batch"))
        ):  # fmt: skip
            for way in WAYS:
                found = rate.rows(run, {"over": over, "kind": kind, "way": way})
                ax.plot(
                    [r[field] for r in found],
                    [r["peak"] / 2**20 for r in found],
                    "o-",
                    ms=3,
                    color=COLOR[way],
                    label=way,
                )
            ax.set(xlabel=label, yscale="log", title=kind if over == "depth" else "")
            if over != "depth":
                ax.set_xscale("log")
                ax.minorticks_off()
            ax.set_xticks(
                sorted({r[field] for r in found}),
                labels=[f"{v:g}" for v in sorted({r[field] for r in found})],
            )
        axes(row[0]).set_ylabel("peak (MiB)")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    ends = {way: [r["peak"] for r in rate.rows(run, {"over": "steps", "way": way})] for way in WAYS}
    worst = statistics.fmean(ends["backprop through time"]) / statistics.fmean(ends["local rule"])
    return {
        "memory": (
            figure,
            "Most bytes alive during one update, its result included. The local rule's do not know how long it settles; backprop "
            f"through time keeps every sweep ({worst:.0f} times as much on average here). One pass of backprop through the feed-forward "
            "network needs less than the local rule: the saving is against backprop through time alone.",
        )
    }
