# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""What one optimizer step did to the loss: gain, penalty, and how far the two explain it."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.core.extras import require
from unrolled.instruments.reading import COLORS, Reading, axes

DEFINITION = "Delta = L(W) - L(W-Z) = <G,Z> - 1/2 <Z,HZ> + remainder; NDS = <Z,HZ> / ||Z||^2"

FLAG_ABOVE = 0.2
"""A reading is flagged when |remainder| exceeds this share of |actual|."""


@dataclass(frozen=True)
class Part:
    """A part of Z (`z_opt` or `z_decay`), with Z = z_opt + z_decay.

    Attributes:
        norm: ||part||_F.
        gain: <G, part>; the two add up to the gain. NaN when the method does not give it.
        penalty: 1/2 <part, H Z>; the two add up to the penalty. NaN when the method does not give it.
    """

    norm: float
    gain: float
    penalty: float


@dataclass(kw_only=True)
class StepReading(Reading):
    """The second-order account of a step W -> W - Z (curvature fact sheet 2606.04662, section 1).

    Numbers are means per counted term of the loss (per token), in float64. All are also in `values`.

    Attributes:
        gain: <G,Z>, the first-order decrease.
        penalty: 1/2 <Z,HZ>, the curvature penalty.
        predicted: gain - penalty, the second-order prediction of the decrease.
        actual: L(W) - L(W-Z), the decrease itself.
        remainder: actual - predicted; third order in Z.
        flagged: |remainder| > 20 % of |actual|, or not a number: do not trust the split of this step.
        nds: normalised directional sharpness <Z,HZ> / ||Z||^2; negative curvature gives a negative number, and
            a zero update NaN with a reason.
        norm: ||Z||_F.
        within: sum_l <Z_l, H_ll Z_l> / ||Z||^2 over groups l; NaN unless split.
        cross: nds - within.
        rho_within: within / nds.
        within_error: standard error of `within` (of `cross` too) when it is estimated from signs; 0 when exact.
        loss: L(W).
        loss_after: L(W-Z).
        count: number of terms the means are over.
        groups: labels of the groups.
        norms: `[L]` ||Z_l||.
        gains: `[L]` <G_l, Z_l>; None when the method gives the total only.
        rows: `[L]` row sums <Z_l, (HZ)_l>, which add up to 2 penalty; None when the method gives the total only.
        blocks: `[L]` <Z_l, H_ll Z_l>; None unless split (and by a method that tells groups apart).
        blocks_error: `[L]` their standard errors.
        coupling: `[L, L]` <Z_l, H_ll' Z_l'>; only from an exact split by Hessian-vector products.
        z_opt: the optimizer's own part of Z; None when the two were not told apart.
        z_decay: the part of decoupled weight decay, lr * wd * W.
        scope: which parameters Z has.
        split: how within and cross were found.
        step: optimizer steps taken before this one; None outside a `Probe`.

    Example:
        >>> from unrolled.instruments.curvature import decompose
        >>> model = torch.nn.Linear(2, 1, bias=False).double()
        >>> quadratic = lambda m: 0.5 * (torch.tensor([1.0, 3.0]) * m.weight**2).sum()
        >>> z = {"weight": torch.tensor([[0.0, 2.0]]).double()}
        >>> reading = decompose(model, quadratic, z)
        >>> reading.nds, abs(reading.remainder) < 1e-12, reading.flagged
        (3.0, True, False)
    """

    name: str = "curvature"
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    definition: str = DEFINITION
    units: str = "loss per counted term"
    gain: float = math.nan
    penalty: float = math.nan
    predicted: float = math.nan
    actual: float = math.nan
    remainder: float = math.nan
    flagged: bool = False
    nds: float = math.nan
    norm: float = math.nan
    within: float = math.nan
    cross: float = math.nan
    rho_within: float = math.nan
    within_error: float = math.nan
    loss: float = math.nan
    loss_after: float = math.nan
    count: float = math.nan
    groups: tuple[str, ...] = ()
    norms: Tensor | None = None
    gains: Tensor | None = None
    rows: Tensor | None = None
    blocks: Tensor | None = None
    blocks_error: Tensor | None = None
    coupling: Tensor | None = None
    z_opt: Part | None = None
    z_decay: Part | None = None
    scope: str = "all"
    split: str | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        self.values = {**self.scalars(), **self.columns()}
        if self.coupling is not None:
            self.values["coupling"] = self.coupling
        if self.groups:
            self.index = ("group", torch.arange(len(self.groups)))

    def scalars(self) -> dict[str, float | bool]:
        """The numbers of the step as a whole, flat: ready for a logger."""
        flat: dict[str, float | bool] = {name: getattr(self, name) for name in SCALARS}
        for name in ("z_opt", "z_decay"):
            part: Part | None = getattr(self, name)
            if part is not None:
                flat |= {
                    f"{name}.norm": part.norm,
                    f"{name}.gain": part.gain,
                    f"{name}.penalty": part.penalty,
                }
        return flat

    def columns(self) -> dict[str, Tensor]:
        """The numbers per group that the method gave."""
        found = {name: getattr(self, name) for name in COLUMNS}
        return {name: column for name, column in found.items() if column is not None}

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with one row per group (norms, gains, rows, blocks); the totals are in `attrs`.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        frame = pandas.DataFrame(
            {"group": list(self.groups), **{k: v.numpy() for k, v in self.columns().items()}}
        )
        frame.attrs.update(self.scalars())
        frame.attrs.update(
            definition=self.definition,
            units=self.units,
            method=self.method,
            status=self.status,
            reason=self.reason,
        )
        return frame

    def plot(self, ax: Any = None) -> Any:
        """Draw the account as bars: gain, penalty, predicted and actual; groups below when there are rows.

        Gain (what the gradient promises) is blue and penalty orange; predicted and actual are grey.

        Args:
            ax: matplotlib axes; new ones when None.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        ax = axes(ax)
        bars = {
            "gain": self.gain,
            "penalty": self.penalty,
            "predicted": self.predicted,
            "actual": self.actual,
        }
        shades = (COLORS[0], COLORS[1], "0.7", "0.35")
        ax.bar(list(bars), list(bars.values()), color=shades, width=0.6)
        ax.axhline(0.0, color="0.5", linewidth=0.8)
        where = "" if self.step is None else f"step {self.step}: "
        bad = " (flagged)" if self.flagged else ""
        ax.set_title(f"{where}NDS {self.nds:.3g}{bad}" if self.status == "ok" else f"{where}{self.reason}")
        ax.set_ylabel(self.units)
        return ax

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and tensors, safe to load with `torch.load(weights_only=True)`."""
        kept: dict[str, Any] = {
            name: getattr(self, name) for name in (*SCALARS, *COLUMNS, *TEXT, "coupling", "step")
        }
        kept["groups"], kept["notes"] = list(self.groups), list(self.notes)
        for name in ("z_opt", "z_decay"):
            part: Part | None = getattr(self, name)
            kept[name] = None if part is None else [part.norm, part.gain, part.penalty]
        return kept

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> "StepReading":
        """The reading that `state_dict` described."""
        state = dict(state)
        for name in ("z_opt", "z_decay"):
            state[name] = None if state[name] is None else Part(*state[name])
        state["groups"], state["notes"] = tuple(state["groups"]), tuple(state["notes"])
        return StepReading(**state)


SCALARS = (
    *("gain", "penalty", "predicted", "actual", "remainder", "flagged", "nds", "norm"),
    *("within", "cross", "rho_within", "within_error", "loss", "loss_after", "count"),
)
COLUMNS = ("norms", "gains", "rows", "blocks", "blocks_error")
TEXT = ("method", "status", "reason", "scope", "split")
