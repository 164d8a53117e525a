"""A sweep: one study over many configurations. Each cell is a run folder; finished cells are never run twice.

A cell is identified by study and configuration. What a killed sweep left behind is taken up again where its
checkpoints allow; a failed cell is reported, the others go on, and the next sweep tries it again.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unrolled.runs import config as configs
from unrolled.runs import executors, folder, index
from unrolled.runs.run import Run


@dataclass(frozen=True)
class Cell:
    """One configuration of a sweep.

    Attributes:
        label: what tells it from the others, e.g. `"seed=1 optimizer=muon"`.
        path: its run folder.
        state: of the run; `"finished"` and `"running"` cells are left alone.
        error: why it failed, in one line.
    """

    label: str
    path: Path
    state: str
    error: str = ""


def grid(over: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination, the last field changing fastest.

    Example:
        >>> grid({"seed": ["0", "1"], "optimizer": ["adam"]})
        [{'seed': '0', 'optimizer': 'adam'}, {'seed': '1', 'optimizer': 'adam'}]
    """
    return [dict(zip(over, values)) for values in itertools.product(*over.values())]


def values(text: str) -> list[str]:
    """The values in `"0..4"` (both ends included), `"adam,muon"`, or a mixture of both.

    Raises:
        ValueError: nothing between two commas, or a range that runs backwards.

    Example:
        >>> values("0..2,7"), values("adam,muon")
        (['0', '1', '2', '7'], ['adam', 'muon'])
    """
    found: list[str] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        if dots and _whole(first) and _whole(last):
            if int(first) > int(last):
                raise ValueError(f"{part!r} runs backwards: write {last}..{first}")
            found += [str(i) for i in range(int(first), int(last) + 1)]
        elif part.strip():
            found.append(part.strip())
        else:
            raise ValueError(f"there is an empty value in {text!r}: write values as 0..4 or as a,b,c")
    return list(dict.fromkeys(found))


def plan(
    study: str,
    cells: Mapping[str, Any],
    root: str | Path = "runs",
    *,
    source: str | None = None,
) -> list[Cell]:
    """Give each configuration its folder: the finished one, one to go on with, or a new one that is queued.

    Args:
        study: the study's name.
        cells: label -> configuration. Equal configurations are one cell.
        root: the folder that holds all runs.
        source: the study's file, when it does not ship with the package.
    """
    with _alone(Path(root)):
        there: dict[str, list[dict[str, Any]]] = {}
        for row in index.query(root, study=study):
            if row["source"] == source:
                there.setdefault(row["hash"], []).append(row)
        planned: dict[str, Cell] = {}
        for label, values in cells.items():
            hash = configs.identity(study, values)
            if hash not in planned:
                planned[hash] = _place(label, study, values, there.get(hash, []), root, source)
        return list(planned.values())


def run(
    cells: Sequence[Cell],
    *,
    executor: str = "local",
    workers: int | None = None,
    on_change: Callable[[Cell], None] | None = None,
) -> list[Cell]:
    """Run the queued cells, whatever becomes of each of them.

    Args:
        cells: from `plan`.
        executor: `"local"` or `"ray"`.
        workers: how many at once; by default as many as there are cores.
        on_change: called with each cell when it starts (state `"running"`) and when it ends.

    Returns:
        The cells, as they ended.

    Raises:
        ValueError: an unknown executor.
        ImportError: ray is not installed.
    """
    execute = executors.get(executor)
    by_path = {cell.path: cell for cell in cells}
    tell = on_change or (lambda cell: None)

    def started(path: Path) -> None:
        tell(replace(by_path[path], state="running"))

    def ended(path: Path, reason: str) -> None:
        by_path[path] = _settle(by_path[path], reason)
        tell(by_path[path])

    todo = [cell.path for cell in cells if cell.state == "queued"]
    if todo:
        execute(todo, workers=workers, started=started, ended=ended)
    return list(by_path.values())


def _place(
    label: str, study: str, values: Any, rows: list[dict[str, Any]], root: str | Path, source: str | None
) -> Cell:
    for state, shown in (("finished", "finished"), ("running", "running"), ("queued", "running")):
        for row in rows:
            if row["state"] == state:
                return Cell(label, Path(row["path"]).absolute(), shown)
    if rows:
        path = Path(rows[-1]["path"]).absolute()
        folder.requeue(path)
    else:
        path = folder.make(study, configs.to_dict(values), Path(root), source, state="queued")
    return Cell(label, path, "queued")


def _settle(cell: Cell, reason: str) -> Cell:
    """The cell as its run says it ended. One that ended before it could say so failed for `reason`."""
    run = Run.open(cell.path)
    status = run.status_now()
    if status["state"] == "queued":
        folder.give_up(cell.path, reason)
        status = {"state": "failed", "error": reason}
    elif status["state"] == "lost":
        status["error"] = reason
    return replace(cell, state=status["state"], error=status.get("error") or "")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One sweep plans at a time: two at once would queue the same cell twice."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(root / ".lock", "a") as handle:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()
