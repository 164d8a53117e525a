"""`unrolled view`: look at runs in the browser."""

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from unrolled.cli._console import err, out, read, say, short
from unrolled.runs import index
from unrolled.runs.run import Run

HELP = """Look at runs in the browser: claims, the command that made each run, and panels that follow one time scrubber.
The page is served from this machine to this machine and reads run folders; nothing else is sent or fetched.

RUN, for --bundle, is a path, an id, the beginning of an id as `unrolled runs` shows it, or `last`; all runs when none
is given. A bundle is a folder of files: open its index.html, or put it on any host for static files.

On an address that other machines reach, a random token is part of the address that is printed.

example:
  unrolled view
  unrolled view last --bundle site/last
  unrolled view --runs /data/runs --host 0.0.0.0 --port 9000"""


@dataclass(frozen=True)
class Options:
    """Options of `view`."""

    run: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="path, id, or last; opens it"),
    ] = ()
    runs: Annotated[Path, tyro.conf.arg(help="folder that holds all runs")] = Path("runs")
    bundle: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="write a site to this folder instead of serving")
    ] = None
    host: Annotated[str, tyro.conf.arg(help="address to serve on")] = "127.0.0.1"
    port: Annotated[int, tyro.conf.arg(help="port to serve on; the next free one when it is taken")] = 8420
    token: Annotated[
        str | None, tyro.conf.arg(help="ask for this token; random where one is needed and none is given")
    ] = None
    open: Annotated[bool, tyro.conf.arg(help="open the browser")] = False


def main(argv: Sequence[str]) -> int:
    """The verb."""
    options = read(Options, "view", HELP, argv)
    if options.bundle is not None:
        return _bundle(options, options.bundle)
    from unrolled.core import require

    require("starlette", extra="view")
    require("uvicorn", extra="view")
    from unrolled.view import server

    if len(options.run) > 2:
        raise ValueError(f"a page shows one run, or two side by side; got {len(options.run)}")
    root, shown = _shown(options)

    def ready(address: str) -> None:
        where = address + shown
        # In full, even where lines are cut: it is there to be copied.
        out().print(
            Text.assemble("looking at ", (short(root), "bold"), ": ", (where, "bold cyan")), soft_wrap=True
        )
        say("Ctrl-C ends it")
        if options.open:
            webbrowser.open(where)

    try:
        server.serve(root, host=options.host, port=options.port, token=options.token, ready=ready)
    except KeyboardInterrupt as stop:
        if type(stop) is not KeyboardInterrupt:  # SIGTERM is told by the exit code; Ctrl-C is how this ends
            raise
    return 0


def _shown(options: Options) -> tuple[Path, str]:
    """The folder to serve, and the part of the address after #."""
    root = options.runs
    if not options.run:
        if not root.is_dir():
            say(f"there is no folder {root} yet: runs appear as they are made")
        return root, ""
    found = [index.find(reference, root).absolute() for reference in options.run]
    root = found[0].parent.parent
    if any(path.parent.parent != root for path in found):
        raise ValueError("runs to compare lie in one runs folder")
    names = [f"{path.parent.name}/{path.name}" for path in found]
    return root, "#run=" + "&with=".join(names)


def _bundle(options: Options, folder: Path) -> int:
    from unrolled.view import bundle

    if options.run:
        paths = [index.find(reference, options.runs) for reference in options.run]
    else:
        paths = [Path(row["path"]) for row in index.query(options.runs)]
    if not paths:
        raise ValueError(f"there are no runs under {options.runs}: nothing to bundle")
    runs = [Run.open(path) for path in paths]
    made = bundle.write(runs, folder, tell=lambda text: err().print(Text(text, style="dim")))
    out().print(Text.assemble("bundle: ", (short(made), "bold")), soft_wrap=True)
    return 0
