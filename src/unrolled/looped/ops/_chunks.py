"""The chunked form of all eight mixers: matrix products, triangular solves, and a recursion over chunks.

Inside a chunk of C tokens, with G_i = g_1 + ... + g_i, S_0 the state before it, rows for tokens, q already scaled by dk^-0.5, and P
and A the products of queries and keys that `_gates` makes (LT2 2605.20670, table 1, unrolled over C tokens):

    (I + A) U = beta V - (beta e^G K) S_0        (additive mixers: U = V)
    O = (e^G Q) S_0 + P U
    S_C = e^(G_C) S_0 + (e^(G_C - G) K)^T U

Split into U = U_0 - W S_0 with (I + A) [U_0 | W] = [beta V | beta e^G K], all but the recursion S_0 -> S_C is batched over
chunks. Solving the triangular system is exact for any keys; the doubling product of (I + (-A)^(2^i)) is not: on keys that
repeat, its factors grow like binomials and then cancel.

The passes walk over blocks of chunks, so that what they make fits a cache and dies young. `forward` keeps the state before every
block and nothing else; `backward` walks back, makes each block again and differentiates it by hand:

    dU = P^T dO + (e^(G_C - G) K) dS_C,   dS_0 = e^(G_C) dS_C + (e^G Q)^T dO - W^T dU,   Y = (I + A)^-T dU
    dV = beta Y,   d(beta e^G K) = -Y S_0^T,   dA = -strict_tril(Y U^T),   dP = tril(dO U^T)

and the rest is the product rule. `forward` is differentiable itself, which is how second derivatives are made.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from unrolled.looped.ops import _blocks, _fla
from unrolled.looped.ops._gates import Mild, PerChannel, PerHead, gate, scaled
from unrolled.looped.ops._inputs import Inputs
from unrolled.looped.ops._operators import operator


class Block(NamedTuple):
    """What a block of chunks is made of before the states are known; the batch runs over chunks, then rows and heads."""

    v: Tensor
    beta: Tensor | None
    parts: Mild | PerHead | PerChannel
    U0: Tensor
    W: Tensor | None

    def last(self, heads: int) -> Tensor | None:
        """e^(G_C) of every chunk, to multiply a state: `[chunks, B * H, 1 or dk, 1]`."""
        grow = self.parts.grow
        return None if grow is None else grow[:, -1].unflatten(0, (-1, heads))[..., None]


def prepare(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None) -> Block:
    """From `[chunks * B * H, C, ...]`."""
    beta = None if beta is None else beta[..., None]
    x = gate(q, k, g, beta, q.shape[-1] ** -0.5)
    if beta is None or x.A is None or x.asked is None:
        return Block(v, None, x, v, None)
    return Block(v, beta, x, solve(x.A, v * beta), solve(x.A, x.asked))


def solve(A: Tensor, B: Tensor, transposed: bool = False) -> Tensor:
    """(I + A)^-1 B, or (I + A)^-T B; of A only what is strictly below the diagonal counts.

    Solved from the right for the transpose, X^T (I + A)^T = B^T: LAPACK counts columns first, and so nothing has to be turned.
    """
    A, upper = (A, False) if transposed else (A.mT, True)
    return solve_triangular(A, B.mT, upper=upper, left=False, unitriangular=True).mT


def recur(x: Block, S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the state before the block: U, the state before every chunk, the state after the block."""
    heads = len(S)
    U0, write = x.U0.unflatten(0, (-1, heads)), x.parts.write.mT.unflatten(0, (-1, heads))
    W = None if x.W is None else x.W.unflatten(0, (-1, heads))
    last = x.last(heads)
    U, starts = [], []
    for i in range(len(U0)):
        starts.append(S)
        U.append(U0[i] if W is None else torch.baddbmm(U0[i], W[i], S, alpha=-1))
        S = torch.baddbmm(S, write[i], U[i]) if last is None else (S * last[i]).baddbmm_(write[i], U[i])
    return x.U0 if W is None else torch.cat(U), torch.cat(starts), S


