"""The command line: `unrolled VERB`, one file per verb.

>>> from unrolled.cli import VERBS
>>> " ".join(VERBS)
'list run sweep resume runs report view check debate looped latent sbml talk'
"""

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

VERBS = {
    "list": "the studies there are",
    "run": "run a study",
    "sweep": "run a study over seeds and settings, each cell once",
    "resume": "go on with a run that was killed, interrupted, or failed",
    "runs": "the table of all runs",
    "report": "print a run's claims and write its report.html",
    "view": "look at runs in the browser",
    "check": "test a system of your own against the contract",
    "debate": "fit, run and audit debates of agents",
    "looped": "train a looped language model on your text, and let it write",
    "latent": "reasoning in latent space: which methods there are",
    "sbml": "simulate biological models, by the thousand, and see what they do",
    "talk": "talk to a frozen network: it acts, and answers",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers send it before they kill: handled like Ctrl-C, so that the run is marked."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `unrolled`; those of the process when None.

    Returns:
        The exit code: 0 done, 1 a check or a cell failed, 2 an error, 130 interrupted, 143 terminated.
    """
    # No `list(...)` in this file: once the verb is imported, the name is that module.
    words = [*(sys.argv[1:] if argv is None else argv)]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    before = _on_terminate()
    try:
        return _dispatch(words)
    except SystemExit as end:  # tyro has said what is wrong, or printed the help
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt as stop:
        from unrolled.cli._console import say

        say("interrupted" if not str(stop) else str(stop))
        return 143 if isinstance(stop, Terminated) else 130
    except BrokenPipeError:  # `unrolled runs | head`
        sys.stderr.close()
        return 141
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        from unrolled.cli._console import complain

        complain(error, debug=debug)
        return 2
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _dispatch(words: list[str]) -> int:
    if words and words[0] in VERBS:
        return importlib.import_module(f"unrolled.cli.{words[0]}").main(words[1:])
    if words and words[0] == "--version":
        from unrolled import __version__

        print(f"unrolled {__version__}")
        return 0
    from unrolled.cli._help import screen

    if not words or words[0] in ("-h", "--help", "help"):
        screen(VERBS)
        return 0
    from unrolled.runs.config import nearest

    raise ValueError(f"no verb {words[0]!r}{nearest(words[0], VERBS)} There are {', '.join(VERBS)}")


def _on_terminate() -> Any:
    """Turn SIGTERM into `Terminated`, from here to the end of the verb; the handler that was there."""

    def terminate(number: int, frame: Any) -> None:
        raise Terminated

    try:
        return signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread, where signals do not arrive
        return None
