"""`unrolled runs`: the table of all runs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import out, read
from unrolled.runs import index, plain

HELP = """List runs, the latest at the bottom. A lost run is one whose process is gone without a word, as after a kill or
a power cut; `unrolled resume` goes on with it.

example:
  unrolled runs --state lost
  unrolled runs --study curvature-text --where seed=0 preset=tiny"""

STYLE = {
    "finished": "green",
    "running": "cyan",
    "queued": "dim",
    "failed": "red",
    "interrupted": "yellow",
    "lost": "bold magenta",
}


@dataclass(frozen=True)
class Options:
    """Options of `runs`."""

    study: Annotated[str | None, tyro.conf.arg(help="only this study")] = None
    state: Annotated[
        Literal["queued", "running", "finished", "failed", "interrupted", "lost"] | None,
        tyro.conf.arg(help="only this state"),
    ] = None
    where: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE", help="only runs configured so")
    ] = ()
    limit: Annotated[int, tyro.conf.arg(help="the latest so many; 0 for all")] = 30
    json: Annotated[bool, tyro.conf.arg(help="one JSON object a line, for programs")] = False
    runs: Annotated[Path, tyro.conf.arg(help="folder that holds all runs")] = Path("runs")


def main(argv: Sequence[str]) -> int:
    """The verb."""
    options = read(Options, "runs", HELP, argv)
    rows = index.query(
        options.runs, study=options.study, state=options.state, where=_conditions(options.where)
    )
    left_out = max(0, len(rows) - options.limit) if options.limit > 0 else 0
    rows = rows[left_out:]
    if options.json:
        for row in rows:
            print(plain.dumps(row))
        return 0
    console = out()
    if not rows:
        console.print(Text(_nothing(options)))
        return 0
    console.print(table(rows))
    if left_out:
        console.print(Text(f"{left_out} earlier runs are not shown: --limit 0 shows all", style="dim"))
    gone = [row for row in rows if row["state"] == "lost"]
    if gone:
        console.print(
            Text(
                f"lost: the process is gone. Go on with: unrolled resume {short_id(gone[-1])}",
                style="magenta",
            )
        )
    return 0


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The runs as a table, right at 80 columns."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown.add_column("Run", no_wrap=True)
    shown.add_column("Study", overflow="fold")
    shown.add_column("Settings", overflow="fold", ratio=1)
    shown.add_column("State", no_wrap=True)
    shown.add_column("At", overflow="fold")
    shown.add_column("Made", no_wrap=True, justify="right")
    shown.add_column("Claims", no_wrap=True, justify="right")
    varying = _varying(rows)
    for row in rows:
        settings = [str(row["preset"])] + [
            f"{key}={row['config'][key]}" for key in varying[row["study"]] if key in row["config"]
        ]
        shown.add_row(
            Text(short_id(row), style="bold"),
            Text(row["study"]),
            Text(" ".join(settings)),
            Text(row["state"], style=STYLE[row["state"]]),
            Text(_position(row), style="dim"),
            Text(_ago(row["created"]), style="dim"),
            Text(_claims(row["claims"])),
        )
    return shown


def short_id(row: dict[str, Any]) -> str:
    """The hash in a run's id: what `resume` and `report` take."""
    return str(row["id"]).rpartition("-")[2]


def _varying(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Per study, the fields that tell the listed runs apart; the seed always."""
    found: dict[str, list[str]] = {}
    for study in {row["study"] for row in rows}:
        configs = [row["config"] for row in rows if row["study"] == study]
        names = dict.fromkeys(name for config in configs for name in config if name != "preset")
        # Presets differ in everything: fields are compared within each.
        found[study] = [
            name for name in names if name == "seed" or any(
                len({repr(c.get(name)) for c in configs if c.get("preset") == preset}) > 1
                for preset in {c.get("preset") for c in configs}
            )
        ]  # fmt: skip
    return found


def _position(row: dict[str, Any]) -> str:
    if row["state"] == "finished":
        return f"{_span(row['ended'] - row['created'])}" if row["ended"] and row["created"] else ""
    if row["state"] == "failed" and row["error"]:
        return str(row["error"]).partition("\n")[0][:60]
    steps = f"{row['step']}/{row['steps']}" if row["steps"] else str(row["step"] or "")
    return " ".join(filter(None, [row["phase"] or "", steps]))


def _claims(claims: dict[str, int]) -> str:
    return f"{claims.get('reproduced', 0)}/{sum(claims.values())}" if claims else ""


def _ago(created: float | None) -> str:
    return f"{_span(time.time() - created)} ago" if created else ""


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _conditions(words: Sequence[str]) -> dict[str, str]:
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"--where takes FIELD=VALUE, such as seed=0; got {wrong[0]!r}")
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _nothing(options: Options) -> str:
    if options.study or options.state or options.where:
        return f"no such runs under {options.runs}"
    return (
        f"no runs under {options.runs} yet; make one with: unrolled run STUDY (unrolled list shows studies)"
    )
