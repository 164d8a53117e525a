# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""`settling`: does a trajectory come to rest, go round in a cycle, or run away; when, and how fast."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.instruments._decay import GOOD_FIT, Decay, decay, slope
from unrolled.instruments._series import Of, first_bad, floats, series
from unrolled.instruments.reading import COLORS, Reading, axes

RETURN = 1e-3
"""A cycle whose period is no whole number of records must come back to within this share of its mean square width."""


def settling(
    trajectory: Trajectory, *, of: Of = None, tol: float | None = None, max_period: int | None = None
) -> "SettlingReading":
    """Residual per step, the time to settle, the contraction rate, and what the trajectory settles to.

    The residual of step i is max |x_{i+1} - x_i| / (t_{i+1} - t_i), as in the stop rule `Settled`. The kinds, tried
    in this order:

    * `"diverging"`: it ends in NaN or infinity; or, over the last half, both residual and distance from the start
      grow from quarter to quarter, and the residual at least doubles.
    * `"fixed point"`: the last two residuals are at most `tol`.
    * `"limit cycle"`: for the smallest p >= 2 that does so, x_{i+p} = x_i within `tol` over the last p records. Or,
      where the period is no whole number of records: over the last half the mean square return distance falls to
      1/1000 of its maximum (at a period found by a parabola through three lags), while the width stays the same
      within 5 %. A trajectory cannot tell a limit cycle from another closed orbit.
    * `"not settled"`: none of these; the reason says what is missing.

    The contraction rate is the modulus of the dominant mode of the steps, per unit of t: near a fixed point the
    modulus of the leading eigenvalue of the step, near a p-cycle the p-th root of its multiplier. It is read by a
    linear recurrence of order 1 or 2 or, where that explains less than 95 % of the steps' norm, by the slope of
    log |x_{i+1} - x_i|; `method`, `window_start` and `window_end` say which and from where. Where neither fits
    (chaos, noise) it is NaN and the notes say so.

    Args:
        trajectory: at least 3 records.
        of: a record name, or a function of what was recorded at one time; floating point.
        tol: in the units of what is read; 1e-6 of its largest finite entry when None.
        max_period: longest cycle searched for, in records; a third of the records, at most 64, when None.

    Returns:
        Along t of the later record: `residual` and `norm` (Euclidean), per step; for a whole-numbered cycle also
        `return`, max |x_i - x_{i-p}| (NaN before t = p). Numbers: `kind`, `settled_at` (the
        first t from which no residual exceeds `tol`; for a whole-numbered cycle, from which every return is within
        it; else NaN), `rate`, `rate_error` (its standard error, or
        the distance to what an earlier window says, if that is larger), `period` (steps per turn of the cycle, or of the spiral
        into a fixed point; 2 when it alternates; inf when it comes in straight; NaN when unknown), `remaining`
        (estimated distance still to go to the fixed point), `tol`, `window_start`, `window_end`. The status is
        `"ok"` for a fixed point or a limit cycle, else the kind.

    Raises:
        TypeError: `trajectory` is none, or what is read is no floating-point tensor.
        KeyError: no such record.
        ValueError: fewer than 3 records, values that are not finite before the end, or a `tol` or `max_period` that
            makes no sense.

    Example:
        x_{t+1} = 0.5 x_t + 1 settles at 2 with rate 1/2:

        >>> from unrolled.core import rollout
        >>> from unrolled.toys import LinearMap
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> reading = settling(rollout(LinearMap(0.5 * one[None], one), 0 * one, steps=40))
        >>> reading["kind"], round(reading["rate"], 12), reading["settled_at"]
        ('fixed point', 0.5, 19.0)
    """
    name, values = series(trajectory, of, instrument="settling", least=3)
    x, t = floats(values, name, instrument="settling").cpu(), trajectory.t.double().cpu()
    if max_period is not None and max_period < 2:
        raise ValueError(f"max_period counts records and is at least 2, got {max_period}")
    end = _finite_end(x, name, trajectory)
    if tol is None:
        tol = 1e-6 * float(x[:end].abs().max())
    if not tol >= 0:
        raise ValueError(f"tol is a non-negative number in the units of {name!r}, got {tol}")
    dt = t.diff()
    uniform = bool((dt - dt[0]).abs().max() <= 1e-9 * dt[0])
    size = x[1:] - x[:-1]
    residual, norm = size.abs().amax(dim=1) / dt, size.norm(dim=1) / dt
    case = _Case(x[:end], t[:end], residual[: end - 1], norm[: end - 1], tol, uniform, _eps(values))
    found = _classify(case, t[end:], max_period or min(64, len(x) // 3))
    remaining = _remaining(found, norm[: end - 1], float(dt[-1]))
    numbers = {
        "kind": found.kind,
        "settled_at": found.settled_at,
        "rate": found.decay.rate,
        "rate_error": found.decay.error,
        "period": found.period,
        "remaining": remaining,
        "tol": tol,
        "window_start": float(t[found.decay.first]),
        "window_end": float(t[min(found.decay.last + 1, end - 1)]),
    }
    notes = [*_why_nan(found, remaining), found.note]
    if found.kind == "fixed point" and remaining > 10 * tol:
        notes.append(
            f"it still creeps: at this rate its limit is {remaining:.3g} away, more than tol = {tol:.3g}"
        )
    if not uniform:
        notes.append("the records are not evenly spaced: no cycle was searched for, and the rate is a slope")
    return SettlingReading(
        "settling",
        {"residual": residual, "norm": norm, **_returns(x, found, float(dt[0])), **numbers},
        f"residual of {name}: max |x_(i+1) - x_i| per step; {found.kind}",
        units=f"units of {name} per step",
        index=("t", trajectory.t[1:]),
        method=found.decay.method,
        status="ok" if found.kind in ("fixed point", "limit cycle") else found.kind,
        reason=found.reason,
        notes=tuple(filter(None, notes)),
    )


class SettlingReading(Reading):
    """How a trajectory comes to rest."""

    def columns(self) -> dict[str, Tensor]:
        """Residual, norm and, for a cycle, return."""
        return {name: self.values[name] for name in ("residual", "norm", "return") if name in self.values}

    def plot(self, ax: Any = None) -> Any:
        """The residual on a logarithmic axis, the tolerance, the time to settle, and the fitted rate."""
        ax = axes(ax)
        assert self.index is not None
        t, curves = self.index[1].double().cpu(), {"residual": self["residual"]}
        if "return" in self.values:
            curves[f"distance from {self['period']:g} steps before"] = self["return"]
        shown = t
        for (label, curve), color in zip(curves.items(), (COLORS[0], COLORS[3])):
            shown = _on_log_axis(curve)
            ax.semilogy(t.numpy(), shown.numpy(), color=color, linewidth=1.2, label=label)
        if self["kind"] != "limit cycle" or "return" in self.values:
            self._draw_rate(ax, t, shown)
        if 0 < self["tol"] < 1e200:
            ax.axhline(self["tol"], color="0.6", linewidth=0.8, linestyle=":", label="tol")
        if math.isfinite(self["settled_at"]):
            ax.axvline(
                self["settled_at"], color=COLORS[2], linewidth=0.9, label=f"settled at {self['settled_at']:g}"
            )
        ax.set_xlabel("t")
        ax.set_ylabel("residual per step")
        ax.set_title(
            self["kind"] + (f", period {self['period']:.4g}" if self["kind"] == "limit cycle" else "")
        )
        ax.legend(frameon=False)
        return ax

    def _draw_rate(self, ax: Any, t: Tensor, shown: Tensor) -> None:
        """rate^t through the residuals of the fitted window."""
        inside = (t > self["window_start"]) & (t <= self["window_end"]) & shown.isfinite()
        rate = self["rate"]
        if not math.isfinite(rate) or rate <= 0 or not bool(inside.any()):
            return
        level = (shown[inside].log() - t[inside] * math.log(rate)).mean()
        line = (level + t[inside] * math.log(rate)).exp()
        ax.plot(
            t[inside].numpy(), line.numpy(), color=COLORS[1], linestyle="--", label=f"{rate:.4g} per step"
        )


@dataclass(frozen=True)
class _Case:
    """The finite part of what is read: `[n, entries]`, its times, residuals, norms; tolerance, spacing, precision."""

    x: Tensor
    t: Tensor
    residual: Tensor
    norm: Tensor
    tol: float
    uniform: bool
    eps: float

    def steps(self, stride: int = 1) -> tuple[Tensor, Tensor]:
        """x_{i+p} - x_i, and the size below which it is rounding."""
        size = self.x.norm(dim=1)
        return self.x[stride:] - self.x[:-stride], (64 * self.eps * size).maximum(torch.tensor(1e-280))[
            stride:
        ]


@dataclass(frozen=True)
class _Found:
    kind: str
    decay: Decay
    settled_at: float = math.nan
    period: float = math.nan
    reason: str = ""
    note: str = ""


def _on_log_axis(curve: Tensor) -> Tensor:
    """Without what a logarithmic axis has no place for: 0, and numbers whose margins overflow."""
    return torch.where((curve > 1e-200) & (curve < 1e200), curve, torch.full_like(curve, math.nan))


def _classify(case: _Case, lost: Tensor, max_period: int) -> _Found:
    """Try the kinds in order; `lost` are the times that are not finite."""
    speed = _per_step(decay(*case.steps()) if case.uniform else slope(case.norm, case.t[1:]), case)
    turn = _turn(speed)
    if len(lost):
        return _Found("diverging", speed, period=turn, reason=f"not finite from t = {float(lost[0]):g} on")
    grown = _growth(case)
    if grown:
        return _Found("diverging", speed, period=turn, reason=grown)
    if bool((case.residual[-2:] <= case.tol).all()):
        return _Found("fixed point", speed, _first_quiet(case.residual, case), turn)
    explained = speed.misfit <= GOOD_FIT and not math.isnan(speed.angle)
    if not case.uniform or (explained and abs(speed.rate - 1) > 10 * speed.error + 1e-9):
        # Uneven records, or a spiral on its way, whose steps may already be within the tolerance of one another.
        return _Found("not settled", speed, period=turn, reason=_why_not(case, speed, max_period))
    for p in range(2, min(max_period, len(case.x) // 2) + 1):
        apart = (case.x[p:] - case.x[:-p]).abs().amax(dim=1)
        if bool((apart[-p:] <= case.tol).all()):
            there = _per_step(decay(*_every(case, p)), case, stride=p)
            spacing = float(case.t[1] - case.t[0])
            return _Found("limit cycle", there, _first_quiet(apart, case), p * spacing)
    period = _smooth_cycle(case, turn if explained else math.nan)
    if math.isfinite(period):
        note = "the period lies between records; the return is within 1/1000 of the mean square width"
        return _Found("limit cycle", speed, period=period, note=note)
    return _Found("not settled", speed, period=turn, reason=_why_not(case, speed, max_period))


def _finite_end(x: Tensor, name: str, trajectory: Trajectory) -> int:
    """How many records are finite; those after must be the end."""
    bad = first_bad(x)
    if bad is None:
        return len(x)
    if bad < 3 or bool(torch.isfinite(x[bad:]).all(dim=1).any()):
        raise ValueError(
            f"{name!r} is not finite at t = {trajectory.t[bad].item():g}: only the end of a trajectory may be, after 3 "
            "finite records; cut it with trajectory.window(None, t)"
        )
    return bad


def _eps(values: Tensor) -> float:
    return torch.finfo(values.dtype).eps


def _every(case: _Case, p: int) -> tuple[Tensor, Tensor]:
    """Returns after p records, taken every p records: the steps of the p-fold map."""
    steps, floor = case.steps(p)
    first = (len(steps) - 1) % p
    return steps[first::p], floor[first::p]


def _per_step(found: Decay, case: _Case, stride: int = 1) -> Decay:
    """From per record (or per `stride` records) to per unit of t; indices back to those of the records."""
    if not case.uniform:
        return found
    span = stride * float(case.t[1] - case.t[0])
    first = (len(case.x) - stride - 1) % stride
    rate = found.rate ** (1 / span)
    error = found.error * rate / found.rate / span if found.rate else found.error
    return replace(
        found,
        rate=rate,
        error=error,
        angle=found.angle / span,
        first=first + found.first * stride,
        last=first + found.last * stride + stride - 1,
    )


def _turn(speed: Decay) -> float:
    """Steps per turn of the dominant mode."""
    if math.isnan(speed.angle):
        return math.nan
    return 2 * math.pi / speed.angle if speed.angle > 0 else math.inf


def _growth(case: _Case) -> str:
    """Why the last half diverges; empty when it does not."""
    half = case.residual[len(case.residual) // 2 :]
    if len(half) < 4:
        return ""
    away = (case.x - case.x[0]).norm(dim=1)[-len(half) :]
    quarters = [[float(part.max()) for part in series.tensor_split(4)] for series in (half, away)]
    rising = all(b > a for quarter in quarters for a, b in pairwise(quarter))
    if rising and quarters[0][3] >= 2 * quarters[0][0]:
        return (
            f"over the last half the residual grew from {quarters[0][0]:.3g} to {quarters[0][3]:.3g} per step"
        )
    return ""


def _first_quiet(apart: Tensor, case: _Case) -> float:
    """The first t from which `apart` stays within the tolerance."""
    loud = (apart > case.tol).nonzero()
    return float(case.t[int(loud[-1]) + 1]) if len(loud) else float(case.t[0])


def _smooth_cycle(case: _Case, turn: float) -> float:
    """A period that is no whole number of records (`turn`, if that is known); NaN when there is none."""
    x = case.x[-min(len(case.x) // 2, 2000) :]
    x = x - x.mean(dim=0)
    m = len(x)
    if m < 8:
        return math.nan
    gram = x @ x.mT
    square = gram.diagonal()
    lags = range(1, m // 2 + 1)
    apart = torch.stack([(square[p:] + square[:-p] - 2 * gram.diagonal(p)).mean() for p in lags])
    width = float(apart.max())
    halves = [float(part.square().sum(dim=1).mean()) for part in x.tensor_split(2)]
    if width <= (100 * case.tol) ** 2 or abs(halves[0] - halves[1]) > 0.05 * max(halves):
        return math.nan
    spacing = float(case.t[1] - case.t[0])
    far = int((apart > width / 2).nonzero()[0])
    for i in range(far + 1, len(apart) - 1):
        before, here, after = (float(apart[j]) for j in (i - 1, i, i + 1))
        bend = before - 2 * here + after
        if before >= here <= after and bend > 0:
            bottom = here - (before - after) ** 2 / (8 * bend)
            if bottom <= RETURN * width:
                if math.isfinite(turn):
                    return turn
                return (lags[i] + (before - after) / (2 * bend)) * spacing
    return math.nan


def _returns(x: Tensor, found: _Found, spacing: float) -> dict[str, Tensor]:
    """Distance from one whole-numbered period before, along t."""
    if found.kind != "limit cycle" or math.isnan(found.settled_at):
        return {}
    p = round(found.period / spacing)
    apart = torch.full((len(x) - 1,), math.nan, dtype=torch.float64)
    apart[p - 1 :] = (x[p:] - x[:-p]).abs().amax(dim=1)
    return {"return": apart}


def _remaining(found: _Found, norm: Tensor, spacing: float) -> float:
    """Distance still to go if the steps keep shrinking by `rate`: the rest of a geometric series."""
    rate = found.decay.rate
    if found.kind not in ("fixed point", "not settled"):
        return math.nan
    if float(norm[-1]) == 0:
        return 0.0
    q = rate**spacing
    return float(norm[-1]) * spacing * q / (1 - q) if q < 1 else math.nan


def _why_nan(found: _Found, remaining: float) -> list[str]:
    """A reason for every number that is missing."""
    notes: list[str] = []
    if math.isnan(found.decay.rate):
        notes.append(f"rate is NaN: {found.decay.reason}")
    if math.isnan(found.period):
        notes.append("period is NaN: no angle was read, for the steps follow no short recurrence")
    if math.isnan(found.settled_at) and found.kind == "limit cycle":
        notes.append("settled_at is NaN: no record is a whole number of turns from another")
    if math.isnan(remaining) and found.kind in ("fixed point", "not settled"):
        notes.append("remaining is NaN: no rate below 1 was read")
    if found.kind == "limit cycle":
        notes.append("remaining is NaN: a cycle has no point to come to")
    return notes


def _why_not(case: _Case, speed: Decay, max_period: int) -> str:
    last = float(case.residual[-1])
    told = f"after {len(case.residual)} steps the residual is {last:.3g}, above tol = {case.tol:.3g}"
    if speed.rate + 2 * speed.error < 1 and last > case.tol > 0:
        more = math.log(case.tol / last) / math.log(speed.rate) if speed.rate > 0 else 1
        return f"{told}; should it keep its rate of {speed.rate:.4g} per step, about {max(1, math.ceil(more))} steps more will do"
    return f"{told}, and shrinks no more; no cycle of up to {max_period} records returns within it"
