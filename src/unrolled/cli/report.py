"""`unrolled report RUN`: print claims and write report.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from unrolled.cli._console import out, read, say, short
from unrolled.runs import index
from unrolled.runs.run import Run

HELP = """Print the claims of a run and write its report.html: one file, nothing to load, light and dark. Several runs
make one report with a section for each.

RUN is a path, an id, the beginning of an id as `unrolled runs` shows it, or `last`.

example:
  unrolled report last
  unrolled report 1f0c 9b2e --out both.html"""


@dataclass(frozen=True)
class Options:
    """Options of `report`."""

    run: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="path, id, or last")
    ]
    out: Annotated[
        Path | None, tyro.conf.arg(help="the file; by default report.html in the run's folder")
    ] = None
    runs: Annotated[Path, tyro.conf.arg(help="folder that holds all runs")] = Path("runs")


def main(argv: Sequence[str]) -> int:
    """The verb."""
    options = read(Options, "report", HELP, argv)
    if not options.run:
        raise ValueError("unrolled report needs a run: a path, an id, or last")
    from unrolled.report import print_claims, write, write_many

    console = out()
    runs = [Run.open(index.find(reference, options.runs)) for reference in options.run]
    for run in runs:
        console.print(Text(f"{run.study} {run.id}, {run.state}", style="bold"))
        claims = run.claims()
        if claims:
            print_claims(claims, console)
        else:
            say("no claims: a study makes them at its end")
    page = write_many(runs, options.out) if len(runs) > 1 else write(runs[0], options.out)
    console.print(Text.assemble("report: ", (short(page), "bold")), soft_wrap=True)
    return 0
