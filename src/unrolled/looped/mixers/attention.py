"""Softmax attention with rotary positions: over all tokens, or over a sliding window."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.looped.cache import Slot
from unrolled.looped.config import LT2Config
from unrolled.looped.span import Span
from unrolled.training.gpt import rotate


class Attention(nn.Module):
    """Causal softmax attention; with `config.gate`, its output times sigmoid(x W_g) (LT2 2605.20670, section 3.4).

        o = softmax(q k^T / sqrt(d_h)) v,  y = (o * sigmoid(x W_g)) W_o

    W_g starts at zero, so that the gate starts at exactly 1/2. q and k are rotated by their positions (RoFormer
    2104.09864).

    Example:
        >>> mixer = Attention(LT2Config(width=8, heads=2))
        >>> mixer(torch.ones(1, 3, 8), Span(0)).shape
        torch.Size([1, 3, 8])
    """

    gated = True
    """whether `config.gate` concerns it"""

    def __init__(self, config: LT2Config) -> None:
        super().__init__()
        self.config = config
        inner, outer = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q = nn.Linear(config.width, inner, bias=False)
        self.k = nn.Linear(config.width, outer, bias=False)
        self.v = nn.Linear(config.width, outer, bias=False)
        self.o = nn.Linear(inner, config.width, bias=False)
        self.g = nn.Linear(config.width, inner, bias=False) if config.gate and self.gated else None

    def reset(self, rng: torch.Generator | None = None) -> None:
        """Let the gate start at 1/2."""
        if self.g is not None:
            nn.init.zeros_(self.g.weight)

    def window(self, span: Span) -> int | None:
        """Tokens seen, itself included; None for all."""
        return None

    def forward(self, x: Tensor, span: Span, slot: Slot | None = None) -> Tensor:
        """`[B, L, d]` to the same shape."""
        q, k, v = self.project(x, span)
        first = 0
        if slot is not None:
            k = slot.append("k", k, span.past, span.starts)
            v = slot.append("v", v, span.past, span.starts)
            first = slot.rows["k"].first
        o = attend(q, k, v, span, first=first, window=self.window(span))
        if slot is not None and (window := self.window(span)) is not None:
            for rows in slot.rows.values():
                rows.drop(span.kept - (window - 1))
        return self.out(o, x)

    def project(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated q, k and v: `[B, H, L, d_h]`."""
        c = self.config
        q = self.q(x).unflatten(-1, (c.heads, c.head_dim)).transpose(1, 2)
        k, v = (w(x).unflatten(-1, (c.kv_heads, c.head_dim)).transpose(1, 2) for w in (self.k, self.v))
        if span.rotary is not None:
            # autocast turns in float32; what is kept stays small
            q, k = rotate(q, *span.rotary).to(v.dtype), rotate(k, *span.rotary).to(v.dtype)
        return q, k, v

    def out(self, o: Tensor, x: Tensor) -> Tensor:
        """Gate and project `[B, H, L, d_h]` back to `[B, L, d]`."""
        o = o.transpose(1, 2).flatten(2)
        if self.g is not None:
            o = o * torch.sigmoid(self.g(x))
        return self.o(o)

    def explain(self, device: torch.device) -> tuple[str, str]:
        """Which implementation is used on a device, and why."""
        return "torch SDPA", f"softmax attention: torch's fused kernel, whichever fits {device}"


class Window(Attention):
    """`Attention` to the last w tokens, itself included; w may differ from loop to loop with the same weights."""

    gated = False

    def window(self, span: Span) -> int:
        """Tokens seen in this loop."""
        return self.config.window_at(span.loop)

    def explain(self, device: torch.device) -> tuple[str, str]:
        """Which implementation is used on a device, and why."""
        return (
            "torch SDPA, blockwise",
            f"blocks of {self.config.window} queries see their own and the block before: O(L w)",
        )


def attend(
    q: Tensor, k: Tensor, v: Tensor, span: Span, *, first: int = 0, window: int | None = None
) -> Tensor:
    """Causal attention of the last L tokens to all S that are kept.

    Args:
        q: `[B, H, L, d_h]`.
        k: `[B, H_kv, S, d_h]`, the first of them token `first`.
        v: as k.
        span: what the L tokens are.
        first: index of the first key.
        window: tokens seen, itself included; None for all.

    Returns:
        `[B, H, L, d_h]`.
    """
    L, S = q.shape[2], k.shape[2]
    grouped = q.shape[1] != k.shape[1]
    if span.starts is None and span.past == 0 and (window is None or window >= L):
        return _softmax(q, k, v, None, span.eager, causal=True, grouped=grouped)
    if span.starts is None and L == 1 and (window is None or window >= S):
        return _softmax(q, k, v, None, span.eager, grouped=grouped)
    if window is not None and window < L and span.starts is None and span.past == 0:
        return _blockwise(q, k, v, window, span.eager, grouped)
    at = torch.arange(first, first + S, device=q.device)
    if span.starts is None:
        here = torch.arange(span.past, span.past + L, device=q.device)[:, None]
    else:
        here = (span.starts[:, None] + torch.arange(L, device=q.device))[:, None, :, None]
    seen = at <= here
    if window is not None:
        seen = seen & (at > here - window)
    return _softmax(q, k, v, seen, span.eager, grouped=grouped)


def _blockwise(q: Tensor, k: Tensor, v: Tensor, window: int, eager: bool, grouped: bool) -> Tensor:
    """A block of `window` queries sees its own keys and those of the block before: O(L w)."""
    B, H, L, size = q.shape
    n = -(-L // window)

    def blocks(x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, n * window - L))
        return x.view(B, x.shape[1], n, window, size).transpose(1, 2)

    def with_last(x: Tensor) -> Tensor:
        x = blocks(x)
        return torch.cat([F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :n], x], 3).flatten(0, 1)

    here = torch.arange(window, device=q.device)[:, None]
    back = torch.arange(2 * window, device=q.device) - window
    seen = (back <= here) & (back > here - window)
    real = (torch.arange(n, device=q.device)[:, None, None] > 0) | (back >= 0)
    mask = (seen & real).repeat(B, 1, 1)[:, None]
    o = _softmax(blocks(q).flatten(0, 1), with_last(k), with_last(v), mask, eager, grouped=grouped)
    return o.view(B, n, H, window, size).transpose(1, 2).flatten(2, 3)[:, :, :L]


def _softmax(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor | None,
    eager: bool,
    *,
    causal: bool = False,
    grouped: bool = False,
) -> Tensor:
    if not eager:
        options: dict[str, Any] = {"enable_gqa": True} if grouped else {}
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal, **options)
    if grouped:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v


KINDS = {"full": Attention, "window": Window}
