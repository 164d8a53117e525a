"""The claims page of the documentation, made from committed results: one JSON file per study and preset.

python -m unrolled.report.claims_page                  # write docs/claims.md anew from docs/claims/*.json
python -m unrolled.report.claims_page runs/a/2026...   # first record the claims of these runs
python -m unrolled.report.claims_page --check          # say whether the page is up to date; exit code 1 if not
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from unrolled.report import citations, text
from unrolled.runs import atomic, plain
from unrolled.runs import study as studies
from unrolled.runs.claims import Claim
from unrolled.runs.run import Run, RunError

KEPT = ("unrolled", "python", "torch", "platform", "cpu", "cores", "threads", "gpus", "git")
"""What is committed of a run's environment: nothing that tells whose machine it was."""


def record(run: Run | str | Path, folder: str | Path = "docs/claims") -> Path:
    """Write a finished run's claims, with what made them, as `<study>-<preset>.json`; the older file is replaced.

    Args:
        run: a run, or the path of its folder.
        folder: where the files are kept.

    Returns:
        The file.

    Raises:
        RunError: there is no such run, it has not finished, or it has no claims.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    status, claims = opened.status_now(), opened.claims()
    if status["state"] != "finished" or not claims:
        what = "has no claims" if status["state"] == "finished" else f"is {status['state']}"
        raise RunError(f"{opened.path} {what}: only the claims of a finished run are recorded")
    study = studies.load(opened.source or opened.study)
    paper = citations.paper(getattr(study.module, "PAPER", None))
    preset = str(opened.config.get("preset", "own"))
    environment = opened.environment
    value = {
        "study": opened.study,
        "title": (study.module.__doc__ or "").strip().partition("\n")[0],
        "paper": {"title": paper.title, "authors": paper.authors, "year": paper.year, "arxiv": paper.arxiv},
        "preset": preset,
        "command": text.command(_anywhere(environment.get("command", []))),
        "date": time.strftime("%Y-%m-%d", time.gmtime(status.get("ended", status.get("time", 0)))),
        "seconds": round(status["ended"] - status["created"], 1) if "ended" in status else None,
        "environment": {key: environment[key] for key in KEPT if key in environment},
        "config": opened.config,
        "claims": claims,
    }
    path = Path(folder) / f"{opened.study}-{preset}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, value)
    return path


def _anywhere(words: list[str]) -> list[str]:
    """A command without `--runs FOLDER`, which is a place on one machine.

    Example:
        >>> _anywhere(["unrolled", "run", "a", "--runs", "/tmp/x", "--seeds", "5"])
        ['unrolled', 'run', 'a', '--seeds', '5']
    """
    after = ["", *words]
    return [word for before, word in zip(after, words) if "--runs" not in (before, word)]


def page(folder: str | Path = "docs/claims") -> str:
    """The Markdown of the page; the same files give the same text.

    Args:
        folder: with the files that `record` wrote.

    Raises:
        ValueError: a file is not what `record` writes.

    Example:
        >>> import tempfile
        >>> "No results are recorded" in page(tempfile.mkdtemp())
        True
    """
    results = [_read(path) for path in sorted(Path(folder).glob("*.json"))]
    parts = [INTRODUCTION]
    if not results:
        return "\n".join([*parts, "No results are recorded in this version.", ""])
    results.sort(key=lambda result: (result["study"], _place(result["preset"])))
    parts += ["| study | preset | claims |", "|---|---|---|"]
    parts += [
        f"| [{_text(r['study'])}](#{_anchor(r)}) | {_text(r['preset'])} | {text.verdicts(r['claims'])} |"
        for r in results
    ]
    study = ""
    for result in results:
        if result["study"] != study:
            study = result["study"]
            parts += ["", f"## {_text(study)}", "", _text(result["title"]), *_cited(result["paper"])]
        parts += ["", *_section(result)]
    return "\n".join([*parts, ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Record runs, write the page, or check it.

    Returns:
        The exit code: 0 done, 1 the page is out of date, 2 an error.
    """
    parser = argparse.ArgumentParser(prog="python -m unrolled.report.claims_page", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("run", nargs="*", help="folders of finished runs whose claims are recorded first")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the documentation's folder")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; only say whether the page is current"
    )
    options = parser.parse_args(argv)
    target, folder = options.docs / "claims.md", options.docs / "claims"
    if options.check and options.run:
        parser.error("--check changes nothing, so it takes no runs")
    try:
        for run in options.run:
            print(f"recorded {record(run, folder)}")
        made = page(folder)
    except (RunError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not options.check:
        atomic.write_text(target, made)
        print(f"wrote {target}")
        return 0
    current = target.is_file() and target.read_text(encoding="utf-8") == made
    print(f"{target} is {'current' if current else f'out of date: make it with {parser.prog}'}")
    return 0 if current else 1


INTRODUCTION = """\
<!-- Made by `python -m unrolled.report.claims_page` from docs/claims/*.json. Do not edit. -->
# Claims

Every claim that a study answers to: what the paper says, what we measured (mean ± standard deviation over seeds), and
the verdict. *Direction only* means that the sign or the order agrees and the size does not. A claim that did not hold
up stays, and so does one that was not attempted, with the reason.
"""


def _section(result: dict[str, Any]) -> list[str]:
    claims: list[Claim] = result["claims"]
    lines = [f"### {_text(result['study'])}, preset {_text(result['preset'])}", ""]
    lines += ["| claim | verdict | ours | the paper |", "|---|---|---|---|"]
    for claim in claims:
        notes = "".join(
            f"<br><small>{_text(told)}</small>" for told in (text.why(claim), claim.source) if told
        )
        ours = " ".join(_whole(part) for part in (text.value(claim), text.seeds(claim)) if part)
        theirs = _text(text.number(claim.paper, claim.unit))
        lines.append(f"| {_text(claim.statement)}{notes} | **{claim.status}** | {ours} | {theirs} |")
    return [*lines, "", *_made(result)]


def _made(result: dict[str, Any]) -> list[str]:
    """How the numbers came about, in one paragraph."""
    env = result["environment"]
    cores = env.get("cores")
    machine = [
        *env.get("gpus", []),
        env.get("cpu", ""),
        f"{cores} core{'s' if cores != 1 else ''}" if cores else "",
    ]
    software = [f"{name} {env[name]}" for name in ("unrolled", "torch", "python") if env.get(name)]
    git = env.get("git") or {}
    if git.get("commit"):
        software.append(f"commit {git['commit'][:10]}{' with local changes' if git.get('dirty') else ''}")
    facts = [result["date"], text.duration(result["seconds"]), *filter(None, machine), *software]
    lines = ["```console", result["command"], "```", ""] if result["command"] else []
    return [*lines, f"{_text('; '.join(facts))}. [Data](claims/{result['study']}-{result['preset']}.json)"]


def _cited(paper: dict[str, Any]) -> list[str]:
    found = citations.paper(paper)
    if not found.title and not found.arxiv:
        return []
    who = ", ".join(filter(None, (found.authors, found.year)))
    where = f" arXiv [{_text(found.arxiv)}]({found.url})." if found.url else ""
    return ["", f"Paper: *{_text(found.title)}*{f' ({_text(who)})' if who else ''}.{where}"]


def _read(path: Path) -> dict[str, Any]:
    known = {field.name for field in fields(Claim)}
    try:
        value = plain.loads(path.read_text(encoding="utf-8"))
        value["claims"] = [
            Claim(**{key: item for key, item in row.items() if key in known}) for row in value["claims"]
        ]
        for key in ("study", "title", "paper", "preset", "command", "date", "seconds", "environment"):
            value[key]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no record of claims ({error!r}); record the run again") from error
    return value


def _place(preset: str) -> tuple[int, str]:
    return (studies.PRESETS.index(preset) if preset in studies.PRESETS else len(studies.PRESETS), preset)


def _anchor(result: dict[str, Any]) -> str:
    """The anchor that MkDocs gives the heading of `_section`."""
    heading = f"{result['study']}, preset {result['preset']}".lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading)).strip("-")


def _text(words: Any) -> str:
    """Words as Markdown that shows them as they are, on one line."""
    line = " ".join(str(words).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", line)


def _whole(words: str) -> str:
    """Words that no line break may part."""
    return _text(words).replace(" ", "&nbsp;")


if __name__ == "__main__":
    sys.exit(main())
