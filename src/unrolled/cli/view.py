"""`unrolled view`: not in this version."""

from collections.abc import Sequence

from unrolled.cli._console import read, say
from unrolled.cli.list import Options

HELP = """Look at runs in the browser. Not in this version: `unrolled report` writes a page that any browser opens.

example:
  unrolled report last"""


def main(argv: Sequence[str]) -> int:
    """The verb."""
    read(Options, "view", HELP, argv)
    say(
        "the browser view is not in this version of unrolled. `unrolled report RUN` writes report.html: one file "
        "with claims, figures and settings that any browser opens"
    )
    return 2
