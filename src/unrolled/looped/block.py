"""One layer: a mixer, then SwiGLU, each behind RMSNorm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.looped import mixers
from unrolled.looped.cache import Slot
from unrolled.looped.config import LT2Config
from unrolled.looped.mixers.linear import LinearMixer
from unrolled.looped.span import Span


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (1910.07467, eq. 4).

    Example:
        >>> RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0])).square().mean().item()
        1.0
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to the same shape."""
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class SwiGLU(nn.Module):
    """down(SiLU(gate(x)) * up(x)) (2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to the same shape."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """h' = h + Mixer(RMSNorm(h)), then h' + SwiGLU(RMSNorm(h')) (LT2 2605.20670, section 2).

    With `config.sandwich` each branch is normalised once more before it is added (Ouro 2510.25741).

    Example:
        >>> config = LT2Config(width=8, heads=2)
        >>> Block("full", config)(torch.ones(1, 3, 8), Span(0)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, mixer: str, config: LT2Config) -> None:
        super().__init__()
        self.kind = mixer
        self.norm1 = RMSNorm(config.width, config.norm_eps)
        self.mixer = mixers.make(mixer, config)
        self.norm2 = RMSNorm(config.width, config.norm_eps)
        self.ffn = SwiGLU(config.width, config.hidden)
        self.after1 = RMSNorm(config.width, config.norm_eps) if config.sandwich else None
        self.after2 = RMSNorm(config.width, config.norm_eps) if config.sandwich else None

    def forward(self, h: Tensor, span: Span, slot: Slot | None = None, shared: Slot | None = None) -> Tensor:
        """`[B, L, d]` to the same shape; `slot` is read and written, and `shared` in place of its S."""
        x = self.norm1(h)
        if shared is not None and isinstance(self.mixer, LinearMixer):
            y = self.mixer(x, span, slot, shared)
        else:
            y = self.mixer(x, span, slot)
        h = h + (y if self.after1 is None else self.after1(y))
        y = self.ffn(self.norm2(h))
        return h + (y if self.after2 is None else self.after2(y))
