"""What `run` and `resume` share: the study at work, its progress, its claims, its report, and how it may end."""

from typing import Any

from rich.text import Text

from unrolled.cli._console import StudyFailed, out, resume_command, say, short
from unrolled.runs import distributed
from unrolled.runs.atomic import DiskFull
from unrolled.runs.claims import Claim
from unrolled.runs.run import Run
from unrolled.runs.study import Study, StudyError


def execute(study: Study, config: Any, run: Run, *, report: bool | None = True) -> list[Claim]:
    """Run a study in a run that has been started, print its claims, write its report.

    Args:
        study: the study.
        config: its configuration.
        run: from `Run.create` or `Run.resume`.
        report: write report.html at the end; None leaves printing the claims to the caller too.

    Returns:
        The claims.

    Raises:
        StudyFailed: the study raised; the run is marked *failed*.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run is marked *interrupted*. The message says how to resume.
    """
    main = distributed.rank() == 0
    display = Display()
    if main:
        run.display = display
        verb = "resuming" if run.resumed else "running"
        say(f"{verb} {study.name}, preset {run.config.get('preset')}, in {short(run.path)}")
    try:
        with run:
            made = study.run(config, run)
            _check(made, study)
            run.save_claims(made)
    except KeyboardInterrupt as stop:
        display.close()
        raise type(stop)(f"interrupted; go on with:\n  {resume_command(run.path)}") from None
    except Exception as error:
        display.close()
        raise StudyFailed(_failure(error, run)) from error
    display.close()
    if main and report is not None:
        show(run, made, report=report)
    return made


def show(run: Run, made: list[Claim], *, report: bool) -> None:
    """Print claims, and write the report if asked; a report that fails takes nothing from a finished run."""
    from unrolled.report import print_claims

    console = out()
    if made:
        print_claims(made, console)
    if report:
        try:
            from unrolled.report import write

            path = write(run.path)
            console.print(Text.assemble("report: ", (short(path), "bold")), soft_wrap=True)
        except ImportError as error:
            say(f"no report.html: {error}; then: unrolled report {run.id}")
        except Exception as error:
            say(f"no report.html ({type(error).__name__}: {error}); try: unrolled report {run.id} --debug")
    else:
        console.print(Text.assemble("run: ", (short(run.path), "bold")), soft_wrap=True)


class Display:
    """Shows where a run is: a bar per phase on a terminal, a line per tenth elsewhere."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._bar: Any = None

    def __call__(self, phase: str, step: int | None, steps: int | None) -> None:
        """Show a change."""
        if phase != self._phase:
            self.close()
            self._phase = phase
            if phase and steps is None:
                say(phase)
        if step is None or not steps:
            return
        if self._bar is None:
            from unrolled.training.progress import Progress

            self._bar = Progress(phase or "study")
        self._bar(step, steps)
        if step >= steps:
            self._bar = None

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _check(made: Any, study: Study) -> None:
    if not isinstance(made, list) or not all(isinstance(claim, Claim) for claim in made):
        raise StudyError(f"{study.source}: study() must return a list of Claim, it returned {made!r:.200}")


def _failure(error: Exception, run: Run) -> str:
    text = str(error).strip()
    named = text if isinstance(error, StudyError | DiskFull) else f"{type(error).__name__}: {text}"
    if run.state != "failed":  # there was no space to say so
        return f"{named}\nThen:\n  {resume_command(run.path)}"
    return (
        f"{named}\n"
        f"The run is marked failed; status.json in {short(run.path)} keeps the traceback, and --debug shows it. "
        f"Once it is mended:\n  {resume_command(run.path)}"
    )
