"""Chunks for the mixers whose decay is one number per token and head (or none): `linear`, `retnet`, `mamba2`, `deltanet`, `gated_delta`.

Inside a chunk of C tokens, with G_i = g_1 + ... + g_i, Gamma_ij = e^(G_i - G_j) for j <= i and 0 above, S_0 the state before
it, and rows for tokens (LT2 2605.20670, table 1, unrolled over C tokens):

    (I + A) U = beta V - beta e^G K S_0,    A = strict_tril(beta K K^T * Gamma)        (additive mixers: U = V)
    O = e^G Q S_0 + P U,                    P = tril(Q K^T * Gamma),  Q already scaled by dk^-0.5
    S_C = e^(G_C) S_0 + (e^(G_C - G) K)^T U

Split into U = U_0 - W S_0 with (I + A) [U_0 | W] = [beta V | beta e^G K], all but the recursion S_0 -> S_C is batched over
chunks. Solving the triangular system is exact for any keys; the doubling product of (I + (-A)^(2^i)) is not: its powers
grow like binomials on keys that repeat, and then cancel.

The passes walk over blocks of chunks, so that what they make fits a cache and dies young. `forward` keeps the state before every
block and nothing else; `backward` walks back, makes each block again and differentiates it by hand:

    dU = P^T dO + e^(G_C - G) K dS_C,   dS_0 = e^(G_C) dS_C + (e^G Q)^T dO - W^T dU,   Y = (I + A)^-T dU
    dV = beta Y,   d(beta e^G K) = -Y S_0^T,   dA = -strict_tril(Y U^T),   dP = tril(dO U^T)

and the rest is the product rule. `forward` is differentiable itself, which is how second derivatives are made.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from unrolled.looped.ops import _blocks
from unrolled.looped.ops._operators import operator


class Block(NamedTuple):
    """What a block of chunks is made of before the states are known; the batch runs over chunks, then rows and heads."""

    q: Tensor
    """Scaled by dk^-0.5."""
    k: Tensor
    v: Tensor
    beta: Tensor | None
    Gamma: Tensor | None
    grow: Tensor | None
    """e^G: what is left, at each token, of the state before the chunk."""
    keep: Tensor | None
    """e^(G_C - G): what is left of each token after the chunk."""
    P: Tensor
    K: Tensor | None
    """K K^T * Gamma; only what is strictly below the diagonal counts."""
    system: Tensor | None
    """beta K K^T * Gamma: A, likewise."""
    U0: Tensor
    W: Tensor | None

    def read(self) -> Tensor:
        """e^G Q."""
        return self.q if self.grow is None else self.q * self.grow[..., None]

    def write(self) -> Tensor:
        """e^(G_C - G) K."""
        return self.k if self.keep is None else self.k * self.keep[..., None]


def decays(g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gamma, e^G and e^(G_C - G) from `[..., C]`.

    A token with e^g = 0 cuts: sums on its two sides never meet, so that no inf - inf arises and what comes after it keeps
    its digits. Sums are made in float64 and kept as two parts, because |G| may be in the thousands where G_i - G_j is small.
    """
    cut = g.exp() == 0
    some = bool(cut.any())
    if some:
        g = g.masked_fill(cut, 0)
    G = g.double().cumsum(-1)
    high = G.to(g.dtype)
    gap = high[..., :, None] - high[..., None, :]
    if g.dtype != torch.float64:
        low = (G - high).to(g.dtype)
        gap = gap.add_(low[..., :, None]).sub_(low[..., None, :])
    lower = torch.ones(gap.shape[-2:], dtype=g.dtype, device=g.device).tril_()
    Gamma = gap.clamp_(max=0).exp_() * lower  # what is above the diagonal could overflow
    grow, keep = high.exp(), (G[..., -1:] - G).to(g.dtype).exp()
    if some:
        part = cut.cumsum(-1)
        Gamma = Gamma.masked_fill(part[..., :, None] != part[..., None, :], 0)
        grow, keep = grow.masked_fill(part > 0, 0), keep.masked_fill(part < part[..., -1:], 0)
    return Gamma, grow, keep


def solve(A: Tensor, B: Tensor, transposed: bool = False) -> Tensor:
    """(I + A)^-1 B, or (I + A)^-T B; of A only what is strictly below the diagonal counts.

    Solved from the right for the transpose, X^T (I + A)^T = B^T: LAPACK counts columns first, and so nothing has to be turned.
    """
    A, upper = (A, False) if transposed else (A.mT, True)
    return solve_triangular(A, B.mT, upper=upper, left=False, unitriangular=True).mT


def prepare(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None) -> Block:
    """From `[chunks * B * H, C, ...]`; q is scaled already."""
    Gamma, grow, keep = (None, None, None) if g is None else decays(g)
    P = (q @ k.mT).tril_() if Gamma is None else (q @ k.mT) * Gamma
    if beta is None:
        return Block(q, k, v, beta, Gamma, grow, keep, P, None, None, v, None)
    K = k @ k.mT if Gamma is None else (k @ k.mT) * Gamma
    system = K * beta[..., None]
    seen = beta if grow is None else beta * grow
    U0, W = solve(system, v * beta[..., None]), solve(system, k * seen[..., None])
    return Block(q, k, v, beta, Gamma, grow, keep, P, K, system, U0, W)


