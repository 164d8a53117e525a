"""Compare two training runs at equal loss, not at equal step.

Two optimizers reach a loss at different steps, and curvature falls along a run: comparing them step by step confounds
the optimizer with progress. Following arXiv 2606.04662 both curves are read at common values of the validation loss.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.instruments.reading import COLORS, Reading, axes


class Matched(Reading):
    """Two runs at equal loss. `values` holds, for each column c, `c[a]`, `c[b]` (both `[points]`), `ratio[c]` (the
    mean over the grid of a / b) and `ratio_of_means[c]`; `status` is `"no overlap"` when the loss ranges are disjoint.
    """

    def plot(self, ax: Any = None, *, column: str | None = None) -> Any:
        """Draw one column of both runs against the matched loss (falling to the right, as training goes)."""
        ax = axes(ax)
        names = [name[:-3] for name in self.values if name.endswith("[a]")]
        column = column or (names[0] if names else None)
        if self.index is not None and column is not None:
            for side, color in zip("ab", COLORS):
                ax.plot(
                    self.index[1].numpy(), self.values[f"{column}[{side}]"].numpy(), color=color, label=side
                )
            ax.set_xlabel(self.index[0])
            ax.set_ylabel(column)
            ax.invert_xaxis()
            ax.legend(frameon=False)
        ax.set_title(self.reason or "at equal loss")
        return ax


def match(
    a: Trajectory,
    b: Trajectory,
    *,
    on: str = "val_loss",
    columns: Iterable[str] | None = None,
    points: int = 50,
) -> Matched:
    """Read two runs at equal loss.

    Each run is reduced to its records of best loss so far (a loss that rises again is not read twice) and
    interpolated linearly between them onto `points` equally spaced losses of the overlap. Outside the overlap nothing
    is said: no extrapolation.

    Args:
        a: one run, with a record `on` and the columns, each `[n]`.
        b: the other.
        on: the record to match on; smaller is later.
        columns: what to compare; by default every one-dimensional record that both have, and `t`, the step.
        points: of the grid.

    Returns:
        The columns of both at equal loss, and their ratio a / b two ways: the mean over the grid of the ratios (what
        the paper reports as the average ratio) and the ratio of the means. A ratio whose denominator changes sign or
        vanishes is NaN, with a note. `status` is `"no overlap"` when the ranges do not meet.

    Raises:
        KeyError: a run lacks a record.
        ValueError: a record is not `[n]`, or fewer than two points are asked for.

    Example:
        Both halve their loss per unit of time, b twice as fast:

        >>> loss = torch.tensor([8.0, 4.0, 2.0, 1.0])
        >>> slow = Trajectory.from_records([0, 2, 4, 6], {"val_loss": loss})
        >>> fast = Trajectory.from_records([0, 1, 2, 3], {"val_loss": loss})
        >>> float(match(slow, fast, columns=["t"])["ratio_of_means[t]"])
        2.0
    """
    if points < 2:
        raise ValueError(f"a grid needs at least 2 points, got {points}")
    if columns is None:
        shared = [name for name in a.records if name in b.records and name != on]
        columns = ["t", *(name for name in shared if a[name].ndim == 1 and b[name].ndim == 1)]
    columns = list(columns)
    curves = [_best_so_far(run, on, columns) for run in (a, b)]
    low = max(float(curve[on].min()) for curve in curves)
    high = min(float(curve[on].max()) for curve in curves)
    definition = f"both runs at equal {on}, linear between records of best loss so far; ratio = a / b"
    if not low < high:
        spans = " and ".join(f"[{float(c[on].min()):.4g}, {float(c[on].max()):.4g}]" for c in curves)
        values: dict[str, Any] = {
            f"{kind}[{name}]": float("nan") for name in columns for kind in ("ratio", "ratio_of_means")
        }
        reason = (
            f"no overlap: {on} ranges over {spans}; train the slower run longer, or record both more often"
        )
        return Matched("match", values, definition, status="no overlap", reason=reason)

    grid = torch.linspace(high, low, points, dtype=torch.float64)
    values = {}
    notes: list[str] = []
    for name in columns:
        left, right = (_interpolate(grid, curve[on], curve[name]) for curve in curves)
        values |= {f"{name}[a]": left, f"{name}[b]": right}
        one_sign = bool((right > 0).all() or (right < 0).all())
        values[f"ratio[{name}]"] = (left / right).mean() if one_sign else torch.tensor(float("nan"))
        values[f"ratio_of_means[{name}]"] = left.mean() / right.mean()
        if not one_sign:
            notes.append(f"ratio[{name}] is NaN: {name} of the second run changes sign or vanishes")
    return Matched("match", values, definition, index=(on, grid), notes=tuple(notes))


def _best_so_far(run: Trajectory, on: str, columns: list[str]) -> dict[str, Tensor]:
    """The run's records at strictly falling loss, in float64; records with a NaN loss are left out."""
    series = {name: (run.t if name == "t" else run[name]).detach().cpu().double() for name in [on, *columns]}
    for name, values in series.items():
        if values.ndim != 1:
            raise ValueError(
                f"record {name!r} has shape {tuple(values.shape)}; matching needs one number per time"
            )
    seen = ~series[on].isnan()
    series = {name: values[seen] for name, values in series.items()}
    if not len(series[on]):
        raise ValueError(f"record {on!r} holds no number at all")
    best = torch.cummin(series[on], 0).values
    keep = torch.ones_like(best, dtype=torch.bool)
    keep[1:] = best[1:] < best[:-1]
    return {name: values[keep] for name, values in series.items()}


def _interpolate(grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values at `grid`, linear in x; x falls strictly and covers the grid."""
    x, y = x.flip(0), y.flip(0)
    right = torch.searchsorted(x, grid.contiguous()).clamp(1, len(x) - 1)
    left = right - 1
    weight = (grid - x[left]) / (x[right] - x[left])
    return y[left] + weight * (y[right] - y[left])
