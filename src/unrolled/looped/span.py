"""Which tokens a pass is about: how many, after how many, at which positions."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Span:
    """What a mixer must know of a pass besides its input `[B, L, d]`.

    Rows are left-aligned: token i of row b is its (starts[b] + i)-th, and what stands after its counts[b] tokens is
    padding. Causal mixers never look there, and a cache forgets it with the next pass.
    """

    loop: int
    """counted from 0"""
    past: int = 0
    """tokens in the cache, of the row that has most"""
    starts: Tensor | None = None
    """`[B]`, tokens in the cache, where rows differ"""
    counts: Tensor | None = None
    """`[B]`, tokens of this pass, where rows differ"""
    kept: int = 0
    """tokens in the cache after this pass, of the row that has fewest"""
    rotary: tuple[Tensor, Tensor] | None = None
    """cosine and sine of the positions, `[L, head_dim / 2]` or `[B, 1, L, head_dim / 2]`"""
    positions: Tensor | None = None
    """`[L]` or `[B, L]`"""
    eager: bool = False
    """plain operators only, differentiable to any order and in forward mode"""
    aux: list[Tensor] = field(default_factory=list)
    """losses of a mixer's own, means over tokens (DSA's indexer)"""
    learn: bool = False
    """whether mixers compute those"""

    def turned(self) -> tuple[Tensor, Tensor]:
        """`rotary` over whole heads: x * cos + (x with its halves swapped) * sin turns x."""
        assert self.rotary is not None
        cos, sin = self.rotary
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotary(positions: Tensor, size: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of t * base^(-2i / size) (RoFormer 2104.09864, eq. 15) for `positions` `[L]` or `[B, L]`.

    Taken in float64 and only then cast: late positions keep their angle in any precision.

    Example:
        >>> cos, sin = rotary(torch.tensor([0, 1]), 2, 10_000.0, torch.float64)
        >>> [round(x, 6) for x in cos[:, 0].tolist()]
        [1.0, 0.540302]
    """
    exact = torch.float32 if positions.device.type == "mps" else torch.float64
    rate = base ** (-torch.arange(0, size, 2, device=positions.device, dtype=exact) / size)
    angle = positions.to(exact).unsqueeze(-1) * rate
    if positions.ndim == 2:
        angle = angle.unsqueeze(1)
    return angle.cos().to(dtype), angle.sin().to(dtype)
