"""The screen that `unrolled` alone shows."""

from collections.abc import Mapping

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import out


def screen(verbs: Mapping[str, str]) -> None:
    """Print what the verbs are and how to begin."""
    console = out()
    console.print(Text("unrolled: read what an iterated system computes, one step at a time.\n"))
    console.print(Text("usage: unrolled VERB ...\n", style="bold"))
    table = Table.grid(padding=(0, 3))
    for name, meaning in verbs.items():
        table.add_row(Text(name, style="bold cyan"), meaning)
    console.print(Padding(table, (0, 0, 1, 2)))
    console.print(Text("to begin:\n", style="bold"))
    begin = Table.grid(padding=(0, 3))
    begin.add_row("unrolled list", Text("what can be run", style="dim"))
    begin.add_row("unrolled run STUDY", Text("its smallest preset, a minute or two", style="dim"))
    begin.add_row("unrolled report last", Text("the numbers beside the paper's", style="dim"))
    begin.add_row("unrolled VERB --help", Text("what a verb takes, with an example", style="dim"))
    console.print(Padding(begin, (0, 0, 1, 2)))
    console.print(Text("--debug, anywhere, shows the traceback of an error.", style="dim"))
