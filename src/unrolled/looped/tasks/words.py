"""Words of a group: random elements come in, the product so far goes out. Parity is the words of Z2.

A state-tracking task: one linear recurrence S -> A_t S with A_t from a set of matrices can follow a group only if those
matrices can represent it. Reflections (det -1) need eigenvalues below 0, which beta in [0, 1] does not give. The words of
A5 and S5 are complete for NC1 (Barrington 1989): no fixed number of parallel layers of bounded width follows them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import torch
from torch import Tensor

from unrolled.looped.tasks._rng import check_index, generator


def _even(p: tuple[int, ...]) -> bool:
    return sum(p[i] > p[j] for j in range(len(p)) for i in range(j)) % 2 == 0


_GROUPS: dict[str, tuple[int, Callable[[tuple[int, ...]], bool]]] = {
    "Z2": (2, lambda p: True),
    "S3": (3, lambda p: True),
    "S4": (4, lambda p: True),
    "A5": (5, _even),
    "S5": (5, lambda p: True),
}

GROUPS = tuple(_GROUPS)
"""Z2 (parity), S3, S4, A5, S5."""


@cache
def elements(group: str) -> tuple[tuple[int, ...], ...]:
    """The permutations of a group in lexicographic order, the identity first: element e maps i to `elements[e][i]`.

    Raises:
        ValueError: an unknown group.

    Example:
        >>> elements("Z2"), [len(elements(name)) for name in GROUPS]
        (((0, 1), (1, 0)), [2, 6, 24, 60, 120])
    """
    if group not in _GROUPS:
        raise ValueError(f"no group {group!r}; there are {', '.join(GROUPS)}")
    n, keep = _GROUPS[group]
    return tuple(p for p in permutations(range(n)) if keep(p))


@cache
def table(group: str) -> Tensor:
    """`[order, order]`: `table[a, b]` is a after b, the element that maps i to a(b(i)).

    Example:
        >>> table("Z2")
        tensor([[0, 1],
                [1, 0]])
    """
    listed = elements(group)
    number = {p: e for e, p in enumerate(listed)}
    return torch.tensor([[number[tuple(a[i] for i in b)] for b in listed] for a in listed])


@dataclass(frozen=True)
class Words:
    """Batches of words x_1 x_2 ... x_L of a group; the target at t is x_t after ... after x_1.

    Attributes:
        group: one of `GROUPS`.
        length: L; with `shortest`, the longest.
        batch: words in a batch.
        seed: of all batches.
        shortest: every batch has a length of its own, drawn evenly from shortest to length; None means always `length`.
        transpositions: draw only elements that swap two points (and the identity), not all of the group.

    Raises:
        ValueError: an unknown group, sizes that cannot be, or transpositions of a group without any.

    Example:
        >>> tokens, targets = Words("S3", length=4, batch=1)(0)
        >>> x, product = tokens[0].tolist(), table("S3")
        >>> targets[0, 1].item() == product[x[1], x[0]].item()
        True
    """

    group: str = "Z2"
    length: int = 40
    batch: int = 64
    seed: int = 0
    shortest: int | None = None
    transpositions: bool = False

    def __post_init__(self) -> None:
        elements(self.group)
        low = 1 if self.shortest is None else self.shortest
        if self.batch < 1 or not 1 <= low <= self.length:
            raise ValueError(
                f"Words needs batch >= 1 and 1 <= shortest <= length, got batch={self.batch}, "
                f"shortest={self.shortest}, length={self.length}"
            )
        if self.transpositions and len(self._letters()) < 2:
            raise ValueError(f"{self.group} holds no transposition: it has even permutations only")

    @property
    def vocab(self) -> int:
        """Tokens: the order of the group."""
        return len(elements(self.group))

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """The batch of an index >= 0."""
        rng = generator("words", self, check_index(index))
        length = self.length
        if self.shortest is not None:
            length = int(torch.randint(self.shortest, self.length + 1, (), generator=rng))
        letters = self._letters()
        tokens = letters[torch.randint(len(letters), (self.batch, length), generator=rng)]
        return tokens, self.products(tokens)

    def products(self, tokens: Tensor) -> Tensor:
        """The running products of words `[batch, length]`."""
        # A scan by doubling: after the round of stride s, made[t] is the product of the last 2s letters up to t.
        product, made, stride = table(self.group), tokens, 1
        while stride < tokens.shape[1]:
            made = torch.cat([made[:, :stride], product[made[:, stride:], made[:, :-stride]]], 1)
            stride *= 2
        return made

    def _letters(self) -> Tensor:
        listed = elements(self.group)
        if not self.transpositions:
            return torch.arange(len(listed))
        moved = [sum(i != j for i, j in enumerate(p)) for p in listed]
        return torch.tensor([e for e, count in enumerate(moved) if count in (0, 2)])
