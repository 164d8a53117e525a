"""Everything inside a chunk that decays touch: what is read, written and asked for, and the products of queries and keys.

With G_i = g_1 + ... + g_i and q, k `[n, C, dk]` of n chunks, the parts of a chunk are

    read   e^G Q / sqrt(dk)          what o takes from the state before the chunk
    write  e^(G_C - G) K             what is left of every token after it
    asked  beta e^G K                what the delta rule asks that state for (None: the mixer has no beta)
    P      P_ij = sum_c q_ic k_jc e^(G_ic - G_jc) / sqrt(dk), j <= i
    A      A_ij = beta_i sum_c k_ic k_jc e^(G_ic - G_jc), j < i; what is on and above the diagonal does not count

and there are three ways to make them. `Mild`, matrix products of e^G Q and e^-G K, is the fast one: for chunks across which no
decay falls below 1e-19 (float32), and for none at all. Past that e^-G would overflow. `PerHead` then has the decays as a matrix, `PerChannel`,
where no matrix can hold them, halves the chunk; both are exact however strong the decay, alpha = 0 included.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def scaled(x: Tensor, by: Tensor | float | None) -> Tensor:
    """The product of both; None is 1."""
    return x if by is None else x * by


def gate(
    q: Tensor, k: Tensor, g: Tensor | None, beta: Tensor | None, scale: float
) -> "Mild | PerHead | PerChannel":
    """The parts of chunks, from q and k `[n, C, dk]`, g `[n, C]` or `[n, C, dk]` or None, beta `[n, C, 1]` or None."""
    if g is None:
        return Mild.of(q, k, None, beta, scale)
    grow = (g if g.ndim == 3 else g[..., None]).exp().cumprod(1)
    if bool(grow.amin() > floor(g.dtype)):
        return Mild.of(q, k, grow, beta, scale)
    return (PerHead if g.ndim == 2 else PerChannel).of(q, k, g, beta, scale)


def floor(dtype: torch.dtype) -> float:
    """The weakest memory of a chunk's start that `Mild` may divide by: 1e-19 in float32."""
    return torch.finfo(dtype).tiny ** 0.5


def _total(x: Tensor, grow: Tensor) -> Tensor:
    """From one number per channel to one per decay."""
    return x if grow.shape[-1] > 1 or x.shape[-1] == 1 else x.sum(-1, keepdim=True)


class Mild(NamedTuple):
    """P = tril((e^G Q) (e^-G K)^T): products of what has to be made anyway. Both factors come from one running product of
    alpha, so that what they share cancels to the last digit.
    """

    k: Tensor
    beta: Tensor | None
    scale: float
    grow: Tensor | None
    """e^G, `[n, C, 1 or dk]`."""
    shrink: Tensor | None
    """e^-G."""
    read: Tensor
    write: Tensor
    asked: Tensor | None
    spread: Tensor
    """e^-G K."""
    P: Tensor
    A: Tensor | None

    @staticmethod
    def of(q: Tensor, k: Tensor, grow: Tensor | None, beta: Tensor | None, scale: float) -> "Mild":
        """From q, k, e^G, beta and the scale of q."""
        shrink = None if grow is None else grow.reciprocal()
        read, spread = q * scaled(grow, scale) if grow is not None else q * scale, scaled(k, shrink)
        write = spread if grow is None else spread * grow[:, -1:]
        asked = None if beta is None else k * scaled(beta, grow)
        A = None if asked is None else asked @ spread.mT
        return Mild(k, beta, scale, grow, shrink, read, write, asked, spread, (read @ spread.mT).tril_(), A)

    def back(
        self, dread: Tensor, dwrite: Tensor, dasked: Tensor | None, dP: Tensor, dA: Tensor | None
    ) -> Gradients:
        """Gradients of q, k, G and beta from those of the parts, which it may overwrite; dA is 0 on and above the diagonal."""
        dP = dP.tril_()
        dread = dread.baddbmm_(dP, self.spread)
        dspread, dbeta = dP.mT @ self.read, None
        if self.asked is not None and dasked is not None and dA is not None:
            dasked = dasked.baddbmm_(dA, self.spread)
            dspread.baddbmm_(dA.mT, self.asked)
        dG = None
        if self.grow is not None:
            left = _total(dwrite * self.write, self.grow)
            dG = _total((dread * self.read).addcmul_(dspread, self.spread, value=-1), self.grow) - left
            dG[:, -1] += left.sum(1)
            dread, dwrite = dread.mul_(self.grow), dwrite.mul_(self.grow[:, -1:])
        dk = scaled(dspread.add_(dwrite), self.shrink)
        if self.beta is not None and dasked is not None:
            dkey = scaled(dasked, self.grow)
            dkey_k = dkey * self.k
            dbeta = dkey_k.sum(-1)
            if dG is not None and self.grow is not None:
                dG += _total(dkey_k, self.grow) * self.beta
            dk.addcmul_(dkey, self.beta)
        return dread.mul_(self.scale), dk, dG, dbeta


