"""ra25: learn 25 random input-output pairs through two hidden layers, both ways connected.

The smallest task that needs error-driven learning in a spiking network: nothing but the difference between what the
output layer did alone (minus) and under its target (plus) says how the hidden layers should change.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.core.seeds import generator
from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.network import Network
from unrolled.cortex.theta import ThetaCycle

PAIRS, ACTIVE, MIN_DIFF, TRIALS = 25, 6, 3, 32
"""Pairs; active units of 25 in each pattern; how many of them two patterns at least do not share; trials an epoch."""

SHEET = (
    Rule("Layer", {"inhib.layer.gi": 1.05}, "1.1 lasts longer, 1.05 learns faster"),
    Rule("Layer", {"inhib.layer.fb": 0.5, "inhib.nominal": 0.06}, "sparse hidden layers"),
    Rule("Layer", {"nmda.mgc": 1.2}, "NMDA opens earlier than the default of 1.4"),
    Rule("Layer", {"vgcc.ge": 0.0}, "no calcium spikes"),
    Rule("#Input", {"inhib.layer.gi": 0.9, "inhib.nominal": 0.15}, "below the true 0.24: the input drives harder"),
    Rule("#Output", {"inhib.layer.gi": 0.65, "inhib.nominal": 0.24}, "a small layer needs less inhibition"),
    Rule("#Output", {"spike.tr": 1, "rlrate.sigmoid_min": 0.05}, "a short refractory period: rates up to 1"),
    Rule("Path", {"lrate": 0.06, "dwt.learn_thr": 0.1, "swts.spct": 0.5, "swts.rate": 0.1}, "a small network"),
    Rule(".back", {"scale.rel": 0.3}, "stronger feedback than 0.3 and the network hallucinates"),
)  # fmt: skip
"""Axon's parameters of ra25 (cortex fact sheet, section 5.11)."""

NO_NMDA = (
    Rule(
        "Layer", {"nmda.ge": 0.0}, "control: no NMDA conductance; NMDA as a source of learning calcium stays"
    ),
)
NO_GABAB = (Rule("Layer", {"gabab.gk": 0.0}, "control: no GABA-B"),)
"""Controls of stability (fact sheet, T9): what holds the network's state through a theta cycle is taken away."""


class Pairs(NamedTuple):
    """What is to be learned, each `[pairs, units]` of 0 and 1."""

    inputs: Tensor
    outputs: Tensor


class Epoch(NamedTuple):
    """How an epoch went."""

    error: float
    """Share of trials with any output unit on the wrong side of 0.5 in the minus phase (PctErr)."""
    unit_error: float
    """Share of output units on the wrong side."""
    activity: dict[str, float]
    """Layer -> mean ActM (activity in the minus phase; what `nominal` expects), averaged over trials."""
    correlation: float
    """Mean correlation of the output in the minus phase with the target; NaN for a silent output."""


def patterns(
    pairs: int = PAIRS, *, units: int = 25, active: int = ACTIVE, min_diff: int = MIN_DIFF, rng: int | torch.Generator = 0
) -> Pairs:  # fmt: skip
    """Random pairs of sparse patterns.

    Any two inputs, and any two outputs, have at least `min_diff` of their active units not in common (a Hamming
    distance of 2 min_diff): draws too near an earlier one are drawn again.

    Args:
        pairs: how many.
        units: units of a pattern.
        active: ones in each.
        min_diff: active units that two patterns at least do not share.
        rng: seed or generator.

    Raises:
        ValueError: numbers that no set of patterns can have.

    Example:
        >>> x, y = patterns()
        >>> x.shape, set(x.sum(1).tolist()), int((x @ x.T - 6 * torch.eye(25)).max()) <= 3
        (torch.Size([25, 25]), {6.0}, True)
    """
    if not 0 < active <= units or not 0 <= min_diff <= active or pairs < 1:
        raise ValueError(
            f"pairs={pairs}, units={units}, active={active}, min_diff={min_diff}: expected pairs >= 1, "
            "0 < active <= units and 0 <= min_diff <= active"
        )
    draws = generator(rng)
    return Pairs(*(_patterns(pairs, units, active, min_diff, draws) for _ in range(2)))


def _patterns(n: int, units: int, active: int, min_diff: int, rng: torch.Generator | None) -> Tensor:
    made = torch.zeros(n, units)
    for i in range(n):
        for _ in range(10_000):
            draw = torch.zeros(units)
            draw[torch.randperm(units, generator=rng)[:active]] = 1
            if not i or float((made[:i] @ draw).max()) <= active - min_diff:
                made[i] = draw
                break
        else:
            raise ValueError(
                f"no room for {n} patterns of {active} in {units} units that differ in {min_diff}: found {i}; ask for "
                "fewer, or a smaller min_diff"
            )
    return made


def order(pairs: int, trials: int, rng: int | torch.Generator) -> Tensor:
    """Which pair each trial shows: random permutations of all pairs, one after the other.

    Example:
        >>> sorted(order(25, 50, 0)[:25].tolist()) == list(range(25))
        True
    """
    draws = generator(rng)
    rounds = [torch.randperm(pairs, generator=draws) for _ in range(-(-trials // pairs))]
    return torch.cat(rounds)[:trials]


def network(theta: ThetaCycle | None = None, *, seed: int = 0, hidden: int = 10) -> Network:
    """Input 5x5, two hidden layers, output 5x5; fully connected, both ways above the input; Axon's parameters.

    Example:
        >>> network()
        Network(Input 5x5 input, Hidden1 10x10 hidden, Hidden2 10x10 hidden, Output 5x5 target; 5 paths)
    """
    net = Network(theta, seed=seed)
    net.layer("Input", (5, 5), kind="input")
    net.layer("Hidden1", (hidden, hidden))
    net.layer("Hidden2", (hidden, hidden))
    net.layer("Output", (5, 5), kind="target")
    net.connect("Input", "Hidden1")
    net.connect("Hidden1", "Hidden2", back=True)
    net.connect("Hidden2", "Output", back=True)
    net.apply(SHEET)
    return net


def wrong(act_m: Tensor, target: Tensor) -> Tensor:
    """Which output units are on the wrong side of 0.5 at the end of the minus phase; bool, of the patterns' shape."""
    return (act_m > 0.5) != (target > 0.5)


def epoch(
    net: Network,
    pairs: Pairs,
    which: Tensor,
    *,
    data: int = 1,
    learn: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Epoch:
    """Show trials, learn after each (or after each batch), and count the errors made before learning.

    Args:
        net: of `network`.
        pairs: of `patterns`.
        which: index of the pair of every trial, of `order`.
        data: trials presented together; weights change after each batch.
        learn: False only tests.
        progress: called as `progress(trial, trials)`.
    """
    errors, units, correlations = 0, 0, []
    activity = dict.fromkeys(net.layers, 0.0)
    for start in range(0, len(which), data):
        index = which[start : start + data]
        target = pairs.outputs[index]
        trial = net.present(pairs.inputs[index], target)
        act_m = net.read(trial, "Output", "ActM").flatten(1)
        off = wrong(act_m, target)
        errors += int(off.any(1).sum())
        units += int(off.sum())
        correlations += [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(act_m, target)]
        for name in activity:
            activity[name] += float(net.read(trial, name, "ActM").mean()) * len(index) / len(which)
        if learn:
            net.learn(trial)
        if progress is not None:
            progress(start + len(index), len(which))
    return Epoch(
        errors / len(which), units / (len(which) * pairs.outputs.shape[1]), activity,
        sum(correlations) / len(correlations),
    )  # fmt: skip
