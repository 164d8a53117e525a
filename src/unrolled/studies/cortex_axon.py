"""Is this the same model? Axon's own unit-test values, for the cycle that reads like the equations and the fast one.

Three layers of four neurons, one to one, learn four one-hot patterns in a row. Axon's tests hold its activities,
conductances, kinases and weight changes to values printed to seven figures; both of our cycles are held to the same.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.cortex import Network
from unrolled.cortex.axon.sheets import Rule
from unrolled.instruments.reading import axes
from unrolled.runs import Claim, Run
from unrolled.studies import _cortex as cortex

PAPER = cortex.PAPER
METHODS = ("axon",)

SHEET = (
    Rule("Layer", {"decay.gbufs": True, "rlrate.on": False, "inhib.layer.fb": 0.5}),
    Rule("Path", {"swts.var": 0.0}),
    Rule(".back", {"scale.rel": 0.2}),
)
ACTIVITY = {
    (50, "Hidden"): {"Act": 0.6944439, "Ge": 0.35238016, "Gi": 0.15478326},
    (50, "Output"): {"Act": 0.55552065, "Ge": 0.35870183, "Gi": 0.20974194},
    (200, "Hidden"): {"Act": 0.56933826, "Ge": 0.43519318, "Gi": 0.21780372},
    (200, "Output"): {"Act": 0.69444436, "Ge": 0.8, "Gi": 0.48570368},
}
"""(cycle, layer) -> values of the neuron that pattern 0 turns on (fact sheet, section 5.13)."""
LEARNING = {
    "Hidden LearnCaP": (0.5500735, 0.5519808), "Hidden LearnCaD": (0.52224743, 0.49780282),
    "Output LearnCaP": (0.58267534, 0.56314445), "Output LearnCaD": (0.50602317, 0.4639777),
    "Input->Hidden dWt": (0.004471265, 0.0076135984), "Hidden->Output dWt": (0.0055950927, 0.010907927),
    "Input->Hidden Wt": (0.5268025, 0.54555845), "Hidden->Output Wt": (0.5335216, 0.5650866),
}  # fmt: skip
"""Quantity -> its value after patterns 0 and 1, for the neuron or synapse of the pattern."""
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Config:
    """Nothing to choose but what a batch is held to."""

    preset: str = "tiny"
    seed: int = 0
    """of the random network on which batches are compared"""
    data: int = 4
    """patterns side by side"""


def tiny() -> Config:
    """Seconds."""
    return Config()


def network() -> Network:
    """Axon's test network."""
    net = Network()
    net.layer("Input", (4, 1), kind="input")
    net.layer("Hidden", (4, 1))
    net.layer("Output", (4, 1), kind="target")
    net.connect("Input", "Hidden", "one-to-one")
    net.connect("Hidden", "Output", "one-to-one", back=True)
    net.apply(SHEET)
    return net.build()


def trials(run: Run, which: str) -> tuple[float, float]:
    """Largest differences from Axon's activities and from its learning, for the `naive` or the `fused` cycle."""
    net = network()
    system = net.naive if which == "naive" else net
    state: Any = None
    off = {"activity": 0.0, "learning": 0.0}

    def note(kind: str, what: str, ours: Tensor, axon: float) -> None:
        run.log(cycle=which, kind=kind, what=what, ours=float(ours), axon=axon, off=abs(float(ours) - axon))
        off[kind] = max(off[kind], abs(float(ours) - axon))

    for p in range(2):
        pattern = torch.eye(4)[p : p + 1]
        moments = net.theta.moments({"Input": pattern}, {"Output": pattern})
        state = system.init(moments[0]) if state is None else state
        for t, moment in enumerate(moments, 1):
            state = system.step(state, moment)
            if p == 0 and t in (50, 200):
                flat = net.naive.flat(state) if which == "naive" else state
                for (cycle, layer), values in ACTIVITY.items():
                    for name, value in values.items() if cycle == t else ():
                        note(
                            "activity", f"{layer} {name} at {t}", net.read(flat, layer, name)[0, 0, 0], value
                        )
        flat = net.naive.flat(state) if which == "naive" else state
        change = net.naive.dwt(state) if which == "naive" else None
        learned = net.learn(Trajectory(torch.zeros(1), {}, flat))
        change = learned if change is None else change
        for what, values in LEARNING.items():
            where, name = what.split(" ")
            if name == "dWt":
                ours = change[where][p, p]
            elif name == "Wt":
                ours = net[where].wt[p, p]
            else:
                ours = net.read(flat, where, name)[0, p, 0]
            note("learning", f"{what}, pattern {p}", ours, values[p])
    return off["activity"], off["learning"]


