"""report.html: one file, no script, nothing fetched; it reads on a phone and on a desktop, in light and in dark."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unrolled.core import require
from unrolled.report import section
from unrolled.runs import atomic
from unrolled.runs.run import Run

Source = str | os.PathLike[str] | Run

_HERE = Path(__file__).parent


def write(run: Source, out: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a run: claims, figures, how it was made, what to cite.

    A run in any state has a report: one that was killed, failed or recorded no claims says so at the top.

    Args:
        run: a run, or the path of its folder.
        out: the file to write; `report.html` in the run folder when None.

    Returns:
        The file.

    Raises:
        RunError: there is no run at the path.
        ImportError: jinja2 or matplotlib is not installed (extra `report`).
        DiskFull: no space left; an older report is whole.
    """
    opened = _open(run)
    return _render([opened], Path(out) if out is not None else opened.path / "report.html", "")


def write_many(runs: Sequence[Source], out: str | os.PathLike[str] | None = None, *, title: str = "") -> Path:
    """Write one report of several runs, a section for each.

    Args:
        runs: runs, or paths of their folders, in the order of the sections.
        out: the file to write; `report.html` in the folder that all the runs share when None.
        title: of the page.

    Returns:
        The file.

    Raises:
        ValueError: there are no runs.
        RunError: there is no run at one of the paths.
        ImportError: jinja2 or matplotlib is not installed (extra `report`).
        DiskFull: no space left; an older report is whole.
    """
    opened = [_open(run) for run in runs]
    if not opened:
        raise ValueError("a report needs at least one run, got none")
    if out is None:
        out = Path(os.path.commonpath([run.path.resolve() for run in opened])) / "report.html"
    return _render(opened, Path(out), title)


def _open(run: Source) -> Run:
    return run if isinstance(run, Run) else Run.open(run)


def _render(runs: list[Run], target: Path, title: str) -> Path:
    jinja2: Any = require("jinja2", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        section.gather(run, prefix=f"s{place}", share=1 / len(runs)) for place, run in enumerate(runs, 1)
    ]
    made = environment.get_template("report.html.j2").render(
        sections=sections,
        title=title or " · ".join(dict.fromkeys(part.study for part in sections)),
        css=(_HERE / "report.css").read_text(encoding="utf-8"),
        version=sections[0].environment and dict(sections[0].environment).get("unrolled", ""),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(target, made)
    return target
