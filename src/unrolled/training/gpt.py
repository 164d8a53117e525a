r"""A small readable GPT: pre-norm RMSNorm, rotary positions, tied embeddings, byte-level unless told otherwise.

Every matrix is a parameter of its own, named for what it is, so that an optimizer recipe or a grouping is a short
regular expression over parameter names:

    embed.weight                        [vocab, width]      token embedding, and the read-out (tied)
    blocks.3.attn.q.weight  (k, v, o)   [width, width]      QK is `attn\.[qk]\.`, VO is `attn\.[vo]\.`
    blocks.3.ffn.up.weight              [hidden, width]     FFN is `ffn\.`
    blocks.3.ffn.down.weight            [width, hidden]
    blocks.3.norm1.weight  (norm2)      [width]
    norm.weight                         [width]             before the read-out

There are no biases. Rotary positions: Su et al., 2104.09864; RMSNorm: Zhang and Sennrich, 1910.07467.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.core import seeds


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    Raises:
        ValueError: sizes that cannot be; the message names them.

    Example:
        >>> GPTConfig(layers=2, heads=2, width=32).hidden
        128
    """

    layers: int = 4
    """blocks"""
    heads: int = 4
    """attention heads; width / heads is even"""
    width: int = 128
    """residual stream"""
    context: int = 256
    """longest sequence, in tokens"""
    vocab: int = 256
    """tokens; 256 are the bytes"""
    hidden: int = 0
    """of the feed-forward; 0 means 4 * width"""
    dropout: float = 0.0
    """probability, on the embedding and on what each branch adds"""
    qk_norm: bool = False
    """RMSNorm without gain on q and k, per head, after the rotation (which keeps lengths)"""
    attention: str = "sdpa"
    """"sdpa" is torch's fused attention; "eager" spells softmax(q k^T) v out, differentiable to any order"""
    rope_base: float = 10_000.0
    """of the rotary frequencies"""
    norm_eps: float = 1e-5
    """added to the mean square"""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context", "vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"GPTConfig.{name} is at least 1, got {getattr(self, name)}")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"GPTConfig: each head gets width / heads channels and rotary positions turn them in pairs, so "
                f"that number must be even; got width {self.width} and {self.heads} heads"
            )
        if self.attention not in ("sdpa", "eager"):
            raise ValueError(f'GPTConfig.attention is "sdpa" or "eager", got {self.attention!r}')
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"GPTConfig.dropout is a probability in [0, 1), got {self.dropout}")
        if self.hidden < 0:
            raise ValueError(f"GPTConfig.hidden is a size, or 0 for 4 * width; got {self.hidden}")
        if self.hidden == 0:
            object.__setattr__(self, "hidden", 4 * self.width)


def tiny() -> GPTConfig:
    """Trains in seconds on a core: 2 layers, 4 heads, width 64, context 64, bytes; 0.1 M parameters."""
    return GPTConfig(layers=2, heads=4, width=64, context=64)


def small() -> GPTConfig:
    """Trains in minutes on two cores: 4 layers, 4 heads, width 128, context 128, bytes; 0.8 M parameters."""
    return GPTConfig(layers=4, heads=4, width=128, context=128)


