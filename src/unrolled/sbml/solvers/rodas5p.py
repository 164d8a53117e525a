"""Rodas5P: a stiffly accurate, L-stable Rosenbrock method of order 5 with dense output of order 4."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.sbml.solvers.trial import Rate, Trial

GAMMA = 0.21193756319429014
"""Steinebach 2023, BIT 63:27, whose coefficients these are (in the form that needs no product with J)."""
A6 = (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946)
A = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    A6,
    (*A6, 1.0),
    (*A6, 1.0, 1.0),
)
C = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
     -28.087943162872662),
    (37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
     -54.66780262877968, -9.48861652309627),
)  # fmt: skip
TIMES = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
DT = (0.21193756319429014, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069,
      0.0, 0.0, 0.0)  # fmt: skip
H = (
    (25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204, 0.524948541321073,
     1.1241088310450404, 0.4272876194431874, -0.17202221070155493),
    (-9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796, 20.176138334709044,
     15.98066361424651, -6.789040303419874, -6.710236069923372),
    (11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643, -52.072871366152654,
     -59.78993625266729, -0.15582684282751913, 4.883087185713722),
)  # fmt: skip
"""Rows of the dense output."""

Derivatives = Callable[[Tensor, Tensor, Any], tuple[Tensor, Tensor]]
"""`(t, x, p) -> (J [B, d, d], df/dt [B, d])`."""


def derivatives(rate: Rate) -> Derivatives:
    """The Jacobian of a batched rate and its derivative in time, by forward-mode differentiation.

    One pass with d + 1 tangents for the whole batch. Entries that are not finite (x^0.5 at 0) become 0: the method
    is then of lower order there, and its error estimate sees it.

    Example:
        >>> J, dt = derivatives(lambda t, x, p: torch.stack([x[:, 0] * x[:, 1], t * x[:, 0]], -1))(
        ...     torch.tensor([2.0]), torch.tensor([[3.0, 5.0]]), None)
        >>> J.tolist(), dt.tolist()
        ([[[5.0, 3.0], [2.0, 0.0]]], [[0.0, 3.0]])
    """

    def both(t: Tensor, x: Tensor, p: Any) -> tuple[Tensor, Tensor]:
        n, d = x.shape
        # Every sample d + 1 times, each with the tangent of one component, or of time.
        along_x = torch.eye(d + 1, d, dtype=x.dtype, device=x.device).repeat_interleave(n, 0)
        along_t = x.new_zeros((d + 1) * n)
        along_t[d * n :] = 1
        many_x, many_t = x.repeat(d + 1, 1), t.to(x.dtype).expand(n).repeat(d + 1)
        many_p = p.repeat(d + 1, 1) if isinstance(p, Tensor) and p.ndim > 1 else p
        with forward_ad.dual_level():
            dual_x = forward_ad.make_dual(many_x, along_x)
            dual_t = forward_ad.make_dual(many_t, along_t)
            tangent = forward_ad.unpack_dual(rate(dual_t, dual_x, many_p)).tangent
        columns = x.new_zeros(d + 1, n, d) if tangent is None else tangent.reshape(d + 1, n, d)
        columns = torch.where(columns.isfinite(), columns, 0.0)
        return columns[:d].movedim(0, -1), columns[d]

    return both


def step(rate: Rate, t: Tensor, x: Tensor, h: Tensor, p: Any, k1: Tensor, J: Tensor, dt: Tensor) -> Trial:
    """Attempt one step of each sample: one batched LU and eight solves.

    (I / (h gamma) - J) k_i = f(t + c_i h, x + sum a_ij k_j) + h d_i df/dt + sum C_ij k_j / h; the last k is the error
    estimate. Multiplied by h gamma here, so that h = 0 is no special case.

    Args:
        rate: `(t, x, p) -> dx/dt`.
        t: `[B]`.
        x: `[B, d]`.
        h: `[B]`.
        p: parameters, handed to `rate`.
        k1: rate at (t, x), `[B, d]`.
        J: d rate / dx at (t, x), `[B, d, d]`.
        dt: d rate / dt at (t, x), `[B, d]`.

    Example:
        Decay so fast that an explicit step of this size would explode:

        >>> x, fast = torch.ones(1, 1, dtype=torch.float64), lambda t, x, p: -1e6 * x
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> trial = step(fast, 0 * one, x, one, None, fast(0, x, None), torch.full((1, 1, 1), -1e6).double(), 0 * x)
        >>> abs(trial.end.item()) < 1e-4  # the damping at h lambda = -1e6
        True
    """
    hx = h[:, None]
    scale = GAMMA * hx
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    lu, pivots, _ = torch.linalg.lu_factor_ex(eye - scale[:, :, None] * J)
    k: list[Tensor] = []
    for a, c, at, d in zip(A, C, TIMES, DT):
        argument, right = x, k1
        if k:
            argument = x + sum(w * stage for w, stage in zip(a, k))
            right = rate(t + at * h, argument, p)
        right = scale * right
        if d:
            right = right + (d * scale * hx) * dt
        for w, stage in zip(c, k):
            right = torch.add(right, stage, alpha=GAMMA * w)
        k.append(torch.linalg.lu_solve(lu, pivots, right[:, :, None]).squeeze(-1))
    end = argument + k[7]
    dense = (x, end - x, *(torch.stack([w * s for w, s in zip(row, k)]).sum(0) for row in H))
    return Trial(end, k[7], None, dense)
