# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How fast a sequence of steps shrinks: a linear recurrence fitted to it, or the slope of its logarithm."""

import cmath
import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

GOOD_FIT = 0.05
"""Largest relative misfit at which a recurrence is believed; above it the slope of the logarithm is used."""

GOOD_LINE = 0.5
"""Largest relative misfit at which that slope is believed; above it (chaos, noise, a cycle) the rate is NaN."""


@dataclass(frozen=True)
class Decay:
    """The dominant mode of a sequence d_k ~ lambda^k.

    Attributes:
        rate: |lambda|, the factor per step of the sequence; NaN when it could not be read.
        error: its standard error, or the distance to what the window before it says, if that is larger.
        angle: |arg lambda| in radians per step of the sequence; NaN when unknown.
        misfit: root of unexplained over total sum of squares, of the fit that was used.
        first, last: indices of the first and last element used.
        method: how it was read.
        reason: why `rate` is NaN.
    """

    rate: float
    error: float
    angle: float
    misfit: float
    first: int
    last: int
    method: str
    reason: str = ""


def decay(steps: Tensor, floor: Tensor) -> Decay:
    """Read the dominant mode of `steps`, `[m, n]`, from the stretch before they sink below `floor`, `[m]`.

    A linear system near its limit makes differences d_{k+1} = M d_k, so d obeys a short linear recurrence: of order 1
    when one real mode dominates, of order 2 for a complex pair (a damped oscillation) or two real modes. The
    recurrence is fitted by least squares over d_s ... d_{m-1}, each equation weighted by its rounding error, which is
    in proportion to the state (near a fixed point at 0, and far out, equations count by their relative error). An early start s keeps modes that die out; a late one
    keeps rounding. So s runs over a grid that leaves at least the last quarter, and the fit of least misfit is taken;
    its error covers the distance to the fit one start earlier. Fewer than 32 steps also offer the ratios of two steps
    in a row, each in doubt by its distance from the one before; the candidate of least error is taken.
    When none explains the sequence (many modes of equal modulus, noise), the slope of log |d_k| over the last half is
    used instead, with its standard error and without an angle; or nothing, when that is no line either.
    """
    size = steps.norm(dim=1)
    sunk = (size <= floor).nonzero()
    usable = int(sunk[0]) if len(sunk) else len(size)
    if usable < 3:
        return nothing(
            f"fewer than 3 steps are larger than rounding ({usable}): there is no decay to fit", 0, usable - 1
        )
    # An isometry: at most `usable` coordinates per step, however many entries the state has.
    columns = (steps[:usable] / size[:usable].max()).mT
    d = torch.linalg.qr(columns).R.mT if columns.shape[0] > usable else columns.mT
    shortest = max(6, usable // 4) if usable >= 6 else usable
    starts = torch.linspace(0, usable - shortest, 24).long().unique().tolist()
    fits = [_recurrence(d[start:], floor[start:usable], start) for start in starts]
    chosen = min(range(len(fits)), key=lambda i: fits[i].misfit)
    best = _doubted(fits[chosen], fits[chosen - 1] if chosen else fits[min(1, len(fits) - 1)])
    if usable < 32:  # so steep a decay leaves too few steps for a fit; two ratios in a row need three
        ratios = [_ratio(d, k) for k in range(usable - 1)]
        believed = [_doubted(b, a) for a, b in pairwise(ratios) if max(a.misfit, b.misfit) <= GOOD_FIT]
        best = min([best, *believed], key=lambda fit: fit.error if fit.misfit <= GOOD_FIT else math.inf)
    if best.misfit <= GOOD_FIT:
        return best
    return slope(size[:usable], torch.arange(usable, dtype=torch.float64))


def nothing(reason: str, first: int, last: int) -> Decay:
    """No rate, and why."""
    return Decay(*[math.nan] * 4, first=first, last=max(last, first), method="none", reason=reason)


def _doubted(fit: Decay, other: Decay) -> Decay:
    """With an error that covers the distance to the same thing read one start earlier: no rounding error tells that."""
    apart = abs(cmath.rect(fit.rate, fit.angle) - cmath.rect(other.rate, other.angle))
    return replace(fit, error=max(fit.error, apart))


def _ratio(d: Tensor, k: int) -> Decay:
    """<d_k, d_{k+1}> / <d_k, d_k>: the multiplier of one real mode."""
    before, after = d[k], d[k + 1]
    ratio = float(before @ after / (before @ before))
    misfit = float((after - ratio * before).norm() / after.norm())
    return Decay(
        abs(ratio), 0.0, math.pi if ratio < 0 else 0.0, misfit, k, k + 1, "ratio of two steps in a row"
    )


def _recurrence(d: Tensor, floor: Tensor, start: int) -> Decay:
    """Order 1 or 2, whichever the data can tell apart, over all of `d`; each equation weighs 1 / its rounding error."""
    weight = (floor.min() / floor)[:, None]
    one = _solve(d[1:] * weight[1:], [d[:-1] * weight[1:]])
    fits = [(one, (one.coefficients[0] + 0j, math.inf))]
    if len(d) >= 6 or (len(d) >= 4 and d.shape[1] >= 2):
        two = _solve(d[2:] * weight[2:], [d[1:-1] * weight[2:], d[:-2] * weight[2:]])
        # One mode alone makes both columns parallel: then order 2 has nothing to add.
        if two.condition < 1e10 and two.misfit < one.misfit / 10:
            fits.append((two, _dominant(d, *two.coefficients)))
    fit, (root, other) = fits[-1]
    order = len(fit.coefficients)
    if order == 1:
        error = fit.errors(torch.ones(1, dtype=torch.complex128))
    else:
        gap = 2 * root - fit.coefficients[0]
        error = fit.errors(torch.tensor([root, 1.0]) / gap) if gap else other
    last = start + len(d) - 1
    return Decay(
        abs(root),
        error,
        abs(cmath.phase(root)),
        fit.misfit,
        start,
        last,
        f"linear recurrence of order {order}",
    )


@dataclass(frozen=True)
class _Fit:
    """Least squares: coefficients, relative misfit, condition number and covariance."""

    coefficients: list[float]
    misfit: float
    condition: float
    covariance: Tensor

    def errors(self, gradient: Tensor) -> float:
        """Standard error of a number whose derivative by the coefficients is `gradient`."""
        g = gradient.to(torch.complex128)
        return math.sqrt(max(0.0, float((g.conj() @ self.covariance.to(torch.complex128) @ g).real)))


def _solve(target: Tensor, regressors: list[Tensor]) -> _Fit:
    """Fit target_k = sum_j c_j regressor_jk, all entries of all k alike."""
    X, y = torch.stack([r.reshape(-1) for r in regressors], dim=1), target.reshape(-1)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    inverse = torch.where(S / S[0] > 1e-14, 1 / S, torch.zeros_like(S))
    c = Vh.mT @ (inverse * (U.mT @ y))
    rest = y - X @ c
    freedom = max(1, len(y) - len(c))
    spread = (Vh.mT * inverse) @ (Vh.mT * inverse).mT * (rest @ rest) / freedom
    misfit = float(rest.norm() / y.norm()) if bool(y.norm() > 0) else math.inf
    return _Fit(c.tolist(), misfit, float(S[0] / S[-1]) if bool(S[-1] > 0) else math.inf, spread)


def _dominant(d: Tensor, a: float, b: float) -> tuple[complex, float]:
    """Of the roots of z^2 = a z + b, the one with more weight at the end of the window; and their distance.

    The other root may fit nothing but rounding and have any modulus. (d_{k+1} - z_2 d_k) is all mode 1.
    """
    root = cmath.sqrt(a * a + 4 * b)
    first, second = (a + root) / 2, (a - root) / 2
    if abs(root.imag) > 0:
        return first, abs(first - second)
    weights = [float((d[-1] - z.real * d[-2]).norm()) for z in (second, first)]
    return (first if weights[0] >= weights[1] else second), abs(first - second)


def slope(size: Tensor, t: Tensor) -> Decay:
    """The factor per unit of t, from the slope of log |d| against t over the last half; it asks for no even spacing."""
    first, last = max(0, min(len(size) // 2, len(size) - 3)), len(size) - 1
    if len(size) < 3 or not bool((size[first:] > 0).all()):
        return nothing("fewer than 3 positive residuals in the last half", first, last)
    y, t = size[first:].log(), t[first:] - t[first:].mean()
    gradient = float(t @ y / (t @ t))
    wiggle, rest = y - y.mean(), y - y.mean() - gradient * t
    misfit = float(rest.norm() / wiggle.norm()) if bool(wiggle.norm() > 0) else 0.0
    if misfit > GOOD_LINE and float(rest.square().mean().sqrt()) > 1e-9:
        return nothing(
            f"the log of the residual follows no line over the last half (misfit {misfit:.2g})", first, last
        )
    error = math.sqrt(float(rest @ rest) / max(1, len(y) - 2) / float(t @ t))
    if error > 0.25:
        return nothing(
            f"the slope of the log of the residual is known to a factor of {math.exp(error):.2g} only",
            first,
            last,
        )
    rate, method = math.exp(gradient), "slope of the log of the residual"
    return Decay(rate, rate * error, math.nan, misfit, first, last, method)
