# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The derivative of one step as a linear operator: leaves of a state as one vector, and products with the Jacobian."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.core import tree


class Flat:
    """Chosen floating-point leaves of a tree as one vector, and back.

    Args:
        like: the tree; other leaves keep its values.
        paths: the leaves, in the tree's order; every floating-point leaf when None.

    Raises:
        KeyError: no such leaf.
        TypeError: a chosen leaf is no real floating-point tensor.
        ValueError: nothing to choose, or a value that is not finite.
    """

    def __init__(self, like: Any, paths: Sequence[str] | None = None, *, what: str = "the state") -> None:
        like = tree.detach(like)
        found = {path or "state": leaf for path, leaf in tree.leaves(like)}
        if paths is None:
            paths = [path for path, leaf in found.items() if leaf.is_floating_point()]
            if not paths:
                kinds = ", ".join(f"{p} ({_dtype(leaf)})" for p, leaf in found.items()) or "no tensors at all"
                raise TypeError(f"{what} has no floating-point tensor to perturb; it has {kinds}")
        for path in paths:
            if path not in found:
                raise KeyError(
                    f"no tensor {path!r} in {what}; it has {', '.join(found) or 'no tensors at all'}"
                )
            leaf = found[path]
            if not leaf.is_floating_point():
                mend = (
                    "read torch.view_as_real of it"
                    if leaf.is_complex()
                    else "only floating-point leaves can be perturbed"
                )
                raise TypeError(f"{path!r} in {what} is {_dtype(leaf)}: {mend}")
            if not bool(torch.isfinite(leaf).all()):
                raise ValueError(f"{path!r} in {what} is not finite: a derivative there says nothing")
        self.like, self.paths = like, [path for path in found if path in paths]
        self.shapes = {path: tuple(found[path].shape) for path in self.paths}
        self._sizes = [found[path].numel() for path in self.paths]
        first = found[self.paths[0]]
        self.device, self.dtype = first.device, first.dtype
        for path in self.paths[1:]:
            self.dtype = torch.promote_types(self.dtype, found[path].dtype)
        self.size = sum(self._sizes)
        if not self.size:
            raise ValueError(f"{', '.join(self.paths)} in {what} has no entries")

    def vector(self, state: Any) -> Tensor:
        """`[size]`."""
        found = {path or "state": leaf for path, leaf in tree.leaves(state)}
        for path in self.paths:
            if path not in found or tuple(found[path].shape) != self.shapes[path]:
                now = tuple(found[path].shape) if path in found else "nothing"
                raise ValueError(
                    f"a step turned {path!r} from shape {self.shapes[path]} into {now}: its derivative is no square matrix"
                )
        return torch.cat([found[path].reshape(-1).to(self.dtype) for path in self.paths])

    def tree(self, vector: Tensor) -> Any:
        """The whole tree with the chosen leaves from a vector."""
        parts = dict(zip(self.paths, vector.split(self._sizes)))
        names = iter([path or "state" for path, _ in tree.leaves(self.like)])

        def pour(leaf: Tensor) -> Tensor:
            path = next(names)
            return parts[path].reshape(leaf.shape).to(leaf.dtype) if path in parts else leaf

        return tree.map(pour, self.like)


def path_of(of: Any, state: Any, *, what: str = "the state") -> list[str] | None:
    """The leaf that `of` reads: a path, a list of paths, or a function that returns one leaf of the state as it is.

    Raises:
        TypeError: anything else; a derivative by what a function computes is not defined.
    """
    if of is None:
        return None
    if isinstance(of, str):
        return [of]
    if isinstance(of, list | tuple) and of and all(isinstance(path, str) for path in of):
        return list(of)
    if callable(of):
        value = of(state)
        for path, leaf in tree.leaves(state):
            if value is leaf:
                return [path or "state"]
        raise TypeError(
            f"of= computes something new from {what}, which cannot be perturbed: name a leaf, or return one as it is"
        )
    raise TypeError(f"of= is a path, a list of paths or a function that returns a leaf, got {of!r}")


def fixed_noise(rng: torch.Generator | int | None) -> Callable[[torch.device | str], torch.Generator | None]:
    """A maker of generators that all start where `rng` is now, so that each product sees the same noise."""
    if rng is None:
        return lambda device: None
    if isinstance(rng, torch.Generator):
        start = rng.get_state()
        return lambda device: torch.Generator(device=rng.device).set_state(start)
    return lambda device: torch.Generator(device=device).manual_seed(rng)


@dataclass(frozen=True)
class Products:
    """v -> J v for J = d fn / d x at x.

    Attributes:
        apply: the product.
        method: how it is computed.
        check: relative distance of J v from a central difference of fn, along one random direction; NaN when fn has no
            reliable difference there (a kink, or noise).
        agrees: whether that distance is small enough.
    """

    apply: Callable[[Tensor], Tensor]
    method: str
    check: float
    agrees: bool


