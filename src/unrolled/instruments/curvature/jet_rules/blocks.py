"""Work through large tensors in pieces, so that what a rule needs in between stays small.

A rule for one function has some five intermediate results, each as large as its argument. A piece at a time they fit in
a core's cache, and the peak memory of a pass is that of the coefficients themselves.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

BLOCK = 1 << 16
"""Elements of one coefficient in a piece, on the CPU and for each thread: 256 KiB of float32."""

LARGE = 1 << 25
"""The same on other devices, where fewer and larger kernels win: 128 MiB of float32."""


def room_on(device: torch.device) -> int:
    """Elements of one coefficient to take at a time."""
    return BLOCK * torch.get_num_threads() if device.type == "cpu" else LARGE


def pieces(shape: Sequence[int], device: torch.device, unit: int = 1) -> Iterator[tuple[slice, ...]]:
    """Index tuples over the leading axes that cut an array of this shape into pieces of about `room_on(device)` elements.

    Args:
        shape: of the array.
        device: where it is.
        unit: elements behind each entry of `shape` that must stay together (a row of a softmax).

    Example:
        >>> from unittest.mock import patch
        >>> with patch(f"{__name__}.room_on", lambda device: 4):
        ...     [tuple((s.start, s.stop) for s in piece) for piece in pieces((3, 3), torch.device("cpu"))]
        [((0, 1),), ((1, 2),), ((2, 3),)]
    """
    room = room_on(device)
    if prod(shape) * unit <= 2 * room:
        yield ()
        return
    inner, axis = unit, len(shape)
    while axis > 0 and inner * shape[axis - 1] <= room:
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield ()
        return
    axis, step = axis - 1, max(1, room // inner)
    for lead in product(*(range(n) for n in shape[:axis])):
        head = tuple(slice(i, i + 1) for i in lead)
        for start in range(0, shape[axis], step):
            yield (*head, slice(start, start + step))


def cut(stack: Tensor, piece: tuple[slice, ...]) -> Tensor:
    """The part of a stack that meets a piece; axes of size one are broadcast."""
    if not piece:
        return stack
    whole = slice(None)
    return stack[(whole, *(whole if n == 1 else s for s, n in zip(piece, stack.shape[1:])))]
