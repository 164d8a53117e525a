"""What a report says of one run, gathered from its folder and its study; whatever is missing is said to be missing."""

import base64
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unrolled.report import figures, text
from unrolled.report.citations import Paper, bibtex, paper
from unrolled.runs import study as studies
from unrolled.runs.claims import Claim
from unrolled.runs.run import Run

TOTAL = 2_400_000
"""Bytes that the figures of one file may take together."""

PICTURES = {
    ".svg": "",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}


@dataclass(frozen=True)
class Row:
    """A line of the claims table, as it is shown."""

    statement: str
    paper: str
    ours: str
    seeds: str
    status: str
    note: str
    source: str

    @property
    def badge(self) -> str:
        """The verdict as a CSS class."""
        return self.status.replace(" ", "-")


@dataclass(frozen=True)
class Shown:
    """A figure: an element of the page, or the reason why there is none."""

    name: str
    caption: str
    html: str = ""
    notes: tuple[str, ...] = ()
    missing: str = ""


@dataclass
class Section:
    """Everything that a report shows of a run.

    Attributes:
        study: name of the study.
        title: its title, in one line.
        paper: the paper it answers to.
        state: of the run.
        banner: what is unfinished or went wrong; empty for a finished run.
        trace: the end of the traceback of a failed run.
        rows: the claims.
        tally: verdict -> count.
        figures: in the study's order.
        problems: what could not be shown, and why.
        command: the command line that made the run.
        about: preset, seed and hardware, in a few words.
        config: name -> value.
        environment: name -> value.
        timing: name -> value.
        bibtex: of the paper and the methods used.
        folder: the run folder.
    """

    study: str
    title: str
    paper: Paper
    state: str
    banner: str
    trace: str
    rows: list[Row]
    tally: list[tuple[str, int]]
    figures: list[Shown]
    command: str
    about: list[str]
    config: list[tuple[str, str]]
    environment: list[tuple[str, str]]
    timing: list[tuple[str, str]]
    bibtex: str
    folder: str
    problems: list[str] = field(default_factory=list)


def gather(run: Run, *, prefix: str = "run", share: float = 1.0) -> Section:
    """Collect what is known of a run; draws its figures into `run.figures`.

    Args:
        run: any run, in any state.
        prefix: of the ids of its drawings, unique in a page.
        share: of `TOTAL` that its figures may take.
    """
    problems: list[str] = []
    module, title = _study(run, problems)
    claims = _claims(run, problems)
    status, environment = run.status_now(), dict(run.environment)
    cited = paper(getattr(module, "PAPER", None))
    words = environment.pop("command", [])
    for key in ("study", "source", "hash"):
        environment.pop(key, None)
    resumed = environment.pop("resumed", [])
    return Section(
        study=run.study,
        title=title,
        paper=cited,
        state=status["state"],
        banner=_banner(run, status, bool(claims)),
        trace="\n".join(str(status.get("traceback", "")).splitlines()[-30:]),
        rows=_rows(claims, str(run.config.get("preset", ""))),
        tally=text.tally(claims),
        figures=_figures(run, module, prefix, int(TOTAL * share), problems),
        command=text.command(words),
        about=_about(run, claims, environment),
        config=text.flat(run.config),
        environment=text.flat(environment),
        timing=_timing(run, status, len(resumed), problems),
        bibtex=_bibtex(cited, getattr(module, "METHODS", ()), problems),
        folder=str(run.path),
        problems=problems,
    )


def _study(run: Run, problems: list[str]) -> tuple[Any, str]:
    """The study's module and title; without them, a report from the folder alone."""
    try:
        module = studies.load(run.source or run.study).module
    except studies.StudyError as error:
        problems.append(f"The study could not be loaded, so this is told from the run folder alone: {error}")
        return None, ""
    first = (module.__doc__ or "").strip().partition("\n")[0].strip()
    return module, first


def _claims(run: Run, problems: list[str]) -> list[Claim]:
    try:
        return run.claims()
    except ValueError as error:
        problems.append(f"The claims could not be read: {error}")
        return []


def _rows(claims: list[Claim], preset: str) -> list[Row]:
    """Presets and hardware are named where they differ from claim to claim."""
    mixed = len({claim.hardware for claim in claims if claim.ours is not None}) > 1
    rows: list[Row] = []
    for claim in claims:
        where = [claim.source]
        if claim.ours is not None and mixed and claim.hardware:
            where.append(f"measured on {claim.hardware}")
        if claim.preset and preset and claim.preset != preset:
            where.append(f"preset {claim.preset}")
        rows.append(
            Row(
                statement=claim.statement,
                paper=text.number(claim.paper, claim.unit),
                ours=text.value(claim),
                seeds=text.seeds(claim),
                status=claim.status,
                note=text.why(claim),
                source="; ".join(filter(None, where)),
            )
        )
    return rows


def _banner(run: Run, status: Mapping[str, Any], has_claims: bool) -> str:
    """What a reader must know before reading numbers: that the run is not finished, or came to no claims."""
    state = status["state"]
    if state == "finished":
        return "" if has_claims else "This run finished without recording any claim."
    phase, step, steps = status.get("phase"), status.get("step"), status.get("steps")
    at = f" in phase “{phase}”" if phase else ""
    at += f" at step {step:,}" if isinstance(step, int) else ""
    at += f" of {steps:,}" if isinstance(step, int) and isinstance(steps, int) else ""
    told = {
        "queued": "This run has not started.",
        "running": f"This run is still going on{at}: what follows is not final.",
        "failed": f"This run failed{at}: {_sentence(status.get('error'))}",
        "interrupted": f"This run was interrupted{at}.",
        "lost": f"This run is lost: its process ended{at} without a word.",
    }[state]
    claims = "" if has_claims else " There are no claims yet."
    again = "" if state == "running" else f" To go on with it: unrolled resume {run.path}"
    return told + claims + again


