"""The claims table in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unrolled.report.text import measured, number, seeds, value, verdicts, why
from unrolled.runs.claims import Claim

if TYPE_CHECKING:
    from rich.console import Console

COLOUR = {
    "reproduced": "green",
    "direction only": "yellow",
    "not reproduced": "red",
    "not attempted": "bright_black",
}

NARROW = 72
"""Columns; below, a claim is a paragraph instead of a row."""


def print_claims(claims: Sequence[Claim], console: "Console | None" = None, *, title: str = "") -> None:
    """Print claims as a table that is right at 80 columns: statement and note, the paper's number, ours, the verdict.

    Args:
        claims: in the order to print.
        console: a `rich.console.Console`; standard output when None.
        title: above the table, e.g. the study's name.

    Example:
        >>> from rich.console import Console
        >>> claim = Claim("nds", "Muon's NDS is lower", paper=1.76, ours=1.7, status="direction only")
        >>> print_claims([claim], Console(width=60, color_system=None))
        Muon's NDS is lower
          direction only; paper 1.76, ours 1.7 (1 seed)
        <BLANKLINE>
        1 claim: 1 direction only
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    if title:
        console.print(Text(title, style="bold"))
    if console.width < NARROW:
        for claim in claims:
            console.print(_paragraph(claim))
    elif claims:
        console.print(_table(claims))
    console.print(Text(verdicts(claims)))


def _table(claims: Sequence[Claim]) -> Any:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), leading=1)
    table.add_column("Claim", ratio=1, min_width=20, overflow="fold")
    table.add_column("The paper", max_width=12, overflow="fold")
    table.add_column("Ours", max_width=16, overflow="fold")
    table.add_column("Verdict", width=14)
    for claim in claims:
        # Text, not markup: a statement may hold brackets.
        ours = "\n".join(filter(None, (value(claim), seeds(claim))))
        table.add_row(
            Group(Text(claim.statement), *_note(claim)),
            Text(number(claim.paper, claim.unit)),
            Text(ours),
            _verdict(claim),
        )
    return table


def _paragraph(claim: Claim) -> Any:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    numbers = Text.assemble(
        _verdict(claim), f"; paper {number(claim.paper, claim.unit)}, ours {measured(claim)}", overflow="fold"
    )
    return Group(
        Text(claim.statement, overflow="fold"), Padding(numbers, (0, 0, 0, 2)), *_note(claim), Text("")
    )


def _note(claim: Claim) -> list[Any]:
    """The note, indented, so that it stands apart without colour too."""
    from rich.padding import Padding
    from rich.text import Text

    told = why(claim)
    return [Padding(Text(told, style="dim", overflow="fold"), (0, 0, 0, 2))] if told else []


def _verdict(claim: Claim) -> Any:
    from rich.text import Text

    return Text(claim.status, style=f"bold {COLOUR[claim.status]}")