def forward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """o, the state after the last token, and the state before every block."""
    B, _, H, dk = q.shape
    o, S, marks = v.new_empty(v.shape), state.flatten(0, 1), []
    for tokens, C in _blocks.blocks(q, v, chunk):
        q_, k_, v_, g_, beta_ = (_blocks.split(x, tokens, C, state.dtype) for x in (q, k, v, g, beta))
        x = prepare(q_, k_, v_, g_, beta_)
        marks.append(S)
        U, starts, S = recur(x, S)
        o[:, tokens.start : tokens.stop] = _blocks.merge(
            (x.parts.read @ starts).baddbmm_(x.parts.P, U), tokens, B
        )
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
    B, wide = len(q), marks.dtype
    grads: Any = [None if x is None else x.new_empty(x.shape) for x in (q, k, v, g, beta)]
    dS = dstate.flatten(0, 1)
    for (tokens, C), mark in reversed(list(zip(_blocks.blocks(q, v, chunk), marks))):
        q_, k_, v_, g_, beta_, dO = (_blocks.split(x, tokens, C, wide) for x in (q, k, v, g, beta, do))
        x = prepare(q_, k_, v_, g_, beta_)
        U, starts, _ = recur(x, mark)
        dU, ends, dS = _recur_back(x, dO, dS)
        found = _differentiate(x, dO, dU, U, starts, ends)
        for grad, part in zip(grads, found):
            if grad is not None and part is not None:
                part = part if part.ndim == grad.ndim - 1 else part.squeeze(-1)
                grad[:, tokens.start : tokens.stop] = _blocks.merge(part, tokens, B)
    if g is not None:
        grads[3].masked_fill_(g.exp() == 0, 0)
    return *grads, dS.reshape(dstate.shape).clone()


def _recur_back(x: Block, dO: Tensor, dS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of the state after the block: dU, the gradient of the state after every chunk, and of that before the block."""
    heads = len(dS)
    write, last = x.parts.write.unflatten(0, (-1, heads)), x.last(heads)
    W = None if x.W is None else x.W.mT.unflatten(0, (-1, heads))
    dU = (x.parts.P.mT @ dO).unflatten(0, (-1, heads))
    read = (x.parts.read.mT @ dO).unflatten(0, (-1, heads))
    ends = []
    for i in reversed(range(len(dU))):
        ends.append(dS)
        dU[i].baddbmm_(write[i], dS)
        dS = read[i].add_(scaled(dS, None if last is None else last[i]))
        if W is not None:
            dS.baddbmm_(W[i], dU[i], alpha=-1)
    return dU.flatten(0, 1), torch.cat(ends[::-1]), dS


def _differentiate(
    x: Block, dO: Tensor, dU: Tensor, U: Tensor, starts: Tensor, ends: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, k, v, g and beta, chunk by chunk, once U, the states and their gradients are known."""
    dv, dA, dasked, dbeta = dU, None, None, None
    if x.beta is not None and x.parts.A is not None:
        Y = solve(x.parts.A, dU, transposed=True)
        dA, dasked = (Y @ U.mT).neg_().tril_(-1), (Y @ starts.mT).neg_()
        dbeta, dv = (Y * x.v).sum(-1), Y * x.beta
    dq, dk, dG, more = x.parts.back(dO @ starts.mT, U @ ends.mT, dasked, dO @ U.mT, dA)
    if dbeta is not None and more is not None:
        dbeta += more
    if dG is None or x.parts.grow is None:
        return dq, dk, dv, None, dbeta
    lost = (starts * ends).sum(-1)
    dG[:, -1] += x.parts.grow[:, -1] * (lost if dG.shape[-1] > 1 else lost.sum(-1, keepdim=True))
    return dq, dk, dv, dG.flip(1).cumsum(1).flip(1), dbeta


chunks = operator("looped_chunks", forward, backward)
"""o and the state, from q, k, v, g or None, beta or None, state and the chunk size."""


def scan(x: Inputs, chunk_size: int, wanted: str) -> tuple[Tensor, Tensor]:
    """Run any of the eight recurrences in chunks; with a gate per channel their length is rounded up to a power of two."""
    choice = _fla.implementation(x.q.device, x.out, reset=x.reset is not None, wanted=wanted)
    if choice.name == "fla" and x.q.shape.numel():
        return _fla.scan(x)
    if x.g is not None and x.g.ndim == 4:
        chunk_size = 1 << (chunk_size - 1).bit_length()
    o, state = chunks(x.q, x.k, x.v, x.g, x.beta, x.state, chunk_size)
    return o.to(x.out), state
