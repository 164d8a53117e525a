"""How well a design determines its coefficients: rank and condition number on the directions that keep their sum.

Every column of the design is a distribution in every round, so the coefficients sum to 1 by themselves, and what is left
to determine are the p - 1 directions with sum 0. In general position their rank is min(n, T (K - 1)) (debate fact sheet, e).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.debate._simplex import Bordered


class Conditioning(NamedTuple):
    """Per problem: directions determined, directions to determine, condition number of the design on them."""

    rank: Tensor
    unknowns: Tensor
    condition: Tensor


def rounding(scale: Tensor, p: int) -> Tensor:
    """Eigenvalues below this are rounding of a Gram matrix whose largest diagonal entry is `scale`."""
    return 5 * torch.finfo(torch.float64).eps * max(p, 10) * scale


def of_dense(G: Tensor, allowed: Tensor) -> tuple[Conditioning, Tensor, Tensor]:
    """From the Gram matrices `[B, p, p]`; also which eigenvalues are not rounding, `[B, p]`, and the eigenvectors.

    Args:
        G: `[B, p, p]`.
        allowed: `[B, p]`.
    """
    p = G.shape[-1]
    values, vectors = torch.linalg.eigh(_tangent(G, allowed))
    unknowns = allowed.sum(-1) - 1
    # The first p - unknowns eigenvalues are the zeros of what is not allowed and of the constant direction.
    mine = torch.arange(p) >= (p - unknowns)[:, None]
    values = values.where(mine, 0.0)
    real = values > rounding(G.diagonal(dim1=-2, dim2=-1).where(allowed, 0.0).amax(-1), p)[:, None]
    rank = real.sum(-1)
    first = values.gather(-1, (p - unknowns)[:, None].clamp(max=p - 1)).squeeze(-1)
    condition = (values[:, -1] / first.clamp(min=1e-300)).sqrt().where(rank == unknowns, torch.inf)
    return Conditioning(rank, unknowns, condition), real, vectors


def of_bordered(gram: Bordered) -> Conditioning:
    """The same for matrices that share all but a border, with everything allowed.

    One eigendecomposition of the shared part turns each problem into an arrow matrix, whose extreme eigenvalues are the
    extreme roots of its secular equation, found by bisection for all problems at once.
    """
    n, problems = len(gram.shared), len(gram.corner)
    values, vectors = torch.linalg.eigh(_tangent(gram.shared[None], torch.ones(1, n, dtype=torch.bool)))
    d, V = values[0, 1:], vectors[0, :, 1:]  # without the constant direction
    # The direction that moves weight from the anchor to all others alike, orthonormal to the rest.
    length = (1 + 1 / n) ** 0.5
    mean = torch.full((n,), 1 / n, dtype=d.dtype)
    shared_mean = gram.shared @ mean
    a = (gram.corner - 2 * gram.border @ mean + mean @ shared_mean) / length**2
    z = (gram.border - shared_mean) @ V / length  # [B, n - 1]
    reach = z.norm(dim=-1) + 1e-300

    def secular(x: Tensor) -> Tensor:
        gap = d - x[:, None]
        return a - x - (z.square() / gap.where(gap != 0, 1e-300)).sum(-1)

    low, high = torch.minimum(a, d[0]) - reach, torch.minimum(a, d[0].expand(problems))
    top_low, top_high = torch.maximum(a, d[-1].expand(problems)), torch.maximum(a, d[-1]) + reach
    for _ in range(80):
        middle = (low + high) / 2
        below = secular(middle) > 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        middle = (top_low + top_high) / 2
        below = secular(middle) > 0
        top_low, top_high = torch.where(below, middle, top_low), torch.where(below, top_high, middle)
    smallest, largest = low.clamp(min=0), top_high
    unknowns = torch.full((problems,), n)
    tail = rounding(torch.maximum(gram.corner, gram.shared.diagonal().max()), n + 1)
    kept = d > tail[:, None]
    # What the anchor adds to the directions of the others: its Schur complement.
    left = a - (z.square() / d.where(kept, torch.inf)).sum(-1)
    rank = kept.sum(-1) + (left > tail).long()
    condition = (largest / smallest.clamp(min=1e-300)).sqrt().where(rank == unknowns, torch.inf)
    return Conditioning(rank, unknowns, condition)


def row_space(gram: Bordered) -> Bordered:
    """The projectors on the row spaces of the designs [anchor_i, X] whose Gram matrices these are, everything allowed.

    With z = pinv(X) anchor: an anchor outside the columns of X is determined by itself, and the projector is 1 beside that
    of X; otherwise moving weight from it along -z changes nothing, and (1, -z) is taken out as well.
    """
    values, vectors = torch.linalg.eigh(gram.shared)
    tail = rounding(torch.maximum(gram.corner, gram.shared.diagonal().max()), gram.p)
    kept = values > rounding(gram.shared.diagonal().max(), gram.p)
    V = vectors[:, kept]
    z = (gram.border @ V / values[kept]) @ V.mT
    inside = gram.corner - (gram.border * z).sum(-1) <= tail
    z = z * inside[:, None]
    size = 1 + z.square().sum(-1)
    corner = torch.where(inside, 1 - 1 / size, 1.0)
    return Bordered(corner, z / size[:, None], V @ V.mT, z / size.sqrt()[:, None])


def _tangent(G: Tensor, allowed: Tensor) -> Tensor:
    """P G P with P the projector on directions that are allowed and sum to 0."""
    keep = allowed.to(G.dtype)
    G = G * keep[:, :, None] * keep[:, None, :]
    size = keep.sum(-1)[:, None, None]
    row = G.sum(-2, keepdim=True) / size
    made = G - keep[:, :, None] * row - row.mT * keep[:, None, :]
    return made + (G.sum((-2, -1), keepdim=True) / size**2) * keep[:, :, None] * keep[:, None, :]
