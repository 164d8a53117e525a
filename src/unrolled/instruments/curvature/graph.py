# pyright: reportPrivateUsage=false
"""What an autograd graph tells about the second derivatives that will come out of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIXTEEN_BIT = (torch.bfloat16, torch.float16)

WRONG = ("WeightNormInterface",)
"""Operators of torch whose second derivative is wrong without an error (`gradgradcheck` fails, torch 2.13)."""


@dataclass(frozen=True)
class GraphFacts:
    """Read from the graph of a loss.

    Attributes:
        custom: names of custom `autograd.Function`s, and of `WRONG`. Nothing tells whether their `backward` can itself be
            differentiated: one that calls a kernel, or is once-differentiable and sits last, gives a Hessian-vector
            product that lacks terms, without any error.
        sixteen_bit: part of the computation ran in a 16-bit format (autocast, or 16-bit parameters).
    """

    custom: tuple[str, ...] = ()
    sixteen_bit: bool = False


def graph_facts(loss: Tensor) -> GraphFacts:
    """Walk the graph of `loss`.

    Raises:
        ValueError: part of the graph is hidden by reentrant checkpointing, whose parameters `torch.autograd.grad` takes
            for unused.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> graph_facts((w.bfloat16() * 2).float().sum())
        GraphFacts(custom=(), sixteen_bit=True)
    """
    custom: set[str] = set()
    low = False
    for node in _nodes([loss]):
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            custom.add(type(node).__name__.removesuffix("Backward"))
        elif type(node).__name__.startswith(WRONG):
            custom.add(type(node).__name__)
        low = low or any(made.dtype in SIXTEEN_BIT for made in getattr(node, "_input_metadata", ()))
    if "CheckpointFunction" in custom:
        raise ValueError(
            "the model uses reentrant activation checkpointing, which hides its parameters from torch.autograd.grad; "
            "call checkpoint(..., use_reentrant=False), or in Hugging Face "
            "gradient_checkpointing_kwargs={'use_reentrant': False}"
        )
    return GraphFacts(tuple(sorted(custom)), low)


def sealed(grads: Iterable[Tensor | None]) -> bool:
    """Whether gradients went through a function marked once-differentiable.

    Its error only fires if the engine gets there, which it does not on its way to given inputs: the terms behind it
    would be missing without a word.
    """
    return any("Error" in node.name() for node in _nodes(g for g in grads if g is not None))


def _nodes(tensors: Iterable[Tensor]) -> Iterator[Any]:
    seen: set[Any] = set()
    stack: list[Any] = [tensor.grad_fn for tensor in tensors]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(after for after, _ in node.next_functions)
