"""A report on a network: what it contains, what it conserves, where it ends, and a picture of it."""

from dataclasses import dataclass
from typing import Any

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.sbml.analysis._field import Field
from unrolled.sbml.analysis.attractors import Basins, basins
from unrolled.sbml.analysis.calibration import time_scale
from unrolled.sbml.analysis.phase import portrait
from unrolled.sbml.analysis.steady import SteadyStates, steady_states

SHOWN = 8
"""Species drawn, and listed in full; larger networks are cut to those that move most."""


@dataclass(frozen=True)
class Report:
    """What a network is and does.

    Attributes:
        model: the network.
        steady: its steady states within the conserved totals of its initial state.
        basins: where starts about its scale end; None where events make that another question.
        scale: the period or relaxation time of its own run.
        moving: whether that run keeps moving.
        run: the simulation that is drawn.
        notes: what was left out, and why.
    """

    model: Any
    steady: SteadyStates | None
    basins: Basins | None
    scale: float
    moving: bool
    run: Any
    notes: tuple[str, ...]

    @property
    def leading(self) -> list[str]:
        """The species that move most over the run, at most eight."""
        x = self.run["x"].nan_to_num()
        swing = (x.amax(0) - x.amin(0)) / x.abs().amax().clamp(min=1e-12)
        order = [i for i in swing.argsort(descending=True).tolist() if swing[i] > 0]
        return [self.model.species[i] for i in order[:SHOWN]]

    def __str__(self) -> str:
        network = self.model.network
        lines = [
            f"{self.model.name}: {len(self.model.species)} columns, {len(network.reactions)} reactions, "
            f"{len(network.rules) - len(network.reactions)} rules, {len(network.parameters)} constants, {len(network.events)} events",
            *(f"  assumed: {note}" for note in network.notes),
            "conserved:" if self.model.conserved else "conserved: nothing",
            *(f"  {law}" for law in self.model.conserved),
        ]
        if self.steady is not None:
            lines += ["steady states:", *(f"  {_cut(line)}" for line in str(self.steady).splitlines())]
        if self.basins is not None:
            lines += ["attractors:", *(f"  {_cut(line)}" for line in str(self.basins).splitlines())]
        what = "period" if self.moving else "relaxation time"
        lines.append(f"{what} of its own run: {self.scale:.4g}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def plot(self, figure: Any = None) -> Any:
        """Time course, phase portrait of the two species that move most, eigenvalues, basins.

        Returns:
            The figure.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        matplotlib = require("matplotlib.figure", extra="report")
        figure = matplotlib.Figure(figsize=(9.2, 6.4), layout="constrained") if figure is None else figure
        course, plane, eigen, ends = map(axes, figure.subplots(2, 2).ravel())
        for name, color in zip(self.leading, COLORS * 2):
            course.plot(self.run.t, self.run["x"][:, self.model.species.index(name)], color=color, label=name)
        course.set(xlabel="time", title="from its initial state")
        if self.leading:
            course.legend(frameon=False, fontsize=8)
        if len(self.leading) > 1:
            self._plane(plane)
        else:
            plane.set_axis_off()
        if self.steady is not None and len(self.steady):
            self.steady.plot(eigen)
        else:
            eigen.set_axis_off()
        if self.basins is not None:
            self.basins.plot(ends)
            ends.set(title="where starts end")
        else:
            ends.set_axis_off()
        figure.suptitle(self.model.name)
        return figure

    def _plane(self, ax: Any) -> None:
        """The two leading species: a phase portrait in a network of two, else the projected run."""
        x, y = self.leading[:2]
        own = [self.run["x"][:, self.model.species.index(name)] for name in (x, y)]
        if len(self.model.species) == 2 and not self.model.network.events:
            window = {}
            for name, values in zip((x, y), own):
                low, high = float(values.min()), float(values.max())
                window[name] = (low - 0.15 * (high - low), high + 0.15 * (high - low))
            portrait(self.model, x, y, window=window).plot(ax)
        ax.plot(*own, color="#1c1e21", lw=1.1)
        for state in self.steady or ():
            ax.plot(
                state[x], state[y], "o", color="#1c1e21", mfc="#1c1e21" if state.stable else "white", zorder=5
            )
        ax.set(xlabel=x, ylabel=y, title="" if len(self.model.species) == 2 else "the two that move most")  # fmt: skip


def report(model: Any, *, t_end: float | None = None, starts: int = 64, seed: int = 0) -> Report:
    """Look at a network: conserved totals, steady states, attractors, time scale.

    Args:
        model: the network.
        t_end: how long its own run is; 6 periods or relaxation times when None.
        starts: for steady states and attractors.
        seed: of the starts.

    Example:
        >>> from unrolled.sbml import models
        >>> print(report(models.schlogl()))
        Schloegl: 1 columns, 2 reactions, 0 rules, 4 constants, 0 events
        conserved: nothing
        steady states:
          stable node: X = 1
          stable node: X = 3
          unstable node: X = 2
        attractors:
          fixed point (... % of starts): X = ...
          fixed point (... % of starts): X = ...
        relaxation time of its own run: ...
    """
    notes: list[str] = []
    steady: SteadyStates | None = None
    found: Basins | None = None
    scale, moving = float("nan"), False
    if model.network.events:
        notes.append("it has events: steady states and attractors are those between events, and are left out")
    else:
        try:
            system = Field(model)
            steady = steady_states(model, starts=starts, seed=seed)
            scale, moving = time_scale(model, system, None)
            if system.autonomous:
                rates = [s.eigenvalues.real.abs() for s in steady if len(s.eigenvalues)]
                slowest = min(
                    (float(rate[rate > 1e-9 * rate.max()].min()) for rate in rates if rate.any()), default=1.0
                )
                length = min(max(40 * scale, 12 / slowest), 1e4 * scale)
                found = basins(model, length, starts=starts, seed=seed)
            else:
                notes.append("rates depend on time: attractors are left out")
        except (ValueError, RuntimeError) as error:
            notes.append(f"not analysed: {error}")
    length = t_end or (6 * scale if scale == scale else 100.0)
    if t_end is None and scale != scale:
        notes.append("drawn to t = 100; t_end= draws another stretch")
    run = model.simulate(length, 601)
    if not bool(run.ok.all()):
        notes.append(f"its run ends early: {run.stop.where}: {run.stop.hint}")
    return Report(model, steady, found, scale, moving, run, tuple(notes))


def _cut(line: str, most: int = 240) -> str:
    return line if len(line) <= most else f"{line[: line.rindex(',', 0, most)]}, ..."
