"""What a cortex study leaves to be looked at: spikes, learning calcium, deltas and maps of one theta cycle."""

from typing import Any

import torch

from unrolled.core import Trajectory
from unrolled.cortex import Network
from unrolled.runs import Run


def show(run: Run, net: Network, trial: Trajectory) -> None:
    """Leave the panels of a trial: what `_cortex.remember` recorded.

    Args:
        run: where they go.
        net: whose trial it was, for the shapes of its layers.
        trial: records `<layer>.Spike`, `.Act`, `.LearnCaP`, `.LearnCaD` `[T, 1, n]`, and `before/<layer>.Act`.
    """
    names: list[str] = list(trial.meta["layers"])
    minus, length = int(trial.meta["minus"]), int(trial.meta["length"])
    bands = [
        {"label": "minus: prediction", "start": 0, "stop": minus, "role": "minus"},
        {"label": "plus: outcome", "start": minus, "stop": length, "role": "plus"},
    ]
    timed: dict[str, Any] = {"unit": "cycle", "t": trial.t.tolist()}
    sizes = [trial[f"{name}.Spike"].shape[-1] for name in names]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    groups = [
        {"label": name, "start": a, "stop": a + n} for name, a, n in zip(names, starts, sizes, strict=True)
    ]
    spikes = torch.cat([trial[f"{name}.Spike"][:, 0] for name in names], -1)
    run.save_exhibit(
        "1-raster", "raster", title="Spikes of one theta cycle", **timed, arrays={"values": spikes > 0},
        data={"groups": groups, "bands": bands, "wide": True},
        caption="Every neuron of the trained network, layers one above the other. The minus phase predicts, the plus phase shows the outcome.",
    )  # fmt: skip
    change = {name: trial[f"{name}.LearnCaP"][-1, 0] - trial[f"{name}.LearnCaD"][-1, 0] for name in names}
    inner = names[1:] or names
    layer = max(inner, key=lambda name: float(change[name].abs().max()))
    up, down = int(change[layer].argmax()), int(change[layer].argmin())
    traces = {
        f"{layer} {unit} {kind}": trial[f"{layer}.Learn{kind}"][:, 0, unit]
        for unit in dict.fromkeys((up, down))
        for kind in ("CaP", "CaD")
    }
    run.save_exhibit(
        "2-calcium", "lines", title="Learning calcium", **timed, arrays=traces, data={"bands": bands, "ylabel": "calcium"},
        caption=f"Of the neurons of {layer} that gain ({up}) and lose ({down}) most: CaP (CaMKII) is where the neuron is, CaD (DAPK1) where it was. "
        "Their difference at the end of the cycle is what its synapses learn from.",
    )  # fmt: skip
    apart = {
        prefix: [
            float(_delta(trial[f"{prefix}{name}.Act"], minus, length).abs().mean())
            if f"{prefix}{name}.Act" in trial.records
            else float("nan")
            for name in names
        ]
        for prefix in ("before/", "")
    }
    run.save_exhibit(
        "3-delta", "bars", title="Delta per layer", unit="cycle",
        data={"labels": names, "groups": ["before learning", "after"], "ylabel": "mean |plus - minus|"},
        arrays={"values": torch.tensor([apart["before/"], apart[""]])},
        caption="Activity at the end of the plus phase minus that at the end of the minus phase, size averaged over neurons: what is left to learn from.",
    )  # fmt: skip
    run.save_exhibit(
        "4-activity", "heatmap", title="Activity maps", **timed, data={"wide": True},
        arrays={name: trial[f"{name}.Act"][:, 0].unflatten(-1, _plane(net, name)) for name in names},
        caption="Act of every neuron, a map a layer. Scrub from prediction to outcome.",
    )  # fmt: skip


def _delta(act: torch.Tensor, minus: int, length: int) -> torch.Tensor:
    act = act[:, 0]
    return act[length - 20 : length + 1].mean(0) - act[minus - 20 : minus].mean(0)


def _plane(net: Network, name: str) -> tuple[int, int]:
    """A layer's shape as rows and columns; pools lie side by side."""
    shape = [int(n) for n in net.layers[name].shape]
    columns = shape[-1]
    total = 1
    for n in shape:
        total *= n
    return total // columns, columns
