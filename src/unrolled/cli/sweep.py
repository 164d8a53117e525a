"""`unrolled sweep STUDY --over FIELD=VALUES`: a study over seeds and settings."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import out, say, short
from unrolled.cli._study_options import parse
from unrolled.cli.runs import STYLE
from unrolled.runs import executors, sweep
from unrolled.runs.config import nearest
from unrolled.runs.study import Study, StudyError

HELP = """Run a study over every combination of some settings. A cell that has finished is never run twice, one that
was killed goes on from its checkpoint, one that fails is reported while the others go on: after an interruption, the
same command again does what is left. Ranges include both ends.

example:
  unrolled sweep STUDY --over seed=0..4 --preset tiny --workers 2
  unrolled sweep ./my_study.py --over seed=0..2 optimizer=adam,muon"""

FIELDS = [
    ("over", Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUES", help="what to vary: seed=0..4, optimizer=adam,muon")], ()),
    ("executor", Annotated[str, tyro.conf.arg(help="local: processes on this machine; ray: a Ray cluster (RAY_ADDRESS)")], "local"),
    ("workers", Annotated[int | None, tyro.conf.arg(help="cells at once; by default one per core")], None),
    ("runs", Annotated[Path, tyro.conf.arg(help="folder that holds all runs")], Path("runs")),
]  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """The verb."""
    parsed = parse("sweep", argv, HELP, FIELDS)
    if parsed is None:
        return 0
    study, options = parsed
    executors.get(options.executor)
    source = None if study.own else study.reference
    cells = sweep.plan(
        study.name, configurations(study, options.config, options.over), options.runs, source=source
    )
    todo = [cell for cell in cells if cell.state == "queued"]
    counts = ", ".join(
        f"{sum(cell.state == state for cell in cells)} {words}"
        for state, words in (
            ("queued", "to run"),
            ("finished", "finished before"),
            ("running", "running elsewhere"),
        )
        if any(cell.state == state for cell in cells)
    )
    say(f"{len(cells)} cells of {study.name}: {counts}")
    ended = 0

    def on_change(cell: sweep.Cell) -> None:
        nonlocal ended
        if cell.state == "running":
            say(f"  starts    {cell.label}")
            return
        ended += 1
        say(f"  {cell.state:<9} {cell.label} ({ended}/{len(todo)})")

    try:
        cells = sweep.run(cells, executor=options.executor, workers=options.workers, on_change=on_change)
    except KeyboardInterrupt as stop:
        raise type(stop)("interrupted; the same command goes on with what is left") from None
    out().print(table(cells))
    bad = [cell for cell in cells if cell.state not in ("finished", "running")]
    for cell in bad:
        say(
            f"{cell.label}: {cell.state}{': ' if cell.error else ''}{cell.error} ({short(cell.path / 'output.log')})"
        )
    if bad:
        say(f"{len(bad)} of {len(cells)} cells did not finish; the same command tries them again")
    return 1 if bad else 0


def configurations(study: Study, base: Any, over: Sequence[str]) -> dict[str, Any]:
    """Label -> configuration, for every combination.

    Raises:
        StudyError: `--over` is missing, or names what the study does not have.
        ValueError: values that make no sense.
    """
    names = [field.name for field in dataclasses.fields(base)]
    if not over:
        raise StudyError("a sweep needs --over, such as: --over seed=0..4")
    chosen: dict[str, list[str]] = {}
    for word in over:
        name, equals, text = word.partition("=")
        if not equals:
            raise StudyError(f"--over takes FIELD=VALUES, such as seed=0..4; got {word!r}")
        name = name.replace("-", "_")
        if name.partition(".")[0] not in names or name == "preset":
            others = [each for each in names if each != "preset"]
            raise StudyError(
                f"{study.name} has no field {name!r} to vary{nearest(name, others)} It has {', '.join(others)}"
            )
        chosen[name] = sweep.values(text)
    return {
        " ".join(f"{name}={value}" for name, value in cell.items()): tyro.cli(
            study.Config,
            prog=f"unrolled sweep {study.name} --over",
            default=base,
            args=[word for name, value in cell.items() for word in (f"--{name}", value)],
            config=(tyro.conf.FlagConversionOff,),
        )
        for cell in sweep.grid(chosen)
    }


def table(cells: Sequence[sweep.Cell]) -> Table:
    """The cells and what became of them."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("Cell", ratio=1, overflow="fold")
    shown.add_column("Run", no_wrap=True)
    shown.add_column("State", no_wrap=True)
    for cell in cells:
        shown.add_row(
            Text(cell.label),
            Text(cell.path.name.rpartition("-")[2], style="bold"),
            Text(cell.state, style=STYLE[cell.state]),
        )
    return shown