def products(fn: Callable[[Tensor], Tensor], x: Tensor, *, seed: int = 0) -> Products:
    """Products with the Jacobian by automatic differentiation, held to a finite difference before they are believed.

    In order: forward mode as a transform, forward mode with dual numbers (which allows gradients inside the step),
    twice reverse mode (u -> J^T u is linear in u, and its own derivative is J). A step that detaches something, such
    as a gradient taken inside it without `create_graph`, makes these silently wrong; when none agrees with a finite
    difference that two step sizes confirm, products are central differences.

    Raises:
        RuntimeError: nothing works; the reasons are given.
    """
    known = difference(fn, x, seed=seed)
    works: list[Products] = []
    reasons: list[str] = []
    for method, make in (
        ("forward mode", _transform),
        ("dual numbers", _dual),
        ("twice reverse mode", _twice_reverse),
    ):
        try:
            apply = make(fn, x)
            made = apply(known.direction)
        except (RuntimeError, NotImplementedError) as error:
            reasons.append(f"{method}: {str(error).splitlines()[0]}")
            continue
        works.append(Products(apply, method, known.check(made), known.agrees(made)))
        if works[-1].agrees:
            return works[-1]
    if known.smooth:
        return Products(_central_difference(fn, x), "central differences", known.apart, agrees=True)
    if not works:
        raise RuntimeError(
            f"the step cannot be differentiated here ({'; '.join(reasons)}), and has no smooth difference"
        )
    return works[0]


@dataclass(frozen=True)
class Difference:
    """J v for one random v, by central differences of two step sizes.

    Attributes:
        direction: v.
        value: J v by the smaller step.
        allowed: distance from `value` that truncation and rounding explain.
        apart: relative distance between the two step sizes.
        smooth: whether the two agree; if not, the function has a kink or noise here and `value` means nothing.
    """

    direction: Tensor
    value: Tensor
    allowed: float
    apart: float
    smooth: bool

    def check(self, made: Tensor) -> float:
        """Relative distance of J v, computed otherwise, from `value`; NaN when there is no reliable value."""
        return (
            float((made - self.value).norm()) / (float(self.value.norm()) or 1.0) if self.smooth else math.nan
        )

    def agrees(self, made: Tensor) -> bool:
        """Whether that distance is explained."""
        return float((made - self.value).norm()) <= self.allowed


def difference(fn: Callable[[Tensor], Tensor], x: Tensor, *, seed: int = 0) -> Difference:
    """What a derivative of fn at x is held to."""
    rng = torch.Generator().manual_seed(seed)
    v = torch.randn(x.numel(), generator=rng, dtype=torch.float64).to(x)
    fine, coarse = _central_difference(fn, x)(v), _central_difference(fn, x, widen=3.0)(v)
    with torch.no_grad():
        size = float(fn(x).norm())
    eps = torch.finfo(x.dtype).eps
    allowed = (1e-4 if eps < 1e-12 else 2e-2) * float(fine.norm()) + 50 * size * eps ** (2 / 3)
    distance = float((fine - coarse).norm())
    return Difference(v, fine, allowed, distance / (float(fine.norm()) or 1.0), distance <= 3 * allowed)


def _central_difference(
    fn: Callable[[Tensor], Tensor], x: Tensor, widen: float = 1.0
) -> Callable[[Tensor], Tensor]:
    """(fn(x + h v) - fn(x - h v)) / 2h with h = eps^(1/3), relative to the sizes of x and v."""
    size = max(float(x.square().mean().sqrt()), 1e-3)
    step = widen * torch.finfo(x.dtype).eps ** (1 / 3) * size

    def product(v: Tensor) -> Tensor:
        length = float(v.square().mean().sqrt())
        if length == 0:
            return torch.zeros_like(fn(x))
        h = step / length
        with torch.no_grad():
            return (fn(x + h * v) - fn(x - h * v)).detach() / (2 * h)

    return product


def _transform(fn: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: torch.func.jvp(fn, (x,), (v,))[1].detach()


def _dual(fn: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    def product(v: Tensor) -> Tensor:
        with forward_ad.dual_level():
            y = fn(forward_ad.make_dual(x.clone(), v))
            tangent = forward_ad.unpack_dual(y).tangent
            return torch.zeros_like(y).detach() if tangent is None else tangent.detach().clone()

    return product


def _twice_reverse(fn: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = fn(x)
        if not y.requires_grad:
            return lambda v: torch.zeros_like(y)
        u = torch.zeros_like(y, requires_grad=True)
        (g,) = torch.autograd.grad(y, x, u, create_graph=True, materialize_grads=True)

    def product(v: Tensor) -> Tensor:
        if not g.requires_grad:
            return torch.zeros_like(y)
        (made,) = torch.autograd.grad(g, u, v, retain_graph=True, materialize_grads=True)
        return made.detach()

    return product


def matrix(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`[m, n]`: one product per column."""
    columns = [product(e) for e in torch.eye(x.numel(), dtype=x.dtype, device=x.device)]
    return torch.stack(columns, dim=1)


def _dtype(leaf: Tensor) -> str:
    return str(leaf.dtype).removeprefix("torch.")
