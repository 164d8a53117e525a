"""Many quadratic programs on the simplex at once: minimise 1/2 u'Gu - c'u over u >= 0, sum u = 1.

The work is done by block principal pivoting: guess which entries are positive, solve the equality-constrained problem
on them, exchange every entry that breaks a sign condition, and when that stops helping only the last one. It takes a
handful of rounds, each one batched Cholesky over all problems still open. A problem that does not close in time goes
to the primal active-set method of Lawson and Hanson, which always ends. Accuracy is judged by `kkt`.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TOLERANCE = 1e-10
"""Of signs: entries of u, and of the reduced gradient over the mean diagonal of G."""

PATIENCE = 4
"""Full exchanges without progress before only one entry is exchanged."""

MULTIPLIERS = 12
"""Steps at most that make the solution of least norm fit as well as any."""

SMALL = 16
"""Entries up to which problems are solved whole, without gathering the free ones first."""

BLOCK_BYTES = 2**28
"""Largest batch of matrices to factor at once."""


class Gram(Protocol):
    """The matrices G of a batch of problems, each `[p, p]`, however they are stored."""

    p: int
    diagonal: Tensor
    """`[B]`, mean diagonal of each G, its scale."""

    def multiply(self, u: Tensor, rows: Tensor) -> Tensor:
        """G u for some problems: `[b, p]` from `[b, p]` and their indices `[b]`."""
        ...

    def block(self, rows: Tensor, index: Tensor) -> Tensor:
        """G restricted to some entries: `[b, k, k]` from `[b, k]`."""
        ...


@dataclass
class Dense:
    """One stored matrix per problem, `[B, p, p]`; `ridge` `[B]` is added to each diagonal."""

    G: Tensor
    ridge: Tensor | None = None

    def __post_init__(self) -> None:
        self.p = self.G.shape[-1]
        self.diagonal = self.G.diagonal(dim1=-2, dim2=-1).mean(-1)

    def multiply(self, u: Tensor, rows: Tensor) -> Tensor:
        """G u."""
        G = self.G if len(rows) == len(self.G) else self.G[rows]
        made = (G @ u[..., None]).squeeze(-1)
        return made if self.ridge is None else made + self.ridge[rows, None] * u

    def block(self, rows: Tensor, index: Tensor) -> Tensor:
        """G restricted."""
        made = self.G[rows[:, None, None], index[:, :, None], index[:, None, :]]
        if self.ridge is not None:
            made.diagonal(dim1=-2, dim2=-1).add_(self.ridge[rows, None])
        return made

    def ridged(self, ridge: Tensor) -> "Dense":
        """The same with `ridge` `[B]` on the diagonals."""
        return Dense(self.G, ridge)


@dataclass
class Bordered:
    """One shared matrix with a border of each problem's own: G_i = [[corner_i, border_i], [border_i', shared]].

    A thousand agents hear the same thousand agents, and differ in the anchor that they are pulled to.
    """

    corner: Tensor
    """`[B]`."""
    border: Tensor
    """`[B, p - 1]`."""
    shared: Tensor
    """`[p - 1, p - 1]`."""
    less: Tensor | None = None
    """`[B, p - 1]`, if given: what is shared is lessened by less less', each problem's own."""

    def __post_init__(self) -> None:
        self.p = len(self.shared) + 1
        self.diagonal = (self.corner + self.shared.diagonal().sum()) / self.p
        if self.less is not None:
            self.diagonal = self.diagonal - self.less.square().sum(-1) / self.p

    def multiply(self, u: Tensor, rows: Tensor) -> Tensor:
        """G u."""
        border = self.border[rows]
        first = self.corner[rows] * u[:, 0] + (border * u[:, 1:]).sum(-1)
        rest = u[:, 1:] @ self.shared + u[:, :1] * border
        if self.less is not None:
            less = self.less[rows]
            rest = rest - less * (less * u[:, 1:]).sum(-1, keepdim=True)
        return torch.cat([first[:, None], rest], -1)

    def block(self, rows: Tensor, index: Tensor) -> Tensor:
        """G restricted."""
        inner = (index - 1).clamp(min=0)
        made = self.shared[inner[:, :, None], inner[:, None, :]]
        if self.less is not None:
            less = self.less[rows[:, None], inner]
            made = made - less[:, :, None] * less[:, None, :]
        edge = self.border[rows[:, None], inner]
        edge = torch.where(index == 0, self.corner[rows, None], edge)
        first = index == 0
        made = torch.where(first[:, :, None], edge[:, None, :], made)
        return torch.where(first[:, None, :], edge[:, :, None], made)

    def ridged(self, ridge: Tensor) -> "Bordered":
        """The same with one `ridge` (its mean) on the diagonals."""
        more = ridge.mean()
        eye = torch.eye(len(self.shared), dtype=self.shared.dtype)
        return Bordered(self.corner + more, self.border, self.shared + more * eye, self.less)


def solve(gram: Gram, c: Tensor, allowed: Tensor, start: Tensor | None = None) -> Tensor:
    """The minimisers u, `[B, p]`.

    Args:
        gram: the matrices G, positive definite on the entries allowed.
        c: `[B, p]`.
        allowed: `[B, p]` booleans; other entries stay 0. At least one per problem.
        start: `[B, p]` booleans, the first guess of the positive entries; all that are allowed when None.
    """
    problems, p = c.shape
    u = torch.zeros_like(c)
    free = allowed.clone() if start is None else start & allowed
    free |= allowed & ~free.any(-1, keepdim=True)
    fewest = torch.full((problems,), p + 1, device=c.device)
    patience = torch.full((problems,), PATIENCE, device=c.device)
    rows = torch.arange(problems, device=c.device)
    for _ in range(40 + p // 4):
        value, gap = _on_support(gram, c, free, rows)
        wrong = torch.where(
            free[rows], value < -TOLERANCE, allowed[rows] & (gap < -TOLERANCE * gram.diagonal[rows, None])
        )
        count = wrong.sum(-1)
        done = (count == 0) & value.isfinite().all(-1)
        u[rows[done]] = value[done]
        better = count < fewest[rows]
        patience[rows] = torch.where(better, PATIENCE, patience[rows] - 1)
        fewest[rows] = torch.minimum(fewest[rows], count)
        last = torch.zeros_like(wrong).scatter_(
            -1, (p - 1 - wrong.flip(-1).int().argmax(-1, keepdim=True)), True
        )
        one = (patience[rows] < 0)[:, None]
        free[rows] ^= torch.where(one, last & wrong, wrong)
        empty = ~free[rows].any(-1)
        if empty.any():
            best = gap.masked_fill(~allowed[rows], torch.inf).argmin(-1)
            free[rows[empty], best[empty]] = True
        rows = rows[~done]
        if not len(rows):
            break
    for row in rows.tolist():
        u[row] = lawson_hanson(gram, c, allowed[row], row)
    return project(u)


def project(u: Tensor) -> Tensor:
    """Rounding taken off: no entry below 0, sums of 1."""
    u = u.clamp(min=0)
    return u / u.sum(-1, keepdim=True)


def kkt(gram: Gram, c: Tensor, allowed: Tensor, u: Tensor) -> Tensor:
    """How far each u is from optimal, `[B]`: the largest violation of the conditions of Karush, Kuhn and Tucker.

    With g = Gu - c and nu = u'g: u >= 0, sum u = 1, g >= nu, and g = nu wherever u > 0 (weighed by u).
    """
    return kkt_of(gram.multiply(u, torch.arange(len(u), device=u.device)) - c, allowed, u)


def kkt_of(g: Tensor, allowed: Tensor, u: Tensor) -> Tensor:
    """The same from the gradient g, `[B, p]`."""
    gap = (g - (u * g).sum(-1, keepdim=True)).masked_fill(~allowed, 0.0)
    below = (-gap).clamp(min=0).amax(-1)
    slack = (u * gap).abs().amax(-1)
    return torch.stack([below, slack, (-u).clamp(min=0).amax(-1), (u.sum(-1) - 1).abs()]).amax(0)


def correction(gram: Gram, downhill: Tensor, free: Tensor) -> Tensor:
    """One step of iterative refinement: d with sum d = 0 on the free entries and G d = downhill there, up to a constant."""
    rows = torch.arange(len(downhill), device=downhill.device)
    return _on_support(gram, downhill, free, rows, total=0.0)[0]


def lawson_hanson(gram: Gram, c: Tensor, allowed: Tensor, row: int) -> Tensor:
    """One problem by the primal active-set method: one entry enters at a time, and the loss never rises."""
    which = torch.tensor([row], device=c.device)
    cost = 0.5 * _diagonal(gram, which)[0] - c[row]
    free = torch.zeros_like(allowed)
    free[cost.masked_fill(~allowed, torch.inf).argmin()] = True
    u = free.to(c.dtype)
    tolerance = TOLERANCE * float(gram.diagonal[row])
    barred = torch.zeros_like(allowed)
    for _ in range(20 * len(u)):
        value, gap = (x[0] for x in _on_support(gram, c, free[None], which, by_row=True))
        leaving = free & (value <= 0)
        if leaving.any() or not bool(value.isfinite().all()):
            ratio = torch.where(leaving, u / (u - value), torch.inf)
            step = float(ratio.min()) if leaving.any() else 0.0
            u = (u + min(step, 1.0) * (value - u)).nan_to_num().clamp(min=0)
            out = free & (u <= 1e-15) if leaving.any() else barred
            barred |= out
            free &= ~out
            if not free.any():
                break
            continue
        u = value
        gap = gap.masked_fill(~allowed | free | barred, torch.inf)
        if float(gap.min()) >= -tolerance:
            break
        barred = torch.zeros_like(allowed)
        free[gap.argmin()] = True
    return u


def _on_support(
    gram: Gram, c: Tensor, free: Tensor, rows: Tensor, total: float = 1.0, *, by_row: bool = False
) -> tuple[Tensor, Tensor]:
    """The minimiser with sum `total` on the free entries, and the reduced gradient g - nu, each `[b, p]`."""
    mine, target = (free if by_row else free[rows]), c[rows]
    if gram.p <= SMALL:
        every = torch.arange(gram.p, device=c.device).expand(len(rows), -1)
        value, nu = _solve_padded(gram, target, mine, rows, every, total)
        return value, gram.multiply(value.nan_to_num(), rows) - target - nu.nan_to_num()[:, None]
    size = mine.sum(-1)
    value = torch.zeros_like(target)
    order = torch.argsort(size)
    nu = torch.zeros_like(target[:, 0])
    position = 0
    while position < len(rows):
        widest = int(size[order[position]])
        chunk = max(1, BLOCK_BYTES // (16 * max(widest, 1) ** 2))
        here = order[position : position + chunk]
        k = int(size[here[-1]])
        if k > 1.3 * widest + 8:  # problems of one batch are padded to the largest: keep them alike
            here = here[size[here] <= 1.3 * widest + 8]
            k = int(size[here[-1]])
        position += len(here)
        index = torch.argsort(mine[here].to(torch.uint8), dim=-1, descending=True, stable=True)[:, :k]
        there = mine[here].gather(-1, index)
        part, nu[here] = _solve_padded(gram, target[here].gather(-1, index), there, rows[here], index, total)
        value[here] = torch.zeros_like(value[here]).scatter(-1, index, part)
    gap = gram.multiply(value.nan_to_num(), rows) - target - nu.nan_to_num()[:, None]
    return value, gap


def _solve_padded(
    gram: Gram, target: Tensor, there: Tensor, rows: Tensor, index: Tensor, total: float
) -> tuple[Tensor, Tensor]:
    """The minimiser on the entries `index`, where `there`, with 0 elsewhere, and nu; NaN where G is not definite."""
    matrix = gram.block(rows, index) * (there[:, :, None] & there[:, None, :])
    scale = gram.diagonal[rows, None]
    matrix.diagonal(dim1=-2, dim2=-1).add_(torch.where(there, 1e-15 * scale, scale))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    both = torch.cholesky_solve(torch.stack([target * there, there.to(target.dtype)], -1), factor)
    lift = (both[..., 0].sum(-1) - total) / both[..., 1].sum(-1)
    value = (both[..., 0] - lift[:, None] * both[..., 1]) * there
    return value.masked_fill(failed[:, None] > 0, torch.nan), -lift


def _diagonal(gram: Gram, rows: Tensor) -> Tensor:
    if isinstance(gram, Dense):
        made = gram.G[rows].diagonal(dim1=-2, dim2=-1)
        return made if gram.ridge is None else made + gram.ridge[rows, None]
    assert isinstance(gram, Bordered)
    rest = gram.shared.diagonal().expand(len(rows), -1)
    if gram.less is not None:
        rest = rest - gram.less[rows].square()
    return torch.cat([gram.corner[rows, None], rest], -1)


def least_norm(gram: Dense | Bordered, c: Tensor, allowed: Tensor, basis: Dense | Bordered) -> Tensor:
    """Among all minimisers of problems without a unique one, the one of least norm, `[B, p]`.

    First any minimiser, by proximal steps on G + eps I; then the point of least norm with the same fitted values, which
    are P u with P the projector on the row space of the design: its non-zero eigenvalues are all 1, so the second problem
    is well conditioned unless few entries carry it, and some multiplier steps make it exact to rounding.

    Args:
        gram: the matrices G, singular.
        c: `[B, p]`.
        allowed: `[B, p]`.
        basis: the projectors P.
    """
    rows = torch.arange(len(c), device=c.device)
    ridge = 1e-9 * gram.diagonal
    near = gram.ridged(ridge)
    if isinstance(gram, Bordered):
        ridge = ridge.mean().expand(len(c))
    u = torch.zeros_like(c)
    for _ in range(4):
        u = solve(near, c + ridge[:, None] * u, allowed)
    flat = basis.ridged(torch.full_like(ridge, 1e-7))
    target = basis.multiply(u, rows)
    least = solve(flat, target, allowed)
    goal = target.clone()
    for _ in range(MULTIPLIERS):
        left = target - basis.multiply(least, rows)
        if float(left.abs().max()) < 1e-13:
            break
        goal = goal + left
        least = solve(flat, goal, allowed, least > 0)
    return least
