"""One token after another: the state is decayed, corrected, written to and read, and no matrix A_t is ever made."""

from typing import Any

import torch
from torch import Tensor

from unrolled.looped.ops._inputs import Inputs


def scan(x: Inputs) -> tuple[Tensor, Tensor]:
    """Run all eight recurrences: alpha is 1 without g, one number per head or one per channel; without beta, u = v.

    S <- Diag(alpha) S;  u = beta (v - S^T k);  S <- S + k u^T;  o = S^T q / sqrt(dk)        (LT2 2605.20670, table 1)

    About 7 dk dv floating-point operations per token and head. Rows and heads are one batch of small matrix products, so that
    a step of decoding is a handful of calls.
    """
    B, L, H, dk = x.q.shape
    dv = x.v.shape[-1]
    if L == 0:
        return x.v.new_zeros(x.v.shape, dtype=x.out), x.state.clone()

    def tokens(t: Tensor | None, *shape: int) -> list[Any]:
        if t is None:
            return [None] * L
        if L == 1:
            return [t.reshape(B * H, *shape)]
        return list(t.transpose(0, 1).reshape(L, B * H, *shape).unbind())

    with torch.autocast(x.q.device.type, enabled=False):
        kept, gate = None, 0
        asked = x.k
        if x.g is not None:
            kept = x.g.exp() if x.g.ndim == 4 else x.g.exp().unsqueeze(-1)
            gate, asked = kept.shape[-1], x.k * kept  # S^T k of the decayed state is (S before)^T (alpha k)
        q, k, v = tokens(x.q * dk**-0.5, 1, dk), tokens(x.k, dk, 1), tokens(x.v, 1, dv)
        alpha, beta = tokens(kept, gate, 1), tokens(x.beta, 1, 1)
        asked = tokens(None if x.beta is None else asked, 1, dk)
        S, outs = x.state.flatten(0, 1), []
        for q_, k_, u, a, b, asked_ in zip(q, k, v, alpha, beta, asked):
            u = u if b is None else torch.baddbmm(u, asked_, S, alpha=-1) * b
            S = torch.baddbmm(S, k_, u) if a is None else (S * a).baddbmm_(k_, u)
            outs.append(torch.bmm(q_, S))
        o = torch.stack(outs).view(L, B, H, dv).transpose(0, 1)
    return o.to(x.out), S.view(x.state.shape)
