"""reber: predict the next letter of strings of Reber's grammar, in which the same letter means different things.

Which letters may follow depends on the state of the grammar, and the state on letters before the last one (T after B
leads elsewhere than T after P), so a network without context cannot do it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.core.seeds import generator

LETTERS = "BTSXVPE"
GRAMMAR: dict[int, tuple[tuple[str, int], ...]] = {
    0: (("B", 1),),
    1: (("T", 2), ("P", 3)),
    2: (("S", 2), ("X", 4)),
    3: (("T", 3), ("V", 5)),
    4: (("S", 6), ("X", 3)),
    5: (("V", 6), ("P", 4)),
    6: (("E", 7),),
}
"""State -> (letter, next state), all equally likely; 7 is the end, after which a new string begins (section 5.11)."""

END = 7


class Stream(NamedTuple):
    """Letters of several endless streams, side by side."""

    letters: Tensor
    """`[trials, data]`, index into `LETTERS`."""
    allowed: Tensor
    """`[trials, data, 7]` bool: what the grammar allowed in place of that letter, itself included."""
    states: Tensor
    """`[trials, data]`, state of the grammar before the letter."""

    def patterns(self, trial: int) -> Tensor:
        """The letters of one trial as localist patterns `[data, 7]`."""
        return torch.nn.functional.one_hot(self.letters[trial], len(LETTERS)).to(torch.float32)


def stream(trials: int, *, data: int = 1, rng: int | torch.Generator = 0) -> Stream:
    """Independent endless streams of strings, string after string.

    Example:
        >>> s = stream(1000, data=2, rng=0)
        >>> bool(s.allowed.gather(2, s.letters.unsqueeze(2)).all()), int(s.allowed.sum(2).max())
        (True, 2)
    """
    if trials < 0 or data < 1:
        raise ValueError(f"trials={trials}, data={data}: expected trials >= 0 and at least one stream")
    draws = generator(rng)
    letters = torch.zeros(trials, data, dtype=torch.long)
    states = torch.zeros(trials, data, dtype=torch.long)
    allowed = torch.zeros(trials, data, len(LETTERS), dtype=torch.bool)
    coins = torch.randint(0, 2, (trials, data), generator=draws).tolist()
    for d in range(data):
        state = 0
        for t in range(trials):
            choices = GRAMMAR[state]
            letter, after = choices[coins[t][d] % len(choices)]
            states[t, d], letters[t, d] = state, LETTERS.index(letter)
            allowed[t, d, [LETTERS.index(x) for x, _ in choices]] = True
            state = 0 if after == END else after
    return Stream(letters, allowed, states)


def spell(letters: Tensor) -> str:
    """Letters of indices `[n]`.

    Example:
        >>> spell(torch.tensor([0, 1, 6]))
        'BTE'
    """
    return "".join(LETTERS[i] for i in letters.tolist())


def grammatical(string: str) -> bool:
    """Whether a whole string, B to E, is one of the grammar's.

    Example:
        >>> grammatical("BTSXSE"), grammatical("BTSXTE")
        (True, False)
    """
    state = 0
    for letter in string:
        after = dict(GRAMMAR.get(state, ())).get(letter)
        if after is None:
            return False
        state = after
    return state == END


def correct(prediction: Tensor, allowed: Tensor) -> Tensor:
    """Whether the most active unit is a letter the grammar allows, `[data]` bool; silence predicts nothing.

    Args:
        prediction: activity of the 7 letters in the minus phase, `[data, 7]`.
        allowed: `[data, 7]` bool.

    Example:
        >>> correct(torch.tensor([[0.1, 0.9, 0, 0, 0, 0, 0], [0.0] * 7]), torch.tensor([[False, True] + [False] * 5] * 2))
        tensor([ True, False])
    """
    best = prediction.argmax(-1, keepdim=True)
    return allowed.gather(-1, best).squeeze(-1) & (prediction.amax(-1) > 0)


def chance(trials: int = 20_000, rng: int | torch.Generator = 0) -> dict[str, float]:
    """Shares of correct predictions that need no context: guessing, the best constant, and the best per last letter.

    The last is a bound for any network that sees the letter before and nothing else.

    Example:
        >>> share = chance(2000)
        >>> share["guess"] < share["constant"] < share["last letter"] < 1
        True
    """
    s = stream(trials + 1, rng=rng)
    allowed, last = s.allowed[1:, 0].to(torch.float64), s.letters[:-1, 0]
    per_letter = sum(
        float(allowed[last == i].sum(0).max()) for i in range(len(LETTERS)) if bool((last == i).any())
    )
    return {
        "guess": float(allowed.mean()),
        "constant": float(allowed.mean(0).max()),
        "last letter": per_letter / trials,
    }
