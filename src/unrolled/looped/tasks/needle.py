"""A needle in a haystack: one key and its value somewhere in filler, asked for at the end.

    filler ... MARK key v1 ... vk ... filler | ASK key v1 ... vk        the targets are v1 ... vk, from the last key on

With more than one needle each has a key of its own and one is asked for. The format is the package's own; the published
NIAH numbers are of text.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.looped.tasks._rng import check_index, distinct, generator


@dataclass(frozen=True)
class Needle:
    """Batches of haystacks of exactly `length` tokens.

    Tokens: filler 0 to filler - 1, then keys, then values, then MARK and ASK. Each haystack is cut into as many equal
    stretches as there are needles, each with one needle at a random place in it, so that none overlap. The answer is part
    of the tokens, for the value's later tokens to be predicted from its first: a target stands one place before its token.

    Attributes:
        length: tokens, question and answer included.
        needles: how many; the one asked for is random.
        size: k, tokens of a value.
        depth: place of the needle that is asked for, from 0 (the beginning) to 1; random when None. Needs `needles=1`.
        filler: filler tokens there are.
        keys: keys there are.
        values: value tokens there are.
        batch: haystacks in a batch.
        seed: of all batches.

    Raises:
        ValueError: needles that do not fit, or sizes that cannot be.

    Example:
        >>> task = Needle(length=12, size=2, depth=0.0, batch=1)
        >>> tokens, targets = task(0)
        >>> tokens[0, :4].tolist() == [task.mark, *tokens[0, 9:12].tolist()], targets[0, 9:11].tolist() == tokens[0, 10:].tolist()
        (True, True)
    """

    length: int = 256
    needles: int = 1
    size: int = 1
    depth: float | None = None
    filler: int = 64
    keys: int = 64
    values: int = 64
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.needles, self.size, self.filler, self.values, self.batch) < 1 or self.keys < self.needles:
            raise ValueError(f"Needle needs sizes of at least 1 and a key for every needle, got {self}")
        if self._stretch < 2 + self.size:
            raise ValueError(
                f"{self.needles} needles of {2 + self.size} tokens and a question of {2 + self.size} do not fit into "
                f"length={self.length}: at least {(self.needles + 1) * (2 + self.size)} are needed"
            )
        if self.depth is not None and (self.needles > 1 or not 0.0 <= self.depth <= 1.0):
            raise ValueError(
                f"depth is between 0 and 1 and for a single needle, got depth={self.depth} and needles={self.needles}"
            )

    @property
    def mark(self) -> int:
        """The token before a needle."""
        return self.filler + self.keys + self.values

    @property
    def vocab(self) -> int:
        """Tokens there are."""
        return self.mark + 2

    @property
    def _stretch(self) -> int:
        return (self.length - 2 - self.size) // self.needles

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """The batch of an index >= 0."""
        rng = generator("needle", self, check_index(index))
        B, N, k = self.batch, self.needles, self.size
        tokens = torch.randint(self.filler, (B, self.length), generator=rng)
        keys = self.filler + distinct(B, self.keys, N, rng)
        values = self.filler + self.keys + torch.randint(self.values, (B, N, k), generator=rng)
        room = self._stretch - 2 - k
        place = torch.randint(room + 1, (B, N), generator=rng)
        if self.depth is not None:
            place = torch.full((B, N), round(self.depth * room))
        place = place + self._stretch * torch.arange(N)
        needle = torch.cat([torch.full((B, N, 1), self.mark), keys[..., None], values], -1)
        tokens.scatter_(1, (place[..., None] + torch.arange(2 + k)).flatten(1), needle.flatten(1))
        asked = torch.randint(N, (B, 1), generator=rng)
        answer = values[torch.arange(B), asked[:, 0]]
        tokens[:, -2 - k] = self.mark + 1
        tokens[:, -1 - k] = keys.gather(1, asked)[:, 0]
        tokens[:, -k:] = answer
        targets = torch.full_like(tokens, -100)
        targets[:, -1 - k : -1] = answer
        return tokens, targets
