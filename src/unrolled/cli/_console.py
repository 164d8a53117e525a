"""What every verb prints with: results on standard output; errors, notes and progress on standard error."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

T = TypeVar("T")


class StudyFailed(Exception):
    """A study raised; its run is marked. The message is the whole paragraph."""


def out() -> Console:
    """Standard output, as it is now."""
    return Console(highlight=False)


def err() -> Console:
    """Standard error, as it is now."""
    return Console(stderr=True, highlight=False)


def say(text: str | Text) -> None:
    """A note on standard error; in a file or a pipe it stays one line."""
    console = err()
    console.print(text if isinstance(text, Text) else Text(text), soft_wrap=not console.is_terminal)


def complain(error: Exception, *, debug: bool) -> None:
    """One readable paragraph, without a traceback. An error nobody foresaw shows its type as well."""
    from unrolled.runs.folder import RunError
    from unrolled.runs.study import StudyError

    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror + (
            f": {error.filename}" if error.filename and error.filename not in error.strerror else ""
        )
    if isinstance(error, KeyError):
        text = f"KeyError: {text}"
    foreseen = (RunError, StudyError, StudyFailed, ValueError, ImportError, OSError, KeyError)
    if not isinstance(error, foreseen):
        text = f"{type(error).__name__}: {text}" + ("" if debug else " (--debug shows the traceback)")
    say(Text.assemble(("error: ", "bold red"), text))


def read(options: type[T], verb: str, text: str, argv: Sequence[str]) -> T:
    """The options of a verb; `--help` shows what it does, with an example, before what it takes.

    Args:
        options: a dataclass, as tyro reads it.
        verb: the words of the command after `unrolled`.
        text: the help.
        argv: the words to read.
    """
    import tyro

    if "-h" in argv or "--help" in argv:
        print(flow(text), end="\n\n")
    # tyro would join the lines of a description: it is printed above instead.
    return tyro.cli(options, prog=f"unrolled {verb}", description=" ", args=argv)


def flow(text: str) -> str:
    """Paragraphs filled to the width of the terminal; indented lines stay as they are."""
    width = min(out().width, 100)
    filled: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        first = [line for line in paragraph.splitlines() if line[:1] != " "]
        rest = [line for line in paragraph.splitlines() if line[:1] == " "]
        filled.append("\n".join([textwrap.fill(" ".join(first), width), *rest]))
    return "\n\n".join(filled)


def short(path: str | os.PathLike[str]) -> str:
    """A path as a user would type it: relative when it lies below the working directory."""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def resume_command(path: str | os.PathLike[str]) -> str:
    """The command that goes on with a run; short when the run lies where it is looked for."""
    run = Path(path).absolute()
    usual = run.parent.parent == Path("runs").absolute()
    return f"unrolled resume {run.name.rpartition('-')[2] if usual else short(run)}"
