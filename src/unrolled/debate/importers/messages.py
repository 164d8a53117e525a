"""OpenAI messages: {question: [[messages of each agent], right answer]}, the format of debates after Du et al."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unrolled.debate.importers.answers import belief, letters
from unrolled.debate.log import DebateLog, Question


def read(path: Path, answer: Callable[[str, tuple[str, ...]], Any] | None = None) -> DebateLog:
    """Read the log; the k-th assistant message of an agent is its answer in round k.

    Raises:
        ValueError: the file is cut off or no such log; the message names the question.
    """
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no whole JSON file ({error}); was the download or the run cut off?"
        ) from error
    if not isinstance(recorded, dict) or not recorded:
        raise ValueError(
            f"{path}: expected {{question: [[messages of each agent], answer]}}, got {type(recorded).__name__}"
        )
    questions = [_question(text, entry, answer, path) for text, entry in recorded.items()]
    note = "answers carry no probabilities: each is a certain belief" if answer is None else ""
    return DebateLog(questions, str(path), "messages", (note,) if note else ())


def _question(
    text: str, entry: Any, answer: Callable[[str, tuple[str, ...]], Any] | None, path: Path
) -> Question:
    where = f"{path}: question {text[:60]!r}"
    try:
        contexts, right = entry
        said = [[m["content"] or "" for m in context if m["role"] == "assistant"] for context in contexts]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{where} is not [[messages of each agent], answer]: {type(error).__name__}: {error}"
        ) from error
    options = letters(text)
    if len(options) < 2:
        raise ValueError(f"{where} lists no options as 'A) ..., B) ...': beliefs need at least two")
    rounds = max(map(len, said), default=0)
    if not rounds:
        raise ValueError(f"{where} has no answer of any agent")
    beliefs = torch.full((rounds, len(said), len(options)), torch.nan, dtype=torch.float64)
    for agent, words in enumerate(said):
        for t, each in enumerate(words):
            beliefs[t, agent] = belief(each, options, answer)
    texts = [[words[t] if t < len(words) else "" for words in said] for t in range(rounds)]
    truth = options.index(str(right)) if str(right) in options else None
    return Question(text, beliefs, options, tuple(f"agent {i}" for i in range(len(said))), truth, texts)