class PerHead(NamedTuple):
    """One decay per token and head, of any strength: P = tril(Q K^T * Gamma), Gamma_ij = e^(G_i - G_j)."""

    q: Tensor
    k: Tensor
    beta: Tensor | None
    scale: float
    Gamma: Tensor
    """`[n, C, C]`, 0 above the diagonal."""
    grow: Tensor
    keep: Tensor
    read: Tensor
    write: Tensor
    asked: Tensor | None
    P: Tensor
    K: Tensor | None
    A: Tensor | None

    @staticmethod
    def of(q: Tensor, k: Tensor, g: Tensor, beta: Tensor | None, scale: float) -> "PerHead":
        """From q, k, g `[n, C]`, beta and the scale of q.

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
        grow, keep, q = grow[..., None], keep[..., None], q * scale
        K = None if beta is None else (k @ k.mT) * Gamma
        asked, A = (None, None) if beta is None or K is None else (k * (beta * grow), K * beta)
        P = (q @ k.mT) * Gamma
        return PerHead(q, k, beta, scale, Gamma, grow, keep, q * grow, k * keep, asked, P, K, A)

    def back(
        self, dread: Tensor, dwrite: Tensor, dasked: Tensor | None, dP: Tensor, dA: Tensor | None
    ) -> Gradients:
        """Gradients of q, k, G and beta from those of the parts, which it may overwrite; dA is 0 on and above the diagonal."""
        left = _total(dwrite * self.write, self.grow)
        dG = _total(dread * self.read, self.grow) - left
        dG[:, -1] += left.sum(1)
        R, F, dbeta = dP * self.P, dP * self.Gamma, None
        dq = (dread * self.grow).baddbmm_(F, self.k)
        dk = (dwrite * self.keep).baddbmm_(F.mT, self.q)
        if self.beta is not None and self.K is not None and self.A is not None:
            assert dasked is not None
            assert dA is not None
            dkey = dasked * self.grow
            asks = _total(dkey * self.k, self.grow)
            dbeta = asks[..., 0] + (dA * self.K).sum(-1)
            dG += asks * self.beta
            R.addcmul_(dA, self.A)
            E = (dA * self.beta).mul_(self.Gamma)
            dk.baddbmm_(E, self.k).baddbmm_(E.mT, self.k).addcmul_(dkey, self.beta)
        return dq.mul_(self.scale), dk, dG + (R.sum(-1) - R.sum(-2))[..., None], dbeta


class PerChannel(NamedTuple):
    """One decay per token, head and channel, of any strength.

    A chunk is halved, and halved again: tokens of a second half meet those of the first half at the border between them,
    q e^(from the border to i) with k e^(from j to the border), both factors at most 1 however strong the decay. Level by
    level, from single tokens up to half chunks, that is a product of two `[s, dk]` matrices for every pair of halves, and in
    all one product of `[C, dk]` matrices; the factors grow from one level to the next by multiplication.
    """

    q: Tensor
    k: Tensor
    beta: Tensor | None
    scale: float
    levels: list[tuple[Tensor, Tensor]]
    """For halves of s = 1, 2, 4, ... tokens: e^(from the border to i) of the second, e^(from j to the border) of the first,
    `[n, pairs, s, dk]`."""
    grow: Tensor
    keep: Tensor
    read: Tensor
    write: Tensor
    asked: Tensor | None
    P: Tensor
    A: Tensor | None

    @staticmethod
    def of(q: Tensor, k: Tensor, g: Tensor, beta: Tensor | None, scale: float) -> "PerChannel":
        """From q, k, g `[n, C, dk]`, beta and the scale of q; C is a power of two."""
        since = g.exp()  # from the start of a half to i
        until = torch.ones_like(since)  # from j to its end
        levels: list[tuple[Tensor, Tensor]] = []
        while 2 ** len(levels) < g.shape[1]:
            (a, b), (c, d) = (halves(x, len(levels)).unbind(2) for x in (since, until))
            levels.append((b, c))
            since = torch.cat((a, b * a[:, :, -1:]), 2).view(g.shape)
            until = torch.cat((c * b[:, :, -1:], d), 2).view(g.shape)
        q = q * scale
        keys = None if beta is None else k * beta
        P = torch.diag_embed((q * k).sum(-1))
        A = None if beta is None else torch.zeros_like(P)
        for level, (second, first) in enumerate(levels):
            earlier = (halves(k, level)[:, :, 0] * first).mT
            corner(P, level).copy_(((halves(q, level)[:, :, 1] * second) @ earlier).movedim(1, -1))
            if A is not None and keys is not None:
                corner(A, level).copy_(((halves(keys, level)[:, :, 1] * second) @ earlier).movedim(1, -1))
        asked = None if keys is None else keys * since
        return PerChannel(q, k, beta, scale, levels, since, until, q * since, k * until, asked, P, A)

    def back(
        self, dread: Tensor, dwrite: Tensor, dasked: Tensor | None, dP: Tensor, dA: Tensor | None
    ) -> Gradients:
        """Gradients of q, k, G and beta from those of the parts, which it may overwrite; dA is 0 on and above the diagonal."""
        q, k, beta = self.q, self.k, self.beta
        same = dP.diagonal(dim1=-2, dim2=-1)[..., None]
        dq, later, earlier = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(k)
        for level, (second, first) in enumerate(self.levels):
            k1, k2 = halves(k, level).unbind(2)
            k1 = k1 * first
            F = corner(dP, level).movedim(-1, 1)
            halves(dq, level)[:, :, 1].addcmul_(F @ k1, second)
            back = F.mT @ (halves(q, level)[:, :, 1] * second)
            if dA is not None and beta is not None:
                E = corner(dA, level).movedim(-1, 1)
                halves(later, level)[:, :, 1].addcmul_(E @ k1, second)
                back += E.mT @ (k2 * second * halves(beta, level)[:, :, 1])
            halves(earlier, level)[:, :, 0].addcmul_(back, first)
        left, dbeta = dwrite * self.write, None
        dG = (q * dq).addcmul_(dread, self.read) - left
        dG[:, -1] += left.sum(1)
        if beta is not None and dasked is not None:
            later.addcmul_(dasked, self.grow)
            dbeta = (later * k).sum(-1)
            later *= beta
        dG.addcmul_(k, later - earlier)
        dq = dq.addcmul_(same, k).addcmul_(dread, self.grow)
        dk = later.add_(earlier).addcmul_(same, q).addcmul_(dwrite, self.keep)
        return dq.mul_(self.scale), dk, dG, dbeta


def halves(x: Tensor, level: int) -> Tensor:
    """`[n, C, d]` as `[n, pairs, 2, s, d]`, s = 2^level."""
    return x.unflatten(1, (-1, 2, 2**level))


def corner(x: Tensor, level: int) -> Tensor:
    """Where second halves meet their first halves in `[n, C, C]`: `[n, s, s, pairs]`, s = 2^level."""
    s = 2**level
    return x.unflatten(2, (-1, 2 * s)).unflatten(1, (-1, 2 * s)).diagonal(dim1=1, dim2=3)[:, s:, :s]
