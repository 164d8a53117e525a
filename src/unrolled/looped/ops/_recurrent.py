"""One token after another: the state is decayed, corrected, written to and read, and no matrix A_t is ever made."""

import torch

from unrolled.looped.ops._inputs import Inputs


def scan(x: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Run all eight recurrences: alpha is 1 without g, one number per head or one per channel; without beta, u = v.

    S <- Diag(alpha) S;  u = beta (v - S^T k);  S <- S + k u^T;  o = S^T q / sqrt(dk)        (LT2 2605.20670, table 1)

    About 7 dk dv floating-point operations per token and head.
    """
    with torch.autocast(x.q.device.type, enabled=False):
        L, dk = x.q.shape[1], x.q.shape[3]
        S = x.state
        q = (x.q * dk**-0.5).unsqueeze(-2)
        k = x.k.unsqueeze(-2)
        alpha = None if x.g is None else x.g.exp()[..., None] if x.g.ndim == 4 else x.g.exp()[..., None, None]
        outs = []
        for t in range(L):
            if alpha is not None:
                S = S * alpha[:, t]
            u = x.v[:, t, :, None]
            if x.beta is not None:
                u = (u - k[:, t] @ S) * x.beta[:, t, :, None, None]
            S = S + k[:, t].mT * u
            outs.append(q[:, t] @ S)
        o = torch.stack(outs, 1).squeeze(-2) if outs else x.v.new_zeros(x.v.shape)
        return o.to(x.out), S.clone() if L == 0 else S
