"""Solving, inverting, determinants.

A X = B gives A_0 X_n = B_n - sum_{j > 0} A_j X_{n-j}. With M_j = A_0^{-1} A_j, log |det A| has the coefficients tr M_1
and tr M_2 - tr(M_1^2) / 2. (Differentiating torch's private operators forwards twice gets these wrong: the factors
they save are taken for constants.)
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.tensor import TERMS, Jet, bound, stack_of

aten = torch.ops.aten
_linalg: Any = torch.linalg


def _solve(op: Any, args: Any, kwargs: Any) -> Any:
    a, b, left, check = bound(op, args, kwargs)
    x, lu, pivots, info = op(stack_of(a)[0], stack_of(b)[0], left=left, check_errors=check)
    matrices, right = stack_of(a), stack_of(b)
    vector = right.ndim - 1 == 1 or (a.ndim - 1 == b.ndim and b.shape == a.shape[:-1])
    if vector:
        x, right = x.unsqueeze(-1), right.unsqueeze(-1)
    rows = [x]
    for n in range(1, TERMS):
        rest = right[n] if n < len(right) else torch.zeros_like(right[0])
        for j in range(1, min(n, len(matrices) - 1) + 1):
            y = rows[n - j]
            rest = rest - (matrices[j] @ y if left or vector else y @ matrices[j])
        rows.append(_linalg.solve(matrices[0], rest, left=left or vector))
    out = torch.stack(rows)
    return Jet(out.squeeze(-1) if vector else out), lu, pivots, info


def _inverse(op: Any, args: Any, kwargs: Any) -> Any:
    a, check = bound(op, args, kwargs)
    matrices = a.stack
    x, info = op(matrices[0], check_errors=check)
    rows = [x]
    for n in range(1, TERMS):
        rest = torch.zeros_like(x)
        for j in range(1, min(n, len(matrices) - 1) + 1):
            rest = rest - matrices[j] @ rows[n - j]
        rows.append(x @ rest)
    return Jet(torch.stack(rows)), info


def _logarithm(matrices: Tensor) -> Tensor:
    """The stack of log |det A|, its value left at 0."""
    m: Tensor = _linalg.solve(matrices[0], matrices[1:])
    first = m[0].diagonal(dim1=-2, dim2=-1).sum(-1)
    second = (m[0] * m[0].transpose(-2, -1)).sum((-2, -1)) * -0.5
    if len(m) > 1:
        second = second + m[1].diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.stack([torch.zeros_like(first), first, second])


def _slogdet(op: Any, args: Any, kwargs: Any) -> Any:
    (a,) = args
    sign, value, lu, pivots = op(a.stack[0])
    out = _logarithm(a.stack)
    out[0] = value
    return sign, Jet(out), lu, pivots


def _det(op: Any, args: Any, kwargs: Any) -> Any:
    (a,) = args
    value, lu, pivots = op(a.stack[0])
    return torch.exp(Jet(_logarithm(a.stack))) * value, lu, pivots


RULES: dict[Any, Any] = {
    aten._linalg_solve_ex.default: _solve,
    aten.linalg_inv_ex.default: _inverse,
    aten._linalg_slogdet.default: _slogdet,
    aten._linalg_det.default: _det,
}
