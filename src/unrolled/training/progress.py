"""Progress of long work: a bar on a terminal, one line per 10 % anywhere else."""

import sys
import time
from typing import Any, TextIO


class Progress:
    """A callback `progress(step, steps)`, for `fit`, `rollout` and loops of your own.

    On a terminal it draws a bar (rich); otherwise it prints one line at each tenth. It finishes by itself when step
    reaches steps; `close()`, or use as a context manager, ends it early. Calls are cheap: most return after two
    comparisons.

    Args:
        label: what is going on.
        steps: how many there are, if known already; the callback's own `steps` wins.
        file: where to write; standard error when None.
        live: draw the bar; None looks whether `file` is a terminal.
    """

    def __init__(
        self, label: str, steps: int | None = None, *, file: TextIO | None = None, live: bool | None = None
    ) -> None:
        self.label, self.steps = label, steps
        self._file = sys.stderr if file is None else file
        self._live = self._file.isatty() if live is None else live
        self._bar: Any = None
        self._task: Any = None
        self._note = ""
        self._began: float | None = None
        self._first = 0
        self._tenth = 0
        self._drawn = 0.0

    def __call__(self, step: int, steps: int | None = None) -> None:
        """Report that `step` of `steps` are done."""
        now = time.perf_counter()
        if self._began is None:
            # A resumed run starts in the middle: its first report is where the clock starts.
            self._began, self._first = now, step
        if steps is not None:
            self.steps = steps
        total = self.steps or 0
        finished = total > 0 and step >= total
        if self._live:
            if self._bar is None:
                self._bar = self._open(total)
            if finished or now - self._drawn > 0.1:
                self._drawn = now
                self._bar.update(self._task, completed=step, total=total or None, note=self._note)
        elif total and step * 10 // total > self._tenth:
            self._tenth = step * 10 // total
            self._line(step, total, now - self._began)
        if finished:
            self.close()

    def log(self, **numbers: Any) -> None:
        """Show numbers beside the bar: usable as `log=` of `fit`. The step is left out, the rest has 4 digits."""
        shown = (f"{k} {v:.4g}" for k, v in numbers.items() if k != "step" and isinstance(v, int | float))
        self._note = "  ".join(shown)

    def close(self) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, total: int) -> Any:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=self._file, force_terminal=True),
        )
        self._task = bar.add_task(self.label, total=total or None, completed=self._first, note="")
        bar.start()
        return bar

    def _line(self, step: int, total: int, seconds: float) -> None:
        parts = [f"{self.label}: {step}/{total} ({100 * step // total} %), {seconds:.1f} s", self._note]
        print("  ".join(filter(None, parts)), file=self._file, flush=True)


def progress(label: str, steps: int | None = None, *, file: TextIO | None = None) -> Progress:
    """A progress callback: `progress("train", 1000)` gives `callback(step, steps)`.

    Example:
        >>> import io
        >>> out = io.StringIO()
        >>> report = progress("train", 20, file=out)
        >>> for step in range(1, 21):
        ...     report(step)
        >>> len(out.getvalue().splitlines())
        10
    """
    return Progress(label, steps, file=file)
