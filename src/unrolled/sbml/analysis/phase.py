"""Phase portraits: the flow of two species, where it turns, and where it rests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.reading import COLORS, axes
from unrolled.sbml.analysis._field import Field
from unrolled.sbml.analysis.steady import SteadyState, steady_states


@dataclass(frozen=True)
class Portrait:
    """The vector field of two species on a grid.

    Attributes:
        x: name of the species across.
        y: name of the one up.
        grid: `[n]` and `[n]`, their values.
        dx: `[n, n]`, dx/dt, first axis along x.
        dy: `[n, n]`, dy/dt.
        held: the other species' values; empty in a network of two.
        states: steady states within the window that lie in the plane (all of them in a network of two).
        paths: trajectories `[points, 2]` that start in the window.
    """

    x: str
    y: str
    grid: tuple[Tensor, Tensor]
    dx: Tensor
    dy: Tensor
    held: dict[str, float]
    states: tuple[SteadyState, ...]
    paths: tuple[Tensor, ...] = ()

    def plot(self, ax: Any = None) -> Any:
        """Streamlines, both nullclines, trajectories, and the steady states: filled where they are stable.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        ax = axes(ax)
        across, up = (part.numpy() for part in self.grid)
        speed = (self.dx**2 + self.dy**2).sqrt()
        if bool((speed > 0).any()):
            ax.streamplot(
                across,
                up,
                self.dx.T.numpy(),
                self.dy.T.numpy(),
                color="#9aa0a6",
                linewidth=0.6,
                arrowsize=0.7,
                density=1.1,
            )
        for part, color, name in ((self.dx, COLORS[0], self.x), (self.dy, COLORS[1], self.y)):
            if bool((part > 0).any()) and bool((part < 0).any()):
                ax.contour(across, up, part.T.numpy(), levels=[0.0], colors=[color], linewidths=1.6)
            ax.plot([], [], color=color, lw=1.6, label=f"d{name}/dt = 0")
        for path in self.paths:
            ax.plot(path[:, 0], path[:, 1], color="#1c1e21", lw=0.9)
        for state in self.states:
            ax.plot(
                state[self.x],
                state[self.y],
                "o",
                color="#1c1e21",
                mfc="#1c1e21" if state.stable else "white",
                zorder=5,
            )
        ax.set(xlabel=self.x, ylabel=self.y, xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return ax  # fmt: skip


def portrait(
    model: Any,
    x: str | None = None,
    y: str | None = None,
    *,
    window: Mapping[str, tuple[float, float]] | None = None,
    held: Mapping[str, float] | None = None,
    parameters: Mapping[str, float] | None = None,
    n: int = 121,
    paths: int = 0,
    t_end: float | None = None,
    **options: Any,
) -> Portrait:
    """The flow in the plane of two species, others held at given values.

    Args:
        model: the network.
        x: species across; the first when None.
        y: species up; the second when None.
        window: species -> (least, greatest); from 0 to twice the largest steady or initial value when not given.
        held: values of the other species; those of the initial state when not given.
        parameters: values other than the model's.
        n: points of the grid along each axis; all are one batch.
        paths: trajectories to draw, from starts spread over the window; the whole network moves in them.
        t_end: of these trajectories.
        options: of `model.simulate`.

    Raises:
        KeyError: no such species.
        ValueError: fewer than two species, or `paths` without `t_end`.

    Example:
        A harmonic oscillator turns about 0:

        >>> from unrolled.sbml import Model
        >>> model = Model.from_equations(species={"x": 1.0, "v": 0.0}, rates={"x": "v", "v": "-x"})
        >>> flow = portrait(model, window={"x": (-1, 1), "v": (-1, 1)}, n=3)
        >>> flow.dx[0].tolist(), (-flow.dy[:, 0]).tolist()
        ([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
    """
    species: tuple[str, ...] = tuple(model.species)
    if len(species) < 2:
        raise ValueError(f"a phase portrait needs two species, the model has {', '.join(species) or 'none'}")
    x, y = str(x or species[0]), str(y or species[1])
    unknown = [name for name in (x, y, *(held or {}), *(window or {})) if name not in species]
    if unknown:
        raise KeyError(f"no species {', '.join(map(repr, unknown))}; there are {', '.join(species)}")
    if paths and t_end is None:
        raise ValueError("paths= needs t_end=, how long to follow them")
    system = Field(model, parameters, None)
    i, j = species.index(x), species.index(y)
    base = system.x0.clone()
    for name, value in (held or {}).items():
        base[species.index(name)] = value
    found = steady_states(model, parameters=parameters, positive=system.nonnegative)
    grid = tuple(_axis(name, k, window, system, found, n) for name, k in ((x, i), (y, j)))
    mesh = torch.meshgrid(*grid, indexing="ij")
    states = base.repeat(n * n, 1)
    states[:, i], states[:, j] = mesh[0].flatten(), mesh[1].flatten()
    flow = system.f(states)
    others = [k for k in range(len(species)) if k not in (i, j)]
    scale = system.scale
    inside = tuple(
        s
        for s in found
        if all(bool(g[0] <= s.x[k] <= g[-1]) for g, k in zip(grid, (i, j)))
        and (not others or float(((s.x - base) / scale)[others].abs().max()) < 1e-6)
    )
    drawn: tuple[Tensor, ...] = ()
    if paths and t_end is not None:
        pick = torch.linspace(0.1, 0.9, max(2, round(paths**0.5)), dtype=torch.float64)
        starts = base.repeat(len(pick) ** 2, 1)
        corners = torch.cartesian_prod(pick, pick)
        for column, (g, k) in enumerate(zip(grid, (i, j))):
            starts[:, k] = g[0] + corners[:, column] * (g[-1] - g[0])
        # From 64 samples on the loop is compiled: companions are cheaper than going without.
        starts = starts.repeat(-(-64 // len(starts)), 1)
        run = model.simulate(
            t_end, 801, x0=starts, parameters=dict(parameters) if parameters else None, **options
        )
        both = torch.stack([run.value(x), run.value(y)], -1)
        drawn = tuple(both[:, k] for k in range(len(pick) ** 2))
    return Portrait(
        x, y, (grid[0], grid[1]), flow[:, i].reshape(n, n), flow[:, j].reshape(n, n),
        {species[k]: float(base[k]) for k in others}, inside, drawn,
    )  # fmt: skip


def _axis(name: str, k: int, window: Any, system: Field, found: Any, n: int) -> Tensor:
    if window and name in window:
        low, high = window[name]
    else:
        reach = max([float(abs(system.x0[k])), *(float(abs(s.x[k])) for s in found)]) or 1.0
        low, high = (0.0 if system.nonnegative else -2 * reach), 2 * reach
    return torch.linspace(float(low), float(high), n, dtype=torch.float64)
