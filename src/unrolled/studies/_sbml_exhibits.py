"""What a study of networks leaves to be looked at: concentrations over time, and the path in the plane of two species."""

from typing import Any

import torch

from unrolled.runs import Run
from unrolled.sbml.analysis import portrait

POINTS = 241
GRID = 18
MOST = 8  # species


def show(
    run: Run,
    model: Any,
    name: str,
    t_end: float,
    *,
    x: str | None = None,
    y: str | None = None,
    starts: int = 1,
) -> None:
    """Leave a network's traces and its phase portrait.

    Args:
        run: where they go.
        model: the network.
        name: of it; the exhibits' names begin so.
        t_end: how long to follow it.
        x: species across; the first when None.
        y: species up; the second when None.
        starts: paths in the plane; the first is from the model's own initial state.
    """
    species = list(model.species)
    x, y = str(x or species[0]), str(y or species[1])
    flow = portrait(model, x, y, n=GRID)
    across, up = flow.grid
    i, j = species.index(x), species.index(y)
    begin = model.initial_state(starts)
    for k in range(1, starts):  # spread over the window, corners first
        begin[k, i] = across[-1] * (0.05 if k % 2 else 0.95)
        begin[k, j] = up[-1] * (0.95 if (k + 1) // 2 % 2 else 0.1)
    done = model.simulate(t_end, POINTS, x0=begin, method="dopri5", max_steps=1_000_000)
    values = torch.stack([done.value(s) for s in species], -1)
    timed: dict[str, Any] = {"unit": "time", "t": done.t.tolist()}
    shown = species[:MOST]
    run.save_exhibit(
        f"{name}-1-traces", "lines", title=f"{name}: concentrations", **timed,
        arrays={s: values[:, 0, species.index(s)] for s in shown}, data={"ylabel": "concentration"},
        caption=f"From the network's own initial state{f'; {MOST} of {len(species)} species' if len(species) > MOST else ''}.",
    )  # fmt: skip
    rest = [
        {"x": float(state[x]), "y": float(state[y]), "label": state.kind, "stable": bool(state.stable)}
        for state in flow.states
    ]
    held = ", others held at their initial values" if flow.held else ""
    run.save_exhibit(
        f"{name}-2-phase", "phase", title=f"{name}: phase portrait", **timed,
        data={"xlabel": x, "ylabel": y, "points": rest, "xrange": [float(across[0]), float(across[-1])], "yrange": [float(up[0]), float(up[-1])]},
        arrays={"x": values[..., i], "y": values[..., j], "u": flow.dx.T, "v": flow.dy.T},
        caption=f"The vector field in the plane of {x} and {y}{held}, the path of the whole network, and where it rests (filled: stable).",
    )  # fmt: skip
