"""Swap programs: cells are filled, swapped by instructions, then asked for. State tracking and recall in one.

    c1 v1 c2 v2 ... cn vn | SWAP ci cj  SWAP ck cl ... | ca ? cb ? ...      the target at each ? is what the cell holds

LT2 (2605.20670) reports a curriculum over such programs, n = m, up to 256 cells; the format of its tokens was not found, so
this one is the package's own, and its numbers compare with one another only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.looped.tasks._rng import check_index, distinct, generator


@dataclass(frozen=True)
class Swap:
    """Batches of swap programs over n cells with m instructions and n queries: 4n + 3m tokens.

    Tokens: cells 0 to n_max - 1, values n_max to 2 n_max - 1, then SWAP, ?, PAD. Which n of the n_max cells and values are in
    use is drawn per example; an instruction names two different cells; every cell in use is asked for once, in random
    order. Everything but the answers has target -100.

    Attributes:
        n: cells.
        m: instructions; n when None.
        n_max: cells the vocabulary has room for.
        batch: programs in a batch.
        seed: of all batches.

    Raises:
        ValueError: sizes that cannot be.

    Example:
        >>> task = Swap(n=2, m=1, n_max=2, batch=1)
        >>> tokens, targets = task(0)
        >>> tokens.shape[1] == 4 * 2 + 3 * 1, task.vocab
        (True, 7)
        >>> held = {int(tokens[0, 2]): int(tokens[0, 1]), int(tokens[0, 0]): int(tokens[0, 3])}  # one swap of two cells
        >>> [held[int(c)] for c in tokens[0, 7::2]] == targets[0, 8::2].tolist()
        True
    """

    n: int = 8
    m: int | None = None
    n_max: int = 64
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.n <= self.n_max or self.batch < 1 or (self.m is not None and self.m < 0):
            raise ValueError(
                f"Swap needs 2 <= n <= n_max, m >= 0 and batch >= 1; got n={self.n}, n_max={self.n_max}, m={self.m}, "
                f"batch={self.batch}"
            )

    @property
    def vocab(self) -> int:
        """Tokens there are."""
        return 2 * self.n_max + 3

    @property
    def length(self) -> int:
        """Tokens of a program."""
        return 4 * self.n + 3 * (self.n if self.m is None else self.m)

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """The batch of an index >= 0."""
        rng = generator("swap", self, check_index(index))
        B, n, m = self.batch, self.n, self.n if self.m is None else self.m
        swap, ask = 2 * self.n_max, 2 * self.n_max + 1
        cells = distinct(B, self.n_max, n, rng)
        held = self.n_max + distinct(B, self.n_max, n, rng)  # by place in `cells`
        filled = torch.stack([cells, held], -1).flatten(1)
        first = torch.randint(n, (B, m), generator=rng)
        second = (first + torch.randint(1, n, (B, m), generator=rng)) % n
        program = torch.stack(
            [torch.full((B, m), swap), cells.gather(1, first), cells.gather(1, second)], -1
        ).flatten(1)
        for t in range(m):
            i, j = first[:, t : t + 1], second[:, t : t + 1]
            held = held.scatter(1, i, held.gather(1, j)).scatter(1, j, held.gather(1, i))
        asked = distinct(B, n, n, rng)
        queries = torch.stack([cells.gather(1, asked), torch.full((B, n), ask)], -1).flatten(1)
        answers = torch.stack([torch.full((B, n), -100), held.gather(1, asked)], -1).flatten(1)
        tokens = torch.cat([filled, program, queries], 1)
        return tokens, torch.cat([torch.full_like(filled, -100), torch.full_like(program, -100), answers], 1)


@dataclass
class Curriculum:
    """Stages of growing n = m: a stage is passed at an accuracy of `threshold`, and ends the curriculum at `cap` steps.

    Training is whatever `advance` does; the curriculum only decides what comes next.

    Attributes:
        stages: values of n, in order.
        threshold: accuracy that passes a stage.
        cap: steps at most in a stage.
        every: steps between evaluations.

    Example:
        >>> skill = {"n": 0.0}
        >>> def advance(n, steps):
        ...     skill["n"] += steps / 100
        >>> plan = Curriculum(stages=(2, 4, 8), cap=300, every=100)
        >>> plan.run(advance, lambda n: min(1.0, skill["n"] / n))
        [(2, 200, 1.0), (4, 200, 1.0), (8, 300, 0.875)]
        >>> plan.largest([(2, 200, 1.0), (4, 200, 1.0), (8, 300, 0.875)])
        4
    """

    stages: Sequence[int] = (8, 16, 32, 64)
    threshold: float = 0.90
    cap: int = 1000
    every: int = 100

    def run(
        self, advance: Callable[[int, int], object], evaluate: Callable[[int], float]
    ) -> list[tuple[int, int, float]]:
        """Go through the stages.

        Args:
            advance: `(n, steps)` trains that long on programs of n cells.
            evaluate: `(n)` gives the accuracy there.

        Returns:
            (n, steps taken, last accuracy) of every stage that was begun.
        """
        if not self.stages or self.every < 1 or self.cap < 1 or not 0.0 < self.threshold <= 1.0:
            raise ValueError(
                f"a curriculum needs stages, every >= 1, cap >= 1 and 0 < threshold <= 1; got {self}"
            )
        went: list[tuple[int, int, float]] = []
        for n in self.stages:
            steps, score = 0, 0.0
            while steps < self.cap and score < self.threshold:
                taken = min(self.every, self.cap - steps)
                advance(n, taken)
                steps += taken
                score = evaluate(n)
            went.append((n, steps, score))
            if score < self.threshold:
                break
        return went

    def largest(self, went: Sequence[tuple[int, int, float]]) -> int:
        """The largest n that was passed; 0 for none."""
        return max((n for n, _, score in went if score >= self.threshold), default=0)
