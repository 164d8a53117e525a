"""Steady states: where a network stays once it is there, and whether it comes back when pushed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.core import require
from unrolled.instruments import spectrum
from unrolled.instruments.reading import COLORS, axes
from unrolled.sbml.analysis._field import Field

NEAR = 1e-5
"""Relative distance below which two solutions are one."""


@dataclass(frozen=True)
class SteadyState:
    """One solution of f(x) = 0.

    Attributes:
        species: names, in the order of `x`.
        x: `[d]`.
        eigenvalues: of the Jacobian within the conservation laws, leading real part first; complex.
        residual: max |f_i(x)|.
        error: estimated distance to the exact solution, relative: the size of the Newton step that would follow.
        kind: `"stable node"`, `"stable focus"`, `"saddle"`, `"unstable node"`, `"unstable focus"` or `"marginal"` (a
            leading real part that rounding cannot tell from 0: a line of steady states, or a bifurcation).
    """

    species: tuple[str, ...]
    x: Tensor
    eigenvalues: Tensor
    residual: float
    error: float
    kind: str

    @property
    def stable(self) -> bool:
        """Whether small pushes within the conservation laws die out."""
        return self.kind.startswith("stable")

    def __getitem__(self, name: str) -> float:
        """The value of a species."""
        if name not in self.species:
            raise KeyError(f"no species {name!r}; there are {', '.join(self.species)}")
        return float(self.x[self.species.index(name)])

    def __str__(self) -> str:
        shown = ", ".join(f"{name} = {value:.5g}" for name, value in zip(self.species, self.x.tolist()))
        return f"{self.kind}: {shown}"


@dataclass(frozen=True)
class SteadyStates(Sequence[SteadyState]):
    """What `steady_states` found, stable ones first.

    Attributes:
        states: the solutions.
        notes: what a careful reader should know: starts that came to nothing, solutions left out.
        model: the model that was solved.
        parameters: the values that were not the model's own.
    """

    states: tuple[SteadyState, ...]
    notes: tuple[str, ...] = ()
    model: Any = field(default=None, repr=False)
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, i: Any) -> Any:
        return self.states[i]

    def __iter__(self) -> Iterator[SteadyState]:
        return iter(self.states)

    @property
    def stable(self) -> list[SteadyState]:
        """The stable ones: the network's resting states."""
        return [state for state in self.states if state.stable]

    def __str__(self) -> str:
        lines = [str(state) for state in self.states] or ["no steady state found"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_frame(self) -> Any:
        """A `pandas.DataFrame`, one row a steady state.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        return pandas.DataFrame(
            [
                {"kind": s.kind, **dict(zip(s.species, s.x.tolist())),
                 "leading": float(s.eigenvalues.real.max()), "residual": s.residual}
                for s in self.states
            ]
        )  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Eigenvalues in the complex plane, stable steady states filled; left of the line pushes die out.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        ax = axes(ax)
        for k, state in enumerate(self.states):
            z, color = state.eigenvalues, COLORS[k % len(COLORS)]
            ax.plot(
                z.real, z.imag, "o", color=color, mfc=color if state.stable else "none", label=f"{state.kind}"
            )
        ax.axvline(0, color="#1c1e21", lw=0.8)
        reach = max((float(s.eigenvalues.abs().max()) for s in self.states if len(s.eigenvalues)), default=1)
        least = min(
            (float(s.eigenvalues.abs().min()) for s in self.states if len(s.eigenvalues)), default=reach
        )
        if least and reach / least > 100:
            ax.set_xscale("symlog", linthresh=max(least, reach * 1e-6))
        ax.set(xlabel="real part, per unit of time", ylabel="imaginary part", title="eigenvalues")
        ax.legend(frameon=False)
        return ax


def steady_states(
    model: Any,
    *,
    parameters: Mapping[str, float] | None = None,
    x0: Tensor | Mapping[str, float] | None = None,
    starts: int = 64,
    seed: int = 0,
    positive: bool | None = None,
    tol: float = 1e-9,
    span: float = 2.0,
    iterations: int = 60,
) -> SteadyStates:
    """Solutions of f(x) = 0 within the conservation laws, from many starts at once, with their stability.

    All starts run as one batch. Half of them take implicit Euler steps of growing length, (I/h - J) dx = f, which
    follow the flow and become Newton's method at its end: they find what attracts. The other half take damped Newton
    steps from where they are: they find saddles and unstable states as well. A conserved total replaces the equation of
    one species of its law, so the answer has the totals of `x0`. What converged is polished by full Newton steps,
    verified, and told apart from the others. Nothing promises that all steady states are found: more starts find more.

    Args:
        model: the network.
        parameters: values other than the model's.
        x0: fixes the conserved totals, and is the first start; the model's initial state when None.
        starts: how many.
        seed: of the starts, which are spread log-uniformly `span` decades about the scale of each species.
        positive: leave out solutions with a negative species; None: if the initial state has none (and no species is
            named in it below zero).
        tol: how large the next Newton step may be, relative to the solution.
        span: decades.
        iterations: at most so many.

    Returns:
        The solutions, stable first. Empty, with a note that says why, where nothing converged.

    Raises:
        ValueError: the model's rate depends on time, or it is not finite at x0.

    Example:
        dx/dt = x - x^3 rests at -1 and 1, and leaves 0:

        >>> from unrolled.sbml import Model
        >>> model = Model.from_equations(species={"x": 0.5}, rates={"x": "x - x^3"})
        >>> found = steady_states(model, positive=False)
        >>> [(s.kind, round(s["x"], 9)) for s in found]
        [('stable node', -1.0), ('stable node', 1.0), ('unstable node', 0.0)]
    """
    system = Field(model, parameters, x0)
    if positive is None:
        positive = bool((system.x0 >= 0).all())
    begin = system.starts(starts, span, seed, signed=not positive)
    # Rates are often undefined where a species is negative: the flow stays inside, the other half may leave.
    flow, newton = begin[: (starts + 1) // 2], begin[(starts + 1) // 2 :]
    ends = torch.cat([_flow(system, flow, iterations), _newton(system, newton, iterations)])
    ends = _polish(system, ends)
    x, residual, error = _verify(system, ends)
    good = (error <= tol) & x.isfinite().all(-1) & residual.isfinite()
    notes: list[str] = []
    if not bool(good.all()):
        notes.append(f"{int((~good).sum())} of {starts} starts came to no steady state")
    x, residual, error = x[good], residual[good], error[good]
    if positive:
        scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-30)
        inside = (x >= -1e-9 * scale).all(-1)
        if not bool(inside.all()):
            notes.append("solutions with negative species are left out; positive=False shows them")
        x, residual, error = x[inside].clamp(min=0), residual[inside], error[inside]
    if not system.autonomous:
        notes.append("the rates depend on time; they are read at t = 0")
    x = torch.where(x.abs() < 1e-14 * system.scale, 0.0, x)
    made = [_state(system, x[i], float(residual[i]), float(error[i])) for i in _distinct(x)]
    made, lines = _lone(made)
    if lines:
        notes.append(
            f"steady states that are not isolated: one of {lines} points of a line or a surface is shown; where on it a "
            "start ends, a simulation tells"
        )
    order = {"stable": 0, "marginal": 1, "saddle": 2, "unstable": 3}
    made.sort(key=lambda s: (order[s.kind.split()[0]], [round(v, 9) for v in s.x.tolist()]))
    if not made:
        notes.append(
            "nothing converged: more starts, another x0, or a network that never rests (a cycle without a centre)"
        )
    return SteadyStates(tuple(made), tuple(notes), model, dict(parameters or {}))


def _flow(system: Field, x: Tensor, iterations: int) -> Tensor:
    """Pseudo-transient continuation: the step grows as the residual falls."""
    eye = torch.eye(system.size, dtype=x.dtype)
    out, left = x.clone(), torch.arange(len(x))
    f = system.f(x)
    speed = (f.abs() / (x.abs() + system.scale)).amax(-1)
    h = 0.1 / speed.clamp(min=1e-12)
    for _ in range(iterations):
        dx = _solve(eye / h[:, None, None] - system.jacobian(x), f)
        ahead = x + dx
        if system.nonnegative:
            ahead = torch.where(ahead < 0, 0.1 * x, ahead)
        there = system.f(ahead)
        size, before = _norm(there, system), _norm(f, system)
        fine = there.isfinite().all(-1) & (size <= 4 * before)
        x, f = torch.where(fine[:, None], ahead, x), torch.where(fine[:, None], there, f)
        h = torch.where(fine, h * (before / size.clamp(min=1e-300)).clamp(1.5, 10), h / 4)
        out[left] = x
        on = ~((h > 1e6 / speed.clamp(min=1e-12)) & (dx.abs() <= 1e-8 * (x.abs() + system.scale)).all(-1))
        left, x, f, h, speed = left[on], x[on], f[on], h[on], speed[on]
        if not len(left):
            break
    return out


def _newton(system: Field, x: Tensor, iterations: int) -> Tensor:
    """Newton's method on f and the totals, halving steps that do not reduce the residual."""
    out, left = x.clone(), torch.arange(len(x))
    for _ in range(iterations):
        F, J = system.equations(x)
        dx, before = _solve(J, -F), _norm(F, system)
        taken = torch.zeros(len(x), dtype=torch.bool)
        for k in range(8):
            ahead = x + 0.5**k * dx
            there = system.equations(ahead, jacobian=False)[0]
            fine = there.isfinite().all(-1) & (_norm(there, system) < before) & ~taken
            x, taken = torch.where(fine[:, None], ahead, x), taken | fine
            if bool(taken.all()):
                break
        out[left] = x
        # Where no step helps it is either done or stuck; which of the two is told later.
        on = taken & ((dx.abs() > 1e-10 * (x.abs() + system.scale)).any(-1))
        left, x = left[on], x[on]
        if not len(left):
            break
    return out


def _polish(system: Field, x: Tensor) -> Tensor:
    """Full Newton steps, kept where they shrink the residual."""
    F, J = system.equations(x)
    for _ in range(8):
        ahead = x + _solve(J, -F)
        there, slope = system.equations(ahead)
        fine = (there.isfinite().all(-1) & (_norm(there, system) <= _norm(F, system)))[:, None]
        x, F = torch.where(fine, ahead, x), torch.where(fine, there, F)
        J = torch.where(fine[..., None], slope, J)
    return x


def _verify(system: Field, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Solutions, max |f|, and the relative size of the Newton step that would follow."""
    F, J = system.equations(x)
    step = _solve(J, -F).abs().amax(-1)
    # A singular Jacobian (a line of steady states) has no Newton step: the residual over the scale of J tells.
    flat = F.abs().amax(-1) / J.abs().amax((-2, -1)).clamp(min=1e-30)
    size = x.abs().amax(-1).clamp(min=1e-3 * float(system.scale.max()))
    return x, system.f(x).abs().amax(-1), torch.where(step.isfinite(), step, flat) / size


def _solve(A: Tensor, b: Tensor) -> Tensor:
    """A^-1 b per sample; NaN where A is singular or not finite."""
    fine = A.isfinite().all(-1).all(-1) & b.isfinite().all(-1)
    eye = torch.eye(A.shape[-1], dtype=A.dtype)
    x, info = torch.linalg.solve_ex(torch.where(fine[:, None, None], A, eye), b)
    return torch.where((fine & (info == 0))[:, None], x, torch.nan)


def _norm(F: Tensor, system: Field) -> Tensor:
    """Residual in units of each species' scale, NaN as infinity."""
    return (F / system.scale).square().sum(-1).nan_to_num(nan=math.inf)


def _distinct(x: Tensor) -> list[int]:
    """The first of each cluster of solutions."""
    kept: list[int] = []
    for i in range(len(x)):
        reach = NEAR * x[i].abs().max().clamp(min=1e-12)
        if not any(bool((x[i] - x[j]).abs().max() <= reach + NEAR * x[j].abs().max()) for j in kept):
            kept.append(i)
    return kept


def _lone(states: list[SteadyState]) -> tuple[list[SteadyState], int]:
    """Isolated solutions, and one of those that are not, if there are several; how many of these there were."""
    degenerate = [s for s in states if len(s.eigenvalues) and _singular(s.eigenvalues)]
    if len(degenerate) < 2:
        return states, 0
    isolated = [s for s in states if not any(s is other for other in degenerate)]
    return [*isolated, degenerate[0]], len(degenerate)


def _singular(eigenvalues: Tensor) -> bool:
    return float(eigenvalues.abs().min()) <= 1e-9 * float(eigenvalues.abs().max().clamp(min=1e-300))


def _state(system: Field, x: Tensor, residual: float, error: float) -> SteadyState:
    A = system.reduced(x)
    if len(A):
        found = spectrum(lambda v: A @ v, shape=(len(A),), k=len(A), which="LR", symmetric=False)
        values = found["eigenvalue"].to(torch.complex128)
    else:
        values = torch.zeros(0, dtype=torch.complex128)
    return SteadyState(system.species, x, values, residual, error, kind(values))


def kind(eigenvalues: Tensor) -> str:
    """What a steady state with these eigenvalues is called.

    Example:
        >>> kind(torch.tensor([-1 + 2j, -1 - 2j])), kind(torch.tensor([1 + 0j, -3 + 0j]))
        ('stable focus', 'saddle')
    """
    if not len(eigenvalues):
        return "stable node"
    real, size = eigenvalues.real, float(eigenvalues.abs().max())
    if float(real.max()) <= 1e-9 * size and float(real.abs().min()) <= 1e-9 * size:
        return "marginal"
    leading = eigenvalues[int(real.argmax())]
    turns = "focus" if abs(float(leading.imag)) > 1e-9 * size else "node"
    if float(real.max()) < 0:
        return f"stable {turns}"
    if float(real.min()) < 0 and turns == "node":
        return "saddle"
    return f"unstable {turns}"
