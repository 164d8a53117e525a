"""The linear family: a matrix S per head for a memory, short convolution before it, norm and gate behind it.

All members share the wiring of Gated DeltaNet (LT2 2605.20670, section 2; Gated DeltaNet 2412.06464), and differ in decay:

    q, k, v = SiLU(conv(x W_q)), SiLU(conv(x W_k)), SiLU(conv(x W_v))      causal, depthwise, without bias
    q, k    = q / |q|, k / |k|                                             delta rules only, per head, eps 1e-6
    beta    = sigmoid(x W_b), twice that where eigenvalues may be negative delta rules only, per head
    o       = op(q, k, v, g, beta)                                         `unrolled.looped.ops`
    y       = (RMSNorm(o) * SiLU(x W_g)) W_o                               norm per head, eps 1e-5

None has positions.
"""

import math
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.looped import ops
from unrolled.looped.cache import Slot
from unrolled.looped.config import LT2Config
from unrolled.looped.span import Span


class ShortConv(nn.Module):
    """Causal depthwise convolution: y_t = sum_j w_j x_{t - taps + 1 + j}, without bias.

    Example:
        >>> conv = ShortConv(1, 2)
        >>> _ = conv.weight.data.copy_(torch.tensor([[10.0, 1.0]]))
        >>> conv(torch.tensor([[[1.0], [2.0]]]), conv.weight)[0].flatten().tolist()
        [1.0, 12.0]
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, taps))

    def reset(self, rng: torch.Generator | None = None) -> None:
        """Uniform within taps^-1/2, torch's own for a convolution."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound, generator=rng)

    def forward(self, x: Tensor, weight: Tensor, tail: Tensor | None = None) -> Tensor:
        """`[B, L, C]` to the same shape, `weight` `[C, taps]`, after `tail` `[B, taps - 1, C]`, the inputs before (zeros)."""
        length, taps = x.shape[1], weight.shape[1]
        x = F.pad(x, (0, 0, taps - 1, 0)) if tail is None else torch.cat([tail.to(x.dtype), x], 1)
        y = x[:, :length] * weight[:, 0]
        for j in range(1, taps):
            y = torch.addcmul(y, x[:, j : j + length], weight[:, j])
        return y

    @staticmethod
    def tail(x: Tensor, taps: int, before: Tensor | None, counts: Tensor | None) -> Tensor:
        """The last taps - 1 inputs `[B, taps - 1, C]`, of the first `counts` of `x` `[B, L, C]` in each row."""
        x = F.pad(x, (0, 0, taps - 1, 0)) if before is None else torch.cat([before.to(x.dtype), x], 1)
        if counts is None:
            return x[:, x.shape[1] - taps + 1 :]
        at = counts[:, None] + torch.arange(taps - 1, device=x.device)
        return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))


