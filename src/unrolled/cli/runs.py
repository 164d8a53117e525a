"""`unrolled runs`: the table of all runs."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import out, read, resume_command
from unrolled.runs import index, plain
from unrolled.runs.folder import STATES

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
    state: Annotated[str | None, tyro.conf.arg(help=f"only this state: {', '.join(STATES)}")] = None
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
    for row in [row for row in rows if row["state"] == "failed"][-3:]:
        reason = str(row["error"] or "no reason was written").partition("\n")[0]
        console.print(Text(f"{short_id(row)} failed: {reason}", style="red"))
    gone = [row for row in rows if row["state"] == "lost"]
    if gone:
        command = resume_command(gone[-1]["path"])
        console.print(Text(f"lost: the process is gone. Go on with: {command}", style="magenta"))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The runs as a table, right at 80 columns."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown.add_column("Run", no_wrap=True)
    shown.add_column("Study and settings", ratio=1)
    shown.add_column("State")
    shown.add_column("Age", no_wrap=True, justify="right")
    shown.add_column("Claims", no_wrap=True, justify="right")
    for row, settings in zip(rows, _settings(rows)):
        age = _span(time.time() - row["created"]) if row["created"] else ""
        shown.add_row(
            Text(short_id(row), style="bold"),
            Text.assemble(row["study"], (f" {settings}", "dim")),
            Text.assemble((row["state"], STYLE[row["state"]]), (_position(row), "dim")),
            Text(age, style="dim"),
            Text(_claims(row["claims"])),
        )
    return shown


def short_id(row: dict[str, Any]) -> str:
    """The hash in a run's id: what `resume` and `report` take."""
    return str(row["id"]).rpartition("-")[2]


def _settings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For each run its preset, its seed, and what sets it apart: a value that most runs of the preset do not have."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault((row["study"], row["preset"]), []).append(row["config"])
    usual: dict[tuple[str, str], dict[str, str]] = {}
    for kind, configs in kinds.items():
        usual[kind] = {}
        for name in dict.fromkeys(name for config in configs for name in config):
            value, many = Counter(str(config.get(name)) for config in configs).most_common(1)[0]
            if many > len(configs) / 2:
                usual[kind][name] = value
    told: list[str] = []
    for row in rows:
        common = usual[row["study"], row["preset"]]
        apart = [
            f"{name}={value}"
            for name, value in row["config"].items()
            if name != "preset" and (name == "seed" or str(value) != common.get(name))
        ]
        told.append(" ".join([str(row["preset"]), *apart]))
    return told


def _position(row: dict[str, Any]) -> str:
    """How long a finished run worked; where any other is, or was."""
    if row["state"] == "finished":
        return "" if row["spent"] is None else f", {_span(row['spent'])}"
    at = f"{row['step']}/{row['steps']}" if row["steps"] else str(row["step"] or "")
    told = " ".join(filter(None, [row["phase"] or "", at]))
    return f", {told}" if told else ""


def _claims(claims: dict[str, int]) -> str:
    return f"{claims.get('reproduced', 0)}/{sum(claims.values())}" if claims else ""


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
