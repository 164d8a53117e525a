"""The one-step fit: coefficients of every agent of every question, and how well the data determine them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.debate import _conditioning, _simplex
from unrolled.debate._beliefs import observed
from unrolled.debate._conditioning import Conditioning
from unrolled.debate._normal import DENSE, Large, Normal, Stack, dense, gradient, large

REFINEMENTS = 2
"""Steps of iterative refinement with residuals taken from the rows: the normal equations square the condition number."""

LEAST = 512
"""Agents up to which an unidentified fit is the one of least norm; beyond, only close to it: its support is large."""

LOOSE = 1e-10
"""Error of u, as estimated, beyond which it is refined."""


@dataclass
class Estimate:
    """Coefficients u `[Q, n, p]` and, per agent `[Q, n]`, the KKT residual, the conditioning, and the rows used."""

    u: Tensor
    kkt: Tensor
    conditioning: Conditioning
    count: Tensor


def one_step(stacks: list[Stack], *, pool: bool = False) -> Estimate:
    """Minimise the mean squared one-step error of every agent, over u >= 0 with sum 1.

    Args:
        stacks: questions of one shape each; without `pool`, a single stack.
        pool: one u per agent for all of them.
    """
    first = stacks[0]
    n = first.beliefs.shape[2]
    allowed = first.allowed(slice(0, 1) if pool else slice(None))
    if n > DENSE:
        if pool:
            return _of_large(stacks, allowed)
        parts = [
            Stack(first.beliefs[q : q + 1], first.heard[q : q + 1], first.bias)
            for q in range(len(first.beliefs))
        ]
        made = [_of_large([part], part.allowed()) for part in parts]
        conditioning = Conditioning(*(torch.cat(x) for x in zip(*(m.conditioning for m in made))))
        return Estimate(
            torch.cat([m.u for m in made]), torch.cat([m.kkt for m in made]), conditioning,
            torch.cat([m.count for m in made]),
        )  # fmt: skip
    normal = Normal.of(first)
    if pool:
        normal = normal.pooled()
        for stack in stacks[1:]:
            more = Normal.of(stack).pooled()
            normal = Normal(normal.G + more.G, normal.c + more.c, normal.count + more.count)
    return of_normal(normal.mean(), allowed, stacks, pool=pool)


def of_normal(normal: Normal, allowed: Tensor, stacks: list[Stack] = (), *, pool: bool = False) -> Estimate:  # pyright: ignore[reportArgumentType]
    """The same from normal equations that stand; `stacks`, when given, serve the refinement."""
    shape = normal.c.shape
    gram, c = dense(normal)
    may = allowed.expand(shape).reshape(-1, shape[-1])
    conditioning, real, vectors = _conditioning.of_dense(gram.G, may)
    full = conditioning.rank == conditioning.unknowns
    u = torch.empty_like(c)
    if bool(full.all()):
        u = _simplex.solve(gram, c, may)
    else:
        if full.any():
            u[full] = _simplex.solve(_simplex.Dense(gram.G[full]), c[full], may[full])
        nothing = (conditioning.rank == 0)[:, None]  # any u is a minimiser; the even one has the least norm
        u = torch.where(nothing, may.to(c.dtype) / may.sum(-1, keepdim=True), u)
        some = ~full & ~nothing[:, 0]
    if not bool((full | (conditioning.rank == 0)).all()):
        V = vectors[some] * real[some][:, None, :]
        u[some] = _simplex.least_norm(
            _simplex.Dense(gram.G[some]), c[some], may[some], _simplex.Dense(V @ V.mT)
        )
    g = (
        _exact_gradient(u.reshape(shape), stacks, normal)
        if stacks
        else gram.multiply(u, torch.arange(len(u))) - c
    )
    g = g.reshape(u.shape)
    kkt = _simplex.kkt_of(g, may, u)
    for _ in range(REFINEMENTS if stacks else 0):
        loose = full & (
            kkt * conditioning.condition**2 > LOOSE
        )  # an error of u is cond^2 times that of the gradient
        if not loose.any():
            break
        better = _simplex.correction(gram, -g, (u > 0) & loose[:, None]).nan_to_num()
        better = _simplex.project(u + better)
        slope = _exact_gradient(better.reshape(shape), stacks, normal).reshape(u.shape)
        now = _simplex.kkt_of(slope, may, better)
        taken = loose & (now < kkt)
        u, g, kkt = (
            torch.where(taken[:, None], better, u),
            torch.where(taken[:, None], slope, g),
            torch.where(taken, now, kkt),
        )
    u[normal.count.flatten() == 0] = torch.nan
    made = Conditioning(*(x.reshape(shape[:-1]) for x in conditioning))
    return Estimate(u.reshape(shape), kkt.reshape(shape[:-1]), made, normal.count)


def _exact_gradient(u: Tensor, stacks: list[Stack], normal: Normal) -> Tensor:
    if len(stacks) == 1 and len(u) == len(stacks[0].beliefs):
        return gradient(stacks[0], u, normal.count)
    total = torch.zeros_like(u)
    for stack in stacks:
        total += gradient(stack, u, torch.ones(1)).sum(0, keepdim=True)
    return total / normal.count.clamp(min=1)[..., None]


def _of_large(stacks: list[Stack], allowed: Tensor) -> Estimate:
    """One debate with many agents, whose matrices differ by a border only."""
    allowed = allowed[0]
    n, p = allowed.shape
    u = torch.zeros(n, p, dtype=torch.float64)
    kkt = torch.zeros(n, dtype=torch.float64)
    rank, unknowns = torch.zeros(n, dtype=torch.long), allowed.sum(-1) - 1
    condition = torch.full((n,), torch.inf, dtype=torch.float64)
    count = torch.zeros(n, dtype=torch.long)
    for group in large(stacks):
        who, may = group.agents, allowed[group.agents]
        count[who] = group.count
        if not group.count:
            u[who] = torch.nan
            continue
        if int(may.sum(-1).max()) <= DENSE:
            found, residual, known = _few_columns(group, may)
        elif bool(may.all()):
            known = _conditioning.of_bordered(group.gram)
            found, residual = _many_columns(group, may, known)
        else:
            known = _by_one(group, may)
            found, residual = _many_columns(group, may, known)
        u[who], kkt[who], rank[who], condition[who] = found, residual, known.rank, known.condition
    conditioning = Conditioning(rank[None], unknowns[None], condition[None])
    return Estimate(u[None], kkt[None], conditioning, count[None])


def _few_columns(group: Large, may: Tensor) -> tuple[Tensor, Tensor, Conditioning]:
    """A known, sparse topology: each agent's few columns as a small problem."""
    width = int(may.sum(-1).max())
    index = torch.argsort(may.to(torch.uint8), dim=-1, descending=True, stable=True)[:, :width]
    there = may.gather(-1, index)
    G = group.gram.block(torch.arange(len(may)), index) * (there[:, :, None] & there[:, None, :])
    made = of_normal(
        Normal(G[None], (group.c.gather(-1, index) * there)[None], torch.full((1, len(may)), group.count)),
        there,
    )
    u = torch.zeros_like(group.c).scatter(-1, index, made.u[0])
    return u, made.kkt[0], Conditioning(*(x[0] for x in made.conditioning))


