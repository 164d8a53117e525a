"""The vector field of a model at fixed parameters and t = 0, with what it conserves, as the analyses read it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unrolled.sbml.analysis.conservation import amounts_per_column, conserved
from unrolled.sbml.expression import TIME, Number, walk


class Field:
    """f(x), its Jacobian and its linear invariants, in float64.

    Attributes:
        species: names of the columns.
        size: how many.
        x0: `[d]`, the state that fixes the totals.
        scale: `[d]`, typical sizes, positive.
        W: `[m, d]`, the invariants in the units of x: conservation laws, and what nothing changes.
        totals: `[m]`, W x0.
        pivots: `[m]`, the column whose equation each invariant replaces.
        nonnegative: whether no column of x0 is negative.
        autonomous: whether f is free of time; it is read at t = 0.

    Raises:
        KeyError: no such parameter or species.
        ValueError: f(x0) is not finite.
    """

    def __init__(
        self,
        model: Any,
        parameters: Mapping[str, float] | None = None,
        x0: Tensor | Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.species: tuple[str, ...] = tuple(model.species)
        self.size = len(self.species)
        given = dict(parameters or {})
        values = {**given, **(x0 if isinstance(x0, Mapping) else {})}
        start = model.start(values, batch=1)
        self.p = start.p.double()
        x = x0 if isinstance(x0, Tensor) else start.x
        self.x0 = x.reshape(-1).detach().double()
        self.nonnegative = bool((self.x0 >= 0).all())
        network = model.network
        self.autonomous = not any(
            node == TIME
            for formula in [*(s.rate for s in network.states), *(r.formula for r in network.rules)]
            for node in walk(formula)
        )
        factor = amounts_per_column(model)
        rows: list[Tensor] = []
        for law in conserved(model):
            row = torch.zeros(self.size, dtype=torch.float64)
            for name, weight in law.weights.items():
                row[self.species.index(name)] = weight * factor[name]
            rows.append(row)
        eye = torch.eye(self.size, dtype=torch.float64)
        rows += [eye[i] for i, state in enumerate(network.states) if state.rate == Number(0.0)]
        self.W = torch.stack(rows) if rows else eye[:0]
        self.totals = self.W @ self.x0
        self.pivots = _pivots(self.W)
        here = self.f(self.x0[None])[0]
        if not bool(here.isfinite().all()):
            bad = [name for name, value in zip(self.species, here.tolist()) if not math.isfinite(value)]
            raise ValueError(f"the rate of {', '.join(bad)} is not finite at the state given")
        self.scale = self._scales()

    def f(self, x: Tensor) -> Tensor:
        """dx/dt, `[B, d]`."""
        with torch.no_grad():
            return self.model.compiled.rate(x.new_zeros(()), x, self.p)

    def jacobian(self, x: Tensor) -> Tensor:
        """df/dx, `[B, d, d]`: one backward pass a row, which for a batch of small networks is the quickest way."""
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            rate = self.model.compiled.rate(at.new_zeros(()), at, self.p)
            if not rate.requires_grad:
                return x.new_zeros(len(x), self.size, self.size)
            rows = [
                torch.autograd.grad(rate[:, i].sum(), at, retain_graph=True, allow_unused=True)[0]
                if rate[:, i].requires_grad
                else None
                for i in range(self.size)
            ]
        return torch.stack([torch.zeros_like(x) if row is None else row for row in rows], 1)

    def equations(self, x: Tensor, *, jacobian: bool = True) -> tuple[Tensor, Tensor]:
        """F, `[B, d]`, and dF/dx: f with the rows of the pivots replaced by W x - totals."""
        F = self.f(x)
        J = self.jacobian(x) if jacobian else x.new_zeros(0)
        if len(self.W):
            F = F.clone()
            F[:, self.pivots] = x @ self.W.T - self.totals
            if jacobian:
                J = J.clone()
                J[:, self.pivots] = self.W
        return F, J

    def reduced(self, x: Tensor) -> Tensor:
        """The Jacobian at x `[d]` within the invariants, `[d - m, d - m]`."""
        J = self.jacobian(x[None])[0]
        if not len(self.W):
            return J
        _, size, V = torch.linalg.svd(self.W)
        Q = V[int((size > 1e-10 * size.max()).sum()) :].T
        return Q.T @ J @ Q

    def starts(self, n: int, span: float, seed: int, *, signed: bool = False) -> Tensor:
        """States to start from, `[n, d]`, with x0's totals: x0 itself, then random ones.

        Args:
            n: how many.
            span: log-uniform, so many decades to both sides of the scale; 0: uniform between 0 and the scale.
            seed: of the draw.
            signed: negative values as well.
        """
        rng = torch.Generator().manual_seed(seed)
        spread = torch.rand(n, self.size, generator=rng, dtype=torch.float64)
        x = self.scale * (10 ** (span * (2 * spread - 1)) if span else spread)
        if signed:
            x = x * (2.0 * torch.randint(0, 2, x.shape, generator=rng) - 1)
        x[0] = self.x0
        if not len(self.W):
            return x
        # Proportional fitting is exact where laws share no species; what is left is projected, and kept from below zero.
        for row, total in zip(self.W, self.totals):
            if bool((row >= 0).all()):
                now = x @ row
                x = torch.where(row > 0, x * torch.where(now != 0, total / now, 1.0)[:, None], x)
        inverse = torch.linalg.pinv(self.W).T
        for _ in range(200):
            x = x + (self.totals - x @ self.W.T) @ inverse
            if signed or bool((x >= 0).all()):
                return x
            x = x.clamp(min=0)
        off = (self.totals - x @ self.W.T).abs().amax(-1) > 1e-9 * self.scale.max()
        return torch.where(off[:, None], self.x0, x)

    def widen(self, states: Any) -> None:
        """Let the scale reach the steady states found."""
        for state in states:
            self.scale = torch.maximum(self.scale, state.x.abs())

    def _scales(self) -> Tensor:
        """The largest value each column takes on the way from x0: implicit Euler steps of growing length."""
        x, eye = self.x0[None], torch.eye(self.size, dtype=torch.float64)
        largest = x.abs()
        rate = self.f(x).abs().max() / x.abs().max().clamp(min=1e-6)
        h = 0.01 / float(rate.clamp(min=1e-9))
        for _ in range(40):
            step, info = torch.linalg.solve_ex(eye / h - self.jacobian(x), self.f(x))
            ahead = x + step
            if bool(info.any()) or not bool(ahead.isfinite().all()):
                break
            if self.nonnegative:
                ahead = torch.where(ahead < 0, 0.1 * x, ahead)
            if not bool(self.f(ahead).isfinite().all()):
                break
            x, h = ahead, h * 1.6
            largest = torch.maximum(largest, x.abs())
        typical = largest[largest > 0].median() if bool((largest > 0).any()) else torch.tensor(1.0)
        return largest[0].clamp(min=1e-3 * float(typical))


def _pivots(W: Tensor) -> Tensor:
    """One column per row of W, such that these columns of W are independent: complete pivoting."""
    rest, picked = W.clone(), torch.zeros(len(W), dtype=torch.long)
    for _ in range(len(W)):
        row, column = divmod(int(rest.abs().argmax()), W.shape[1])
        picked[row] = column
        factor = rest[:, column : column + 1] / rest[row, column]
        rest = rest - factor * rest[row]
        rest[row] = 0
    return picked
