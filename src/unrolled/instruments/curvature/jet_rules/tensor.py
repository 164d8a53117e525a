"""Jets: tensors that carry their truncated Taylor series along one direction of parameter space.

A jet is x(e) = x_0 + e x_1 + e^2 x_2 + O(e^3), the 1/n! of Taylor's formula inside the coefficients. They are kept in
one tensor, the *stack*, coefficients first: `[k, *shape]`. k = 1 is a constant, k = 2 a quantity whose second
coefficient is known to vanish (a parameter; what the first layer makes of data), k = 3 the rest. A coefficient known
to vanish is never stored, multiplied or added, so data, masks and unperturbed layers cost one plain forward.

Stacking is what makes the pass quick: three products with one matrix become one product with three times the rows,
and a view of x_0 is the same view of every coefficient.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.internals import without_torch_function

TERMS = 3
"""Coefficients kept: orders 0, 1, 2."""


class _Passes(threading.local):
    under_way = 0


PASSES = _Passes()
"""How many passes this thread is in: a jet that outlives them is of no use."""


class JetUnsupported(NotImplementedError):
    """The second-order Taylor pass cannot go through an operator.

    Attributes:
        op: the operator, by its ATen name where it has one.
        reason: why, in one sentence.
    """

    def __init__(self, op: object, reason: str) -> None:
        self.op, self.reason = str(op), reason
        super().__init__(
            f"the Taylor pass cannot go through {self.op}: {reason}. Ask for method='double_backward' (or 'auto', "
            f"which falls back by itself), or write that step with other torch operators"
        )


class _Memory:
    """What jets that are views of one another share: where their coefficients live.

    `flat` is None until an in-place write needs more coefficients than the first stack had. From then on it holds one
    row per coefficient, and every view finds its elements there by its own size, stride and offset. A sealed memory
    (that of `detach`) is shared with another jet and may not grow.
    """

    __slots__ = ("flat", "sealed", "terms")

    def __init__(self, terms: int, sealed: bool) -> None:
        self.terms, self.sealed = terms, sealed
        self.flat: Tensor | None = None


class Jet(torch.Tensor):
    """A tensor with Taylor coefficients; to user code it has the shape, dtype and device of x_0.

    It says `requires_grad` so that a custom `autograd.Function`, whose own backward a Taylor pass would ignore,
    leaves its `grad_fn` on what it returns and can be refused.
    """

    _stack: Tensor
    memory: _Memory

    @staticmethod
    def __new__(cls: Any, stack: Tensor, memory: _Memory | None = None, sealed: bool = False) -> "Jet":
        """Wrap a stack `[k, *shape]`; `memory` is that of the jet it is a view of, `sealed` says it is borrowed."""
        self: Jet = torch.Tensor._make_wrapper_subclass(
            cls,
            stack.shape[1:],
            strides=stack.stride()[1:],
            storage_offset=stack.storage_offset(),
            dtype=stack.dtype,
            device=stack.device,
            requires_grad=stack.is_floating_point() or stack.is_complex(),
        )
        self._stack = stack
        self.memory = _Memory(stack.shape[0], sealed) if memory is None else memory
        return self

    def __init__(self, stack: Tensor, memory: _Memory | None = None, sealed: bool = False) -> None:
        """`__new__` has done it."""

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Jet(shape={tuple(self.shape)}, dtype={self.dtype}, terms={self.terms})"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in _MEMORY:
            raise JetUnsupported(f"a kernel that calls {func.__name__}()", "it is outside torch's dispatcher")
        if func in _READS:
            args = (args[0].stack[0], *args[1:])
        if func in _DIFFERENTIATES:
            raise JetUnsupported(
                f"torch.{func.__name__}",
                "it differentiates inside the loss, and a pass keeps no graph; use torch.func",
            )
        with without_torch_function():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from unrolled.instruments.curvature.jet_rules.dispatch import run

        if not PASSES.under_way:
            raise JetUnsupported(func, "a tensor of the pass was kept and used after the pass had ended")
        return run(func, args, kwargs or {})

    @property
    def stack(self) -> Tensor:
        """The coefficients, `[k, *shape]`."""
        flat = self.memory.flat
        if flat is not None and self._stack.shape[0] != self.memory.terms:
            size, stride = (
                (flat.shape[0], *self._stack.shape[1:]),
                (flat.stride(0), *self._stack.stride()[1:]),
            )
            self._stack = flat.as_strided(size, stride, self._stack.storage_offset())
        return self._stack

    @property
    def terms(self) -> int:
        """k: 1 for a constant, 2 or 3."""
        return self.memory.terms

    def reshaped(self) -> None:
        """Follow a change of shape in place."""
        stack = self.stack
        size, stride = (stack.shape[0], *self.shape), (stack.stride(0), *self.stride())
        self._stack = stack.as_strided(size, stride, self.storage_offset())

    def grow(self, terms: int, op: object) -> None:
        """Give this jet, and all that share its memory, room for `terms` coefficients; the new ones are zero."""
        old, memory = self.stack, self.memory
        elements = old.untyped_storage().nbytes() // old.element_size()
        row = elements if old.shape[0] == 1 else old.stride(0)
        if memory.sealed or old.shape[0] * row != elements or old.storage_offset() >= max(row, 1):
            raise JetUnsupported(
                op, "it writes in place into memory shared with a tensor that must stay as it is"
            )
        flat = old.new_zeros(terms, row)
        flat[: old.shape[0]] = old.as_strided((old.shape[0], row), (row, 1), 0)
        memory.flat, memory.terms = flat, terms


def sequence(x: Any) -> Sequence[Any] | None:
    """`x` if it is a list or tuple."""
    return cast(Sequence[Any], x) if isinstance(x, (list, tuple)) else None


def bound(op: Any, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """All arguments of an operator in the order of its schema, defaults filled in."""
    schema = op._schema.arguments
    return tuple(
        args[i] if i < len(args) else kwargs.get(a.name, a.default_value) for i, a in enumerate(schema)
    )


def named(op: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The same by name."""
    return dict(zip((a.name for a in op._schema.arguments), bound(op, args, kwargs)))


