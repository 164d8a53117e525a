# pyright: reportUnnecessaryComparison=false
"""Hessian-vector products from gradients at two points: no second derivative needed, flash attention included.

central:   H[v] = (grad L(W + e v) - grad L(W - e v)) / 2e + O(e^2)      2 gradients
one-sided: H[v] = (grad L(W + e v) - grad L(W)) / e + O(e)               1 gradient

e multiplies v itself, which in this package is the update Z of an optimizer. Truncation falls with e and rounding
grows as 1/e; the defaults sit at the crossing, by dtype of the parameters (curvature fact sheet 2606.04662,
section 8, for a typical step in float32: central 1.9e-4 at e = .1 and 2.3e-5 at .01; one-sided 9.3e-4 at .01).
Where activations are 16-bit (autocast) the crossing is at e = .3, and errors are about a per cent. Where parameters
are, e = 1: Z is about one unit in the last place of W, so nothing smaller can be added to it.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from unrolled.instruments.curvature.graph import graph_facts
from unrolled.instruments.curvature.hvp import Method, NotTwiceDifferentiable, Products
from unrolled.instruments.curvature.objective import Objective
from unrolled.instruments.curvature.state import displaced
from unrolled.instruments.curvature.vectors import Vector

CENTRAL_EPS = {torch.float64: 3e-5, torch.float32: 1e-2}
ONE_SIDED_EPS = {torch.float64: 1e-7, torch.float32: 3e-3}
SIXTEEN_BIT_EPS = 0.3


def central(eps: float | None = None) -> Method:
    """The central difference with step `eps` (by dtype when None).

    Example:
        >>> from unrolled.instruments.curvature.hvp import hessian_vector_product
        >>> w = torch.nn.Module()
        >>> w.x = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        >>> cubic = lambda m: m.x.pow(3).sum()                     # H = 6 w; a cubic has no e^2 error in H... but
        >>> v = {"x": torch.ones(1, dtype=torch.float64)}
        >>> _, _, hv = hessian_vector_product(w, cubic, v, method=central(1e-3))
        >>> round(hv["x"].item(), 9)                               # ... only rounding is left
        12.0
    """
    return _method(eps, both=True)


def one_sided(eps: float | None = None) -> Method:
    """The forward difference with step `eps` (by dtype when None): half the cost, error of first order."""
    return _method(eps, both=False)


def step_size(objective: Objective, *, both: bool, sixteen_bit: bool) -> float:
    """The default e: that of the coarsest dtype among parameters and, if `sixteen_bit`, activations."""
    table = CENTRAL_EPS if both else ONE_SIDED_EPS
    coarsest = max((table.get(p.dtype, 1.0) for p in objective.params), default=1.0)
    return max(coarsest, SIXTEEN_BIT_EPS) if sixteen_bit else coarsest


def _method(eps: float | None, *, both: bool) -> Callable[[Objective, int, Iterable[Vector]], Products]:
    if eps is not None and not eps > 0:
        raise ValueError(f"eps multiplies the update and must be positive, got {eps}")

    def method(objective: Objective, b: int, vectors: Iterable[Vector]) -> Products:
        loss, count, here, low = _gradient(objective, b)
        e = step_size(objective, both=both, sixteen_bit=low) if eps is None else eps

        def products() -> Iterator[Vector]:
            for vector in vectors:
                ahead = _gradient(objective, b, vector, e)[2]
                behind = _gradient(objective, b, vector, -e)[2] if both else here
                width = 2 * e if both else e
                yield [
                    None if f is None or k is None else (f.to(_wide(f)) - k.to(_wide(k))) / width
                    for f, k in zip(ahead, behind, strict=True)
                ]

        return Products(loss, count, here, products())

    return method


def _gradient(
    objective: Objective, b: int, vector: Vector | None = None, e: float = 0.0
) -> tuple[Tensor, float, Vector, bool]:
    """s_b, n_b and grad s_b at W + e v, and whether 16-bit numbers took part."""
    moved = [
        (p, torch.add(p.detach().to(_wide(p)), v, alpha=e).to(p.dtype))
        for p, v in zip(objective.params, vector or ())
        if v is not None
    ]
    with displaced([p for p, _ in moved], [value for _, value in moved]), torch.enable_grad():
        loss, count = objective.batch_loss(b)
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of batch {b} has no graph: it was made under no_grad, detached, or uses no trainable "
                "parameter"
            )
        low = vector is None and graph_facts(loss).sixteen_bit
        try:
            grads = torch.autograd.grad(loss, objective.params, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise NotTwiceDifferentiable(
                f"not even the gradient could be taken with torch.autograd.grad: {error}"
            ) from error
    return loss.detach(), count, [g.to_dense() if g is not None and g.is_sparse else g for g in grads], low


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
