"""`unrolled resume RUN`: go on with a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unrolled.cli._console import read
from unrolled.cli._execute import execute
from unrolled.cli.run import Log
from unrolled.runs import index
from unrolled.runs import study as studies
from unrolled.runs.executors.process import watch_parent
from unrolled.runs.run import Run

HELP = """Go on with a run that was killed, interrupted, or failed, from its newest checkpoint.

On the CPU the result is that of an uninterrupted run, bit for bit. RUN is a path, an id, the beginning of an id as
`unrolled runs` shows it, or `last`: the latest run that has not finished.

example:
  unrolled resume last"""


@dataclass(frozen=True)
class Options:
    """Options of `resume`."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="path, id, or last")]
    runs: Annotated[Path, tyro.conf.arg(help="folder that holds all runs")] = Path("runs")
    log: Log = ()
    report: Annotated[bool, tyro.conf.arg(help="write report.html at the end")] = True


def main(argv: Sequence[str]) -> int:
    """The verb."""
    watch_parent()
    options = read(Options, "resume", HELP, argv)
    unfinished = ("lost", "interrupted", "failed")
    path = index.find(options.run, options.runs, states=unfinished)
    there = Run.open(path)
    study = studies.load(there.source or there.study)
    config = there.config_as(study.Config)
    execute(study, config, Run.resume(path, log=options.log), report=options.report)
    return 0