def operators(names: str) -> list[Any]:
    """ATen operators by `name.overload`."""
    return [
        getattr(getattr(torch.ops.aten, name), kind) for name, kind in (n.split(".") for n in names.split())
    ]


def broadcast(*shapes: Any) -> torch.Size:
    """The shape that these shapes broadcast to."""
    return torch.broadcast_shapes(*shapes)  # pyright: ignore


def _methods(names: str) -> tuple[Any, ...]:
    owner: Any = torch.Tensor
    return tuple(getattr(owner, name) for name in names.split())


_DIFFERENTIATES = (torch.autograd.grad, *_methods("backward"))
_READS = _methods("tolist numpy __array__")
"""What leaves torch is a constant."""
_MEMORY = _methods("data_ptr untyped_storage storage __dlpack__")
"""What kernels outside torch ask for; a jet's memory is not what they take it for."""


def is_live(x: Any) -> TypeGuard[Jet]:
    """Whether `x` depends on the perturbed parameters: a jet with more than its constant coefficient."""
    return isinstance(x, Jet) and x.memory.terms > 1


def stack_of(x: Tensor) -> Tensor:
    """The stack of a jet; of a plain tensor, itself as the only coefficient."""
    return x.stack if isinstance(x, Jet) else x.unsqueeze(0)


def constant(x: Any) -> Any:
    """The coefficient x_0 of a jet; anything else as it is."""
    return x.stack[0] if isinstance(x, Jet) else x


def aligned(stack: Tensor, ndim: int) -> Tensor:
    """The stack with ones after the first axis, so that its elements have `ndim` axes and broadcast as torch does."""
    missing = ndim + 1 - stack.ndim
    return stack if missing <= 0 else stack[(slice(None), *(None,) * missing)]


def dense(x: Tensor) -> bool:
    """Whether the elements of `x` fill a stretch of memory without gap or overlap."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def empty(terms: int, like: Tensor, shape: Any = None, dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised stack; laid out as the elements of the stack `like` when they have the same shape."""
    shape = like.shape[1:] if shape is None else torch.Size(shape)
    if shape == like.shape[1:]:
        x0 = like[0]
        if not x0.is_contiguous() and dense(x0):
            return torch.empty_strided(
                (terms, *shape), (x0.numel(), *x0.stride()), dtype=dtype or like.dtype, device=like.device
            )
    return torch.empty((terms, *shape), dtype=dtype or like.dtype, device=like.device)
