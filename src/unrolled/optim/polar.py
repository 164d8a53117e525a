"""Polar factors: the direction that Muon takes.

For G = U S V^T the polar factor is O = U V^T, the steepest direction of unit spectral norm. Four ways to it, each one
pure, differentiable function of a matrix or of a batch of matrices:

| method | what it is | output singular values, for input singular values s (normalised so that ||G||_F = 1) |
|---|---|---|
| `svd` | exact; the theory's choice | 1, and 0 where s is 0 |
| `ns5` | 5 Newton-Schulz steps with Jordan's quintic | in [.682, 1.134] for s >= .01, in [.470, 1.203] for s >= .001: **not** orthogonal |
| `polar_express` | 5 steps, each with its own optimal quintic (2505.16932) | in [.859, 1.141] for s >= .0011 |
| `ns12` | 12 steps of (2, -1.5, .5) | 1.0000 for s >= .001 |

The three iterations are polynomials X <- a X + b (X X^T) X + c (X X^T)^2 X: matrix products alone, hence bfloat16 and
the GPU. They work on the wide orientation (the smaller Gram matrix). None is orthogonal on a matrix that has lost rank:
a zero singular value stays zero, and a zero matrix gives a zero direction.

Dtype: `dtype=None` means bfloat16 for 32- and 16-bit matrices on an accelerator, where it is what makes the iteration
cheap, and the matrix's own dtype (at least float32) on CPU, where bfloat16 is slower. `dtype=torch.bfloat16` does what
`torch.optim.Muon` does, bit for bit. The result has the dtype of the matrix.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]

JORDAN: Coefficients = (3.4445, -4.7750, 2.0315)
"""KellerJordan/Muon: the steepest quintic at 0 whose values stay near 1; it does not converge."""

EXPRESS: tuple[Coefficients, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Polar Express (2505.16932), the sequence of five used in microsoft/dion."""

EXACT: Coefficients = (2.0, -1.5, 0.5)
"""p(1) = 1 and p'(1) = 0: converges to 1, quadratically; each step doubles a small singular value."""


