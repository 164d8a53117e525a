"""One token's way through the blocks with few operators: the same numbers as `Block`, for models that are small.

On a CPU a small model's step is mostly the price of calling operators. A plan puts matrices that read the same vector side by
side, with the gain of the norm before them multiplied in, and spells each layer out in about 30 operators rather than 80. Layers
that it does not know go through `Block` as ever. A plan is a copy of the weights: it is made for a stretch of decoding,
`with model.decoding(): ...`, and thrown away. Held to `Block` by tests/looped/test_decode.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.looped.block import Block
from unrolled.looped.cache import Slot
from unrolled.looped.mixers.attention import Attention, Window
from unrolled.looped.mixers.linear import DeltaNet, GatedDelta, LinearMixer, Mamba2
from unrolled.looped.span import Span

if TYPE_CHECKING:
    from unrolled.looped.model import LT2

Step = Callable[[Tensor, Span, Slot], Tensor]

LARGEST = 2**29
"""Bytes of weights up to which a copy of them is worth its memory: beyond, operators are no longer what a step waits for."""


class Plan:
    """Steps `(h [B, d], span, slot) -> h` for the layers that have one, None for the others."""

    def __init__(self, model: "LT2") -> None:
        blocks: list[Any] = list(model.blocks)
        self.steps = [_step(block) for block in blocks]
        self.even = [isinstance(block.mixer, Attention) for block in blocks]
        """whether a step needs rows that have read equally much"""

    @staticmethod
    def fits(model: "LT2") -> bool:
        """Whether a plan is worth it: a CPU, full precision, few weights, no autocast."""
        weight = model.embed.weight
        return (
            weight.device.type == "cpu"
            and weight.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and not model.config.sandwich
            and sum(p.numel() * p.element_size() for p in model.blocks.parameters()) <= LARGEST
        )


def _step(block: Block) -> Step | None:
    mixer = block.mixer
    if type(mixer) in (LinearMixer, DeltaNet, GatedDelta, Mamba2) and mixer.conv is not None:
        mix: Any = _linear(mixer, block.norm1)
    elif type(mixer) in (Attention, Window):
        mix = _attention(mixer, block.norm1)
    else:
        return None
    ffn = _ffn(block)
    return lambda h, span, slot: ffn(mix(h, span, slot))


def _beside(weights: list[Tensor], norm: Any) -> Tensor:
    """Matrices that read RMSNorm(h), as one that reads h / |h|: `[rows, d]`."""
    return torch.cat([w.detach() for w in weights]) * (norm.weight.detach() * norm.weight.numel() ** 0.5)


def _floor(norm: Any) -> Tensor:
    """|h| and this make the root of |h|^2 + d eps (hypot), which RMSNorm divides by."""
    weight = norm.weight
    return torch.tensor((weight.numel() * norm.eps) ** 0.5, dtype=weight.dtype, device=weight.device)


def _over(x: Tensor, floor: Tensor) -> Tensor:
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


def _ffn(block: Block) -> Callable[[Tensor], Tensor]:
    rows = _beside([block.ffn.gate.weight, block.ffn.up.weight], block.norm2)
    floor, down = _floor(block.norm2), block.ffn.down.weight.detach().t()
    half = rows.shape[0] // 2

    def run(h: Tensor) -> Tensor:
        y = F.linear(_over(h, floor), rows)
        return torch.addmm(h, F.silu(y[:, :half]).mul_(y[:, half:]), down)

    return run


def _linear(m: Any, norm: Any) -> Step:
    """`LinearMixer.forward` for one token that follows others."""
    H, dk, dv = m.heads, m.dk, m.dv
    stepped, channels = isinstance(m, GatedDelta | Mamba2), 2 * H * dk + H * dv
    extra = ([m.a.weight] if stepped else []) + ([m.b.weight] if m.delta else [])
    rows, floor = _beside([m.q.weight, m.k.weight, m.v.weight, m.g.weight, *extra], norm), _floor(norm)
    conv, out = m.conv.weight.detach().t().contiguous(), m.o.weight.detach().t()
    like = {"dtype": rows.dtype, "device": rows.device}
    scale = torch.ones(2 * H, 1, **like)
    scale[:H] = dk**-0.5
    small = torch.tensor(1e-3, **like)  # eps 1e-6 beneath the root
    gain = (m.norm.weight.detach() * dv**0.5).to(rows.dtype)
    head_floor = torch.tensor((dv * 1e-5) ** 0.5, **like)
    rate, bias = (-m.A_log.detach().exp(), m.dt_bias.detach()) if stepped else (None, gain)
    at = channels + H * dv

    def run(h: Tensor, span: Span, slot: Slot) -> Tensor:
        B = h.shape[0]
        y = F.linear(_over(h, floor), rows)
        seen = torch.cat([slot.fixed["conv"], y[:, None, :channels]], 1)
        slot.fixed["conv"] = seen[:, 1:]
        mixed = F.silu((seen * conv).sum(1))
        qk = mixed[:, : 2 * H * dk].view(B, 2 * H, dk)
        qk = _over(qk, small) * scale if m.delta else qk * scale
        q, k = (x.reshape(B * H, 1, dk) for x in (qk[:, :H], qk[:, H:]))
        u = mixed[:, 2 * H * dk :].reshape(B * H, 1, dv)
        S = slot.fixed["S"].view(B * H, dk, dv)
        if rate is not None:
            S = S * torch.exp(F.softplus(y[:, at : at + H] + bias) * rate).view(B * H, 1, 1)
        if m.delta:
            beta = torch.sigmoid(y[:, -H:]).reshape(B * H, 1, 1)
            u = (u - torch.bmm(k, S)).mul_(2 * beta if m.config.neg_eigval_at(span.loop) else beta)
        S = torch.baddbmm(S, k.mT, u)
        slot.fixed["S"] = S.view(B, H, dk, dv)
        o = _over(torch.bmm(q, S), head_floor).view(B, H, dv) * gain
        return torch.addmm(h, o.view(B, H * dv).mul_(F.silu(y[:, channels:at])), out)

    return run


def _attention(m: Any, norm: Any) -> Step:
    """`Attention.forward` for one token, after as many others in every row."""
    H, K, size = m.config.heads, m.config.kv_heads, m.config.head_dim
    gate = [] if m.g is None else [m.g.weight]
    rows, floor = _beside([m.q.weight, m.k.weight, m.v.weight, *gate], norm), _floor(norm)
    out, half, root = m.o.weight.detach().t(), size // 2, size**-0.5

    def run(h: Tensor, span: Span, slot: Slot) -> Tensor:
        B = h.shape[0]
        y = F.linear(_over(h, floor), rows)
        qk, v = y[:, : (H + K) * size].view(B, H + K, 1, size), y[:, (H + K) * size : (H + 2 * K) * size]
        assert span.rotary is not None
        cos, sin = span.turned()
        qk = torch.addcmul(qk * cos, torch.roll(qk, half, -1), sin)
        k = slot.append("k", qk[:, H:], span.past)
        v = slot.append("v", v.view(B, K, 1, size), span.past)
        window = m.window(span)
        if window is not None and k.shape[2] > window:
            k, v = k[:, :, -window:], v[:, :, -window:]
        q = qk[:, :H].view(B, K, H // K, size) * root
        o = (torch.softmax(q @ k.mT, -1) @ v).view(B, H * size)
        if window is not None:
            for kept in slot.rows.values():
                kept.drop(span.kept - (window - 1))
        if gate:
            o = o * torch.sigmoid(y[:, (H + 2 * K) * size :])
        return torch.addmm(h, o, out)

    return run