def batch(config: Config) -> tuple[float, float]:
    """Largest differences between a batch and its patterns one by one: of states, and of summed weight changes."""

    def made() -> Network:
        net = Network(seed=config.seed)
        net.layer("Input", (3, 4), kind="input")
        net.layer("Hidden", (5, 6))
        net.layer("Output", (2, 4), kind="target")
        net.connect("Input", "Hidden")
        net.connect("Hidden", "Output", back=True)
        return net.build()

    rng = torch.Generator().manual_seed(config.seed)
    x, y = ((torch.rand(config.data, n, generator=rng) < 0.3).float() for n in (12, 8))
    together = made()
    whole = together.present(x, y)
    change = together.learn(whole)
    states, total = 0.0, {name: torch.zeros_like(dwt) for name, dwt in change.items()}
    for d in range(config.data):
        alone = made()
        one = alone.present(x[d : d + 1], y[d : d + 1])
        for name in ("Vm", "Act", "CaP", "CaD", "LearnCaP", "LearnCaD"):
            states = max(states, float((one.final[name][0] - whole.final[name][d]).abs().max()))
        for name, dwt in alone.learn(one).items():
            total[name] += dwt
    return states, max(float((total[name] - dwt).abs().max()) for name, dwt in change.items())


def study(config: Config, run: Run) -> list[Claim]:
    """Run both cycles on Axon's network, and a batch against its parts."""
    common = {"preset": config.preset, "hardware": run.hardware, "unit": ""}
    made = []
    for which, said in (("naive", "the cycle that reads like the equations"), ("fused", "the fast cycle")):
        run.status(phase=said)
        activity, learning = trials(run, which)
        for kind, off, n in (("activity", activity, 12), ("learning", learning, 16)):
            made.append(
                Claim(
                    f"{which}-{kind}", f"{said} gives Axon's {kind} (largest difference of {n} values)", paper=0.0, ours=off,
                    status="reproduced" if off < TOLERANCE else "not reproduced",
                    note=f"float32, exp in place of Axon's spline; reproduced: below {TOLERANCE:g}", source="cortex fact sheet, T6", **common,
                )
            )  # fmt: skip
    run.status(phase="a batch against its parts")
    states, changes = batch(config)
    made.append(
        Claim(
            "batch", "a batch is its patterns one by one (largest difference of states, weight changes summed)", paper=0.0, ours=max(states, changes),
            status="reproduced" if max(states, changes) < 1e-6 else "not reproduced",
            note=f"{config.data} patterns; states {states:.1e}, weight changes {changes:.1e}; reproduced: below 1e-6", source="cortex fact sheet, T7", **common,
        )
    )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Every reference value's difference, beside the tolerance."""
    from matplotlib.figure import Figure

    rows = [r for r in run.metrics() if "off" in r]
    names = list(dict.fromkeys(r["what"] for r in rows))
    figure = Figure(figsize=(7.2, 0.19 * len(names) + 1.1), layout="constrained")
    ax = axes(figure.add_subplot())
    for which, color, marker in (("naive", cortex.MINUS, "o"), ("fused", cortex.PLUS, "x")):
        mine = [r for r in rows if r["cycle"] == which]
        ax.plot(
            [max(r["off"], 1e-9) for r in mine],
            [names.index(r["what"]) for r in mine],
            marker,
            color=color,
            ms=5,
            label=which,
        )
    ax.axvline(TOLERANCE, color="#1c1e21", lw=0.8, ls=":")
    ax.set(xscale="log", xlabel="difference from Axon (dotted: tolerance)", xlim=(5e-10, 1e-4))
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.invert_yaxis()
    ax.legend(loc="lower right")
    return {
        "reference": (
            figure,
            "Axon's unit-test values against both of our cycles; below 1e-9 is drawn there.",
        )
    }
