"""What a study of networks leaves to be looked at: concentrations over time, and the path in the plane of two species."""

from typing import Any

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
        x: species across; the first that can move when None.
        y: species up; the second.
        starts: paths in the plane; the first is from the model's own initial state.
    """
    species = [s.name for s in model.network.states if str(s.rate) != "Number(value=0.0)"]
    x, y = str(x or species[0]), str(y or species[1])
    done = _follow(model, model.initial_state(1), t_end)
    window = {}
    if starts == 1:  # all of the path is to be seen
        for axis in (x, y):
            low, high = float(done.value(axis).min()), float(done.value(axis).max())
            window[axis] = (min(0.0, low), high + 0.1 * (high - low) + 1e-12)
    flow = portrait(model, x, y, n=GRID, window=window or None)
    across, up = flow.grid
    if starts > 1:
        begin = model.initial_state(starts)
        i, j = (list(model.species).index(axis) for axis in (x, y))
        for k in range(1, starts):  # spread over the window, corners first
            begin[k, i] = across[-1] * (0.05 if k % 2 else 0.95)
            begin[k, j] = up[-1] * (0.95 if (k + 1) // 2 % 2 else 0.1)
        done = _follow(model, begin, t_end)
    timed: dict[str, Any] = {"unit": "time", "t": done.t.tolist()}
    shown = species[:MOST]
    run.save_exhibit(
        f"{name}-1-traces", "lines", title=f"{name}: concentrations", **timed,
        arrays={s: done.value(s)[:, 0] for s in shown}, data={"ylabel": "concentration"},
        caption=f"From the network's own initial state{f'; {MOST} of {len(species)} species that move' if len(species) > MOST else ''}.",
    )  # fmt: skip
    rest = [
        {"x": float(state[x]), "y": float(state[y]), "label": state.kind, "stable": bool(state.stable)}
        for state in flow.states
    ]
    held = ", others held at their initial values" if flow.held else ""
    run.save_exhibit(
        f"{name}-2-phase", "phase", title=f"{name}: phase portrait", **timed,
        data={"xlabel": x, "ylabel": y, "points": rest, "names": [f"start {k}" for k in range(starts)], "xrange": [float(across[0]), float(across[-1])], "yrange": [float(up[0]), float(up[-1])]},
        arrays={"x": done.value(x), "y": done.value(y), "u": flow.dx.T, "v": flow.dy.T},
        caption=f"The vector field in the plane of {x} and {y}{held}, the path of the whole network, and where it rests (filled: stable).",
    )  # fmt: skip


def _follow(model: Any, begin: Any, t_end: float) -> Any:
    return model.simulate(t_end, POINTS, x0=begin, method="dopri5", max_steps=1_000_000)