def gpt124m() -> GPTConfig:
    """The 124M shape: 12 layers, 12 heads, width 768, context 1024, the 50,257 tokens of GPT-2; for a GPU."""
    return GPTConfig(layers=12, heads=12, width=768, context=1024, vocab=50_257)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (1910.07467, eq. 4), in plain operators: differentiable
    to any order, and as quick on CPU as torch's own.

    Example:
        >>> RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0])).square().mean().item()
        1.0
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to the same shape."""
        return rms_normalize(x, self.eps) * self.weight


def rms_normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """`x` scaled to a root mean square of 1 along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rotary_angles(length: int, size: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of t * base^(-2i / size), each `[length, size / 2]` (2104.09864, eq. 15).

    Taken in at least float32 and only then cast: a bfloat16 model would otherwise lose track of late positions.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    rate = base ** (-torch.arange(0, size, 2, device=like.device, dtype=exact) / size)
    angle = torch.outer(torch.arange(length, device=like.device, dtype=exact), rate)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i + size/2}) of `[batch, heads, length, size]` by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Causal self-attention with one matrix each for q, k, v and o."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.q, self.k, self.v, self.o = (nn.Linear(config.width, config.width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`[batch, length, width]` to the same shape."""
        batch, length, width = x.shape
        heads = (batch, length, self.config.heads, width // self.config.heads)
        q, k, v = (layer(x).view(heads).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.config.qk_norm:
            q, k = rms_normalize(q, self.config.norm_eps), rms_normalize(k, self.config.norm_eps)
        attend = eager_attention if self.config.attention == "eager" else _fused_attention
        return self.o(attend(q, k, v).transpose(1, 2).reshape(batch, length, width))


def eager_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(size), causal) v, spelt out: `[batch, heads, length, size]` to the same shape.

    Example:
        >>> x = torch.ones(1, 1, 3, 2)
        >>> torch.equal(eager_attention(x, x, x), x)
        True
    """
    length = q.shape[-2]
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ v


def _fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class FeedForward(nn.Module):
    """down(gelu(up(x)))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to the same shape."""
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """x + attn(norm1(x)), then x + ffn(norm2(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.width, config.norm_eps)
        self.attn = Attention(config)
        self.norm2 = RMSNorm(config.width, config.norm_eps)
        self.ffn = FeedForward(config)
        self.dropout = config.dropout

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`[batch, length, width]` to the same shape."""
        x = x + self._drop(self.attn(self.norm1(x), cos, sin))
        return x + self._drop(self.ffn(self.norm2(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class GPT(nn.Module):
    """A causal language model: `model(tokens) -> logits`.

    Matrices start normal with standard deviation (3 width)^-1/2, which is GPT-2's 0.02 at width 768; those that
    write into the residual stream (`attn.o`, `ffn.down`) are divided by sqrt(2 layers). Gains start at 1.

    Args:
        config: its shape.
        rng: seed or generator of the initial weights; two models with the same seed are equal.

    Example:
        >>> model = GPT(tiny())
        >>> model(torch.zeros(1, 8, dtype=torch.long)).shape
        torch.Size([1, 8, 256])
    """

    def __init__(self, config: GPTConfig, *, rng: int | torch.Generator = 0) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        generator = seeds.generator(rng)
        std = (3 * config.width) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("attn.o.weight", "ffn.down.weight"))
                scale = std / (2 * config.layers) ** 0.5 if residual else std
                nn.init.normal_(parameter, std=scale, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every position.

        Args:
            tokens: `[batch, length]` integers in [0, vocab), int64 or int32.

        Returns:
            `[batch, length, vocab]`.

        Raises:
            TypeError: tokens are not int64 or int32.
            ValueError: wrong shape, longer than the context, or a token outside the vocabulary (the last is found on
                CPU; on a GPU it is the device-side assertion of `embedding`).
        """
        config = self.config
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens are int64 or int32, got {tokens.dtype}: pass tokens.long()")
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise ValueError(f"tokens are [batch, length], got {tuple(tokens.shape)}")
        if tokens.shape[1] > config.context:
            raise ValueError(
                f"a sequence of {tokens.shape[1]} tokens is longer than the context of {config.context}: cut it, or "
                f"build the model with GPTConfig(context={tokens.shape[1]})"
            )
        try:
            x = self.embed(tokens)
        except IndexError:
            low, high = int(tokens.min()), int(tokens.max())
            raise ValueError(
                f"tokens run from {low} to {high}, this model knows 0 to {config.vocab - 1}: tokenizer and "
                f"GPTConfig(vocab=...) must agree"
            ) from None
        if config.dropout:
            x = F.dropout(x, config.dropout, self.training)
        cos, sin = rotary_angles(tokens.shape[1], config.width // config.heads, config.rope_base, x)
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(self.norm(x), self.embed.weight)

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        rng: int | torch.Generator | None = 0,
    ) -> Tensor:
        """Continue sequences by sampling; each token sees at most the last `context` tokens.

        Args:
            tokens: `[batch, n]` with n >= 1.
            length: tokens to add.
            temperature: of the softmax; 0 takes the most likely token.
            top_k: sample among the k most likely only.
            rng: seed or generator; None for torch's global one.

        Returns:
            `[batch, n + length]`.

        Raises:
            ValueError: a negative temperature or length, or top_k below 1.
        """
        if temperature < 0 or length < 0 or (top_k is not None and top_k < 1):
            raise ValueError(
                f"generate needs temperature >= 0, length >= 0 and top_k >= 1; got {temperature}, {length}, {top_k}"
            )
        generator = seeds.generator(rng, tokens.device)
        training = self.training
        self.eval()
        try:
            for _ in range(length):
                logits = self(tokens[:, -self.config.context :])[:, -1].float()
                if top_k is not None and top_k < logits.shape[-1]:
                    floor = logits.topk(top_k).values[:, -1:]
                    logits = logits.masked_fill(logits < floor, -torch.inf)
                if temperature == 0:
                    new = logits.argmax(-1, keepdim=True)
                else:
                    new = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
                tokens = torch.cat([tokens, new.to(tokens.dtype)], dim=1)
        finally:
            self.train(training)
        return tokens


def loss(model: Any, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the next token, in nats, summed over the batch, and how many tokens were counted.

    Args:
        model: anything that maps tokens `[batch, length]` to logits `[batch, length, vocab]`, wrapped or not.
        batch: tokens and targets of one shape; targets of -100 are left out.

    Returns:
        The sum and the count, both 0-dimensional: the mean loss is their ratio.

    Raises:
        ValueError: tokens and targets differ in shape.

    Example:
        >>> flat = lambda tokens: torch.zeros(*tokens.shape, 4)
        >>> total, count = loss(flat, (torch.zeros(1, 3).long(), torch.tensor([[1, 2, -100]])))
        >>> round(total.item(), 4), count.item()  # 2 ln 4
        (2.7726, 2)
    """
    tokens, targets = batch
    if tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets have one shape, got {tuple(tokens.shape)} and {tuple(targets.shape)}"
        )
    logits = model(tokens).flatten(0, 1)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    summed = F.cross_entropy(logits, targets.flatten().long(), ignore_index=-100, reduction="sum")
    return summed, (targets != -100).sum()
