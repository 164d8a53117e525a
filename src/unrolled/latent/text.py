"""From problems to token ids and back: Coconut's text format, marker tokens, and a tokenizer of whole words."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.latent.tasks.problem import Problem

START, END, THOUGHT = "<|start-latent|>", "<|end-latent|>", "<|latent|>"
MARKERS = (START, END, THOUGHT)
"""Coconut's special tokens (2412.06769). A thought's own token is never read; it shows where a thought was."""
IGNORED = -100
"""The label of a token that is not supervised."""


@dataclass(frozen=True)
class Example:
    """One row of a batch: what is read, how many thoughts follow, and what is then said.

    Attributes:
        question: token ids up to the first thought, the start marker included where the method has one.
        thoughts: how many.
        tail: token ids after the thoughts, the end marker included where the method has one.
        labels: `IGNORED`, or the id to predict, for every token of the tail.
    """

    question: tuple[int, ...]
    thoughts: int
    tail: tuple[int, ...]
    labels: tuple[int, ...]

    def __post_init__(self):
        if not self.question:
            raise ValueError("a question of no tokens: a row of nothing but padding cannot be read")
        if self.thoughts < 0:
            raise ValueError(f"the number of thoughts must be at least 0, got {self.thoughts}")
        if len(self.tail) != len(self.labels):
            raise ValueError(f"{len(self.tail)} tokens in the tail but {len(self.labels)} labels")


class Words:
    """A tokenizer of whole words, for tasks whose vocabulary is known: no files, no network.

    Words, digits (or whole numbers), marks of punctuation and line breaks are tokens; spaces are not kept. Ids: 0 is
    padding, 1 the end of a text, then the markers, then words in alphabetical order.

    Args:
        texts: what to take words from.
        numbers: "digits", each a token; or "whole", as nodes of a graph are.
        words: the vocabulary itself, in place of texts.

    Example:
        >>> words = Words(["Every cat is a pet."])
        >>> words.decode(words.encode("Every cat is a pet."))
        'Every cat is a pet.'
    """

    pad_token_id, eos_token_id = 0, 1

    def __init__(
        self, texts: Iterable[str] = (), *, numbers: str = "digits", words: Sequence[str] | None = None
    ):
        if numbers not in ("digits", "whole"):
            raise ValueError(f"numbers is 'digits' or 'whole', got {numbers!r}")
        self.numbers = numbers
        number = r"\d" if numbers == "digits" else r"\d+"
        self._pattern = re.compile(rf"<\|[a-z-]+\|>|\[\w\]|<<|>>|###|[A-Za-z]+|{number}|\n|[^\sA-Za-z\d]")
        if words is None:
            found = {piece for text in texts for piece in self._pattern.findall(text)}
            words = sorted((found | {"\n", "###"}) - set(MARKERS))
        self.words = ("<pad>", "<eos>", *MARKERS, *words)
        self.ids = {word: k for k, word in enumerate(self.words)}

    @classmethod
    def of(cls, problems: Iterable[Problem], *, numbers: str = "digits") -> "Words":
        """The tokenizer of all words in some problems, and of all digits (or numbers below 100).

        Example:
            >>> from unrolled.latent import tasks
            >>> len(Words.of(tasks.arithmetic(20, seed=0))) > 20
            True
        """
        every = " ".join(str(n) for n in range(10 if numbers == "digits" else 100))
        return cls([*(problem.text() for problem in problems), every], numbers=numbers)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Token ids.

        Raises:
            ValueError: a word that is not in the vocabulary.
        """
        pieces = self._pattern.findall(text)
        unknown = next((piece for piece in pieces if piece not in self.ids), None)
        if unknown is not None:
            raise ValueError(
                f"the word {unknown!r} is not among the {len(self.words)} this tokenizer was made from; "
                "make it from problems of the same kind: Words.of(problems)"
            )
        return [self.ids[piece] for piece in pieces]

    def decode(self, ids: Iterable[int]) -> str:
        """The text, with the spaces English has."""
        text = ""
        for piece in (self.words[i] for i in ids if i not in (self.pad_token_id, self.eos_token_id)):
            tight = (
                not text
                or text[-1] in "\n<"
                or piece in ".,?!:\n>"
                or (text[-1].isdigit() and piece.isdigit())
            )
            text += piece if tight else f" {piece}"
        return text

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as JSON."""
        kept = {"numbers": self.numbers, "words": self.words[2 + len(MARKERS) :]}
        Path(path).write_text(json.dumps(kept, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Words":
        """Read what `save` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


