# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false, reportUnnecessaryComparison=false
"""Hessian-vector products by automatic differentiation, in two ways that check each other.

H[v] = d/de grad L(W + e v) at e = 0 (curvature fact sheet 2606.04662, section 1).

* `double_backward`: differentiate <grad L, v> in reverse. 9 matmuls per linear layer, 3 gradients.
* `forward_over_reverse`: push the tangent v through the backward pass. Also 9 matmuls; reads like the definition.

Both give <G,Z> and any number of products from one micro-batch; extra products of `double_backward`
reuse the graph (6 matmuls each).
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from unrolled.instruments.curvature.graph import GraphFacts, graph_facts, sealed
from unrolled.instruments.curvature.objective import LossFn, Objective
from unrolled.instruments.curvature.state import preserved
from unrolled.instruments.curvature.vectors import Vector


class NotTwiceDifferentiable(RuntimeError):
    """The backward pass of the loss has no derivative, or an operator has no forward-mode rule."""


@dataclass(frozen=True)
class Products:
    """What one micro-batch gives: the sums s_b and n_b, grad s_b, and H_b[v] for each v, made as they are read."""

    loss: Tensor
    count: float
    grads: Vector
    hvps: Iterator[Vector]
    facts: GraphFacts = field(default_factory=GraphFacts)


Method = Callable[[Objective, int, Iterable[Vector]], Products]
"""A method takes the objective, a micro-batch and the vectors. Read `hvps` to the end before the next call."""


def double_backward(objective: Objective, b: int, vectors: Iterable[Vector]) -> Products:
    """Reverse over reverse.

    Raises:
        NotTwiceDifferentiable: an operator's backward has no derivative (flash attention, once-differentiable
            functions, compiled graphs).
        ValueError: the loss does not depend on any of the parameters' graph (made under `no_grad`, detached).
    """
    params, queue = objective.params, iter(vectors)
    head = next(queue, None)
    with torch.enable_grad():
        loss, count = objective.batch_loss(b)
        if not loss.requires_grad:
            raise _constant(b)
        with _twice():
            grads = torch.autograd.grad(loss, params, create_graph=head is not None, allow_unused=True)
        facts = graph_facts(loss) if b == 0 else GraphFacts()
        if facts.custom and sealed(grads):
            raise NotTwiceDifferentiable(
                f"one of the custom autograd functions {', '.join(facts.custom)} is marked once_differentiable"
            )

    def products() -> Iterator[Vector]:
        vector = head
        while vector is not None:
            following = next(queue, None)  # one ahead: the last product frees the graph
            live = [
                (g, v.to(g.dtype))
                for g, v in zip(grads, vector, strict=True)
                if g is not None and v is not None and g.requires_grad
            ]
            if live:
                with _twice():
                    yield torch.autograd.grad(
                        [g for g, _ in live],
                        params,
                        [v for _, v in live],
                        retain_graph=following is not None,
                        allow_unused=True,
                    )
            else:  # linear in every parameter that the vector moves
                yield [None] * len(params)
            vector = following

    return Products(
        loss.detach(), count, [None if g is None else g.detach() for g in grads], products(), facts
    )


def forward_over_reverse(objective: Objective, b: int, vectors: Iterable[Vector]) -> Products:
    """Forward over reverse: the definition, with e an infinitesimal carried by dual numbers.

    Raises:
        NotTwiceDifferentiable: an operator has no forward-mode derivative (flash attention).
    """
    first: list[tuple[Tensor, float, Vector]] = []

    def one(vector: Vector) -> tuple[tuple[Tensor, float, Vector], Vector]:
        with torch.enable_grad(), forward_ad.dual_level(), _twice():
            duals = [
                forward_ad.make_dual(
                    p.detach().requires_grad_(), torch.zeros_like(p) if v is None else v.to(p.dtype)
                )
                for p, v in zip(objective.params, vector, strict=True)
            ]
            with _swapped(objective.model, dict(zip(objective.params, duals))):
                loss, count = objective.batch_loss(b)
                if not loss.requires_grad:
                    raise _constant(b)
                # create_graph picks backward formulas made of plain operators, which have forward-mode rules
                grads = torch.autograd.grad(loss, duals, create_graph=True, allow_unused=True)
            parts = [None if g is None else forward_ad.unpack_dual(g) for g in grads]
            value = forward_ad.unpack_dual(loss).primal.detach()
            gradient = [None if part is None else part.primal.detach() for part in parts]
            product = [
                None if part is None or part.tangent is None else part.tangent.detach() for part in parts
            ]
        return (value, count, gradient), product

    def products(done: Vector | None) -> Iterator[Vector]:
        if done is not None:
            yield done
        for vector in remaining:
            yield one(vector)[1]

    remaining = iter(vectors)
    head = next(remaining, None)
    here, done = one([None] * len(objective.params) if head is None else head)
    first.append(here)
    loss, count, grads = first[0]
    return Products(loss, count, grads, products(None if head is None else done))


def hessian_vector_product(
    model: nn.Module,
    loss_fn: LossFn,
    vector: Mapping[str, Tensor],
    *,
    batches: Sequence[Any] | None = None,
    method: Method = double_backward,
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """L, grad L and H[v] over micro-batches, each divided by the total count.

    Args:
        model: the module.
        loss_fn: `loss_fn(model)`, or `loss_fn(model, batch)` with `batches`; a scalar or `(summed loss, count)`.
        vector: parameter name -> v; the derivatives are taken in these parameters.
        batches: micro-batches.
        method: `double_backward`, `forward_over_reverse`, or one of `finite_difference`.

    Returns:
        The loss, name -> G, name -> H[v].

    Raises:
        KeyError: a name that is not a parameter.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> loss, grad, hv = hessian_vector_product(
        ...     model, lambda m: m.weight.pow(3).sum(), {"weight": torch.ones(1, 1)})
        >>> loss, grad["weight"].item(), hv["weight"].item()        # w^3, 3 w^2, 6 w
        (8.0, 12.0, 12.0)
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    params = {name: named[name] for name in vector}
    objective = Objective(model, loss_fn, params, batches)
    total = 0.0
    grad = {name: torch.zeros_like(p) for name, p in params.items()}
    product = {name: torch.zeros_like(p) for name, p in params.items()}
    with preserved(model):
        for b in range(len(objective)):
            made = method(objective, b, [list(vector.values())])
            total += float(made.loss)
            _add(grad, made.grads)
            for hv in made.hvps:
                _add(product, hv)
    count = objective.count
    return (
        total / count,
        {name: g / count for name, g in grad.items()},
        {name: h / count for name, h in product.items()},
    )


def _add(into: Mapping[str, Tensor], vector: Vector) -> None:
    for held, part in zip(into.values(), vector, strict=True):
        if part is not None:
            held.add_(part)


@contextlib.contextmanager
def _twice() -> Generator[None]:
    """Give failures of the second derivative their own type; a shortage of memory is not one."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        raise NotTwiceDifferentiable(str(error).strip().splitlines()[0]) from error


@contextlib.contextmanager
def _swapped(model: nn.Module, values: Mapping[nn.Parameter, Tensor]) -> Generator[None]:
    """Plain tensors in the place of parameters, tied places included."""
    places = [
        (module, key, p)
        for module in model.modules()
        for key, p in module._parameters.items()
        if p is not None and p in values
    ]
    try:
        for module, key, p in places:
            module._parameters[key] = values[p]  # pyright: ignore[reportArgumentType]
        torch.clear_autocast_cache()
        yield
    finally:
        for module, key, p in places:
            module._parameters[key] = p
        torch.clear_autocast_cache()


def _constant(b: int) -> ValueError:
    return ValueError(
        f"the loss of batch {b} has no graph: it was made under no_grad, detached, or uses no trainable parameter"
    )