def recur(x: Block, S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the state before the block: U, the state before every chunk, the state after the block."""
    heads = len(S)
    U0, write = x.U0.unflatten(0, (-1, heads)), x.write().mT.unflatten(0, (-1, heads))
    W = None if x.W is None else x.W.unflatten(0, (-1, heads))
    last = None if x.grow is None else x.grow[:, -1].view(-1, heads, 1, 1)
    U, starts = [], []
    for i in range(len(U0)):
        starts.append(S)
        U.append(U0[i] if W is None else torch.baddbmm(U0[i], W[i], S, alpha=-1))
        S = torch.baddbmm(S, write[i], U[i]) if last is None else (S * last[i]).baddbmm_(write[i], U[i])
    return torch.cat(U), torch.cat(starts), S


def forward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """o, the state after the last token, and the state before every block."""
    B, _, H, dk = q.shape
    o, S, marks = v.new_empty(v.shape), state.flatten(0, 1), []
    for tokens in _blocks.blocks(q, v, chunk):
        q_, k_, v_, g_, beta_ = (_blocks.split(x, tokens, chunk, state.dtype) for x in (q, k, v, g, beta))
        x = prepare(q_ * dk**-0.5, k_, v_, g_, beta_)
        marks.append(S)
        U, starts, S = recur(x, S)
        o[:, tokens.start : tokens.stop] = _blocks.merge((x.read() @ starts).baddbmm_(x.P, U), tokens, B)
    kept = torch.stack(marks) if marks else state.new_empty(0, B * H, dk, v.shape[-1])
    return o, S.view(state.shape) if marks else state.clone(), kept


def backward(
    do: Tensor,
    dstate: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    marks: Tensor,
    chunk: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, g, beta and state."""
    B, _, _, dk = q.shape
    wide, scale = marks.dtype, dk**-0.5
    grads: Any = [None if x is None else x.new_empty(x.shape) for x in (q, k, v, g, beta)]
    dS = dstate.flatten(0, 1)
    for tokens, mark in reversed(list(zip(_blocks.blocks(q, v, chunk), marks))):
        q_, k_, v_, g_, beta_, dO = (_blocks.split(x, tokens, chunk, wide) for x in (q, k, v, g, beta, do))
        x = prepare(q_ * scale, k_, v_, g_, beta_)
        U, starts, _ = recur(x, mark)
        dU, ends, dS = _recur_back(x, dO, dS)
        found = _differentiate(x, dO, dU, U, starts, ends)
        for grad, part in zip(grads, (found[0] * scale, *found[1:])):
            if grad is not None and part is not None:
                grad[:, tokens.start : tokens.stop] = _blocks.merge(part, tokens, B)
    if g is not None:
        grads[3].masked_fill_(g.exp() == 0, 0)
    return *grads, dS.reshape(dstate.shape).clone()


def _recur_back(x: Block, dO: Tensor, dS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of the state after the block: dU, the gradient of the state after every chunk, and of that before the block."""
    heads = len(dS)
    write = x.write().unflatten(0, (-1, heads))
    W = None if x.W is None else x.W.mT.unflatten(0, (-1, heads))
    last = None if x.grow is None else x.grow[:, -1].view(-1, heads, 1, 1)
    dU = (x.P.mT @ dO).unflatten(0, (-1, heads))
    read = (x.read().mT @ dO).unflatten(0, (-1, heads))
    ends = []
    for i in reversed(range(len(dU))):
        ends.append(dS)
        dU[i].baddbmm_(write[i], dS)
        dS = read[i] + (dS if last is None else dS * last[i])
        if W is not None:
            dS.baddbmm_(W[i], dU[i], alpha=-1)
    return dU.flatten(0, 1), torch.cat(ends[::-1]), dS


def _differentiate(
    x: Block, dO: Tensor, dU: Tensor, U: Tensor, starts: Tensor, ends: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of the scaled q, of k, v, g and beta, chunk by chunk, once U, the states and their gradients are known."""
    dread, dwrite, dP = dO @ starts.mT, U @ ends.mT, dO @ U.mT
    F = dP.tril_() if x.Gamma is None else dP * x.Gamma
    dq = torch.baddbmm(dread if x.grow is None else dread * x.grow[..., None], F, x.k)
    dk = torch.baddbmm(dwrite if x.keep is None else dwrite * x.keep[..., None], F.mT, x.q)
    dv, dbeta, M, Zk = dU, None, None, None
    if x.beta is not None:
        assert x.system is not None
        assert x.K is not None
        Y = solve(x.system, dU, transposed=True)
        Z, M = (Y @ starts.mT).neg_(), (Y @ U.mT).neg_().tril_(-1)
        Zk = (Z * x.k).sum(-1)
        Zk = Zk if x.grow is None else Zk * x.grow
        dbeta = (Y * x.v).sum(-1) + Zk + (M * x.K).sum(-1)
        dv = Y * x.beta[..., None]
        E = M * x.beta[..., None]
        E = E if x.Gamma is None else E.mul_(x.Gamma)
        seen = x.beta if x.grow is None else x.beta * x.grow
        dk.baddbmm_(E, x.k).baddbmm_(E.mT, x.k).addcmul_(Z, seen[..., None])
    if x.grow is None:
        return dq, dk, dv, None, dbeta
    assert x.keep is not None
    R = dP * x.P
    if M is not None and x.system is not None:
        R.addcmul_(M, x.system)
    left = x.keep * (dwrite * x.k).sum(-1)
    dG = R.sum(-1) - R.sum(-2) + x.grow * (dread * x.q).sum(-1) - left
    if x.beta is not None and Zk is not None:
        dG += x.beta * Zk
    dG[:, -1] += left.sum(-1) + x.grow[:, -1] * (starts * ends).sum((-1, -2))
    return dq, dk, dv, dG.flip(-1).cumsum(-1).flip(-1), dbeta


chunks = operator("looped_scalar_chunks", forward, backward)
"""o and the state from q, k, v, g or None, beta or None, state and the chunk size."""