def svd(matrix: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """The exact polar factor U V^T, by singular value decomposition (the spec(.) of fact sheet 2606.04662, section 4).

    Singular values below max(shape) * eps * s_max count as zero, and so do their directions: on a rank-deficient matrix
    the result is the partial isometry U sign(S) V^T, never an arbitrary completion.

    The derivative is that of the constant-rank partial isometry. It is finite where singular values coincide (where the
    derivative of the SVD itself is not); second derivatives need distinct non-zero singular values.

    Args:
        matrix: `[..., rows, cols]`.
        dtype: to compute in, at least float32; None for the matrix's own.

    Returns:
        `[..., rows, cols]`; NaN for a matrix that is not finite.

    Example:
        >>> svd(torch.tensor([[0.0, -3.0], [2.0, 0.0]])).round(decimals=5) + 0.0
        tensor([[ 0., -1.],
                [ 1.,  0.]])
    """
    _check(matrix)
    if not matrix.numel():
        return matrix.clone()
    work = matrix.to(_at_least_float32(dtype or matrix.dtype))
    finite = work.isfinite().all(-1).all(-1)[..., None, None]
    exact: Any = _PartialIsometry.apply(torch.where(finite, work, 0.0))
    return torch.where(finite, exact, torch.nan).to(matrix.dtype)


def ns5(matrix: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Five Newton-Schulz steps with Jordan's quintic (3.4445, -4.7750, 2.0315) from G / max(||G||_F, 1e-7).

    The default of Muon. Output singular values oscillate around 1 (table above): an equaliser, not an orthogonaliser.
    A matrix whose norm is below 1e-7 is shrunk rather than amplified.

    Args:
        matrix: `[..., rows, cols]`.
        dtype: of the iteration (module docstring).

    Example:
        >>> s = torch.linalg.svdvals(ns5(torch.diag(torch.tensor([1.0, 0.3, 0.02]))))
        >>> bool(((s > 0.682) & (s < 1.134)).all())
        True
    """
    x = _start(matrix, dtype)
    return _finish(_quintic(x / _norm(x).clamp(min=1e-7), [JORDAN] * 5), matrix)


def polar_express(matrix: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Five steps of the Polar Express sequence from G / (1.02 ||G||_F + 1e-6) (2505.16932).

    Args:
        matrix: `[..., rows, cols]`.
        dtype: of the iteration (module docstring).

    Example:
        >>> s = torch.linalg.svdvals(polar_express(torch.diag(torch.tensor([1.0, 0.3, 0.002]))))
        >>> bool(((s > 0.858) & (s < 1.141)).all())
        True
    """
    x = _start(matrix, dtype)
    return _finish(_quintic(x / (1.02 * _norm(x) + 1e-6), EXPRESS), matrix)


def ns12(matrix: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Twelve steps with (2, -1.5, .5) from G / max(||G||_F, 1e-7): exact to rounding for s >= .001.

    In bfloat16 "to rounding" is about 1 %.

    Args:
        matrix: `[..., rows, cols]`.
        dtype: of the iteration (module docstring).

    Example:
        >>> s = torch.linalg.svdvals(ns12(torch.diag(torch.tensor([1.0, 0.3, 0.002]))))
        >>> torch.allclose(s, torch.ones(3), atol=1e-4)
        True
    """
    x = _start(matrix, dtype)
    return _finish(_quintic(x / _norm(x).clamp(min=1e-7), [EXACT] * 12), matrix)


METHODS: dict[str, Callable[..., Tensor]] = {
    "svd": svd,
    "ns5": ns5,
    "polar_express": polar_express,
    "ns12": ns12,
}
"""Every method by name."""


def orthogonalize(matrix: Tensor, method: str = "ns5", *, dtype: torch.dtype | None = None) -> Tensor:
    """The polar factor by a method's name.

    Raises:
        ValueError: an unknown method (the nearest is named), or fewer than two axes.
        TypeError: not a real floating-point tensor.

    Example:
        >>> orthogonalize(torch.full((1, 2), 3.0), "svd")
        tensor([[0.7071, 0.7071]])
    """
    return METHODS[check_method(method)](matrix, dtype=dtype)


def orthogonalize_all(
    matrices: Sequence[Tensor], method: str = "ns5", *, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Many matrices at once: those of one shape, or one shape when turned, go through the iteration as one batch.

    Args:
        matrices: each `[..., rows, cols]`, any mixture.
        method: name of the polar.
        dtype: of the iteration.

    Returns:
        Polar factors in order, equal to those of `orthogonalize` up to the order of summation.

    Example:
        >>> wide, tall = torch.ones(2, 3), torch.ones(3, 2)
        >>> [tuple(o.shape) for o in orthogonalize_all([wide, tall])]
        [(2, 3), (3, 2)]
    """
    check_method(method)
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, matrix in enumerate(matrices):
        _check(matrix)
        key = (*sorted(matrix.shape[-2:]), matrix.dtype, matrix.device)
        alike.setdefault(key, []).append(i)
    results: list[Tensor] = [torch.empty(0)] * len(matrices)
    for members in alike.values():
        if len(members) == 1:
            results[members[0]] = orthogonalize(matrices[members[0]], method, dtype=dtype)
            continue
        # All four methods commute with transposition, so turned matrices share the batch.
        turned = [matrices[i].shape[-2] > matrices[i].shape[-1] for i in members]
        flat = [
            (matrices[i].mT if turn else matrices[i]).reshape(-1, *sorted(matrices[i].shape[-2:]))
            for i, turn in zip(members, turned)
        ]
        factors = orthogonalize(torch.cat(flat), method, dtype=dtype).split([len(x) for x in flat])
        for i, turn, factor in zip(members, turned, factors):
            results[i] = (factor.mT if turn else factor).reshape(matrices[i].shape)
    return results


def check_method(method: str) -> str:
    """The name of a known method.

    Raises:
        ValueError: unknown; the nearest known name is given.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1)
        raise ValueError(
            f"unknown polar {method!r}: choose one of {', '.join(METHODS)}"
            + (f" (did you mean {near[0]!r}?)" if near else "")
        )
    return method


def _check(matrix: Tensor) -> None:
    if not matrix.is_floating_point():
        raise TypeError(f"a polar factor needs a real floating-point matrix, got {matrix.dtype}")
    if matrix.ndim < 2:
        raise ValueError(
            f"a polar factor needs [..., rows, cols], got shape {tuple(matrix.shape)}: vectors and scalars belong to "
            "another optimizer (AdamW)"
        )


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def _start(matrix: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The wide orientation in the working dtype."""
    _check(matrix)
    if dtype is None:
        cheap = matrix.device.type != "cpu" and matrix.dtype != torch.float64
        dtype = torch.bfloat16 if cheap else _at_least_float32(matrix.dtype)
    elif not dtype.is_floating_point:
        raise TypeError(f"dtype= of a polar factor is a floating-point dtype or None, got {dtype}")
    x = matrix.to(dtype)
    return x.mT if x.shape[-2] > x.shape[-1] else x


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(x, keepdim=True)


def _finish(x: Tensor, matrix: Tensor) -> Tensor:
    return (x.mT if matrix.shape[-2] > matrix.shape[-1] else x).to(matrix.dtype)


def _quintic(x: Tensor, steps: Sequence[Coefficients]) -> Tensor:
    """X <- a X + (b A + c A A) X with A = X X^T, once per triple (a, b, c)."""
    flat = x if x.ndim == 2 else x.reshape(-1, *x.shape[-2:])
    multiply_add = (
        torch.addmm if x.ndim == 2 else torch.baddbmm
    )  # fused: one rounding less than a sum of products
    for a, b, c in steps:
        gram = flat @ flat.mT
        flat = multiply_add(flat, multiply_add(gram, gram, gram, beta=b, alpha=c), flat, beta=a)
    return flat.reshape(x.shape)


class _PartialIsometry(torch.autograd.Function):
    """U sign(S) V^T with the derivative of the map itself, which needs s_i + s_j > 0 where that of the SVD needs
    s_i - s_j != 0.

    With X = U^T D V on the kept directions, the derivative along D is
    U ((X - X^T) / (s_i + s_j)) V^T + (1 - U U^T) D V S^-1 V^T + U S^-1 U^T D (1 - V V^T). It is the Hessian of the
    nuclear norm, hence symmetric: the same map serves forward and backward.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        u, _, vh = _kept_svd(matrix)
        return u @ vh

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _derivative(ctx.saved_tensors[0], grad_outputs[0])

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        return _derivative(ctx.saved_tensors[0], grad_inputs[0])


def _kept_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U with the columns of vanishing singular values zeroed, S with those set to zero, V^T likewise."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    floor = s.amax(-1, keepdim=True) * max(matrix.shape[-2:]) * torch.finfo(s.dtype).eps
    keep = (s > floor).to(s.dtype)
    return u * keep[..., None, :], s * keep, vh * keep[..., None]


def _derivative(matrix: Tensor, direction: Tensor) -> Tensor:
    u, s, vh = _kept_svd(matrix)
    kept = s > 0
    pair = kept[..., None] & kept[..., None, :]
    sums = torch.where(pair, s[..., None] + s[..., None, :], 1.0)
    inverse = torch.where(kept, 1 / torch.where(kept, s, 1.0), 0.0)
    left, right = u.mT @ direction, direction @ vh.mT  # U^T D and D V
    x = left @ vh.mT
    inner = u @ (torch.where(pair, (x - x.mT) / sums, 0.0)) @ vh
    below = ((right - u @ x) * inverse[..., None, :]) @ vh
    beside = u @ (inverse[..., None] * (left - x @ vh))
    return inner + below + beside
