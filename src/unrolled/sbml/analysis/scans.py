"""Parameter scans: thousands of variations of a network as one batch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes

Values = Sequence[float] | Tensor


@dataclass(frozen=True)
class Scan:
    """A batch of simulations over values of parameters or initial states.

    Attributes:
        over: name -> the values along its axis of the grid; with `grid=False`, its value in each variation.
        shape: of the grid; `(B,)` with `grid=False`.
        simulation: the batch, B = the product of `shape`, last axis of the grid fastest.
        species: what is drawn where nothing else is said.
    """

    over: dict[str, Tensor]
    shape: tuple[int, ...]
    simulation: Any
    species: tuple[str, ...]

    def __len__(self) -> int:
        return math.prod(self.shape)

    def value(self, name: str) -> Tensor:
        """Values of a species or parameter over time, `[points, *shape]`."""
        return self.simulation.value(name).reshape(-1, *self.shape)

    def end(self, name: str) -> Tensor:
        """Its values at the end, `[*shape]`."""
        return self.value(name)[-1]

    def extremes(self, name: str, last: float = 0.5) -> tuple[Tensor, Tensor]:
        """Its least and greatest value over the last share of the time, `[*shape]` each.

        Where the two differ the network still moves: a cycle, or a transient that has not ended.
        """
        value = self.value(name)
        tail = value[int(len(value) * (1 - last)) :]
        return tail.amin(0), tail.amax(0)

    def to_frame(self, of: Sequence[str] | None = None) -> Any:
        """A `pandas.DataFrame`: one row a variation, with its end and its extremes over the last half.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        columns = {name: column.flatten().numpy() for name, column in self._columns().items()}
        for name in of or self.species:
            low, high = self.extremes(name)
            columns[f"{name} end"] = self.end(name).detach().flatten().numpy()
            columns[f"{name} min"], columns[f"{name} max"] = (
                part.detach().flatten().numpy() for part in (low, high)
            )
        return pandas.DataFrame(columns)

    def _columns(self) -> dict[str, Tensor]:
        if len(self.shape) == 1:
            return self.over
        grid = torch.meshgrid(*self.over.values(), indexing="ij")
        return {name: values.flatten() for name, values in zip(self.over, grid)}

    def plot(self, of: str | None = None, ax: Any = None) -> Any:
        """One axis: least and greatest value over the last half of the time. Two: the end as a map.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
            ValueError: a scan over more than two axes.
        """
        name = of or self.species[0]
        ax = axes(ax)
        names = list(self.over)
        if len(self.shape) == 1 and len(names) == 1:
            x = self.over[names[0]]
            low, high = (part.detach() for part in self.extremes(name))
            ax.fill_between(x, low, high, color=COLORS[0], alpha=0.2, lw=0)
            ax.plot(x, high, color=COLORS[1], label="greatest, last half")
            ax.plot(x, low, color=COLORS[0], label="least, last half")
            ax.set(xlabel=names[0], ylabel=name)
            if _logarithmic(x):
                ax.set_xscale("log")
            ax.legend(frameon=False)
        elif len(self.shape) == 2:
            x, y = (self.over[n] for n in names)
            mesh = ax.pcolormesh(y, x, self.end(name).detach(), cmap="viridis", shading="nearest")
            ax.figure.colorbar(mesh, ax=ax, label=f"{name} at the end")
            ax.set(xlabel=names[1], ylabel=names[0])
            if _logarithmic(x):
                ax.set_yscale("log")
            if _logarithmic(y):
                ax.set_xscale("log")
        else:
            raise ValueError(
                f"a scan over {', '.join(names)} has no picture: one or two axes do; to_frame() has the numbers"
            )
        return ax

    def courses(self, of: str | None = None, ax: Any = None) -> Any:
        """Every variation over time, coloured by its value along the first axis.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        matplotlib = require("matplotlib", extra="report")
        collections = require("matplotlib.collections", extra="report")
        name = of or self.species[0]
        ax = axes(ax)
        first = next(iter(self.over))
        along = self._columns()[first]
        y, t = self.simulation.value(name).detach().reshape(-1, len(self)), self.simulation.t
        lines = collections.LineCollection(
            [torch.stack([t, y[:, i]], -1).numpy() for i in range(len(self))], cmap="viridis", linewidths=0.9
        )
        if _logarithmic(along):
            lines.set_norm(matplotlib.colors.LogNorm(float(along.min()), float(along.max())))
        lines.set_array(along.numpy())
        ax.add_collection(lines)
        ax.autoscale_view()
        ax.figure.colorbar(lines, ax=ax, label=first)
        ax.set(xlabel="time", ylabel=name)
        return ax


def scan(
    model: Any,
    over: Mapping[str, Values],
    t_end: float,
    points: int = 101,
    *,
    parameters: Mapping[str, Any] | None = None,
    grid: bool = True,
    **options: Any,
) -> Scan:
    """Simulate a network over values of its parameters or initial states, as one batch.

    Args:
        model: the network.
        over: parameter or species -> values. A species is an initial value.
        t_end: end of the simulation.
        points: recorded, both ends counted.
        parameters: other values that differ from the model's.
        grid: every value with every other; False: the k-th of each together.
        options: of `model.simulate`: method, rtol, atol.

    Raises:
        KeyError: a name that is neither a parameter nor a species.
        ValueError: no values, or with `grid=False` lists of different lengths.

    Example:
        Decay at two rates: S(1) = exp(-k).

        >>> from unrolled.sbml import Model
        >>> model = Model.from_equations(species={"S": 1.0}, parameters={"k": 1.0}, rates={"S": "-k * S"})
        >>> made = scan(model, {"k": [0.5, 2.0]}, t_end=1, points=2, rtol=1e-9)
        >>> [round(value, 6) for value in made.end("S").tolist()]
        [0.606531, 0.135335]
    """
    if not over:
        raise ValueError('nothing to scan over: give e.g. {"k1": torch.logspace(-1, 1, 64)}')
    columns = {name: torch.as_tensor(values, dtype=torch.float64).flatten() for name, values in over.items()}
    empty = [name for name, values in columns.items() if not len(values)]
    if empty:
        raise ValueError(f"no values for {', '.join(empty)}")
    if grid:
        shape = tuple(len(values) for values in columns.values())
        mesh = torch.meshgrid(*columns.values(), indexing="ij")
        batch = {name: values.flatten() for name, values in zip(columns, mesh)}
    else:
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"with grid=False all lists have one length, got {lengths}")
        shape, batch = (next(iter(lengths.values())),), columns
    species = tuple(model.species)
    unknown = [name for name in batch if name not in species and name not in model.parameters]
    if unknown:
        raise KeyError(
            f"no parameter or species {', '.join(map(repr, unknown))}; there are {', '.join([*model.parameters, *species][:40])}"
        )
    size = math.prod(shape)
    initial = {name: values for name, values in batch.items() if name in species}
    x0 = model.initial_state(batch=size, **initial) if initial else None
    values = {**(parameters or {}), **{n: v for n, v in batch.items() if n not in species}}
    run = model.simulate(t_end, points, x0=x0, parameters=values or None, **options)
    return Scan(columns, shape, run, species)


def _logarithmic(values: Tensor) -> bool:
    """Whether values are spread by ratios rather than by differences."""
    if len(values) < 3 or not bool((values > 0).all()):
        return False
    ordered = values.sort().values.unique()
    if len(ordered) < 3:
        return False
    ratios, steps = ordered[1:] / ordered[:-1], ordered.diff()
    return float(ratios.std() / ratios.mean()) < float(steps.std() / steps.mean())
