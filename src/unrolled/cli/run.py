"""`unrolled run STUDY`: run a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from unrolled.cli._execute import execute
from unrolled.cli._study_options import parse
from unrolled.runs.run import Run
from unrolled.runs.sinks import SINKS

HELP = """Run a study: it logs, checkpoints and judges its claims in a new folder below `runs`.

Presets: tiny (two cores, two minutes), small (half an hour), paper (as published; may need a GPU). Every field of
the study's configuration is an option, and --preset sets them all. Ctrl-C is safe: the run can be resumed.

example:
  unrolled run STUDY --preset tiny --seed 1
  unrolled run ./my_study.py --log tensorboard"""

Log = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="NAME",
        help=f"log there as well: {', '.join(SINKS)}; W&B stays offline unless WANDB_MODE says otherwise",
    ),
]

FIELDS = [
    ("runs", Annotated[Path, tyro.conf.arg(help="folder that holds all runs")], Path("runs")),
    ("log", Log, ()),
    ("report", Annotated[bool, tyro.conf.arg(help="write report.html at the end")], True),
]  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """The verb."""
    parsed = parse("run", argv, HELP, FIELDS)
    if parsed is None:
        return 0
    study, options = parsed
    source = None if study.own else study.reference
    run = Run.create(study.name, options.config, options.runs, source=source, log=options.log)
    execute(study, options.config, run, report=options.report)
    return 0
