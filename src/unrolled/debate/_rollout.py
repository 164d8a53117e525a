"""The output-error fit: trajectories M_t s with unknown initial beliefs s, by variable projection.

For given coefficients all rounds of all questions are B = O S + noise with O = [M_0; M_1; ...; M_T] and each column of S
free, so the best S is a least-squares solution, and what is left depends on the data through C = sum b b' alone: one
matrix, however many questions (debate fact sheet 2605.25929, e).
"""

from dataclasses import dataclass

import torch
from scipy import optimize
from torch import Tensor

from unrolled.debate import _conditioning, _simplex
from unrolled.debate._conditioning import Conditioning
from unrolled.debate._normal import Normal, Stack

ITERATIONS = 500


@dataclass
class Rollout:
    """What the search found; `anchors` are the fitted initial beliefs, one `[n, K]` per question."""

    u: Tensor
    loss: float
    kl: float
    kkt: Tensor
    anchors: list[Tensor]
    conditioning: Conditioning
    converged: bool
    message: str


@dataclass
class Moments:
    """Columns with the same observed entries: which (of the (T+1) n), and C = sum b b' over them."""

    rows: Tensor
    C: Tensor


def moments(stacks: list[Stack]) -> tuple[list[Moments], int]:
    """C for each pattern of missing beliefs, and how many numbers were observed."""
    found: dict[tuple[bool, ...], list[Tensor]] = {}
    for stack in stacks:
        for B in stack.beliefs:
            there = ~B[..., 0].isnan().flatten()
            columns = B.flatten(0, 1)[there]
            found.setdefault(tuple(there.tolist()), []).append(columns @ columns.T)
    made = [
        Moments(torch.tensor(pattern).nonzero().flatten(), torch.stack(parts).sum(0))
        for pattern, parts in found.items()
    ]
    total = sum(int((~s.beliefs.isnan()).sum()) for s in stacks)
    return made, total


def fit(stacks: list[Stack], start: Tensor) -> Rollout:
    """Minimise the mean squared error of whole trajectories.

    Args:
        stacks: the questions that share the coefficients.
        start: `[n, p]` coefficients of the one-step fit.
    """
    allowed = stacks[0].allowed(slice(0, 1))[0]
    found, total = moments(stacks)
    rounds = max(s.beliefs.shape[1] for s in stacks) - 1
    # u = v^2 / sum v^2 reaches the faces of the simplex; a start off the faces can move along all of them.
    v0 = (0.97 * start + 0.03 * allowed / allowed.sum(-1, keepdim=True)).sqrt()[allowed]

    def value(flat: object) -> tuple[float, object]:
        v = torch.zeros_like(start)
        leaf = torch.as_tensor(flat, dtype=torch.float64).clone().requires_grad_()
        v = v.masked_scatter(allowed, leaf)
        u = v.square() / v.square().sum(-1, keepdim=True)
        error = projected(u, found, rounds) / total
        (slope,) = torch.autograd.grad(error, leaf)
        return float(error.detach()), slope.numpy()

    with torch.enable_grad():
        search = optimize.minimize(
            value, v0.numpy(), jac=True, method="L-BFGS-B",
            options={"maxiter": ITERATIONS, "ftol": 1e-14, "gtol": 1e-9, "maxcor": 20},
        )  # fmt: skip
        v = torch.zeros_like(start).masked_scatter(allowed, torch.as_tensor(search.x))
        u = (v.square() / v.square().sum(-1, keepdim=True)).requires_grad_()
        error = projected(u, found, rounds) / total
        (slope,) = torch.autograd.grad(error, u)
    u = u.detach()
    smooth, anchors, kl = _smoothed(stacks, u)
    normal = Normal.of(smooth[0]).pooled()
    for stack in smooth[1:]:
        more = Normal.of(stack).pooled()
        normal = Normal(normal.G + more.G, normal.c + more.c, normal.count + more.count)
    conditioning = _conditioning.of_dense(normal.mean().G[0], allowed)[0]
    kkt = _simplex.kkt_of(slope, allowed, u)
    told = search.message if isinstance(search.message, str) else search.message.decode()
    return Rollout(u, float(error.detach()), kl, kkt, anchors, conditioning, bool(search.success), told)


def observability(u: Tensor, rounds: int) -> Tensor:
    """O = [M_0; ...; M_T], `[(T+1) n, n]`."""
    n = len(u)
    gamma, H = torch.diag(u[:, 0]), u[:, 1 : n + 1]
    blocks = [torch.eye(n, dtype=u.dtype)]
    for _ in range(rounds):
        blocks.append(gamma + H @ blocks[-1])
    return torch.cat(blocks)


def projected(u: Tensor, found: list[Moments], rounds: int) -> Tensor:
    """Sum of squares left when every question's initial beliefs are the best ones."""
    whole = observability(u, rounds)
    left = torch.zeros((), dtype=u.dtype)
    for part in found:
        O = whole[part.rows]
        inner = O.mT @ O + 1e-13 * torch.eye(O.shape[1], dtype=O.dtype)
        factor, _ = torch.linalg.cholesky_ex(inner)
        left = left + part.C.trace() - torch.cholesky_solve(O.mT @ part.C @ O, factor).trace()
    return left.clamp(min=0)


def _smoothed(stacks: list[Stack], u: Tensor) -> tuple[list[Stack], list[Tensor], float]:
    """The fitted trajectories, their initial beliefs, and KL(observed || fitted)."""
    made: list[Stack] = []
    anchors: list[Tensor] = []
    total, count = 0.0, 0
    for stack in stacks:
        O = observability(u, stack.beliefs.shape[1] - 1)
        fitted = torch.empty_like(stack.beliefs)
        for q, B in enumerate(stack.beliefs):
            there = ~B[..., 0].isnan().flatten()
            S = torch.linalg.lstsq(O[there], B.flatten(0, 1)[there], driver="gelsd").solution
            anchors.append(S)
            fitted[q] = (O @ S).reshape(B.shape)
        seen = ~stack.beliefs[..., 0].isnan()
        observed, told = stack.beliefs[seen], fitted[seen].clamp(min=0)
        total += float((torch.special.xlogy(observed, observed) - torch.special.xlogy(observed, told)).sum())
        count += len(observed)
        made.append(Stack(fitted, stack.heard))
    return made, anchors, total / count
