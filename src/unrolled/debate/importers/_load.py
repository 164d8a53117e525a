"""`load`: read a debate log, whatever wrote it."""

import csv
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unrolled.debate.importers import cascade, inspect, messages, table
from unrolled.debate.log import DebateLog

KINDS = ("csv", "messages", "inspect", "cascade", "trace")


def load(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    answer: Callable[[str, tuple[str, ...]], Any] | None = None,
    truth: dict[str, Any] | None = None,
) -> DebateLog:
    r"""Read recorded debates.

    Formats, told apart by their content:

    * `"csv"`: a table with columns question, round, agent, option, prob (and truth, if known), one row per probability.
    * `"messages"`: JSON `{question: [[messages of each agent], right answer]}` with OpenAI messages (role, content), the
      format of multi-agent debates after Du et al. An answer is the last "(X)" or "\boxed{X}" after any `<think>` block;
      it becomes a certain belief. The question's own "A) ..." lines give the options.
    * `"inspect"`: an inspect_ai log, `.json` or `.eval`, whose assistant messages carry metadata agent, round and belief.
    * `"cascade"`: MAS-Cascade beliefs: a `<item>_beliefs.csv`, or a folder of `belief_after_item_<item>_round<N>.csv`.

    * `"trace"`: what `Debate` writes.

    What cannot be read stays missing (NaN) and is counted; it is never made uniform.

    Args:
        path: a file or folder.
        kind: the format, when its content does not tell.
        answer: for answers in free text: `answer(text, options)` gives an option's name or index, a list of
            probabilities, or None where it finds no answer.
        truth: question id -> right option (its name or index), for logs that do not say.

    Returns:
        The log; `fit(log.beliefs)` goes on from there.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: a format not known, or a damaged file; the message says which line or question.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "log.csv")
        >>> rows = ["question,round,agent,option,prob"]
        >>> rows += [f"q,{t},{a},{o},{p}" for t in (0, 1) for a in "xy" for o, p in (("A", 0.75), ("B", 0.25))]
        >>> _ = path.write_text("\n".join(rows))
        >>> load(path)
        DebateLog(1 questions, 2 agents, 1 rounds, 2 options, 0 beliefs missing, csv)
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"no debate log at {place}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind= is one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    kind = kind or _kind(place)
    if kind == "csv":
        log = table.read(place)
    elif kind == "cascade":
        log = cascade.read(place)
    elif kind == "trace":
        from unrolled.debate import _store

        log = _store.read(place)
    else:
        log = (messages if kind == "messages" else inspect).read(place, answer)
    for question in log.questions:
        if truth and question.id in truth:
            question.truth = option_index(truth[question.id], question.options)
    return log


def option_index(value: Any, options: tuple[str, ...]) -> int | None:
    """An option's index from its name or its index; None for neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < len(options) else None
    return options.index(str(value)) if str(value) in options else None


def _kind(place: Path) -> str:
    if place.is_dir():
        if any(place.glob("belief_after_item_*_round*.csv")):
            return "cascade"
        raise ValueError(
            f"{place} is a folder without belief_after_item_*_round*.csv: give the file of a log"
        )
    if zipfile.is_zipfile(place):
        return "inspect"
    with place.open(encoding="utf-8", errors="replace") as file:
        head = file.read(4096)
    start = head.lstrip("\ufeff \n\r\t")
    if start[:1] in "{[" and start:
        return _kind_of_json(start)
    first = next(csv.reader([start.splitlines()[0]] if start else [""]), [])
    names = [name.strip().lower() for name in first]
    if set(table.COLUMNS) <= set(names):
        return "csv"
    if names[:1] == ["round"] or place.name.endswith("_beliefs.csv"):
        return "cascade"
    raise ValueError(
        f"{place} is no debate log that is known: a CSV needs the columns {', '.join(table.COLUMNS)}; it begins with "
        f"{start[:60]!r}. Say kind= if you know better"
    )


def _kind_of_json(start: str) -> str:
    if start.startswith('{"unrolled_debate"'):
        return "trace"
    return "inspect" if '"eval"' in start and '"version"' in start else "messages"