class LinearMixer(nn.Module):
    """A member of the linear family; subclasses say how the memory decays.

    Attributes:
        name: of its op in `unrolled.looped.ops`.
        delta: whether the memory is corrected by the delta rule, with a rate beta.
        keyed: whether it has keys of its own (HGRN2 has not).
    """

    name = "linear"
    delta = False
    keyed = True

    def __init__(self, config: LT2Config) -> None:
        super().__init__()
        self.config = config
        d, H = config.width, config.heads
        self.heads, self.dk, self.dv = H, config.linear_head_dim, config.linear_value_dim
        self.q = nn.Linear(d, H * self.dk, bias=False)
        if self.keyed:
            self.k = nn.Linear(d, H * self.dk, bias=False)
        self.v = nn.Linear(d, H * self.dv, bias=False)
        self.sizes = [H * self.dk, H * self.dk, H * self.dv] if self.keyed else [H * self.dk, H * self.dv]
        self.conv = ShortConv(sum(self.sizes), config.conv) if config.conv else None
        if self.delta:
            self.b = nn.Linear(d, H, bias=False)
        self.g = nn.Linear(d, H * self.dv, bias=False)
        self.norm = HeadNorm(self.dv)
        self.o = nn.Linear(H * self.dv, d, bias=False)

    @property
    def op(self) -> ModuleType:
        """`unrolled.looped.ops.<name>`."""
        return getattr(ops, self.name)

    def decay(self, x: Tensor) -> Tensor | None:
        """G = log alpha, `[B, L, H]` or `[B, L, H, dk]`, in float32 (float64 of float64); None for no decay."""
        return None

    def forward(self, x: Tensor, span: Span, slot: Slot | None = None, shared: Slot | None = None) -> Tensor:
        """`[B, L, d]` to the same shape; `shared` keeps S if it is not the slot's own."""
        home = shared or slot
        q, k, v = self._project(x, span, slot)
        g = self.decay(x)
        beta = self._beta(x, span) if self.delta else None
        state = None if home is None else home.fixed.get("S")
        if x.shape[1] == 1 and state is not None and span.counts is None and not torch.is_grad_enabled():
            o, state = step(q, k, v, g, beta, state)
        else:
            o, state = self._run(q, k, v, g, beta, state, span, slot)
        if home is not None:
            home.fixed["S"] = state
        o = self.norm(o) * F.silu(self.g(x)).unflatten(-1, (self.heads, self.dv))
        return self.o(o.flatten(2).to(x.dtype))

    def _project(self, x: Tensor, span: Span, slot: Slot | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """q, k and v after convolution, SiLU and norm: `[B, L, H, dk]`, and dv."""
        weights = [self.q, self.k, self.v] if self.keyed else [self.q, self.v]
        parts = [weight(x) for weight in weights]
        if self.conv is not None:
            taps, before = self.config.conv, None if slot is None else slot.fixed.get("conv")
            if slot is not None:
                whole = torch.cat(parts, -1)
                slot.fixed["conv"] = ShortConv.tail(whole, taps, before, span.counts)
                if x.shape[1] == 1:
                    parts = F.silu(self.conv(whole, self.conv.weight, before)).split(self.sizes, -1)
                    return self._heads(parts)
            tails = [None] * len(parts) if before is None else before.split(self.sizes, -1)
            parts = [
                self.conv(part, weight, tail)
                for part, weight, tail in zip(parts, self.conv.weight.split(self.sizes), tails)
            ]
        return self._heads([F.silu(part) for part in parts])

    def _heads(self, parts: Any) -> tuple[Tensor, Tensor | None, Tensor]:
        q, v = (part.unflatten(-1, (self.heads, -1)) for part in (parts[0], parts[-1]))
        k = parts[1].unflatten(-1, (self.heads, -1)) if self.keyed else None
        if self.delta and k is not None:
            q, k = unit(q), unit(k)
        return q, k, v

    def _beta(self, x: Tensor, span: Span) -> Tensor:
        beta = torch.sigmoid(wide(self.b(x)))
        return 2 * beta if self.config.neg_eigval_at(span.loop) else beta

    def _run(
        self, q: Tensor, k: Any, v: Tensor, g: Any, beta: Any, state: Any, span: Span, slot: Any
    ) -> tuple[Tensor, Tensor]:
        given = [x for x in (k, v, g, beta) if x is not None]
        mask = None
        if slot is not None and span.counts is not None:
            mask = torch.arange(q.shape[1], device=q.device) < span.counts[:, None]
        form = "naive" if span.eager else implementation(q.shape[1])
        return getattr(self.op, form)(q, *given, state=state, chunk_size=self.config.chunk, mask=mask)

    def explain(self, device: torch.device) -> tuple[str, str]:
        """Which implementation is used on a device, and why."""
        choice = ops.implementation(device, self.q.weight.dtype)
        return (
            f"ops.{self.name}.chunk by {choice.name}",
            f"{choice.reason}; below {SHORT} tokens, and when decoding, one token after another in torch",
        )


SHORT = 8
"""Tokens below which a token loop is quicker than a chunk on a CPU."""


def implementation(length: int) -> str:
    """Which form of an op a pass of that many tokens takes."""
    return "recurrent" if length < SHORT else "chunk"


def step(
    q: Tensor, k: Tensor | None, v: Tensor, g: Tensor | None, beta: Tensor | None, S: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of `ops.<mixer>.recurrent` without its checks: decoding spends more on those than on the numbers.

    S <- Diag(alpha) S;  u = beta (v - S^T k);  S <- S + k u^T;  o = S^T q / sqrt(dk)        (LT2 2605.20670, table 1)
    """
    dtype, B, H = v.dtype, S.shape[0], S.shape[1]
    dk, dv = S.shape[2:]
    if g is not None:
        S = S * g.exp().reshape(B, H, -1, 1)
        if k is None:
            k = -torch.expm1(g)
    assert k is not None
    k = k.to(S.dtype).reshape(B, H, 1, dk)
    v = v.to(S.dtype).reshape(B, H, 1, dv)
    if beta is not None:
        v = (v - k @ S) * beta.view(B, H, 1, 1)
    S = torch.addcmul(S, k.mT, v)
    o = (q.to(S.dtype).reshape(B, H, 1, dk) * dk**-0.5) @ S
    return o.view(B, 1, H, dv).to(dtype), S


def wide(x: Tensor) -> Tensor:
    """Gates are taken in float32, and in float64 of float64."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor, eps: float = 1e-6) -> Tensor:
    """X / sqrt(|x|^2 + eps) along the last axis, in x's dtype."""
    exact = wide(x)
    return (exact * torch.rsqrt(exact.square().sum(-1, keepdim=True) + eps)).to(x.dtype)


class HeadNorm(nn.Module):
    """RMSNorm of every head's output, eps 1e-5."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, o: Tensor) -> Tensor:
        """`[..., dv]` to the same shape."""
        return F.rms_norm(o, o.shape[-1:], self.weight.to(o.dtype), 1e-5)


class RetNet(LinearMixer):
    """Decay fixed per head: gamma_h = 1 - 2^(-5 - h) (RetNet 2307.08621, eq. 8)."""

    name = "retnet"

    def decay(self, x: Tensor) -> Tensor:
        """Log gamma, the same for every token."""
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        h = torch.arange(self.heads, dtype=exact, device=x.device)
        return torch.log1p(-(2.0 ** (-5 - h))).expand(*x.shape[:2], -1)

    def _run(self, q: Tensor, k: Any, v: Tensor, g: Any, beta: Any, *rest: Any) -> tuple[Tensor, Tensor]:
        return super()._run(q, k, v, None, beta, *rest)


class TimeStep(LinearMixer):
    """Mixers with a time step per token and head: g = -exp(A_log) softplus(x W_a + dt_bias) (Mamba 2312.00752).

    A_log starts as the logarithm of a uniform number in (0, 16), dt log-uniform in [0.001, 0.1].
    """

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        self.a = nn.Linear(config.width, config.heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(config.heads))
        self.dt_bias = nn.Parameter(torch.empty(config.heads))

    def reset(self, rng: torch.Generator | None = None) -> None:
        """Draw A_log and dt_bias."""
        with torch.no_grad():
            draw_rates(self.A_log, self.dt_bias, rng)

    def decay(self, x: Tensor) -> Tensor:
        """Log alpha, `[B, L, H]`."""
        return -wide(self.A_log).exp() * F.softplus(wide(self.a(x)) + wide(self.dt_bias))


def draw_rates(A_log: Tensor, dt_bias: Tensor, rng: torch.Generator | None) -> None:
    """A uniform in (0, 16); dt log-uniform in [0.001, 0.1], dt_bias = softplus^-1(dt)."""
    # 1 - rand is in (0, 1]: a rate of exactly 0 has no logarithm
    A_log.copy_((16 * (1 - torch.rand(A_log.shape, generator=rng))).log())
    low, high = math.log(1e-3), math.log(1e-1)
    dt = (low + (high - low) * torch.rand(dt_bias.shape, generator=rng)).exp()
    dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))


class Mamba2(TimeStep):
    """One decay per token and head (Mamba-2 2405.21060, SSD): the delta rule left out.

    As table 1 of LT2 has it, S <- alpha S + k v^T; Mamba-2's own step size in front of k v^T is left to W_v.
    """

    name = "mamba2"


class GatedDelta(TimeStep):
    """Gated DeltaNet (2412.06464), wired exactly as in flash-linear-attention: about 6 d^2 parameters."""

    name = "gated_delta"
    delta = True


class DeltaNet(LinearMixer):
    """The delta rule without decay (DeltaNet 2406.06484)."""

    name = "deltanet"
    delta = True


class GLA(LinearMixer):
    """One decay per key channel: alpha = sigmoid(x W_1 W_2 + b)^(1/16), W_1 of rank 16 (GLA 2312.06635, section 4.4)."""

    name = "gla"
    RANK, POWER = 16, 16.0

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        self.f1 = nn.Linear(config.width, self.RANK, bias=False)
        self.f2 = nn.Linear(self.RANK, self.heads * self.dk, bias=True)

    def decay(self, x: Tensor) -> Tensor:
        """Log alpha, `[B, L, H, dk]`."""
        return F.logsigmoid(wide(self.f2(self.f1(x)))).unflatten(-1, (self.heads, self.dk)) / self.POWER


class HGRN2(LinearMixer):
    """One decay per key channel, and 1 - alpha for a key: alpha = sigmoid(x W_f) (HGRN2 2404.07904, without lower bound)."""

    name = "hgrn2"
    keyed = False

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        self.f = nn.Linear(config.width, self.heads * self.dk, bias=False)

    def decay(self, x: Tensor) -> Tensor:
        """Log alpha, `[B, L, H, dk]`."""
        return F.logsigmoid(wide(self.f(x))).unflatten(-1, (self.heads, self.dk))


class KDA(LinearMixer):
    """Kimi delta attention (2510.26692): the delta rule with one decay per key channel, which comes first.

    g = -exp(A_log) softplus(x W_1 W_2 + dt_bias), W_1 of rank dk, A_log per head, dt_bias per channel.
    """

    name = "kda"
    delta = True

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        self.f1 = nn.Linear(config.width, self.dk, bias=False)
        self.f2 = nn.Linear(self.dk, self.heads * self.dk, bias=False)
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.dt_bias = nn.Parameter(torch.empty(self.heads * self.dk))

    def reset(self, rng: torch.Generator | None = None) -> None:
        """Draw A_log and dt_bias."""
        with torch.no_grad():
            draw_rates(self.A_log, self.dt_bias, rng)

    def decay(self, x: Tensor) -> Tensor:
        """Log alpha, `[B, L, H, dk]`."""
        step = F.softplus(wide(self.f2(self.f1(x))) + wide(self.dt_bias)).unflatten(-1, (self.heads, self.dk))
        return -wide(self.A_log).exp()[:, None] * step


KINDS = {kind.name: kind for kind in (LinearMixer, RetNet, GLA, Mamba2, HGRN2, DeltaNet, GatedDelta, KDA)}
