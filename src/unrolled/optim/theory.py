"""The structured quadratic of the curvature paper's section 5: Muon against gradient descent, in closed form.

Local model (fact sheet 2606.04662, section 4): Q(Y) = L0 - <G, Y> + 1/2 <Y, H[Y]>, Y_0 = 0, whose curvature and gradient
share bases: with eigenmatrices M_i = u_i v_i^T (the columns of two orthogonal matrices U and V),
H[M_i] = w_i M_i for i = 1..q, H is zero elsewhere, and G = sum_i sigma_i M_i. Every step takes the residual
R = G - H[Y], a direction Z (R itself: gradient descent; its polar factor: Muon), and the exact line search
eta = <R, Z> / <Z, H[Z]>.

Two levels (`Quadratic`): w_H and sigma_H on m modes, w_L and sigma_L on the other q - m, alpha = m / q, rho = w_H / w_L.

* NDS of Muon: alpha w_H + (1 - alpha) w_L, at every step: it weighs modes by their number.
* NDS of gradient descent: P_t w_H + (1 - P_t) w_L with P_0 = m sigma_H^2 / (m sigma_H^2 + (q - m) sigma_L^2) and
  P_{t+1} = 1 - P_t: it weighs modes by their energy, which flips from one level to the other.
* Loss above the minimum, Phi_t = Q(Y_t) - Q(Y*) = 1/2 sum_i r_i^2 / w_i:
  Muon Phi_{t+1} = Gamma^2 Phi_t from t = 1 on, Gamma = |m w_H - (q - m) w_L| / (m w_H + (q - m) w_L);
  gradient descent Phi_{t+1} = sqrt(R) Phi_t from t = 0 on, R = C(P_0) C(1 - P_0),
  C(x) = (w_H - w_L)^2 x (1 - x) / (w_L + (w_H - w_L) x)^2.
* Theorem 5.5, for w_H > w_L, sigma_H > sigma_L, alpha < 1/2: (a) the mean NDS of Muon over any T >= 1 steps is below
  that of gradient descent; (b) if rho + 1 > 1 / alpha > 1 + sigma_H / sigma_L, Muon's loss is lower at every T >= 1.

(b) is sufficient, not necessary; where its condition fails, gradient descent may win later on, as it does on
Quadratic(20, 50, 100, 1, 3, 1) from T = 4. The theory is Muon against gradient descent on one block, without momentum or noise; `power_law`
adds the sign of G (Adam's first step) on spectra that decay, where no closed form is claimed.

>>> problem = Quadratic(m=5, q=50, w_H=100, w_L=1, sigma_H=3, sigma_L=1)
>>> problem.condition, round(problem.nds_muon, 6), round(problem.nds_gd(0), 6)
(True, 10.9, 50.5)
>>> path = simulate(problem, "muon", steps=4)
>>> [round(x, 5) for x in path["phi"][1:].tolist()]
[19.42225, 13.53721, 9.43537, 6.57641]
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory, seeds
from unrolled.optim import polar

DIRECTIONS = ("muon", "gd", "sign_adam")


@dataclass(frozen=True)
class Quadratic:
    """The two-level quadratic of Assumptions 5.1 to 5.4, with its closed forms.

    Args:
        m: how many modes are steep.
        q: how many there are, m < q.
        w_H: curvature of the m steep modes.
        w_L: curvature of the others.
        sigma_H: gradient on the m steep modes.
        sigma_L: gradient on the others.

    Raises:
        ValueError: not 0 < m < q, or a level that is not positive.

    Example:
        >>> Quadratic(m=8, q=88, w_H=50, w_L=1, sigma_H=2, sigma_L=1).contraction_muon
        0.4444444444444444
    """

    m: int
    q: int
    w_H: float
    w_L: float
    sigma_H: float
    sigma_L: float

    def __post_init__(self) -> None:
        if not 0 < self.m < self.q:
            raise ValueError(f"m counts the steep modes among q: 0 < m < q, got m={self.m}, q={self.q}")
        for name in ("w_H", "w_L", "sigma_H", "sigma_L"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is positive and finite, got {getattr(self, name)}")

    @property
    def alpha(self) -> float:
        """The share of steep modes, m / q."""
        return self.m / self.q

    @property
    def rho(self) -> float:
        """The ratio of curvatures, w_H / w_L."""
        return self.w_H / self.w_L

    @property
    def assumptions(self) -> bool:
        """Assumptions 5.3 and 5.4: w_H > w_L, sigma_H > sigma_L, alpha < 1/2. Part (a) needs no more."""
        return self.w_H > self.w_L and self.sigma_H > self.sigma_L and self.alpha < 0.5

    @property
    def condition(self) -> bool:
        """The condition of part (b): rho + 1 > 1 / alpha > 1 + sigma_H / sigma_L, and the assumptions."""
        return self.assumptions and self.rho + 1 > 1 / self.alpha > 1 + self.sigma_H / self.sigma_L

    @property
    def w(self) -> Tensor:
        """Curvatures, `[q]`, float64."""
        return self._levels(self.w_H, self.w_L)

    @property
    def sigma(self) -> Tensor:
        """Gradient on each mode, `[q]`, float64."""
        return self._levels(self.sigma_H, self.sigma_L)

    @property
    def nds_muon(self) -> float:
        """Directional sharpness of Muon, the same at every step."""
        return self.alpha * self.w_H + (1 - self.alpha) * self.w_L

    def energy(self, t: int) -> float:
        """P_t: the share of the steep modes in the squared residual of gradient descent."""
        steep, flat = self.m * self.sigma_H**2, (self.q - self.m) * self.sigma_L**2
        return (steep if t % 2 == 0 else flat) / (steep + flat)

    def nds_gd(self, t: int) -> float:
        """Directional sharpness of gradient descent at step t (period 2)."""
        return self.energy(t) * self.w_H + (1 - self.energy(t)) * self.w_L

    def mean_nds_gd(self, steps: int) -> float:
        """Its mean over the first steps.

        Raises:
            ValueError: no steps.
        """
        if steps < 1:
            raise ValueError(f"a mean over steps needs at least one, got {steps}")
        return ((steps + 1) // 2 * self.nds_gd(0) + steps // 2 * self.nds_gd(1)) / steps

    @property
    def contraction_muon(self) -> float:
        """Gamma^2 = Phi_{t+1} / Phi_t for t >= 1."""
        steep, flat = self.m * self.w_H, (self.q - self.m) * self.w_L
        return ((steep - flat) / (steep + flat)) ** 2

    @property
    def contraction_gd(self) -> float:
        """sqrt(R) = Phi_{t+1} / Phi_t for t >= 0."""

        def c(x: float) -> float:
            return (self.w_H - self.w_L) ** 2 * x * (1 - x) / (self.w_L + (self.w_H - self.w_L) * x) ** 2

        return math.sqrt(c(self.energy(0)) * c(self.energy(1)))

    def phi_muon(self, t: int) -> float:
        """Phi_t of Muon."""
        if t == 0:
            return self._phi(self.sigma_H, self.sigma_L)
        # The first step still meets unequal residuals: eta = sum sigma / sum w.
        others = self.q - self.m
        eta = (self.m * self.sigma_H + others * self.sigma_L) / (self.m * self.w_H + others * self.w_L)
        first = self._phi(self.sigma_H - eta * self.w_H, self.sigma_L - eta * self.w_L)
        return first * self.contraction_muon ** (t - 1)

    def phi_gd(self, t: int) -> float:
        """Phi_t of gradient descent."""
        return self._phi(self.sigma_H, self.sigma_L) * self.contraction_gd**t

    def crossing(self) -> int | None:
        """The first step T >= 1 at which gradient descent is not above Muon; None if there is none.

        From T = 1 on both losses are geometric, so the first step and the two contractions decide.

        Example:
            >>> Quadratic(20, 50, 100, 1, 3, 1).crossing()
            4
        """
        if self.phi_gd(1) <= self.phi_muon(1):
            return 1
        muon, gd = self.contraction_muon, self.contraction_gd
        if muon <= gd:
            return None
        ahead = math.log(self.phi_gd(1) / self.phi_muon(1))
        return 1 + math.ceil(ahead / math.log(muon / gd))

    def _phi(self, r_H: float, r_L: float) -> float:
        return 0.5 * (self.m * r_H**2 / self.w_H + (self.q - self.m) * r_L**2 / self.w_L)

    def _levels(self, high: float, low: float) -> Tensor:
        return torch.tensor([high] * self.m + [low] * (self.q - self.m), dtype=torch.float64)


@dataclass(frozen=True)
class Modes:
    """Any paired spectrum: curvature w_i > 0 and gradient sigma_i >= 0 on q modes; for `simulate`.

    Args:
        w: `[q]` curvatures.
        sigma: `[q]` gradient.

    Raises:
        ValueError: shapes that differ, a curvature that is not positive, or a negative sigma.
    """

    w: Tensor
    sigma: Tensor

    def __post_init__(self) -> None:
        if self.w.ndim != 1 or self.w.shape != self.sigma.shape:
            raise ValueError(
                f"w and sigma are [q] both, got {tuple(self.w.shape)} and {tuple(self.sigma.shape)}"
            )
        if not bool((self.w > 0).all()) or not bool((self.sigma >= 0).all()):
            raise ValueError(
                "w must be positive and sigma not negative: flip the sign of u_i for sigma_i < 0"
            )

    @property
    def q(self) -> int:
        """How many modes."""
        return len(self.w)


def power_law(q: int = 88, *, curvature: float = 1.3, alignment: float = 0.5) -> Modes:
    """Decaying spectra as in the paper's figure 7: w_i = i^-curvature, sigma_i = w_i^alignment.

    The exponents 1.3 and .5 are those of a third-party reproduction; whether they are the paper's is not known.

    Example:
        >>> power_law(4, curvature=1.0).w.tolist()
        [1.0, 0.5, 0.3333333333333333, 0.25]
    """
    if q < 1:
        raise ValueError(f"q counts modes and is at least 1, got {q}")
    w = torch.arange(1, q + 1, dtype=torch.float64) ** -curvature
    return Modes(w, w**alignment)


@dataclass(frozen=True)
class Matrices:
    """A spectrum in random orthonormal bases: G and H[.] as matrices.

    Attributes:
        u: `[rows, q]` orthonormal columns u_i.
        v: `[cols, q]` orthonormal columns v_i.
        w: `[q]` curvatures.
        sigma: `[q]` gradient.
    """

    u: Tensor
    v: Tensor
    w: Tensor
    sigma: Tensor

    @property
    def gradient(self) -> Tensor:
        """G = sum sigma_i u_i v_i^T."""
        return self.u * self.sigma @ self.v.mT

    def hessian(self, y: Tensor) -> Tensor:
        """H[Y] = sum w_i <M_i, Y> M_i."""
        return self.u * (self.w * ((self.u.mT @ y) * self.v.mT).sum(-1)) @ self.v.mT


def matrices(
    problem: Quadratic | Modes,
    rows: int | None = None,
    cols: int | None = None,
    *,
    rng: int | torch.Generator = 0,
) -> Matrices:
    """Put a spectrum into random orthogonal bases (uniform, by QR of a normal matrix).

    Args:
        problem: the spectrum.
        rows: of the matrices, at least q; q by default.
        cols: likewise.
        rng: seed or generator.

    Raises:
        ValueError: fewer rows or columns than modes.

    Example:
        >>> placed = matrices(Quadratic(1, 3, 9, 1, 2, 1), rows=4, cols=5)
        >>> torch.linalg.svdvals(placed.gradient)[:3].round(decimals=6).tolist()
        [2.0, 1.0, 1.0]
    """
    rows, cols = rows or problem.q, cols or problem.q
    if min(rows, cols) < problem.q:
        raise ValueError(f"{problem.q} modes need at least as many rows and columns, got {rows} x {cols}")
    generator = seeds.generator(rng)
    bases = [
        torch.linalg.qr(torch.randn(size, problem.q, generator=generator, dtype=torch.float64))[0]
        for size in (rows, cols)
    ]
    return Matrices(bases[0], bases[1], problem.w, problem.sigma)


def simulate(
    problem: Quadratic | Modes,
    direction: str,
    steps: int,
    *,
    form: str = "modes",
    rows: int | None = None,
    cols: int | None = None,
    rng: int | torch.Generator = 0,
) -> Trajectory:
    """Descend with exact line search.

    Args:
        problem: the spectrum.
        direction: `"muon"`, the polar factor of R; `"gd"`, R; `"sign_adam"`, sign(R) entry by entry, the first step of
            Adam without eps (in the form `"matrix"` only).
        steps: how many.
        form: `"modes"` follows the q residuals <R, M_i>; `"matrix"` is the naive twin with real matrices, an explicit H
            and an SVD.
        rows: of the matrices, with `form="matrix"`.
        cols: likewise.
        rng: seed or generator of the bases.

    Returns:
        A trajectory over t = 0..steps with records `phi` (loss above the minimum), and at each t the step from there:
        `nds` (<Z, H[Z]> / <Z, Z>), `eta`, `decrease` (Phi_t - Phi_{t+1}). Once the residual is zero there is no
        direction: NDS, eta and decrease are NaN.

    Raises:
        ValueError: an unknown direction or form, or sign_adam without matrices.

    Example:
        >>> simulate(Quadratic(5, 50, 100, 1, 3, 1), "gd", steps=3)["nds"].round(decimals=6).tolist()
        [50.5, 50.5, 50.5, 50.5]
    """
    if direction not in DIRECTIONS:
        near = difflib.get_close_matches(str(direction), DIRECTIONS, n=1)
        raise ValueError(
            f"direction is one of {', '.join(DIRECTIONS)}, got {direction!r}"
            + (f" (did you mean {near[0]!r}?)" if near else "")
        )
    if form not in ("modes", "matrix"):
        raise ValueError(f"form is 'modes' or 'matrix', got {form!r}")
    if form == "modes":
        if direction == "sign_adam":
            raise ValueError("the entrywise sign leaves the q modes: sign_adam needs form='matrix'")
        w = problem.w
        placed, gradient = None, problem.sigma

        def apply(y: Tensor) -> Tensor:
            return w * y
    else:
        placed = matrices(problem, rows, cols, rng=rng)
        gradient, apply = placed.gradient, placed.hessian
    turn: dict[str, Callable[[Tensor], Tensor]] = {
        "gd": lambda r: r,
        "sign_adam": torch.sign,
        "muon": torch.sign if placed is None else polar.svd,
    }
    y = torch.zeros_like(gradient)
    kept: dict[str, list[Any]] = {"phi": [], "nds": [], "eta": [], "decrease": []}
    for t in range(steps + 1):
        residual = gradient - apply(y)
        on_modes = residual if placed is None else ((placed.u.mT @ residual) * placed.v.mT).sum(-1)
        phi = 0.5 * (on_modes**2 / problem.w).sum()
        z = turn[direction](residual)
        slope, curvature, square = (residual * z).sum(), (z * apply(z)).sum(), (z * z).sum()
        eta = slope / curvature  # 0 / 0 is NaN: no direction
        row = {"phi": phi, "nds": curvature / square, "eta": eta, "decrease": 0.5 * eta * slope}
        for name, value in row.items():
            kept[name].append(value)
        if t < steps and bool(eta.isfinite()):
            y = y + eta * z
    meta = {"direction": direction, "form": form}
    return Trajectory.from_records(
        torch.arange(steps + 1), {name: torch.stack(values) for name, values in kept.items()}, meta=meta
    )


@dataclass(frozen=True)
class Verdict:
    """What the theorem says of a problem, and what a simulation of it did.

    Attributes:
        assumptions: of part (a).
        condition: of part (b).
        sharper: whether the mean NDS of gradient descent was above Muon's for every T = 1..steps.
        lower: whether Muon's loss was below that of gradient descent for every T = 1..steps.
        crossing: the first T at which it was not; None if there was none.
    """

    assumptions: bool
    condition: bool
    sharper: bool
    lower: bool
    crossing: int | None

    @property
    def holds(self) -> bool:
        """The simulation does not contradict the theorem; a condition that fails claims nothing."""
        return (self.sharper or not self.assumptions) and (self.lower or not self.condition)


def check_theorem(problem: Quadratic, steps: int = 20) -> Verdict:
    """Simulate both optimizers and hold Theorem 5.5 to the result.

    Both are compared down to losses of 1e-12 of the initial one; below, rounding decides, and at the minimum there is
    no direction.

    Example:
        >>> check_theorem(Quadratic(5, 50, 100, 1, 3, 1))
        Verdict(assumptions=True, condition=True, sharper=True, lower=True, crossing=None)
        >>> check_theorem(Quadratic(20, 50, 100, 1, 3, 1)).crossing  # the negative control for (b)
        4
    """
    muon, gd = (simulate(problem, direction, steps) for direction in ("muon", "gd"))
    count = torch.arange(1, steps + 1)
    means = [path["nds"][:steps].cumsum(0) / count for path in (muon, gd)]
    floor = 1e-12 * muon["phi"][0]
    moving = (muon["phi"][:steps] > floor) & (gd["phi"][:steps] > floor)
    behind = (muon["phi"] >= gd["phi"]) & (gd["phi"] > floor)
    behind[0] = False
    crossing = int(behind.nonzero()[0]) if bool(behind.any()) else None
    return Verdict(
        problem.assumptions,
        problem.condition,
        bool((means[0] < means[1])[moving].all()),
        crossing is None,
        crossing,
    )
