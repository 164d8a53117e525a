# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnnecessaryIsInstance=false
"""`delta`: the difference between two windows of a trajectory, or the change at every step."""

from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.instruments._series import Of, first_bad, series
from unrolled.instruments.reading import COLORS, Reading, axes

Window = tuple[float | None, float | None]
"""`(a, b)`: the records with a <= t < b; None leaves that end open."""


def delta(
    trajectory: Trajectory, minus: Window | None = None, plus: Window | None = None, *, of: Of = None
) -> "DeltaReading":
    """Temporal difference: what came later minus what came before.

    With two windows, delta = mean of x over `plus` - mean of x over `minus` (the outcome minus the prediction, when
    the windows are the plus and the minus phase of a theta cycle). Without windows, the change per unit of t between
    consecutive records: (x_{i+1} - x_i) / (t_{i+1} - t_i).

    Args:
        trajectory: where to read. Integers and booleans are averaged as numbers.
        minus: the earlier window.
        plus: the later window. Give both or none.
        of: a record name, or a function of what was recorded at one time.

    Returns:
        With windows: `delta`, `minus`, `plus` (in the shape of the record), `norm` (Euclidean, of delta),
        `n_minus`, `n_plus` (records averaged). Without: `change` `[n - 1, ...]` and its `norm` `[n - 1]`, along the
        later t of each pair. Units are those of the record (per unit of t for a change).

    Raises:
        TypeError: `trajectory` is none, or `of` is neither a name nor a function.
        KeyError: no such record.
        ValueError: one window only, a window without records, NaN in what is averaged, or fewer than two records.

    Example:
        The mean of x_t = t over t = 6, 7 minus its mean over t = 0, 1, 2:

        >>> log = Trajectory.from_records(range(8), {"x": torch.arange(8.0, dtype=torch.float64)})
        >>> float(delta(log, minus=(0, 3), plus=(6, 8))["delta"])
        5.5
        >>> delta(log)["change"].unique().tolist()
        [1.0]
    """
    if (minus is None) != (plus is None):
        given, missing = ("minus", "plus") if plus is None else ("plus", "minus")
        raise ValueError(
            f"{given}= was given without {missing}=: delta compares two windows, or all steps with none"
        )
    name, values = series(trajectory, of, instrument="delta", least=1 if minus is not None else 2)
    if not values.is_complex():
        values = values.double()
    if minus is None or plus is None:
        return _changes(trajectory, name, values)
    earlier, later = (
        _mean(trajectory, name, values, minus, "minus"),
        _mean(trajectory, name, values, plus, "plus"),
    )
    difference = later[0] - earlier[0]
    notes = ("the windows overlap",) if _overlap(trajectory.t, minus, plus) else ()
    return DeltaReading(
        "delta",
        {
            "delta": difference,
            "minus": earlier[0],
            "plus": later[0],
            "norm": torch.linalg.vector_norm(difference),
            "n_minus": earlier[1],
            "n_plus": later[1],
        },
        f"mean of {name} over plus {_spell(plus)} - mean over minus {_spell(minus)}",
        units=f"units of {name}",
        index=("entry", torch.arange(difference.numel())) if difference.ndim else None,
        method="windows",
        notes=notes,
    )