class Text:
    """A tokenizer as this package uses one: Hugging Face's, `Words`, or anything with `encode` and `decode`.

    Raises:
        ValueError: no id for the end of a text, or, where `markers` are needed, a marker that is not one token.
    """

    def __init__(self, tokenizer: Any, *, markers: bool):
        self.tokenizer = tokenizer
        eos = getattr(tokenizer, "eos_token_id", None)
        if eos is None:
            raise ValueError(f"{type(tokenizer).__name__} has no eos_token_id: set tokenizer.eos_token")
        self.eos: int = eos
        pad = getattr(tokenizer, "pad_token_id", None)
        self.pad: int = self.eos if pad is None else pad
        self.start = self.end = -1
        if markers:
            found = {marker: self.encode(marker) for marker in (START, END)}
            unknown = getattr(tokenizer, "unk_token_id", None)
            missing = [marker for marker, ids in found.items() if len(ids) != 1 or ids[0] == unknown]
            if missing:
                raise ValueError(
                    f"the tokenizer lacks the marker token {missing[0]!r}: call latent.add_markers(model, tokenizer) before the Thinker is made"
                )
            self.start, self.end = found[START][0], found[END][0]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        try:
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        except TypeError:
            return list(self.tokenizer.encode(text))
        except ValueError:
            if text in MARKERS:
                return []
            raise

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(list(ids))

    def question(self, question: str, *, markers: bool) -> tuple[int, ...]:
        """Token ids of a question, a line break after it."""
        ids = self.encode(question if question.endswith("\n") else question + "\n")
        return (*ids, self.start) if markers else tuple(ids)

    def example(self, problem: Problem, thoughts: int, steps: Sequence[str], *, markers: bool) -> Example:
        """A problem with `thoughts` thoughts in front of `steps` of its reasoning (Coconut 2412.06769, dataset.py).

        Supervised are the steps, "### answer" and the end of the text; markers are not.
        """
        said = [token for step in steps for token in self.encode(step + "\n")]
        said += [*self.encode(f"### {problem.answer}"), self.eos]
        front = (self.end,) if markers else ()
        return Example(
            self.question(problem.question, markers=markers),
            thoughts,
            (*front, *said),
            (*(IGNORED for _ in front), *said),
        )


def add_markers(model: Any, tokenizer: Any, *, like: str = "<<") -> None:
    """Give a Hugging Face tokenizer and model Coconut's marker tokens; their embeddings begin as that of `like`.

    Both are changed in place. A marker that is there already stays as it is.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        like: a text whose first token the new embeddings, and rows of the head, are copied from.
    """
    known = set(tokenizer.get_vocab())
    new = [marker for marker in MARKERS if marker not in known]
    if not new:
        return
    [source, *_] = tokenizer.encode(like, add_special_tokens=False)
    tokenizer.add_tokens(new, special_tokens=True)
    if model.get_input_embeddings().weight.shape[0] < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer))
    with torch.no_grad():
        for weight in {
            id(w): w for w in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
        }.values():
            for marker in new:
                weight[tokenizer.convert_tokens_to_ids(marker)] = weight[source]


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Tensor, Tensor | None]:
    """Rows of token ids as `[B, L]`, and which are there, or None where all are.

    Example:
        >>> pad_left([[1, 2], [3]], 0, "cpu")
        (tensor([[1, 2],
                [0, 3]]), tensor([[ True,  True],
                [False,  True]]))
    """
    return _pad(rows, pad, device, left=True)


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Tensor, Tensor | None]:
    """The same, with the padding at the end."""
    return _pad(rows, pad, device, left=False)


def _pad(rows: Sequence[Sequence[int]], pad: int, device: Any, *, left: bool) -> tuple[Tensor, Tensor | None]:
    longest = max(len(row) for row in rows)
    spare = [longest - len(row) for row in rows]
    if left:
        ids = [[pad] * n + list(row) for n, row in zip(spare, rows, strict=True)]
        there = [[False] * n + [True] * len(row) for n, row in zip(spare, rows, strict=True)]
    else:
        ids = [list(row) + [pad] * n for n, row in zip(spare, rows, strict=True)]
        there = [[True] * len(row) + [False] * n for n, row in zip(spare, rows, strict=True)]
    valid = torch.tensor(there, device=device) if any(spare) else None
    return torch.tensor(ids, device=device), valid
