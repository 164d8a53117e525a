"""The few functions of MathML that torch has not, and how columns become a state; called by generated code and by its twin."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def factorial(n: Tensor) -> Tensor:
    """N! of whole numbers from 0 (infinite past 170), NaN elsewhere; no gradient."""
    value = torch.exp(torch.lgamma(n + 1)).detach()
    # Up to 18! a double holds the exact whole number, and lgamma is off by a rounding only.
    value = torch.where(n < 19, torch.round(value), value)
    return torch.where((n >= 0) & (n == torch.floor(n)), value, math.nan)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """A / b cut towards zero."""
    return torch.trunc(a / b)


def rem(a: Tensor, b: Tensor) -> Tensor:
    """What the quotient leaves, with the sign of a."""
    return a - b * torch.trunc(a / b)


def root(degree: Tensor, x: Tensor) -> Tensor:
    """x^(1/degree); of a negative x for odd whole degrees only."""
    odd = torch.remainder(degree, 2) == 1
    return torch.where((x < 0) & odd, -((-x) ** (1 / degree)), x ** (1 / degree))


def arccot(x: Tensor) -> Tensor:
    """arctan(1 / x), and pi / 2 at 0."""
    return torch.atan(1 / x)


def arccoth(x: Tensor) -> Tensor:
    """artanh(1 / x)."""
    return torch.atanh(1 / x)


def pack(like: Tensor, columns: Sequence[Tensor | float]) -> Tensor:
    """Columns `[B]`, or numbers, as `[B, d]` in the dtype of `like`; each column is contiguous in memory."""
    shape = like.shape[:-1]
    if not columns:
        return like.new_empty((*shape, 0))
    made = [
        column.to(like.dtype).expand(shape) if isinstance(column, Tensor) else like.new_full(shape, column)
        for column in columns
    ]
    return torch.stack(made).movedim(0, -1)


def pack_truth(like: Tensor, columns: Sequence[Tensor | bool]) -> Tensor:
    """Truth columns `[B]` as `[B, n]`."""
    shape = like.shape[:-1]
    if not columns:
        return torch.empty((*shape, 0), dtype=torch.bool, device=like.device)
    made = [
        column.expand(shape)
        if isinstance(column, Tensor)
        else torch.full(shape, column, dtype=torch.bool, device=like.device)
        for column in columns
    ]
    return torch.stack(made).movedim(0, -1)
