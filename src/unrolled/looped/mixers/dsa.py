"""DeepSeek sparse attention: a small indexer chooses which tokens attention may see, and learns it from attention."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unrolled.looped.cache import Slot
from unrolled.looped.config import LT2Config
from unrolled.looped.mixers._select import blocks, gather, indices, keep_top, places
from unrolled.looped.mixers.attention import Attention, attend
from unrolled.looped.span import Span, rotary
from unrolled.training.gpt import rotate


class DSA(Attention):
    """Attention to the `index_top_k` tokens that an indexer scores highest (DeepSeek-V3.2; LT2 2605.20670, section 2).

        I[t, s] = sum_j w[t, j] ReLU(q_j[t] . k[s]) / sqrt(J c),  j = 1..J heads of c channels, one key for all

    In training the indexer minimises KL(p || softmax(I)) over the tokens chosen, p being attention summed over heads and
    normalised; neither p nor x takes gradients from it (`Output.aux`). Scores are made for a block of queries at a time,
    so that no `[L, L]` matrix is ever held, in training by making them twice. With no more tokens than `index_top_k` it is `Attention`.

    Differences to LT2's published code: its indexer is made densely and takes no gradient; its attention has one shared head
    of keys and values and no positions. Here both are those of `Attention`.
    """

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        if config.index_dim % 2:
            raise ValueError(
                f"LT2Config.index_dim is even, because positions turn pairs of channels; got {config.index_dim}"
            )
        self.index_q = nn.Linear(config.width, config.index_heads * config.index_dim, bias=False)
        self.index_k = nn.Linear(config.width, config.index_dim, bias=False)
        self.index_w = nn.Linear(config.width, config.index_heads, bias=False)

    def forward(self, x: Tensor, span: Span, slot: Slot | None = None) -> Tensor:
        """`[B, L, d]` to the same shape."""
        q, k, v = self.project(x, span)
        iq, ik, iw = self.index(x, span)
        if slot is not None:
            k = slot.append("k", k, span.past, span.starts)
            v = slot.append("v", v, span.past, span.starts)
            ik = slot.append("index", ik, span.past, span.starts)
        learn = span.learn and torch.is_grad_enabled()
        if k.shape[2] <= self.config.index_top_k and not learn:
            return self.out(attend(q, k, v, span), x)
        B, H, L, _ = q.shape
        S, n = k.shape[2], min(self.config.index_top_k, k.shape[2])
        each = B * (S * (1 + self.config.index_heads) + H * (S if 2 * n >= S else n * (k.shape[3] + 1)))
        made, losses = [], []
        for first, last in blocks(L, each):
            part = slice(first, last)
            end = min(S, span.past + last) if span.starts is None else S
            here = places(span, first, last, q.device)
            given = (
                q[:, :, part],
                k[:, :, :end],
                v[:, :, :end],
                iq[:, part],
                ik[:, 0, :end],
                iw[:, part],
                here,
                learn,
            )
            again = torch.is_grad_enabled() and last - first < L
            o, kl = checkpoint(self._block, *given, use_reentrant=False) if again else self._block(*given)
            made.append(o)
            losses.append(kl)
        if learn:
            span.aux.append(torch.stack(losses).sum() / (B * L))
        return self.out(torch.cat(made, 2), x)

    def index(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """The indexer's queries `[B, L, J, c]`, keys `[B, 1, L, c]` and weights `[B, L, J]`; x takes no gradient.

        Queries and keys are rotated: without positions, a token that comes twice scores twice the same.
        """
        x, c = x.detach(), self.config
        weight = self.index_w(x) * (c.index_heads * c.index_dim) ** -0.5
        q = self.index_q(x).unflatten(-1, (c.index_heads, c.index_dim)).transpose(1, 2)
        k = self.index_k(x)[:, None]
        if span.positions is not None:
            turn = rotary(span.positions, c.index_dim, c.rope_base, x.dtype)
            q, k = rotate(q, *turn), rotate(k, *turn)
        return q.transpose(1, 2), k, weight

    def _block(
        self, q: Tensor, k: Tensor, v: Tensor, iq: Tensor, ik: Tensor, iw: Tensor, here: Tensor, learn: bool
    ) -> tuple[Tensor, Tensor]:
        """Output `[B, H, l, d_h]` of a block of queries, and the indexer's divergence summed over them."""
        B, H, l, d = q.shape
        S, n = k.shape[2], min(self.config.index_top_k, k.shape[2])
        score = torch.einsum("bljs,blj->bls", F.relu(torch.einsum("bljc,bsc->bljs", iq, ik)), iw)
        seen = torch.arange(S, device=q.device) <= here[..., None]
        score = score.masked_fill(~seen, -torch.inf)
        keep = keep_top(score.detach(), n) & seen
        q = q.reshape(B, k.shape[1], H // k.shape[1], l, d) * d**-0.5
        if 2 * n < S:
            index = indices(keep_top(score.detach(), n), n)
            keep, score = keep.gather(-1, index), score.gather(-1, index)
            k, v = gather(k, index[:, None]), gather(v, index[:, None])
            p = (
                torch.einsum("bhgld,bhlnd->bhgln", q, k)
                .masked_fill(~keep[:, None, None], -torch.inf)
                .softmax(-1)
            )
            o = torch.einsum("bhgln,bhlnd->bhgld", p, v)
        else:
            p = (q @ k.mT[:, :, None]).masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)
            o = p @ v[:, :, None]
        kl = q.new_zeros(())
        if learn:
            kl = divergence(p.detach().flatten(1, 2).mean(1), score.masked_fill(~keep, -torch.inf))
        return o.reshape(B, H, l, d), kl

    def explain(self, device: torch.device) -> tuple[str, str]:
        """Which implementation is used on a device, and why."""
        return (
            "torch, blocks of queries",
            f"up to {self.config.index_top_k} tokens: torch SDPA; beyond, scores for a block of queries at a time, then only what they chose",
        )


def divergence(p: Tensor, score: Tensor) -> Tensor:
    """Sum of KL(p || softmax(score)) over all but the last axis; both are nothing where score is -inf.

    Example:
        >>> p = torch.tensor([0.5, 0.5, 0.0])
        >>> divergence(p, torch.tensor([1.0, 1.0, -torch.inf])).item()
        0.0
    """
    log_q = score.log_softmax(-1).masked_fill(score == -torch.inf, 0)
    return (torch.xlogy(p, p) - p * log_q).sum()


KINDS: dict[str, Any] = {"dsa": DSA}
