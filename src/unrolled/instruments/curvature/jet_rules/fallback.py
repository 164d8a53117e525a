"""Operators without a rule of their own: torch's definition by simpler operators, or exact forward differentiation.

`DIFFERENTIATED` lists operators that torch can differentiate forwards, twice nested (`torch.func.jvp`), on their own;
each is held to double backward by a test. What is neither here nor decomposable, and has a float result, is refused.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import jvp

from unrolled.instruments.curvature.jet_rules.internals import apart, decomposition
from unrolled.instruments.curvature.jet_rules.tensor import Jet, JetUnsupported, constant, is_live, sequence

aten = torch.ops.aten

DIFFERENTIATED = frozenset(
    {
        aten.atan2.default,
        aten.cumprod.default,
        aten.logcumsumexp.default,
        aten.hypot.default,
        aten.logaddexp.default,
        aten.logaddexp2.default,
        aten.linalg_cholesky_ex.default,
        aten.linalg_solve_triangular.default,
        aten._linalg_eigh.default,
        aten._linalg_svd.default,
        aten.linalg_qr.default,
        aten.linalg_matrix_exp.default,
        aten.special_i0e.default,
        aten.i0.default,
        aten.xlogy.Tensor,
        aten.sinc.default,
    }
)


def run(op: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operator that no rule knows, or `JetUnsupported`."""
    if op in DIFFERENTIATED:
        return _differentiated(op, args, kwargs)
    simpler = decomposition(op)
    if simpler is not None:
        try:
            return simpler(*args, **kwargs)
        except JetUnsupported as error:
            raise JetUnsupported(op, f"torch defines it by {error.op}, and there {error.reason}") from None
    at_zero = _map(constant, args), {k: _map(constant, v) for k, v in kwargs.items()}
    out = op(*at_zero[0], **at_zero[1])
    results = sequence(out) or (out,)
    if any(isinstance(r, Tensor) and (r.is_floating_point() or r.is_complex()) for r in results):
        raise JetUnsupported(op, "there is no rule for it")
    return out


def _map(f: Any, x: Any) -> Any:
    items = sequence(x)
    return f(x) if items is None else [_map(f, y) for y in items]


def _differentiated(op: Any, args: Any, kwargs: Any) -> Any:
    """Coefficients of e -> op(x_0 + e x_1 + e^2 x_2): value, first and half the second derivative at e = 0."""
    first = next(filter(is_live, args))
    zero, one = (torch.full((), v, dtype=first.dtype.to_real(), device=first.device) for v in (0.0, 1.0))

    def at(e: Tensor) -> Any:
        def polynomial(x: Any) -> Any:
            if not is_live(x):
                return x
            value = x.stack[-1]
            for c in reversed(x.stack[:-1].unbind(0)):
                value = c + e.to(x.dtype) * value
            return value

        out = op(*_map(polynomial, args), **kwargs)
        return out if len(op._schema.returns) > 1 else (out,)

    def slope(e: Tensor) -> Any:
        return jvp(at, (e,), (one,))

    def series() -> list[Tensor]:
        derivatives: Any = jvp(slope, (zero,), (one,))
        (value, rise), (_, bend) = derivatives
        floats = (v.is_floating_point() or v.is_complex() for v in value)
        return [torch.stack([v, r, b / 2]) if f else v for f, v, r, b in zip(floats, value, rise, bend)]

    try:
        out = [Jet(s) if s.is_floating_point() or s.is_complex() else s for s in apart(series)]
    except NotImplementedError as error:
        raise JetUnsupported(op, f"torch has no second forward derivative of it ({error})") from None
    return tuple(out) if len(op._schema.returns) > 1 else out[0]
