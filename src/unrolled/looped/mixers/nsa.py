"""Native sparse attention: summaries of blocks, the best blocks themselves, and a window."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unrolled.looped.cache import Slot
from unrolled.looped.config import LT2Config
from unrolled.looped.mixers._select import blocks, gather, indices, keep_top, places
from unrolled.looped.mixers.attention import Attention, attend
from unrolled.looped.span import Span


class NSA(Attention):
    """Three attentions with a gate each (NSA 2502.11089, eq. 5; shared keys and values as in flash-linear-attention).

        o = g_1 Attn(q, means of blocks) + g_2 Attn(q, tokens of chosen blocks) + g_3 Attn(q, window),  g = sigmoid(x W_g)

    Keys and values of `block` tokens are averaged; a query sees the means of blocks that ended before it or with it. Blocks are
    chosen by what the first attention gave them, summed over the heads that share keys: a query's own block always, and of
    the others the best, `blocks` in all. With so few tokens that all blocks are chosen, the second is `Attention`.
    """

    gated = False

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        self.mix = nn.Linear(config.width, 3 * config.heads, bias=False)

    def forward(self, x: Tensor, span: Span, slot: Slot | None = None) -> Tensor:
        """`[B, L, d]` to the same shape."""
        q, k, v = self.project(x, span)
        if slot is not None:
            k = slot.append("k", k, span.past, span.starts)
            v = slot.append("v", v, span.past, span.starts)
        B, H, L, d = q.shape
        S, size, n = k.shape[2], self.config.block, self.config.blocks
        whole = S // size
        mean_k, mean_v = (y[:, :, : whole * size].unflatten(2, (whole, size)).mean(3) for y in (k, v))
        chosen = n * size
        each = B * H * (S // size + (S if 2 * chosen >= S else chosen * (d + 1)))
        made = []
        for first, last in blocks(L, each):
            given = (q[:, :, first:last], k, v, mean_k, mean_v, places(span, first, last, q.device))
            again = torch.is_grad_enabled() and last - first < L
            made.append(
                checkpoint(self._block, *given, use_reentrant=False) if again else self._block(*given)
            )
        summary, best = (torch.cat(parts, 2) for parts in zip(*made))
        near = attend(q, k, v, span, window=self.config.window_at(span.loop))
        g = torch.sigmoid(self.mix(x)).view(B, L, 3, H).permute(2, 0, 3, 1)[..., None]
        return self.out(g[0] * summary + g[1] * best + g[2] * near, x)

    def _block(
        self, q: Tensor, k: Tensor, v: Tensor, mean_k: Tensor, mean_v: Tensor, here: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attention to means and to chosen blocks, each `[B, H, l, d_h]`."""
        B, H, l, d = q.shape
        S, size = k.shape[2], self.config.block
        q = q.reshape(B, k.shape[1], H // k.shape[1], l, d) * d**-0.5
        ended = (torch.arange(mean_k.shape[2], device=q.device) + 1) * size <= here[..., None] + 1
        score = (q @ mean_k.mT[:, :, None]).masked_fill(~ended[:, None, None], -torch.inf)
        # before the first block ends there is nothing to see: zeros, not NaN
        p = score.softmax(-1).masked_fill(~ended[:, None, None], 0)
        summary = p @ mean_v[:, :, None]

        count = -(-S // size)
        n = min(self.config.blocks, count)
        own = here // size
        number = torch.arange(count, device=q.device)
        worth = F.pad(p.detach().sum(2), (0, count - p.shape[-1]))
        worth = worth.masked_fill((number == own[..., None])[:, None], torch.inf)
        worth = worth.masked_fill((number > own[..., None])[:, None], -torch.inf)
        keep = keep_top(worth, n)
        token = torch.arange(count * size, device=q.device)
        if 2 * n * size < S:
            index = indices(keep, n)
            index = (index[..., None] * size + torch.arange(size, device=q.device)).flatten(-2)
            seen = (index <= here[:, None, :, None])[:, :, None]
            index = index.clamp(max=S - 1)
            k, v = gather(k, index), gather(v, index)
            p = torch.einsum("bhgld,bhlnd->bhgln", q, k).masked_fill(~seen, -torch.inf).softmax(-1)
            best = torch.einsum("bhgln,bhlnd->bhgld", p, v)
        else:
            seen = keep.repeat_interleave(size, -1) & (token <= here[..., None])[:, None]
            seen = seen[:, :, None, :, :S]
            best = (q @ k.mT[:, :, None]).masked_fill(~seen, -torch.inf).softmax(-1) @ v[:, :, None]
        return summary.reshape(B, H, l, d), best.reshape(B, H, l, d)

    def explain(self, device: torch.device) -> tuple[str, str]:
        """Which implementation is used on a device, and why."""
        c = self.config
        return (
            "torch, blocks of queries",
            f"means of {c.block} tokens, {c.blocks} blocks chosen, window {c.window}; no kernel of its own on any device",
        )


KINDS: dict[str, Any] = {"nsa": NSA}
