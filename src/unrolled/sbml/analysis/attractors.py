"""Basins: which resting state, or which rhythm, a start leads to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.instruments import settling
from unrolled.instruments.reading import COLORS, axes
from unrolled.sbml.analysis.steady import SteadyState, SteadyStates, steady_states


@dataclass(frozen=True)
class Attractor:
    """Where some of the starts end.

    Attributes:
        kind: `"fixed point"`, `"limit cycle"`, or what else `settling` says of a representative (`"not settled"`).
        low: species -> least value over the last half of the time.
        high: species -> greatest value.
        share: of the starts.
        period: of a limit cycle, in the model's time; NaN otherwise.
        state: the stable steady state it is, where it is one.
    """

    kind: str
    low: dict[str, float]
    high: dict[str, float]
    share: float
    period: float = float("nan")
    state: SteadyState | None = None

    def __str__(self) -> str:
        if self.kind == "fixed point":
            at = ", ".join(f"{name} = {value:.5g}" for name, value in self.high.items())
        else:
            at = ", ".join(f"{n} {self.low[n]:.4g} to {self.high[n]:.4g}" for n in self.low)
        turns = f", period {self.period:.5g}" if self.period == self.period else ""
        return f"{self.kind} ({100 * self.share:.0f} % of starts{turns}): {at}"


@dataclass(frozen=True)
class Basins:
    """Attractors, and which start leads to which.

    Attributes:
        attractors: the largest share first.
        label: `[n]`, the attractor of each start; -1 where the simulation failed.
        starts: `[n, d]`.
        steady: the steady states that were looked for.
        over: the two species of a grid and their values, or {}.
        species: names of the columns of `starts`.
    """

    attractors: tuple[Attractor, ...]
    label: Tensor
    starts: Tensor
    steady: SteadyStates
    over: dict[str, Tensor]
    species: tuple[str, ...]

    @property
    def bistable(self) -> bool:
        """Whether there is more than one attractor."""
        return len(self.attractors) > 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.attractors)) or "no attractor found"

    def plot(self, ax: Any = None) -> Any:
        """Of a grid: a map of the basins with the steady states on it. Of other starts: shares.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        ax = axes(ax)
        named = [f"{a.kind}, {100 * a.share:.0f} %" for a in self.attractors]
        if len(self.over) != 2:
            ax.barh(named, [a.share for a in self.attractors], color=COLORS[: len(named)])
            ax.set(xlabel="share of starts")
            return ax
        (x, along), (y, across) = self.over.items()
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        count = max(1, len(self.attractors))
        shades = ListedColormap(["#ffffff"] + [COLORS[k % len(COLORS)] for k in range(count)])
        grid = self.label.reshape(len(along), len(across)).T
        ax.pcolormesh(
            along,
            across,
            grid,
            cmap=shades,
            vmin=-1.5,
            vmax=count - 0.5,
            alpha=0.35,
            shading="nearest",
            lw=0,
            rasterized=True,
        )
        for state in self.steady:
            inside = along[0] <= state[x] <= along[-1] and across[0] <= state[y] <= across[-1]
            if inside:
                ax.plot(
                    state[x],
                    state[y],
                    "o",
                    color="#1c1e21",
                    mfc="#1c1e21" if state.stable else "white",
                    zorder=5,
                )
        ax.set(xlabel=x, ylabel=y, xlim=(along[0], along[-1]), ylim=(across[0], across[-1]))
        patches = [
            Patch(color=COLORS[k % len(COLORS)], alpha=0.35, label=name) for k, name in enumerate(named)
        ]
        ax.legend(handles=patches, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return ax  # fmt: skip


def basins(
    model: Any,
    t_end: float,
    over: Mapping[str, Sequence[float] | Tensor] | None = None,
    *,
    starts: Tensor | int = 64,
    parameters: Mapping[str, float] | None = None,
    points: int = 2001,
    near: float = 1e-2,
    seed: int = 0,
    **options: Any,
) -> Basins:
    """Simulate many starts as one batch, and tell where they end.

    A start belongs to a stable steady state when it ends within `near` of it, relative to the spread of all starts' ends
    and to the state. Starts that still move over the last half are grouped by their means and deviations, and `settling` says of one
    of each group whether it goes round in a cycle.

    Args:
        model: the network.
        t_end: long enough to settle; a few of the slowest relaxation times, or of periods.
        over: two species and their initial values: a grid, other species as in the model's initial state.
        starts: without `over`: initial states `[n, d]`, or how many to draw (uniformly between 0 and the model's scale).
        parameters: values other than the model's.
        points: recorded.
        near: relative distance.
        seed: of the starts.
        options: of `model.simulate`.

    Raises:
        ValueError: `over` does not name two species.

    Example:
        dx/dt = x - x^3 has the basins x < 0 and x > 0:

        >>> from unrolled.sbml import Model
        >>> model = Model.from_equations(species={"x": 0.5}, rates={"x": "x - x^3"})
        >>> found = basins(model, 20.0, starts=torch.tensor([[-2.0], [-0.1], [0.2], [3.0]], dtype=torch.float64))
        >>> found.bistable, found.label.tolist()
        (True, [0, 0, 1, 1])
    """
    from unrolled.sbml.analysis._field import Field

    species = tuple(model.species)
    system = Field(model, parameters, None)
    grid: dict[str, Tensor] = {}
    if over is not None:
        if len(over) != 2 or not set(over) <= set(species):
            raise ValueError(
                f"over= takes two species with their initial values, got {', '.join(over)}; there are {', '.join(species)}"
            )
        grid = {name: torch.as_tensor(values, dtype=torch.float64) for name, values in over.items()}
        mesh = torch.meshgrid(*grid.values(), indexing="ij")
        x0 = system.x0.repeat(mesh[0].numel(), 1)
        for name, values in zip(grid, mesh):
            x0[:, species.index(name)] = values.flatten()
    elif isinstance(starts, Tensor):
        x0 = starts
    else:
        system.widen(steady_states(model, parameters=parameters, seed=seed, positive=system.nonnegative))
        x0 = system.starts(starts, 0.0, seed, signed=not system.nonnegative)
    run = model.simulate(t_end, points, x0=x0, parameters=dict(parameters) if parameters else None, **options)
    course = torch.stack(
        [run.value(name).reshape(points, -1).expand(points, len(x0)) for name in species], -1
    )
    steady = steady_states(
        model,
        parameters=parameters,
        seed=seed,
        positive=bool((x0 >= 0).all() and (course[-1] >= -1e-6).all()),
    )
    return _sorted_out(course, run.t, x0, steady, grid, species, near)


def _sorted_out(
    course: Tensor, t: Tensor, x0: Tensor, steady: SteadyStates, grid: dict[str, Tensor], species: tuple[str, ...], near: float
) -> Basins:  # fmt: skip
    tail = course[len(course) // 2 :]
    low, high = tail.amin(0), tail.amax(0)
    alive = course[-1].isfinite().all(-1)
    scale = high[alive].abs().amax(0).clamp(min=1e-12) if bool(alive.any()) else torch.ones(len(species))
    middle, width = (low + high) / 2, (high - low) / scale
    mean, spread = tail.mean(0), tail.std(0, correction=0)
    quarter = course[-(len(course) // 4) :]
    rests = alive & (((quarter.amax(0) - quarter.amin(0)) / scale).amax(-1) < near)
    stable = steady.stable
    groups: list[tuple[Tensor, SteadyState | None]] = []
    left = alive.clone()
    for state in stable:
        here = left & rests & (((course[-1] - state.x) / scale).abs().amax(-1) < near)
        if bool(here.any()):
            groups.append((here, state))
            left &= ~here
    while bool(left.any()):
        first = int(left.nonzero()[0])
        # A rhythm's mean and deviation over some turns depend a little on where it is cut off.
        reach = near if bool(rests[first]) else 5 * near
        same = ((mean - mean[first]).abs() / scale + (spread - spread[first]).abs() / scale).amax(
            -1
        ) < 2 * reach
        here = left & same & (rests == rests[first])
        here[first] = True
        groups.append((here, None))
        left &= ~here
    made: list[tuple[Attractor, Tensor]] = []
    for here, state in groups:
        one = int(here.nonzero()[0])
        share = float(here.double().mean())
        if state is not None:
            at = dict(zip(species, state.x.tolist()))
            made.append((Attractor("fixed point", at, at, share, state=state), here))
            continue
        kind, period = _told(course[:, one], t, bool(rests[one]), scale, float(width[one].max()))
        least, most = (middle, middle) if kind == "fixed point" else (low, high)
        ends = (dict(zip(species, least[one].tolist())), dict(zip(species, most[one].tolist())))
        made.append((Attractor(kind, ends[0], ends[1], share, period), here))
    made.sort(key=lambda pair: -pair[0].share)
    label = torch.full((len(x0),), -1)
    for k, (_, here) in enumerate(made):
        label[here] = k
    return Basins(tuple(attractor for attractor, _ in made), label, x0, steady, grid, species)


def _told(course: Tensor, t: Tensor, rests: bool, scale: Tensor, width: float) -> tuple[str, float]:
    """What `settling` says of one start's second half, and the period in the model's time."""
    half = Trajectory.from_records(torch.arange(len(t) - len(t) // 2), {"x": (course / scale)[len(t) // 2 :]})
    if rests:
        return "fixed point", float("nan")
    found = settling(half, of="x", tol=1e-3 * width, max_period=len(half) // 3)
    kind = found["kind"]
    step = float(t[1] - t[0])
    if kind == "limit cycle":
        return kind, found["period"] * step
    return "not settled" if kind == "fixed point" else kind, float("nan")
