"""What an instrument returns: values, the definition in one line, units, a data frame and a plot."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.core.extras import require

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's colour-blind safe palette: the first is minus, the second is plus, in every chapter."""


@dataclass
class Reading:
    """The result of an instrument.

    Attributes:
        name: the instrument.
        values: name -> tensor or number. Values whose first axis has the index's length are its columns.
        definition: what was computed, in one line.
        units: of the values, in words.
        index: name and `[n]` tensor of the axis along which values run, if they do.
        method: how it was computed, where there is a choice.
        status: `"ok"`, or a named failure (`"unidentified"`, `"not settled"`, ...).
        reason: why the status is not ok; NaN values have their reason here too.
        notes: what a careful reader should know.

    Example:
        >>> half = Reading("demo", {"x": torch.tensor([1.0, 0.5])}, "x_t = 2^-t", "1", ("t", torch.arange(2)))
        >>> half["x"].tolist()
        [1.0, 0.5]
    """

    name: str
    values: dict[str, Any]
    definition: str
    units: str = "1"
    index: tuple[str, Tensor] | None = None
    method: str = ""
    status: str = "ok"
    reason: str = ""
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Any:
        """A value by name.

        Raises:
            KeyError: no such value; the message lists those there are.
        """
        if name not in self.values:
            raise KeyError(f"{self.name} has no value {name!r}; it has {', '.join(map(repr, self.values))}")
        return self.values[name]

    def columns(self) -> dict[str, Tensor]:
        """Values along the index as one-dimensional columns; further axes become `name[i,j]`."""
        if self.index is None:
            return {}
        rows = len(self.index[1])
        made: dict[str, Tensor] = {}
        for name, value in self.values.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == rows:
                made |= _spread(name, value)
        return made

    def to_frame(self) -> Any:
        """A `pandas.DataFrame`: one row per index entry, or one row in all when there is no index.

        Scalars beside an index are in the frame's `attrs`, as are definition, units, method and status.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        scalars = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in self.values.items()
            if not isinstance(value, Tensor) or value.numel() == 1
        }
        if self.index is None:
            wide = {n: v for n, v in self.values.items() if isinstance(v, Tensor) and v.numel() != 1}
            flat = {k: v.item() for n, value in wide.items() for k, v in _spread(n, value[None]).items()}
            frame = pandas.DataFrame([{**scalars, **flat}])
        else:
            label, along = self.index
            data = {name: column.detach().cpu().numpy() for name, column in self.columns().items()}
            frame = pandas.DataFrame({label: along.detach().cpu().numpy(), **data})
            frame.attrs.update(scalars)
        frame.attrs.update(
            definition=self.definition,
            units=self.units,
            method=self.method,
            status=self.status,
            reason=self.reason,
        )
        return frame

    def plot(self, ax: Any = None) -> Any:
        """Draw the values: lines along the index, bars when there is none.

        Args:
            ax: matplotlib axes to draw on; new ones when None.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        ax = axes(ax)
        if self.index is not None:
            label, along = self.index
            x = along.detach().cpu().numpy()
            columns = self.columns()
            for color, (name, column) in zip(COLORS * (1 + len(columns) // len(COLORS)), columns.items()):
                marker = "o" if len(x) < 25 else ""
                ax.plot(x, _real(column).numpy(), color=color, marker=marker, markersize=3, label=name)
            ax.set_xlabel(label)
            if 1 < len(columns) <= 8:
                ax.legend(frameon=False)
        else:
            numbers = {n: float(v) for n, v in self.values.items() if _is_number(v)}
            ax.bar(list(numbers), list(numbers.values()), color=COLORS[0])
        ax.set_title(self.name if self.status == "ok" else f"{self.name} ({self.status})")
        ax.set_ylabel(self.units if self.units != "1" else "")
        return ax

    def __str__(self) -> str:
        shown = ", ".join(f"{name} = {_brief(value)}" for name, value in self.values.items())
        failed = "" if self.status == "ok" else f" [{self.status}: {self.reason}]"
        return f"{self.name}: {shown}{failed}"


def axes(ax: Any = None) -> Any:
    """The axes given, or new ones in the house style: no box, no grid, small.

    Raises:
        ImportError: matplotlib is not installed (extra `report`).
    """
    if ax is None:
        pyplot = require("matplotlib.pyplot", extra="report")
        _, ax = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _spread(name: str, value: Tensor) -> dict[str, Tensor]:
    """One column per entry of the trailing axes."""
    if value.ndim == 1:
        return {name: value}
    flat = value.flatten(1)
    places = torch.cartesian_prod(*(torch.arange(size) for size in value.shape[1:])).reshape(
        flat.shape[1], -1
    )
    return {f"{name}[{','.join(str(int(i)) for i in place)}]": flat[:, k] for k, place in enumerate(places)}


def _real(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.abs() if value.is_complex() else value


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, int | float)


def _brief(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        value = value.item()
    if isinstance(value, float | complex):
        return f"{value:.4g}"
    return str(value)
