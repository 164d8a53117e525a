"""From an answer in words to a belief."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_THINK = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"\\boxed\{\s*(?:\\text\{)?\(?([A-Za-z])\)?\}?\s*\}|\(([A-Z])\)")
_OPTION = re.compile(r"(?:^|[\s:,(])([A-Z])[).]\s")


def letter(text: str, options: Sequence[str]) -> str | None:
    r"""The last "(X)" or "\boxed{X}" outside `<think>`, if X is an option; None otherwise.

    Example:
        >>> letter("I first thought (A). <think>(C)?</think> So: (B)", "ABC")
        'B'
        >>> letter("Hard to say.", "ABC") is None
        True
    """
    found = [a or b for a, b in _ANSWER.findall(_THINK.sub(" ", text))]
    last = found[-1].upper() if found else ""
    return last if last in tuple(options) else None


def letters(question: str) -> tuple[str, ...]:
    """The options that a question lists as "A) ..., B) ...": A, B, ... as far as the sequence goes.

    Example:
        >>> letters("Which? : A) one, B) two, C) three Answer in English.")
        ('A', 'B', 'C')
    """
    found: list[str] = []
    for match in _OPTION.finditer(question):
        if match.group(1) == chr(ord("A") + len(found)):
            found.append(match.group(1))
    return tuple(found)


def belief(
    text: str, options: tuple[str, ...], answer: Callable[[str, tuple[str, ...]], Any] | None
) -> Tensor:
    """What an answer says, `[K]`; NaN where nothing was found.

    Raises:
        ValueError: `answer` returned something that is neither option, index, probabilities nor None.
    """
    said = (answer or letter)(text, options)
    made = torch.full((len(options),), torch.nan, dtype=torch.float64)
    if said is None:
        return made
    if isinstance(said, str | int) and not isinstance(said, bool):
        index = said if isinstance(said, int) else options.index(said) if said in options else -1
        if 0 <= index < len(options):
            return torch.nn.functional.one_hot(torch.tensor(index), len(options)).double()
        raise ValueError(
            f"answer= returned {said!r}, which is none of the options {', '.join(options)}; return None if there is no answer"
        )
    try:
        values = torch.as_tensor(said, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        values = made[:0]
    if values.shape != made.shape:
        raise ValueError(
            f"answer= returned {said!r}; expected an option, its index, {len(options)} probabilities, or None"
        )
    return values