def _many_columns(group: Large, may: Tensor, known: Conditioning) -> tuple[Tensor, Tensor]:
    gram, c = group.gram, group.c
    if not bool((known.rank < known.unknowns).any()):
        u = _simplex.solve(gram, c, may, _guess(gram, c))
    elif gram.p > LEAST:
        # The proximal step from 0 leads to a minimiser near the one of least norm, the next ones to the optimum.
        ridge = 1e-9 * gram.diagonal.mean()
        near = gram.ridged(ridge[None])
        u = torch.zeros_like(c)
        for _ in range(3):
            u = _simplex.solve(near, c + ridge * u, may, _guess(near, c + ridge * u))
    elif bool(may.all()):
        u = _simplex.least_norm(gram, c, may, _conditioning.row_space(gram))
    else:
        u = torch.cat([_least_of_one(group, may, row) for row in range(len(may))])
    return u, _simplex.kkt(gram, c, may, u)


def _least_of_one(group: Large, may: Tensor, row: int) -> Tensor:
    """One agent that hears many, but not all."""
    index = may[row].nonzero().T
    G = group.gram.block(torch.tensor([row]), index)
    every = torch.ones(1, index.shape[1], dtype=torch.bool)
    _, real, vectors = _conditioning.of_dense(G, every)
    V = vectors * real[:, None, :]
    found = _simplex.least_norm(
        _simplex.Dense(G), group.c[row : row + 1, index[0]], every, _simplex.Dense(V @ V.mT)
    )
    return torch.zeros_like(group.c[:1]).scatter(-1, index, found)


