"""One operator at a time: find the rule by which it carries Taylor coefficients, or refuse it by name.

`run` sees every ATen operator of the model before torch splits composite ones up, in this order: in-place writes;
operators on constants; a rule of the tables beside this file; views; torch's own definition of a composite operator
by simpler ones; exact differentiation of that operator alone; operators with no float result. What is left is refused.

Where autograd cuts the graph the coefficients stop too: under `no_grad`, at `detach` and at `item`. What only autograd
knows about cannot be seen from here and is refused: custom autograd functions, and tensors computed from parameters
before the pass began.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unrolled.instruments.curvature.jet_rules import (
    arithmetic,
    attention,
    elementwise,
    fallback,
    linear_algebra,
    losses,
    normalization,
    products,
    reductions,
    structure,
)
from unrolled.instruments.curvature.jet_rules.internals import (
    composite,
    in_place_view,
    reshape_in_place,
    transformed,
)
from unrolled.instruments.curvature.jet_rules.tensor import (
    PASSES,
    Jet,
    JetUnsupported,
    constant,
    is_live,
    sequence,
)

aten = torch.ops.aten

RULES: dict[Any, Any] = {
    **structure.RULES,
    **elementwise.RULES,
    **arithmetic.RULES,
    **reductions.RULES,
    **products.RULES,
    **normalization.RULES,
    **attention.RULES,
    **losses.RULES,
    **linear_algebra.RULES,
}
"""Operator -> rule(op, args, kwargs). A rule gets jets for what depends on the parameters, plain tensors else."""

_FACTORIES = frozenset(
    {
        aten.zeros.default,
        aten.ones.default,
        aten.full.default,
        aten.empty.memory_format,
        aten.zeros_like.default,
        aten.ones_like.default,
        aten.full_like.default,
        aten.empty_like.default,
        aten.new_zeros.default,
        aten.new_ones.default,
        aten.new_full.default,
        aten.new_empty.default,
    }
)


class Pass(TorchDispatchMode):
    """While it is on, float tensors made by `zeros` and its kin are jets, so that the model may write into them, and
    the perturbed parameters themselves may not be touched: the model was given jets in their place.

    Args:
        originals: the perturbed parameters, by id, and their names.
    """

    def __init__(self, originals: dict[int, str]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.originals = originals

    def __enter__(self) -> Any:
        PASSES.under_way += 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # pyright: ignore[reportUnknownMemberType]
        PASSES.under_way -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for x in _tensors(args, kwargs):
            if x.requires_grad and not isinstance(x, Jet):
                self._check(func, x)
        out = run(func, args, kwargs)
        if func in _FACTORIES and not isinstance(out, Jet) and out.is_floating_point() and not transformed():
            return Jet(out.unsqueeze(0))
        return out

    def _check(self, func: Any, x: Tensor) -> None:
        for known in (x, x._base):
            if known is not None and id(known) in self.originals:
                raise JetUnsupported(
                    func,
                    f"it was given the parameter {self.originals[id(known)]!r} from outside the model (a closure, or "
                    f"a list the module keeps), so the pass cannot follow it; read it from the model inside loss_fn",
                )
        if x.grad_fn is not None:
            raise JetUnsupported(
                func,
                f"it was given a tensor with its own graph ({x.grad_fn.name()}), computed before the pass or by a "
                f"custom autograd.Function",
            )


class _Traits(NamedTuple):
    written: tuple[int, ...]  # positions of arguments it writes to
    functional: Any  # the operator that returns the new value instead
    view: bool  # its result may share memory with its first argument
    random: bool


@functools.cache
def _traits(func: Any) -> _Traits:
    schema = func._schema
    written = tuple(
        i for i, a in enumerate(schema.arguments) if a.alias_info is not None and a.alias_info.is_write
    )
    functional = None
    if written == (0,) and schema.name.endswith("_"):
        packet = getattr(aten, schema.name.split("::")[1][:-1], None)
        functional = getattr(packet, func._overloadname, None)
    view = not written and any(r.alias_info is not None for r in schema.returns)
    return _Traits(written, functional, view, torch.Tag.nondeterministic_seeded in func.tags)


def _tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    for group in (args, kwargs.values()):
        for a in group:
            if isinstance(a, Tensor):
                yield a
            else:
                yield from (b for b in sequence(a) or () if isinstance(b, Tensor))


def _replace(f: Any, x: Any) -> Any:
    items = sequence(x)
    if items is not None:
        return [_replace(f, y) for y in items]
    return f(x) if isinstance(x, Jet) else x


def _lower(x: Jet) -> Tensor:
    return x if x.memory.terms > 1 else x.stack[0]


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of one operator on arguments some of which may be jets."""
    wrapped = live = False
    for x in _tensors(args, kwargs):
        if isinstance(x, Jet):
            wrapped = True
            live = live or x.memory.terms > 1
            if x.grad_fn is not None:
                raise JetUnsupported(
                    x.grad_fn.name().removesuffix("Backward"),
                    "a custom autograd.Function has its own backward",
                )
    if not wrapped:
        return func(*args, **kwargs)
    live = live and torch.is_grad_enabled()
    traits = _traits(func)
    if traits.written:
        return _write(func, traits, args, kwargs, live)
    if not live:
        if traits.view and isinstance(args[0], Jet) and args[0].terms == 1:
            return structure.view(func, args, kwargs)
        return _constants(func(*_replace(constant, args), **_plain(kwargs)), sealed=traits.view)
    lowered, named = _replace(_lower, args), {k: _replace(_lower, v) for k, v in kwargs.items()}
    rule = RULES.get(func)
    if rule is not None:
        return rule(func, lowered, named)
    if traits.view and is_live(args[0]):
        return structure.view(func, lowered, named)
    out = composite(func, args, kwargs)
    if out is not NotImplemented:
        return out
    if traits.random:
        raise JetUnsupported(func, "it draws random numbers, and there is no rule for it")
    return fallback.run(func, lowered, named)


def _plain(kwargs: Any) -> Any:
    return {k: _replace(constant, v) for k, v in kwargs.items()}


def _constants(out: Any, sealed: bool) -> Any:
    """Results of an operator on constants, wrapped so that a later in-place write finds room."""
    if isinstance(out, Tensor):
        return Jet(out.unsqueeze(0), sealed=sealed) if out.is_floating_point() or out.is_complex() else out
    items = sequence(out)
    return out if items is None else tuple(_constants(x, sealed) for x in items)


def _write(func: Any, traits: _Traits, args: Any, kwargs: Any, live: bool) -> Any:
    """In-place operators: the value by the functional twin, then copied into the target's own memory."""
    if in_place_view(func) and isinstance(args[0], Jet):
        reshape_in_place(func, *args, **kwargs)
        args[0].reshaped()
        return args[0]
    if not live:
        out = func(*_replace(constant, args), **_plain(kwargs))
        return args[traits.written[0]] if traits.written == (0,) else _constants(out, sealed=True)
    if traits.functional is None:
        raise JetUnsupported(func, "it writes into its arguments, and has no twin that returns the result")
    target = args[0]
    if not isinstance(target, Jet):
        raise JetUnsupported(
            func,
            "it writes what depends on the parameters into a tensor that does not; make that tensor inside the "
            "forward with torch.zeros / x.new_zeros, or use torch.cat / torch.stack",
        )
    value = run(traits.functional, args, kwargs)
    new = value.stack if isinstance(value, Jet) else value.unsqueeze(0)
    if new.shape[0] > target.terms:
        target.grow(new.shape[0], func)
    target.stack[: new.shape[0]].copy_(new)
    target.stack[new.shape[0] :].zero_()
    return target
