"""Plain CSV: question, round, agent, option, prob, and truth if known; one row per probability."""

import csv
import math
from pathlib import Path

import torch

from unrolled.debate.log import DebateLog, Question

COLUMNS = ("question", "round", "agent", "option", "prob")


def read(path: Path) -> DebateLog:
    """Read the table; rounds count from the smallest; agents and options keep the order in which they appear.

    An empty prob, "NA" or "nan" is missing, and so is a row that is not there.

    Raises:
        ValueError: a column is missing, a number cannot be read, or a row comes twice; with the line.
    """
    rows: dict[str, dict[tuple[int, str, str], float]] = {}
    truths: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
        lacking = [column for column in COLUMNS if column not in names]
        if lacking:
            raise ValueError(f"{path}: no column {', '.join(lacking)}; a debate CSV has {', '.join(COLUMNS)}")
        for row in reader:
            cells = {
                short: (row[name] or "").strip()
                for short, name in names.items()
                if isinstance(row[name], str | None)
            }
            where = f"{path}, line {reader.line_num}"
            try:
                key = int(cells["round"]), cells["agent"], cells["option"]
            except ValueError as error:
                raise ValueError(f"{where}: round is a whole number, got {cells['round']!r}") from error
            seen = rows.setdefault(cells["question"], {})
            if key in seen:
                raise ValueError(f"{where}: agent {key[1]!r} says option {key[2]!r} twice in round {key[0]}")
            seen[key] = _number(cells["prob"], where)
            if cells.get("truth"):
                truths[cells["question"]] = cells["truth"]
    if not rows:
        raise ValueError(f"{path} has a header and no rows")
    return DebateLog([_question(q, seen, truths.get(q), path) for q, seen in rows.items()], str(path), "csv")


def write(log: DebateLog, path: Path) -> Path:
    """Write a log as such a table; missing beliefs have no rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "truth"])
        for q in log.questions:
            truth = "" if q.truth is None else q.options[q.truth]
            for t, round_ in enumerate(q.beliefs.tolist()):
                for agent, belief in zip(q.agents, round_):
                    for option, prob in zip(q.options, belief):
                        if not math.isnan(prob):
                            writer.writerow([q.id, t, agent, option, repr(prob), truth])
    return path


def _number(text: str, where: str) -> float:
    if text.lower() in ("", "na", "nan", "none", "null"):
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{where}: prob is a number, got {text!r}") from error


def _question(id: str, seen: dict[tuple[int, str, str], float], truth: str | None, path: Path) -> Question:
    agents = tuple(dict.fromkeys(agent for _, agent, _ in seen))
    options = tuple(dict.fromkeys(option for _, _, option in seen))
    first, last = min(t for t, _, _ in seen), max(t for t, _, _ in seen)
    beliefs = torch.full((last - first + 1, len(agents), len(options)), math.nan, dtype=torch.float64)
    for (t, agent, option), prob in seen.items():
        beliefs[t - first, agents.index(agent), options.index(option)] = prob
    if truth is not None and truth not in options:
        raise ValueError(
            f"{path}: question {id!r} has truth {truth!r}, which is none of its options {', '.join(options)}"
        )
    return Question(id, beliefs, options, agents, None if truth is None else options.index(truth))
