"""What decays do inside a chunk: none, one number per token and head, one per token, head and channel.

A gate knows, for q and k `[n, C, dk]` of n chunks, with G_i = g_1 + ... + g_i:

    grow  e^G              what is left, at each token, of the state before the chunk          `[n, C, 1 or dk]`
    keep  e^(G_C - G)      what is left, after the chunk, of each token
    pairs                  P_ij = sum_c q_ic k_jc e^(G_ic - G_jc) for j <= i, and the same of k with k for j < i

and the way back: from dP and dK, the gradients of q, k and G. No gate ever divides, or takes the exponential of a positive
number: alpha = 0 (g = -inf) is exact.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def scaled(x: Tensor, by: Tensor | None) -> Tensor:
    """The product of both; None is 1."""
    return x if by is None else x * by


@dataclass(frozen=True)
class Free:
    """alpha = 1: the memory never decays."""

    grow: None = None
    keep: None = None

    def pairs(self, q: Tensor, k: Tensor, delta: bool) -> tuple[Tensor, Tensor | None]:
        """P, and K if `delta`; of K only what is strictly below the diagonal counts."""
        return (q @ k.mT).tril_(), k @ k.mT if delta else None

    def back(
        self, q: Tensor, k: Tensor, P: Tensor, K: Tensor | None, dP: Tensor, dK: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gradients of q, k and G; dP counts on and below the diagonal, dK is 0 on and above it."""
        dP = dP.tril()
        dk = dP.mT @ q
        if dK is not None:
            dk.baddbmm_(dK, k).baddbmm_(dK.mT, k)
        return dP @ k, dk, None

    def total(self, x: Tensor) -> Tensor:
        """From one number per channel to one per decay."""
        return x


@dataclass(frozen=True)
class PerHead:
    """One decay per token and head: P = tril(Q K^T * Gamma), Gamma_ij = e^(G_i - G_j)."""

    Gamma: Tensor
    """`[n, C, C]`, 0 above the diagonal."""
    grow: Tensor
    keep: Tensor

    @staticmethod
    def of(g: Tensor) -> "PerHead":
        """From `[n, C]`.

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
        return PerHead(Gamma, grow[..., None], keep[..., None])

    def pairs(self, q: Tensor, k: Tensor, delta: bool) -> tuple[Tensor, Tensor | None]:
        """P, and K if `delta`; of K only what is strictly below the diagonal counts."""
        return (q @ k.mT) * self.Gamma, (k @ k.mT) * self.Gamma if delta else None

    def back(
        self, q: Tensor, k: Tensor, P: Tensor, K: Tensor | None, dP: Tensor, dK: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gradients of q, k and G; dP counts on and below the diagonal, dK is 0 on and above it."""
        R, F = dP * P, dP * self.Gamma
        dk = F.mT @ q
        if K is not None and dK is not None:
            R.addcmul_(dK, K)
            E = dK * self.Gamma
            dk.baddbmm_(E, k).baddbmm_(E.mT, k)
        return F @ k, dk, (R.sum(-1) - R.sum(-2))[..., None]

    def total(self, x: Tensor) -> Tensor:
        """From one number per channel to one per decay."""
        return x.sum(-1, keepdim=True)


@dataclass(frozen=True)
class PerChannel:
    """One decay per token, head and channel, which no matrix Gamma can hold.

    Q e^G (K e^-G)^T overflows as soon as |G| passes 88 in float32. So a chunk is halved, and halved again: tokens of a second half
    meet those of the first half at the border between them, q e^(from the border to i) with k e^(from j to the border), both
    factors at most 1 however strong the decay. Level by level, from single tokens up to half chunks, that is a product of
    two `[s, dk]` matrices for every pair of halves, and in all one product of `[C, dk]` matrices; the factors grow from one
    level to the next by multiplication.
    """

    levels: list[tuple[Tensor, Tensor]]
    """For halves of s = 1, 2, 4, ... tokens: e^(from the border to i) of the second, e^(from j to the border) of the first, `[n, pairs, s, dk]`."""
    grow: Tensor
    keep: Tensor

    @staticmethod
    def of(g: Tensor) -> "PerChannel":
        """From `[n, C, dk]`; C is a power of two."""
        since = g.exp()  # from the start of a half to i
        until = torch.ones_like(since)  # from j to its end
        levels: list[tuple[Tensor, Tensor]] = []
        while 2 ** len(levels) < g.shape[1]:
            (a, b), (c, d) = (halves(x, len(levels)).unbind(2) for x in (since, until))
            levels.append((b, c))
            since = torch.cat((a, b * a[:, :, -1:]), 2).view(g.shape)
            until = torch.cat((c * b[:, :, -1:], d), 2).view(g.shape)
        return PerChannel(levels, since, until)

    def pairs(self, q: Tensor, k: Tensor, delta: bool) -> tuple[Tensor, Tensor | None]:
        """P, and K if `delta`; of K only what is strictly below the diagonal counts."""
        P = torch.diag_embed((q * k).sum(-1))
        K = torch.zeros_like(P) if delta else None
        for level, (second, first) in enumerate(self.levels):
            q_, (k_, later) = halves(q, level)[:, :, 1], halves(k, level).unbind(2)
            k_ = (k_ * first).mT
            corner(P, level).copy_(((q_ * second) @ k_).movedim(1, -1))
            if K is not None:
                corner(K, level).copy_(((later * second) @ k_).movedim(1, -1))
        return P, K

    def back(
        self, q: Tensor, k: Tensor, P: Tensor, K: Tensor | None, dP: Tensor, dK: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gradients of q, k and G; dP counts on and below the diagonal, dK is 0 on and above it."""
        same = dP.diagonal(dim1=-2, dim2=-1)[..., None]
        dq, later, earlier = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(k)
        for level, (second, first) in enumerate(self.levels):
            k_, k2 = halves(k, level).unbind(2)
            k_ = k_ * first
            F = corner(dP, level).movedim(-1, 1)
            halves(dq, level)[:, :, 1].addcmul_(F @ k_, second)
            back = F.mT @ (halves(q, level)[:, :, 1] * second)
            if dK is not None:
                E = corner(dK, level).movedim(-1, 1)
                halves(later, level)[:, :, 1].addcmul_(E @ k_, second)
                back += E.mT @ (k2 * second)
            halves(earlier, level)[:, :, 0].addcmul_(back, first)
        dG = (q * dq).addcmul_(k, later - earlier)
        return dq.addcmul_(same, k), later.add_(earlier).addcmul_(same, q), dG

    def total(self, x: Tensor) -> Tensor:
        """From one number per channel to one per decay."""
        return x


Gate = Free | PerHead | PerChannel


def halves(x: Tensor, level: int) -> Tensor:
    """`[n, C, d]` as `[n, pairs, 2, s, d]`, s = 2^level."""
    return x.unflatten(1, (-1, 2, 2**level))


def corner(x: Tensor, level: int) -> Tensor:
    """Where second halves meet their first halves in `[n, C, C]`: `[n, s, s, pairs]`, s = 2^level."""
    s = 2**level
    return x.unflatten(2, (-1, 2 * s)).unflatten(1, (-1, 2 * s)).diagonal(dim1=1, dim2=3)[:, s:, :s]
