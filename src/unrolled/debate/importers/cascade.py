"""MAS-Cascade beliefs: a folder of `belief_after_item_<item>_round<N>.csv`, or one `<item>_beliefs.csv`.

A round's file has the options in its first row and one agent in each further row. The consolidated file has a header, a
row of options, and one row per round, `roundN` followed by all options of agent 0, then of agent 1, and so on.
"""

import csv
import re
from pathlib import Path

import torch
from torch import Tensor

from unrolled.debate.log import DebateLog, Question

_NAME = re.compile(r"belief_after_item_(.+)_round(\d+)\.csv$")


def read(path: Path) -> DebateLog:
    """Read a file or a folder.

    Raises:
        ValueError: rows of different lengths, a number that cannot be read, rounds with different agents.
    """
    questions = [_consolidated(path)] if path.is_file() else _folder(path)
    return DebateLog(questions, str(path), "cascade")


def _consolidated(path: Path) -> Question:
    rows = _rows(path)
    if len(rows) < 3:
        raise ValueError(f"{path} has {len(rows)} rows; expected a header, the options, and a row per round")
    repeated = rows[1][1:]
    options = tuple(dict.fromkeys(repeated))
    if len(repeated) % len(options) or repeated != list(options) * (len(repeated) // len(options)):
        raise ValueError(f"{path}, line 2: the options do not repeat for each agent: {repeated}")
    numbered = sorted(
        ((int(row[0].removeprefix("round")), row[1:]) for row in rows[2:]), key=lambda pair: pair[0]
    )
    beliefs = torch.stack([_numbers(row, len(repeated), path) for _, row in numbered])
    n = len(repeated) // len(options)
    return _made(path.name.removesuffix("_beliefs.csv"), beliefs.reshape(-1, n, len(options)), options)


def _folder(path: Path) -> list[Question]:
    items: dict[str, dict[int, Path]] = {}
    for file in sorted(path.glob("belief_after_item_*_round*.csv")):
        match = _NAME.search(file.name)
        if match:
            items.setdefault(match.group(1), {})[int(match.group(2))] = file
    made: list[Question] = []
    for item, files in items.items():
        rounds: list[Tensor] = []
        options: tuple[str, ...] = ()
        for number in range(min(files), max(files) + 1):
            if number not in files:  # a round that was not written stays missing
                rounds.append(torch.full_like(rounds[-1], torch.nan))
                continue
            head, *rows = _rows(files[number])
            if options and tuple(head) != options:
                raise ValueError(
                    f"{files[number]}: its options {head} are not those of the first round, {list(options)}"
                )
            options = tuple(head)
            rounds.append(torch.stack([_numbers(row, len(options), files[number]) for row in rows]))
            if rounds[-1].shape != rounds[0].shape:
                raise ValueError(
                    f"{files[number]} has {len(rows)} agents; the first round has {len(rounds[0])}"
                )
        made.append(_made(item, torch.stack(rounds), options))
    return made


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [[cell.strip() for cell in row] for row in csv.reader(file) if row]


def _numbers(row: list[str], length: int, path: Path) -> Tensor:
    try:
        values = torch.tensor([float(cell) if cell else torch.nan for cell in row], dtype=torch.float64)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(values) != length:
        raise ValueError(f"{path}: a row has {len(values)} probabilities; expected {length}")
    return values


def _made(id: str, beliefs: Tensor, options: tuple[str, ...]) -> Question:
    return Question(id, beliefs, options, tuple(f"agent {i}" for i in range(beliefs.shape[1])))
