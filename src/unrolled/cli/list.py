"""`unrolled list`: the studies there are."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import out, read
from unrolled.runs import study as studies

HELP = """List the studies: what each asks, the paper it answers to, its presets.

A study of your own needs no entry here: give its path to `unrolled run`.

example:
  unrolled list"""


@dataclass(frozen=True)
class Options:
    """No options."""


def main(argv: Sequence[str]) -> int:
    """The verb."""
    read(Options, "list", HELP, argv)
    console = out()
    names = studies.names()
    if not names:
        console.print("no studies yet; run one of your own with: unrolled run ./my_study.py")
        return 0
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("Study", no_wrap=True)
    table.add_column("What it asks", ratio=1)
    table.add_column("Paper", overflow="fold")
    table.add_column("Presets")
    for name in names:
        found = studies.summary(name)
        table.add_row(Text(name, style="bold"), Text(found.title), Text(found.paper), " ".join(found.presets))
    console.print(table)
    console.print(Text(f"unrolled run {names[0]} --help shows what can be set", style="dim"))
    return 0
