"""What a debate leaves on disk: answers under the hash of what was asked, and the trace, line by line."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from unrolled.debate.agents import Reply
from unrolled.debate.log import DebateLog, Question

VERSION = 1


class Cache:
    """Answers by the SHA-256 of agent and request; each file is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(asked: dict[str, Any]) -> str:
        """The address of an answer."""
        return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def get(self, key: str) -> Reply | None:
        """The answer, or None; a damaged file counts as none."""
        try:
            found = json.loads((self.folder / key[:2] / f"{key}.json").read_text(encoding="utf-8"))
            belief = found.pop("belief")
            return Reply(belief=None if belief is None else tuple(belief), **found)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer."""
        place = self.folder / key[:2] / f"{key}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_suffix(f".{os.getpid()}.part")
        with scratch.open("w", encoding="utf-8") as file:
            json.dump(vars(reply), file, ensure_ascii=False)
        scratch.replace(place)


def recover(path: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of an unfinished trace; a torn last line is cut off the file.

    Raises:
        ValueError: the trace belongs to another debate, or is damaged before its end.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}; give another trace=") from error
    if lines and lines[0] != header:
        differ = sorted(k for k in {*header, *lines[0]} if header.get(k) != lines[0].get(k))
        raise ValueError(
            f"{path} is the trace of another debate: {', '.join(differ)} differ. Give another trace=, or the same settings"
        )
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return lines[1:]


def dumps(line: dict[str, Any]) -> str:
    """One line of a trace."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def lines(text: str) -> list[str]:
    """The whole lines of a trace; only a newline ends one: what a model says may hold any other separator.

    Example:
        >>> len(lines(chr(0x2028).join("ab") + chr(10) + "a torn line"))
        1
    """
    return text.split("\n")[:-1]


def read(path: Path, arm: str = "debate") -> DebateLog:
    """A trace as a log; unfinished questions keep their missing rounds out, a torn last line is left out.

    Raises:
        ValueError: no such trace, or one without a finished round.
    """
    text = path.read_text(encoding="utf-8")
    whole = lines(text)
    try:
        header, *rows = [json.loads(line) for line in whole]
        names, questions = header["agents"], {q["id"]: q for q in header["questions"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no trace of a debate, or its first line is damaged: {error}") from error
    rounds: dict[str, list[dict[str, Any]]] = {}
    for line in rows:
        if line["arm"] == arm:
            rounds.setdefault(line["question"], []).append(line)
    made: list[Question] = []
    for id, said in rounds.items():
        said.sort(key=lambda line: line["round"])
        asked = questions[id]
        K = len(asked["options"])
        beliefs = torch.tensor(
            [
                [[torch.nan] * K if a["belief"] is None else a["belief"] for a in line["answers"]]
                for line in said
            ],
            dtype=torch.float64,
        )
        texts = [[a["text"] for a in line["answers"]] for line in said]
        made.append(Question(id, beliefs, tuple(asked["options"]), tuple(names), asked["truth"], texts))
    if not made:
        raise ValueError(f"{path} has no finished round of arm {arm!r}")
    return DebateLog(made, str(path), "trace")
