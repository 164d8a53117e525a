"""`make tour`: run the tour's studies on the CPU, print what they claim, write one report and one site of them all.

An interrupted tour goes on where it stopped when it is started again; a finished one starts anew.
"""

import sys
import time
from pathlib import Path

import torch
from rich.text import Text

from unrolled.cli._console import complain, out, say, short
from unrolled.cli._execute import execute
from unrolled.report import print_claims, write_many
from unrolled.runs import config as configs
from unrolled.runs import index
from unrolled.runs.run import Run
from unrolled.runs.study import load

STUDIES = (
    "curvature-text",
    "curvature-theory",
    "debate-recorded",
    "cortex-synapse",
    "cortex-gradient",
    "looped-parity",
    "sbml-conformance",
    "game-cartpole",
    "latent-superposition",
)


def main(root: str = "runs") -> int:
    """Run the tour.

    Args:
        root: the folder that holds all runs.

    Returns:
        The exit code: 0 done, 2 an error, 130 interrupted.
    """
    began = time.monotonic()
    torch.set_num_threads(1)  # models this small only wait for a second thread
    say(f"the tour: {', '.join(STUDIES)}; a few minutes on two cores, Ctrl-C is safe")
    try:
        runs = [_run(name, root) for name in STUDIES]
    except KeyboardInterrupt:
        say("interrupted: `make tour` goes on where it stopped")
        return 130
    except Exception as error:
        complain(error, debug=False)
        return 2
    console = out()
    for run in runs:
        console.print(Text(f"\n{run.study}", style="bold"))
        print_claims(run.claims(), console)
    path = write_many([run.path for run in runs], Path(root) / "report.html", title="The tour of unrolled")
    console.print(Text.assemble("report: ", (short(path), "bold")), soft_wrap=True)
    if (site := _site(runs, Path(root) / "site")) is not None:
        console.print(Text.assemble("every step, with a scrubber: ", (short(site), "bold")), soft_wrap=True)
    where = "" if root == "runs" else f" --runs {root}"
    console.print(
        f"live, and to talk to the network that learned: unrolled view{where}   (http://127.0.0.1:8420/)",
        soft_wrap=True,
    )
    say(f"{time.monotonic() - began:.0f} s; open these in a browser, then: unrolled list")
    return 0


def _site(runs: list[Run], folder: Path) -> Path | None:
    """A static bundle of the runs; None where the view is not installed."""
    try:
        from unrolled.view import bundle
    except ImportError:
        return None
    return bundle.write(runs, folder)


def _run(name: str, root: str) -> Run:
    """One study to its end, from where an interrupted tour left it."""
    study = load(name)
    config = study.config("tiny")
    before = [row for row in index.query(root, study=name) if row["hash"] == configs.identity(name, config)]
    unfinished = [row for row in before if row["state"] in ("lost", "interrupted", "failed")]
    run = Run.resume(unfinished[-1]["path"]) if unfinished else Run.create(name, config, root)
    execute(study, config, run, report=None)
    return run


if __name__ == "__main__":
    sys.exit(main())