def _sentence(error: Any) -> str:
    told = str(error or "no error was recorded").strip()
    return told if told.endswith((".", "!", "?")) else f"{told}."


def _about(run: Run, claims: list[Claim], environment: Mapping[str, Any]) -> list[str]:
    preset, seed = run.config.get("preset"), run.config.get("seed")
    hardware = list(
        dict.fromkeys(claim.hardware for claim in claims if claim.hardware and claim.ours is not None)
    )
    if not hardware and environment.get("cpu"):
        cores = environment.get("cores")
        hardware = [f"{environment['cpu']}, {cores} core{'s' if cores != 1 else ''}"]
    parts = [f"preset {preset}" if preset else "", f"seed {seed}" if seed is not None else "", *hardware]
    return [part for part in parts if part]


def _timing(run: Run, status: Mapping[str, Any], resumed: int, problems: list[str]) -> list[tuple[str, str]]:
    created, ended, beat = status.get("created"), status.get("ended"), status.get("time")
    rows = [("started", _date(created))]
    rows.append(("ended", _date(ended)) if ended else ("last sign of life", _date(beat)))
    last = ended or beat
    if isinstance(created, int | float) and isinstance(last, int | float):
        rows.append(
            ("from start to end" if ended else "from start to last sign", text.duration(last - created))
        )
    if resumed:
        rows.append(
            ("resumed", f"{resumed} time{'s' if resumed != 1 else ''}; the time between is included above")
        )
    try:
        rows.append(("rows of metrics", f"{len(run.metrics()):,}"))
    except (ValueError, ImportError) as error:
        problems.append(f"The metrics could not be read: {error}")
    return rows


def _date(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return text.NONE
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _bibtex(cited: Paper, methods: Any, problems: list[str]) -> str:
    """The paper of the study, and the methods that it names in `METHODS`."""
    sources: list[Any] = [cited] if cited.bibtex else []
    try:
        return bibtex(*sources, *methods) if sources or methods else ""
    except ValueError as error:
        problems.append(f"A citation is missing: {error}")
        return cited.bibtex


def _figures(run: Run, module: Any, prefix: str, budget: int, problems: list[str]) -> list[Shown]:
    """The study's figures, drawn anew, and then whatever else lies in the figures folder."""
    drawn: dict[str, figures.Drawing] = {}
    make = getattr(module, "figures", None)
    if callable(make):
        try:
            drawn = _draw(run, make, budget)
        except Exception as error:  # a study's figures may stumble over an unfinished run in any way
            problems.append(f"The figures could not be drawn: {type(error).__name__}: {error}")
    paths = {path.stem: path for path in sorted(run.figures.glob("*")) if path.suffix.lower() in PICTURES}
    for name in drawn:
        paths.pop(name, None)
    names = [*drawn, *paths]
    shown: list[Shown] = []
    for place, name in enumerate(names, 1):
        room = budget // len(names)
        shown.append(
            _embed(name, drawn[name].svg, drawn[name].notes, f"{prefix}-{place}", room)
            if name in drawn
            else _from_file(paths[name], f"{prefix}-{place}", room)
        )
    return shown


def _draw(run: Run, make: Any, budget: int) -> dict[str, figures.Drawing]:
    drawn: dict[str, figures.Drawing] = {}
    with figures.style():
        made = make(run)
        for name, value in made.items():
            figure, caption = value if isinstance(value, tuple) else (value, "")
            limit = min(figures.LIMIT, budget // max(len(made), 1))
            path = run.figures / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', str(name))}.svg"
            drawn[path.stem] = figures.save(figure, path, caption=caption or str(name), limit=limit)
            _close(figure)
    return drawn


def _close(figure: Any) -> None:
    """Free a figure: pyplot keeps every figure it made until it is told."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)


def _embed(name: str, svg: str, notes: tuple[str, ...], prefix: str, room: int) -> Shown:
    caption = figures.description(svg) or name
    if len(svg) > room:
        return Shown(
            name, caption, missing=f"{name} takes {len(svg):,} bytes, too many for one file; see figures/"
        )
    try:
        return Shown(name, caption, figures.inline(svg, prefix=prefix, label=caption), notes)
    except ValueError as error:
        return Shown(name, caption, missing=f"{name} cannot be shown: {error}")


def _from_file(path: Path, prefix: str, room: int) -> Shown:
    """A picture that somebody left in the figures folder."""
    if path.suffix.lower() == ".svg":
        return _embed(path.stem, path.read_text(encoding="utf-8", errors="replace"), (), prefix, room)
    data = base64.b64encode(path.read_bytes()).decode()
    if len(data) > room:
        return Shown(
            path.stem, path.stem, missing=f"{path.name} takes {len(data):,} bytes, too many for one file"
        )
    kind = PICTURES[path.suffix.lower()]
    return Shown(path.stem, path.stem, f'<img src="data:{kind};base64,{data}" alt="">')
