"""Padding and packing: rows of tokens wherever they stand, to left-aligned rows and back."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Layout:
    """Where the tokens of a padded or packed batch go.

    A causal model never looks to the right, so rows whose tokens all stand at the left need no mask at all: every mixer,
    short convolution and position is then exact, whatever the padding was.
    """

    mask: Tensor
    """`[B, L]`, which places hold tokens"""
    row: Tensor
    """of every token, in order"""
    column: Tensor
    counts: Tensor
    """`[R]`, tokens of every row"""
    width: int
    """of the longest row"""
    packed: bool

    def align(self, x: Tensor) -> Tensor:
        """`[B, L, ...]` to `[R, width, ...]`, zeros behind each row."""
        made = x.new_zeros(len(self.counts), self.width, *x.shape[2:])
        return made.index_put((self.row, self.column), x[self.mask])

    def restore(self, x: Tensor) -> Tensor:
        """`[R, width, ...]` to `[B, L, ...]`, zeros where no token is."""
        made = x.new_zeros(*self.mask.shape, *x.shape[2:])
        return made.index_put(torch.nonzero(self.mask, as_tuple=True), x[self.row, self.column])


def layout(mask: Tensor | None, batch: int, length: int, device: torch.device) -> Layout | None:
    """Read a mask; None where every place holds a token of one sequence per row.

    Args:
        mask: `[B, L]`: bool, True at tokens; or integers, 0 at padding and otherwise the number of the sequence that
            a token belongs to (several may be packed into a row, one after another).
        batch: rows it has to fit.
        length: places in each.
        device: where they are.

    Raises:
        TypeError, ValueError: a mask of another kind or shape.

    Example:
        >>> packed = layout(torch.tensor([[1, 1, 2, 0]]), 1, 4, torch.device("cpu"))
        >>> packed.counts.tolist(), packed.align(torch.tensor([[5, 6, 7, 8]])).tolist()
        ([2, 1], [[5, 6], [7, 0]])
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
        raise TypeError(
            f"a mask is bool (True at tokens) or integer (the number of a token's sequence, 0 at padding), got {getattr(mask, 'dtype', type(mask).__name__)}"
        )
    if tuple(mask.shape) != (batch, length):
        raise ValueError(
            f"the mask is {tuple(mask.shape)}, expected [batch, length] = ({batch}, {length}), of the new tokens only"
        )
    if mask.device != device:
        raise ValueError(f"the mask is on {mask.device}, the tokens on {device}: move one")
    if mask.dtype != torch.bool and bool((mask < 0).any()):
        raise ValueError(f"sequences are numbered from 1 and padding is 0, got {int(mask.min())} in the mask")
    real = mask if mask.dtype == torch.bool else mask != 0
    if mask.dtype == torch.bool or not batch:
        if bool(real.all()):
            return None
        counts = real.sum(1)
        row, place = torch.nonzero(real, as_tuple=True)
        column = (real.cumsum(1) - 1)[row, place]
        return Layout(real, row, column, counts, max(1, int(counts.max())), False)
    row, place = torch.nonzero(real, as_tuple=True)
    number = mask[row, place]
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row[1:] != row[:-1]) | (number[1:] != number[:-1])
    which = new.cumsum(0) - 1
    rows = int(which[-1]) + 1 if len(which) else 0
    if rows == batch and len(row) == batch * length:
        return None
    counts = torch.bincount(which, minlength=rows)
    begin = counts.cumsum(0) - counts
    column = torch.arange(len(which), device=device) - begin[which]
    one_each = rows == batch and bool((row[new] == torch.arange(batch, device=device)).all())
    width = int(counts.max()) if rows else 1
    return Layout(real, which, column, counts, max(1, width), not one_each)
