"""From logits to a token: greedy, temperature, top-k, top-p, min-p."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.core import seeds

Seeds = int | torch.Generator | Sequence[int] | None


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: temperature first, then the filters, each on what the one before left.

    Attributes:
        temperature: of the softmax; 0 takes the most likely token.
        top_k: the k most likely only.
        top_p: the fewest tokens whose probabilities reach p together (nucleus, 1904.09751).
        min_p: tokens at least p times as likely as the most likely one (2407.01082).

    Raises:
        ValueError: a value out of range.

    Example:
        >>> rule = Sampling(temperature=1.0, top_p=0.6)
        >>> rule.probabilities(torch.tensor([0.5, 0.3, 0.2]).log()).mul(1000).round().tolist()
        [625.0, 375.0, 0.0]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is a number of at least 0 (0 is greedy), got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k keeps at least 1 token, got {self.top_k}")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is a probability in (0, 1], got {value}")

    def probabilities(self, logits: Tensor) -> Tensor:
        """`[..., vocab]` logits to what is drawn from, in at least float32; sums to 1."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
        p = (logits / self.temperature).softmax(-1)
        if self.top_k is not None and self.top_k < p.shape[-1]:
            # by rank, not by value: ties would let more than k through
            kept = p.topk(self.top_k, -1).indices
            p = torch.zeros_like(p).scatter(-1, kept, p.gather(-1, kept))
        if self.top_p is not None and self.top_p < 1:
            ranked, order = p.sort(dim=-1, descending=True, stable=True)
            ranked = ranked / ranked.sum(-1, keepdim=True)
            # a token stays while those before it have not reached p: the first always does
            ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= self.top_p, 0)
            p = torch.zeros_like(p).scatter(-1, order, ranked)
        if self.min_p is not None:
            p = p.masked_fill(p < self.min_p * p.amax(-1, keepdim=True), 0)
        return p / p.sum(-1, keepdim=True)

    def draw(self, logits: Tensor, rng: "Drawer") -> Tensor:
        """`[B, vocab]` logits to `[B]` tokens."""
        if self.temperature == 0:
            return logits.argmax(-1)
        cumulative = self.probabilities(logits).cumsum(-1)
        threshold = rng.uniform(len(logits)).to(cumulative) * cumulative[:, -1]
        # right=True: a threshold of exactly 0 does not choose a token of probability 0
        return torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0].clamp(
            max=logits.shape[-1] - 1
        )


class Drawer:
    """Uniform numbers for a batch: from one generator, or from one seed per row, so that a row does not depend on others.

    Example:
        >>> both, one = Drawer([3, 4], 2), Drawer([4], 1)
        >>> both.uniform(2)[1] == one.uniform(1)[0]
        tensor(True)
    """

    def __init__(self, rng: Seeds, rows: int) -> None:
        self.each: list[torch.Generator | None] | None = None
        self.one: torch.Generator | None = None
        if isinstance(rng, Sequence):
            if len(rng) != rows:
                raise ValueError(f"one seed per row: {rows} rows, got {len(rng)} seeds")
            self.each = [seeds.generator(seed) for seed in rng]
        else:
            self.one = seeds.generator(rng)

    def uniform(self, rows: int) -> Tensor:
        """`[rows]` in [0, 1)."""
        if self.each is not None:
            return torch.stack([torch.rand((), generator=g) for g in self.each])
        device = "cpu" if self.one is None else self.one.device
        return torch.rand(rows, generator=self.one, device=device)
