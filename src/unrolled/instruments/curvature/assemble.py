"""Plan which products a split needs, and turn the sums that come back into a reading."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.instruments.curvature.groups import Scope
from unrolled.instruments.curvature.measure import METHODS, Step, Sums
from unrolled.instruments.curvature.reading import FLAG_ABOVE, Part, StepReading
from unrolled.instruments.curvature.split import SignDraws, Split, exact
from unrolled.instruments.curvature.vectors import group_inner, inner

SPLITS = (None, "exact", "signs")


@dataclass(frozen=True)
class Plan:
    """The vectors s_j Z to multiply by the Hessian.

    Attributes:
        split: None, `"exact"` or `"signs"`.
        signs: `[m, L]`.
        whole: the rows that add up to Z.
        draws: for `"signs"`.
    """

    split: str | None
    signs: Tensor
    whole: tuple[int, ...]
    draws: SignDraws | None = None

    @staticmethod
    def make(
        split: str | None,
        groups: int,
        *,
        draws: int | None = 4,
        seed: int | torch.Generator = 0,
        totals: bool = False,
    ) -> "Plan":
        """Choose the vectors.

        Args:
            split: None, `"exact"` or `"signs"`.
            groups: L.
            draws: sign vectors for `"signs"`.
            seed: of the signs.
            totals: the method may give totals only, so that the total needs a vector of its own.
        """
        ones = torch.ones(1, groups, dtype=torch.int64)
        if split == "signs":
            drawn = SignDraws.draw(groups, draws, seeds.generator(seed))
            return Plan(split, drawn.signs, (0,), drawn)
        if split == "exact":
            eye = torch.eye(groups, dtype=torch.int64)
            if groups > 1 and totals:
                return Plan(split, torch.cat([ones, eye]), (0,))
            return Plan(split, eye, tuple(range(groups)))
        return Plan(None, ones, (0,))

    def read(self, sums: Sums) -> Split | None:
        """Within-group curvature from the sums, per counted term."""
        quads, rows = sums.quads / sums.count, None if sums.rows is None else sums.rows / sums.count
        if self.draws is not None:
            return self.draws.estimate(quads, rows)
        if self.split == "exact":
            groups = self.signs.shape[1]
            return exact(torch.diag(quads[-groups:]))
        return None


def check_choices(method: str, split: str | None, draws: int | None) -> None:
    """Refuse names that do not exist.

    Raises:
        ValueError: an unknown method or split, or too few draws.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}; expected one of {', '.join(map(repr, METHODS))}")
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; expected None, 'exact' or 'signs'")
    if draws is not None and draws < 1:
        raise ValueError(f"draws={draws}; expected at least one sign vector, or None for a complete set")


def assemble(
    sums: Sums,
    step: Step,
    plan: Plan,
    labels: Sequence[str],
    weights: Sequence[Tensor],
    *,
    scope: Scope = "all",
    notes: Sequence[str] = (),
    number: int | None = None,
) -> StepReading:
    """Divide the sums by the count and say what is not a number, and why.

    Args:
        sums: over all processes.
        step: the step they are of.
        plan: the vectors.
        labels: of the groups.
        weights: W, for the norms of z_opt and z_decay.
        scope: for the record.
        notes: for the record.
        number: of the step, in a training run.
    """
    n = sums.count
    squares = group_inner(step.update, step.update, step.blocks, step.n_groups)
    square = float(squares.sum())
    rows = None if sums.rows is None else sums.rows / n if n else sums.rows * math.nan
    total_rows = None if rows is None else rows[list(plan.whole)].sum(0)
    gain = _over(float(sums.slopes.sum()), n)
    quad = (
        float(total_rows.sum())
        if total_rows is not None
        else _over(float(sums.quads[list(plan.whole)].sum()), n)
    )
    predicted, actual = gain - 0.5 * quad, _over(sums.change, n)
    remainder = actual - predicted
    nds = _over(quad, square)
    part = plan.read(sums) if n else None
    within = math.nan if part is None else _over(part.within, square)
    loss = _over(sums.before, n)
    status, reason = _verdict(sums, loss, gain, quad, actual, square)
    z_opt, z_decay = _parts(sums, step, weights, gain, quad)
    extra = tuple(_remarks(sums, part, nds, square))
    return StepReading(
        method=sums.method,
        status=status,
        reason=reason,
        notes=(*notes, *sums.notes, *extra),
        gain=gain,
        penalty=0.5 * quad,
        predicted=predicted,
        actual=actual,
        remainder=remainder,
        flagged=not (math.isfinite(actual) and abs(remainder) <= FLAG_ABOVE * abs(actual)),
        nds=nds,
        norm=math.sqrt(square),
        within=within,
        cross=nds - within,
        rho_within=_over(within, nds),
        within_error=math.nan if part is None else _over(part.within_error, square),
        loss=loss,
        loss_after=loss - actual,
        count=n,
        groups=tuple(labels),
        norms=squares.sqrt(),
        gains=None if sums.rows is None else sums.slopes / n,
        rows=total_rows,
        blocks=None if part is None else part.blocks,
        blocks_error=None if part is None else part.blocks_error,
        coupling=rows if rows is not None and plan.split == "exact" and len(rows) == len(labels) else None,
        z_opt=z_opt,
        z_decay=z_decay,
        scope=scope if isinstance(scope, str) else getattr(scope, "__name__", "callable"),
        split=plan.split,
        step=number,
    )


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


def _verdict(
    sums: Sums, loss: float, gain: float, quad: float, actual: float, square: float
) -> tuple[str, str]:
    if not sums.count:
        return "undefined", "the loss counts no terms: total count 0"
    if not math.isfinite(loss):
        return "not finite", f"L(W) is {loss}"
    if not math.isfinite(gain) or not math.isfinite(quad):
        return "not finite", f"the derivatives are not finite at W: <G,Z> = {gain}, <Z,HZ> = {quad}"
    if not square:
        return "undefined", "the update is zero: NDS = <Z,HZ> / ||Z||^2 is 0/0"
    if not math.isfinite(actual):
        return "not finite", f"L(W-Z) is not finite: the step changes the loss by {actual}"
    return "ok", ""


def _parts(
    sums: Sums, step: Step, weights: Sequence[Tensor], gain: float, quad: float
) -> tuple[Part | None, Part | None]:
    """z_opt and z_decay with Z = z_opt + z_decay."""
    if step.decay is None:
        return None, None
    opt = decay = 0.0
    for z, w, c in zip(step.update, weights, step.decay, strict=True):
        decay += c * c * float(inner(w, w)) if c else 0.0
        rest = z - c * w.detach().to(z.dtype) if c else z
        opt += float(inner(rest, rest))
    along, bent = (_over(value, sums.count) for value in sums.decay)
    return (
        Part(math.sqrt(opt), gain - along, 0.5 * (quad - bent)),
        Part(math.sqrt(decay), along, 0.5 * bent),
    )


def _remarks(sums: Sums, part: Split | None, nds: float, square: float) -> list[str]:
    remarks: list[str] = []
    if sums.unused:
        some = ", ".join(sums.unused[:4]) + (", ..." if len(sums.unused) > 4 else "")
        remarks.append(f"the loss does not depend on {some}: zero gradient and curvature there")
    if sums.rows is None:
        remarks.append(f"{sums.method} gives totals only: no values per group")
    if part is not None and math.isnan(part.within_error):
        remarks.append("one sign draw has no standard error; take two or more")
    if part is not None and square and nds == 0.0:
        remarks.append("rho_within is 0/0: the curvature along the update is zero")
    return remarks
