# pyright: reportPrivateUsage=false
"""What an autograd graph tells about the second derivatives that will come out of it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIXTEEN_BIT = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class GraphFacts:
    """Read from the graph of a loss.

    Attributes:
        custom: names of custom `autograd.Function`s. Nothing tells whether their `backward` can itself be
            differentiated: one that calls a kernel, or is once-differentiable and sits last, gives a Hessian-vector
            product that lacks terms, without any error.
        sixteen_bit: part of the computation ran in a 16-bit format (autocast, or 16-bit parameters).
    """

    custom: tuple[str, ...] = ()
    sixteen_bit: bool = False


def graph_facts(loss: Tensor) -> GraphFacts:
    """Walk the graph of `loss`.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> graph_facts((w.bfloat16() * 2).float().sum())
        GraphFacts(custom=(), sixteen_bit=True)
    """
    seen: set[Any] = set()
    custom: set[str] = set()
    low = False
    stack: list[Any] = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            custom.add(type(node).__name__.removesuffix("Backward"))
        low = low or any(made.dtype in SIXTEEN_BIT for made in getattr(node, "_input_metadata", ()))
        stack.extend(after for after, _ in node.next_functions)
    return GraphFacts(tuple(sorted(custom)), low)
