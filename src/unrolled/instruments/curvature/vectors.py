# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Inner products over lists of parameter-shaped tensors, accumulated in float64.

A parameter vector is a list of tensors in the order of the parameters; `None` stands for a zero.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor | None]

_CHUNK = 1 << 22
"""Elements converted to float64 at a time: bounds the temporary at 64 MiB whatever the parameter's size."""


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<A,B> = sum_ij A_ij B_ij as a float64 scalar, whatever the dtypes.

    Example:
        >>> a = torch.tensor([1e8, 1.0], dtype=torch.float32)
        >>> inner(a, torch.tensor([1.0, 1.0])).item()       # 1e8 + 1 does not fit in float32
        100000001.0
    """
    if a.is_sparse:
        a = a.to_dense()
    if a.device.type == "mps":  # no float64 there
        a, b = a.cpu(), b.cpu()
    a, b = a.detach().reshape(-1), b.detach().reshape(-1)
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for start in range(0, a.numel(), _CHUNK):
        piece = slice(start, start + _CHUNK)
        total += torch.dot(a[piece].double(), b[piece].double())
    return total


def group_inner(a: Vector, b: Vector, blocks: Sequence[int], n: int) -> Tensor:
    """<A_l, B_l> for every group l.

    Args:
        a: parameter vector.
        b: parameter vector.
        blocks: the group of every entry.
        n: number of groups.

    Returns:
        float64 `[n]`, on the CPU.
    """
    sums: list[Tensor | None] = [None] * n
    for x, y, block in zip(a, b, blocks, strict=True):
        if x is None or y is None:
            continue
        value, held = inner(x, y), sums[block]
        sums[block] = value if held is None else held + value.to(held.device)
    zero = torch.zeros((), dtype=torch.float64)
    return torch.stack([zero if s is None else s.cpu() for s in sums]) if n else zero.reshape(0)


def directions(
    update: Sequence[Tensor], blocks: Sequence[int], signs: Tensor
) -> Iterator[list[Tensor | None]]:
    """The vectors `s_l Z_l`, one for each row s of `signs`; a zero sign leaves the group out.

    Args:
        update: Z.
        blocks: the group of every entry of Z.
        signs: `[m, n_groups]` with entries -1, 0 or 1.

    Example:
        >>> z = [torch.tensor([1.0]), torch.tensor([2.0])]
        >>> list(directions(z, [0, 1], torch.tensor([[1, -1], [0, 1]])))
        [[tensor([1.]), tensor([-2.])], [None, tensor([2.])]]
    """
    for row in signs.tolist():
        yield [None if row[l] == 0 else (z if row[l] == 1 else z * row[l]) for z, l in zip(update, blocks)]
