"""Within-layer and cross-layer curvature of an update.

With Z = (Z_1 .. Z_L) over groups and H_ll' the Hessian's blocks (curvature fact sheet 2606.04662, section 1):

S_within = sum_l <Z_l, H_ll Z_l> / ||Z||^2,    S_cross = sum_{l != l'} <Z_l, H_ll' Z_l'> / ||Z||^2

Both over the whole ||Z||^2, so S_within + S_cross = S. The row sum <Z_l, (H Z)_l> is neither: it holds half of
every cross term of l.

Everything here works on R[j, l] = <Z_l, (H[s_j Z])_l>, where row s_j of a sign matrix scales the groups of Z.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """An estimate of <Z_l, H_ll Z_l>.

    Attributes:
        within: sum over groups.
        within_error: its standard error; 0 when exact, NaN when one draw leaves it unknown.
        blocks: `[L]`, one per group; None when the method gives the sum only.
        blocks_error: `[L]` standard errors; None likewise.
    """

    within: float
    within_error: float
    blocks: Tensor | None
    blocks_error: Tensor | None


def exact(rows: Tensor) -> Split:
    """From L products with one group each: R = C, C_ll' = <Z_l', H_l'l Z_l>, and its diagonal is the answer.

    Args:
        rows: `[L, L]`.
    """
    blocks = rows.diagonal().clone()
    return Split(float(blocks.sum()), 0.0, blocks, torch.zeros_like(blocks))


def hadamard(order: int) -> Tensor:
    """Sylvester's matrix of the smallest power of two >= `order`; the first row is all ones.

    Example:
        >>> hadamard(3).tolist()
        [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    """
    matrix = torch.ones(1, 1, dtype=torch.int64)
    while len(matrix) < order:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


@dataclass(frozen=True)
class SignDraws:
    """Signs s_j to probe with, and how the means over them are to be read.

    Row 0 is all ones, the plain product H[Z]; the rest are drawn without replacement from the other rows of an
    N-row Hadamard matrix whose columns are given to the groups at random. Over all N rows the mean of s_l s_l'
    is exactly 0 for l != l', so E s_l <Z_l, (H[sZ])_l> = <Z_l, H_ll Z_l>. As row 0 is known, only the mean of the
    other N - 1 is estimated: unbiased, and exact once all of them are drawn.

    Attributes:
        signs: `[1 + m, L]`.
        population: N.
    """

    signs: Tensor
    population: int

    @staticmethod
    def draw(groups: int, draws: int | None, generator: torch.Generator | None = None) -> "SignDraws":
        """`draws` sign vectors beyond the all-ones row; None takes the whole set.

        Raises:
            ValueError: fewer than one draw.
        """
        if draws is not None and draws < 1:
            raise ValueError(f"split='signs' needs at least one draw, got draws={draws}")
        matrix = hadamard(groups)
        n = len(matrix)
        m = n - 1 if draws is None else min(draws, n - 1)
        columns = torch.randperm(n, generator=generator)[:groups]
        chosen = (
            1 + torch.randperm(n - 1, generator=generator)[:m] if n > 1 else torch.zeros(0, dtype=torch.int64)
        )
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), chosen])
        return SignDraws(matrix[rows][:, columns], n)

    def estimate(self, quads: Tensor, rows: Tensor | None = None) -> Split:
        """Read the products.

        Args:
            quads: `[1 + m]`, <s_j Z, H[s_j Z]>.
            rows: `[1 + m, L]`, R; None when the method gives no rows.
        """
        within, error = self._mean(quads)
        if rows is None:
            return Split(float(within), float(error), None, None)
        blocks, errors = self._mean(self.signs * rows)
        return Split(float(blocks.sum()), float(error), blocks, errors)

    def _mean(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over the population of N rows, and its standard error, for values of the 1 + m rows at hand."""
        n, m = self.population, len(values) - 1
        if m == 0:
            return values[0], torch.zeros_like(values[0])
        mean = (values[0] + (n - 1) * values[1:].mean(0)) / n
        if m == n - 1:
            return mean, torch.zeros_like(mean)
        if m == 1:
            return mean, torch.full_like(mean, math.nan)
        spread = values[1:].var(0, unbiased=True) / m * (1 - m / (n - 1))
        return mean, (n - 1) / n * spread.sqrt()
