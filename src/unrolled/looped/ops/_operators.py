"""A chunked form as one operator of torch: opaque to `torch.compile`, with the backward written by hand, differentiable twice.

torch.compile sees `unrolled::<name>` as it sees a matrix product, so a sequence of any length costs it one node; autocast does
not reach inside. The gradient is an operator too; its own gradient goes through `forward`, chunk by chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.looped.ops import _blocks

Form = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor, int], tuple[Tensor, Tensor]]

_C: Any = vars(torch)["_C"]

INPUTS = "Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? beta, Tensor state"


def operator(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Form:
    """Register `unrolled::<name>` and return it as a function of q, k, v, g, beta, state and chunk, giving o and the state.

    Args:
        name: of the operator; `<name>_backward` is registered as well.
        forward: gives o, state and the state before every block (`_blocks.plan`); made of what torch can differentiate.
        backward: (do, dstate, q, k, v, g, beta, marks, chunk) to the gradients of q, k, v, g, beta and state.
    """

    def run(q: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(q.device.type, enabled=False):
            return forward(q, *rest)

    def back(do: Tensor, dstate: Tensor, q: Tensor, *rest: Any) -> list[Tensor]:
        k, v, g, beta, _, marks, chunk = rest
        with torch.autocast(q.device.type, enabled=False):
            return [absent(q, x) for x in backward(do, dstate, q, k, v, g, beta, marks, chunk)]

    def fake(q: Tensor, k: Tensor, v: Tensor, g: Any, beta: Any, state: Tensor, chunk: int) -> Any:
        B, _, H, dk = q.shape
        marks = state.new_empty(_blocks.count(q, v, chunk), B * H, dk, v.shape[-1])
        return v.new_empty(v.shape), state.new_empty(state.shape), marks

    def fake_back(do: Tensor, dstate: Tensor, *rest: Any) -> list[Tensor]:
        q, k, v, g, beta, state, _, _ = rest
        return [absent(q, None if x is None else x.new_empty(x.shape)) for x in (q, k, v, g, beta, state)]

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.chunk = inputs
        ctx.save_for_backward(*tensors, output[2])
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)

    def gradient(ctx: Any, do: Tensor | None, dstate: Tensor | None, _: Any) -> Any:
        *inputs, marks = ctx.saved_tensors
        v, state = inputs[2], inputs[5]
        do = v.new_zeros(v.shape) if do is None else do
        dstate = state.new_zeros(state.shape) if dstate is None else dstate
        found = back_op(do, dstate, *inputs, marks, ctx.chunk)
        return *(None if x is None else d for x, d in zip(inputs, found)), None

    def keep_back(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.chunk = inputs
        ctx.save_for_backward(*tensors[:8])

    def second(ctx: Any, wanted: list[Tensor]) -> Any:
        create = torch.is_grad_enabled()
        with torch.enable_grad(), torch.autocast(wanted[0].device.type, enabled=False):
            saved: list[Any] = [
                x if x is None or (create and x.requires_grad) else x.detach().requires_grad_()
                for x in ctx.saved_tensors
            ]
            there = [x is not None for x in saved[2:]]
            inputs = [x for x in saved[2:] if x is not None]
            o, state, _ = forward(*saved[2:], ctx.chunk)
            options: Any = {"materialize_grads": True}
            first = torch.autograd.grad((o, state), inputs, saved[:2], create_graph=True, **options)
            given = [d for d, is_there in zip(wanted, there) if is_there]
            found = iter(
                torch.autograd.grad(first, [*saved[:2], *inputs], given, create_graph=create, **options)
            )
        return *(None if x is None else next(found) for x in saved), None, None

    library = torch.library.custom_op
    op = library(
        f"unrolled::{name}", run, mutates_args=(), schema=f"({INPUTS}, int chunk) -> (Tensor, Tensor, Tensor)"
    )
    op.register_fake(fake)
    op.register_autograd(gradient, setup_context=keep)
    back_op = library(
        f"unrolled::{name}_backward",
        back,
        mutates_args=(),
        schema=f"(Tensor do, Tensor dstate, {INPUTS}, Tensor marks, int chunk) -> Tensor[]",
    )
    back_op.register_fake(fake_back)
    back_op.register_autograd(second, setup_context=keep_back)

    def call(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        plain = transformed(q, k, v, g, beta, state)
        o, last, _ = (run if plain else op)(q, k, v, g, beta, state, chunk)
        return o, last

    return call


def transformed(*tensors: Tensor | None) -> bool:
    """Whether derivatives are taken in a way that operators do not know: forward mode, torch.func, jets."""
    if torch.compiler.is_compiling():
        return False
    plain = torch.Tensor, torch.nn.Parameter
    return (
        forward_ad._current_level >= 0
        or _C._functorch.peek_interpreter_stack() is not None
        or any(x is not None and type(x) not in plain for x in tensors)
    )


def absent(like: Tensor, x: Tensor | None) -> Tensor:
    """Something to return for None: operators return tensors."""
    return like.new_empty(0) if x is None else x