class DeltaReading(Reading):
    """Two windows (or all steps) of one record, compared."""

    def columns(self) -> dict[str, Tensor]:
        """One row per entry of the record with windows, one row per step without."""
        if self.method == "windows" and self.index is not None:
            return {name: self.values[name].reshape(-1) for name in ("delta", "minus", "plus")}
        return super().columns()

    def plot(self, ax: Any = None) -> Any:
        """Minus in blue and plus in orange, joined entry by entry; without windows, the change at each step."""
        if self.method != "windows":
            return self._plot_changes(ax)
        ax = axes(ax)
        earlier, later = (_draw(self.values[name]) for name in ("minus", "plus"))
        x = torch.arange(len(earlier)).numpy()
        if len(x) <= 60:
            ax.vlines(
                x, torch.minimum(earlier, later).numpy(), torch.maximum(earlier, later).numpy(), color="0.75"
            )
        style = {
            "marker": "o",
            "linestyle": "" if len(x) <= 60 else "-",
            "markersize": 5 if len(x) <= 60 else 0,
        }
        ax.plot(x, earlier.numpy(), color=COLORS[0], label=f"minus, {self['n_minus']} records", **style)
        ax.plot(x, later.numpy(), color=COLORS[1], label=f"plus, {self['n_plus']} records", **style)
        if len(x) <= 12:
            ax.set_xticks(x)
        ax.margins(x=0.1 if len(x) > 1 else 1.0, y=0.25)
        ax.legend(frameon=False, loc="upper left", ncols=2)
        ax.set_xlabel("entry")
        ax.set_ylabel(self.units)
        ax.set_title(f"delta: norm {float(self['norm']):.4g}")
        return ax

    def _plot_changes(self, ax: Any) -> Any:
        ax = axes(ax)
        label, along = self.index or ("t", torch.empty(0))
        x, change = along.numpy(), self.values["change"]
        rows = _draw(change).reshape(len(change), -1)
        if rows.shape[1] <= 6:
            for i, color in zip(range(rows.shape[1]), COLORS):
                ax.plot(x, rows[:, i].numpy(), color=color, linewidth=1.2, label=f"entry {i}")
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            if rows.shape[1] > 1:
                ax.legend(frameon=False)
        else:
            ax.plot(x, self.values["norm"].cpu().numpy(), color=COLORS[0], label="norm")
            ax.set_ylim(bottom=0)
        ax.set_xlabel(label)
        ax.set_ylabel(("norm of the change" if rows.shape[1] > 6 else "change") + " per step")
        ax.set_title("delta at every step")
        return ax


def _changes(trajectory: Trajectory, name: str, values: Tensor) -> DeltaReading:
    bad = first_bad(values)
    if bad is not None:
        raise ValueError(_nonfinite(name, trajectory.t[bad]))
    spacing = trajectory.t.diff().to(values.device).double().reshape(-1, *[1] * (values.ndim - 1))
    change = (values[1:] - values[:-1]) / spacing
    return DeltaReading(
        "delta",
        {"change": change, "norm": torch.linalg.vector_norm(change.reshape(len(change), -1), dim=1)},
        f"change of {name} per step: (x_(i+1) - x_i) / (t_(i+1) - t_i)",
        units=f"units of {name} per step",
        index=("t", trajectory.t[1:]),
        method="every step",
    )


def _mean(
    trajectory: Trajectory, name: str, values: Tensor, window: Window, which: str
) -> tuple[Tensor, int]:
    """Mean over a window, and how many records it has."""
    if not isinstance(window, tuple) or len(window) != 2:
        raise ValueError(f"{which}= is a window (a, b), meaning a <= t < b; got {window!r}")
    found = Trajectory(trajectory.t, {name: values}).window(*window)
    if not len(found):
        span = (
            f"t runs from {trajectory.t[0]} to {trajectory.t[-1]}"
            if len(trajectory)
            else "there are none at all"
        )
        raise ValueError(f"no records in the {which} window {_spell(window)}: {span}")
    bad = first_bad(found[name])
    if bad is not None:
        raise ValueError(_nonfinite(name, found.t[bad]))
    return found[name].mean(dim=0), len(found)


def _overlap(t: Tensor, one: Window, other: Window) -> bool:
    empty = Trajectory(t, {})
    return bool(torch.isin(empty.window(*one).t, empty.window(*other).t).any())


def _spell(window: Window) -> str:
    a, b = ("..." if end is None else f"{end:g}" for end in window)
    return f"[{a}, {b})"


def _nonfinite(name: str, t: Tensor) -> str:
    return f"{name!r} is not finite at t = {t.item():g}: choose windows before it, or cut with trajectory.window(None, t)"


def _draw(value: Tensor) -> Tensor:
    flat = value.reshape(-1).cpu()
    return flat.abs() if flat.is_complex() else flat