def _guess(gram: _simplex.Bordered, c: Tensor) -> Tensor | None:
    """Entries that are positive without the sign conditions: on noise-free data, the answer."""
    factor, failed = torch.linalg.cholesky_ex(gram.shared)
    if failed:
        return None
    problems, p = c.shape
    ones = torch.ones(p - 1, 1, dtype=c.dtype)
    inner = torch.cholesky_solve(torch.cat([c[:, 1:].T, gram.border.T, ones], 1), factor).T
    of_c, of_border, of_one = inner[:problems], inner[problems:-1], inner[-1]
    schur = gram.corner - (gram.border * of_border).sum(-1)

    def whole(first: Tensor, rest: Tensor) -> Tensor:
        head = (first - (gram.border * rest).sum(-1)) / schur
        return torch.cat([head[:, None], rest - head[:, None] * of_border], 1)

    a, b = whole(c[:, 0], of_c), whole(torch.ones(problems, dtype=c.dtype), of_one.expand(problems, -1))
    return a - ((a.sum(-1) - 1) / b.sum(-1))[:, None] * b > 1e-8


def _by_one(group: Large, may: Tensor) -> Conditioning:
    """Conditioning of each agent by itself: many agents, and a topology that is neither full nor sparse."""
    made: list[Conditioning] = []
    for row in range(len(may)):
        index = may[row].nonzero().T
        G = group.gram.block(torch.tensor([row]), index)
        made.append(_conditioning.of_dense(G, torch.ones(1, index.shape[1], dtype=torch.bool))[0])
    return Conditioning(*(torch.cat(x) for x in zip(*made)))


def predict(stack: Stack, u: Tensor) -> Tensor:
    """The next beliefs that u expects from the observed ones, `[Q, T, n, K]`; NaN where it cannot say."""
    n = stack.beliefs.shape[2]
    H = u[..., 1 : n + 1]
    before = stack.beliefs[:, :-1]
    made = u[:, None, :, :1] * stack.beliefs[:, :1] + H[:, None] @ before.nan_to_num()
    if stack.bias:
        made = made + u[:, None, :, n + 1 :]
    return made.where(observed(stack.beliefs, stack.heard)[..., None], torch.nan)


def errors(stack: Stack, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of squared errors, sum of KL(observed || predicted), number of beliefs predicted: each `[Q]`."""
    after = stack.beliefs[:, 1:]
    used = ~told[..., 0].isnan() & ~after[..., 0].isnan()
    square = (after - told).square().sum(-1).where(used, 0.0)
    # A probability of 1e-17 below 0 is rounding of a 0.
    told = told.clamp(min=0)
    kl = (torch.special.xlogy(after, after) - torch.special.xlogy(after, told)).sum(-1).where(used, 0.0)
    return square.sum((-2, -1)), kl.sum((-2, -1)), used.sum((-2, -1))
