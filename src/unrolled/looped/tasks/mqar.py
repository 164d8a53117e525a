"""Multi-query associative recall, as zoology generates it: pairs first, then each key once more, its value wanted.

    k1 v1 k2 v2 ... kD vD | noise kj noise ... ki ...
                                  |            |
    target at that place:         vj           vi

Arora et al., 2312.04927; the generator of HazyResearch/zoology (data/multiquery_ar.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.looped.tasks._rng import check_index, distinct, generator


@dataclass(frozen=True)
class MQAR:
    """Batches of multi-query associative recall.

    Keys are drawn from [1, vocab / 2) and values from [vocab / 2, vocab), each distinct within an example. After the 2D
    tokens of the pairs, key j stands at 2D + 2 gap_j; gaps are drawn without replacement from 0, ..., (length - 2D) / 2 - 1
    with p(i) proportional to a (i + 1)^(a - 1). The value is the target at the query itself, since the next token is what is
    predicted; every other target is -100. Places without a query hold random tokens.

    Attributes:
        length: tokens in an example.
        pairs: D, key-value pairs; 4 D <= length.
        vocab: V; tokens 0 to V - 1.
        batch: examples in a batch.
        seed: of all batches.
        power: a; small means that queries come soon after the pairs.
        noise: fill places without a query with random tokens; zeros when False.

    Raises:
        ValueError: sizes that cannot be; the message names them.

    Example:
        >>> tokens, targets = MQAR(length=16, pairs=2, vocab=64, batch=1)(0)
        >>> asked = targets[0] != -100
        >>> memory = dict(zip(tokens[0, :4:2].tolist(), tokens[0, 1:4:2].tolist()))
        >>> [memory[k] for k in tokens[0, asked].tolist()] == targets[0, asked].tolist(), int(asked.sum())
        (True, 2)
    """

    length: int = 64
    pairs: int = 4
    vocab: int = 8192
    batch: int = 64
    seed: int = 0
    power: float = 0.01
    noise: bool = True

    def __post_init__(self) -> None:
        if self.length % 2 or self.pairs < 1 or 4 * self.pairs > self.length:
            raise ValueError(
                f"MQAR needs an even length of at least 4 * pairs >= 4, got length={self.length} and pairs={self.pairs}"
            )
        if self.vocab <= self.length or self.vocab // 2 - 1 < self.pairs:
            raise ValueError(
                f"MQAR needs vocab > length ({self.length}) and more than {self.pairs} keys, got vocab={self.vocab}"
            )
        if self.batch < 1 or self.power <= 0:
            raise ValueError(f"MQAR needs batch >= 1 and power > 0, got {self.batch} and {self.power}")

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """The batch of an index >= 0."""
        rng = generator("mqar", self, check_index(index))
        B, D, V = self.batch, self.pairs, self.vocab
        keys = 1 + distinct(B, V // 2 - 1, D, rng)
        values = V // 2 + distinct(B, V - V // 2, D, rng)
        places = 2 * D + 2 * self._gaps(rng)
        tokens = torch.zeros(B, self.length, dtype=torch.long)
        tokens[:, 0 : 2 * D : 2], tokens[:, 1 : 2 * D : 2] = keys, values
        tokens.scatter_(1, places, keys)
        targets = torch.full_like(tokens, -100).scatter_(1, places, values)
        if self.noise:
            tokens = torch.where(tokens == 0, torch.randint(V, tokens.shape, generator=rng), tokens)
        return tokens, targets

    def chances(self) -> Tensor:
        """p(i), the chance that a gap drawn first is i: `[(length - 2 pairs) / 2]`, float64."""
        i = torch.arange(1, (self.length - 2 * self.pairs) // 2 + 1, dtype=torch.float64)
        p = self.power * i ** (self.power - 1)
        return p / p.sum()

    def _gaps(self, rng: torch.Generator) -> Tensor:
        # Largest log p + Gumbel noise, in order: draws without replacement, one after another (Yellott 1977).
        p = self.chances().expand(self.batch, -1)
        noise = torch.empty_like(p, memory_format=torch.contiguous_format).exponential_(generator=rng)
        return (p.log() - noise.log()).topk(self.pairs, dim=1).indices
