"""Where metrics go besides the run folder: TensorBoard, Weights & Biases, trackio. The folder is always written.

A sink is asked for by name (`--log tensorboard`); one that is not installed is an error before the work starts. Once
the work runs, a sink that fails is left out with one warning: no run dies of its dashboard. None of them uses the
network unless the user's own settings say so: W&B runs offline unless `WANDB_MODE` is set, trackio keeps a local
database.
"""

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from unrolled.runs.config import nearest


class Sink(Protocol):
    """What a sink does. `numbers` holds the numeric fields of a row, its labels already in their names."""

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        """Pass one row on."""
        ...

    def close(self, failed: bool) -> None:
        """The run has ended, well or not."""
        ...


class TensorBoard:
    """Event files in `<run>/tensorboard`; see them with `tensorboard --logdir runs`."""

    def __init__(self, path: Path, study: str, config: Mapping[str, Any], start: int | None) -> None:
        from unrolled.core import require

        require("tensorboard", extra="log")
        writer = require("torch.utils.tensorboard", extra="log").SummaryWriter
        # On resume, what was logged after the checkpoint disappears from the plots.
        self._writer = writer(str(path / "tensorboard"), purge_step=start)
        if start is None:
            table = "\n".join(
                ["| field | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in config.items())]
            )
            self._writer.add_text("config", table)

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        """Add each number as a scalar."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self, failed: bool) -> None:
        """Flush and close."""
        del failed
        self._writer.close()


class WandB:
    """Weights & Biases, one W&B run per run folder; offline unless `WANDB_MODE` is set (then `wandb sync`)."""

    def __init__(self, path: Path, study: str, config: Mapping[str, Any], start: int | None) -> None:
        from unrolled.core import require

        if "WANDB_MODE" not in os.environ:
            # Offline is not silent: W&B would still send its own telemetry. Read when it is imported.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = require("wandb", extra="log")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "unrolled"),
            group=study,
            name=path.name,
            id=path.name,
            resume="allow",
            dir=str(path),
            config=dict(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )
        # Rows carry their own step: W&B's counter must increase, a resumed or second series does not.
        self._run.define_metric("*", step_metric="step")

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        """Log the row."""
        self._run.log({**numbers, **({} if step is None else {"step": step})})

    def close(self, failed: bool) -> None:
        """Finish the W&B run."""
        self._run.finish(exit_code=1 if failed else 0)


class Trackio:
    """trackio's local database; see it with `trackio show --project unrolled`."""

    def __init__(self, path: Path, study: str, config: Mapping[str, Any], start: int | None) -> None:
        from unrolled.core import require

        self._trackio = require("trackio", extra="log")
        self._run = self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "unrolled"),
            group=study,
            name=path.name,
            config=dict(config),
            resume="allow",
            embed=False,
        )

    def log(self, numbers: Mapping[str, float], step: int | None) -> None:
        """Log the row."""
        self._trackio.log(dict(numbers), step=step)

    def close(self, failed: bool) -> None:
        """Write what is still queued."""
        del failed
        self._trackio.finish()


SINKS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WandB, "trackio": Trackio}


def check(names: Iterable[str]) -> list[str]:
    """The names once each, after a look at whether they can be used; done before a run is made.

    Raises:
        ValueError: an unknown name; the nearest is suggested.
        ImportError: a sink is not installed; the message names the extra.

    Example:
        >>> check(["tensorbord"])
        Traceback (most recent call last):
        ValueError: no sink 'tensorbord'; did you mean 'tensorboard'? There are tensorboard, wandb, trackio
    """
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in SINKS:
            raise ValueError(f"no sink {name!r}{nearest(name, SINKS)} There are {', '.join(SINKS)}")
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise ImportError(f"{name} is not installed; install it with: pip install 'unrolled[log]'")
    return names


class Sinks:
    """The sinks of one run; none of them can end it.

    Args:
        names: which, of `SINKS`.
        path: the run folder.
        study: the study's name.
        config: its configuration.
        start: the first step to come when the run is resumed; None for a new run.
    """

    def __init__(
        self,
        names: Iterable[str],
        path: Path,
        study: str,
        config: Mapping[str, Any],
        start: int | None = None,
    ) -> None:
        self._open: dict[str, Sink] = {}
        for name in check(names):
            try:
                self._open[name] = SINKS[name](path, study, config, start)
            except Exception as error:
                self._leave_out(name, error)

    def log(self, row: Mapping[str, Any]) -> None:
        """Pass a row on: its numbers, each named with the row's labels in front (`muon/loss`)."""
        if not self._open:
            return
        labels = [str(v) for k, v in row.items() if isinstance(v, str)]
        numbers = {
            "/".join([*labels, k]): float(v)
            for k, v in row.items()
            if isinstance(v, int | float) and k not in ("step", "time")
        }
        for name, sink in list(self._open.items()):
            try:
                sink.log(numbers, row.get("step"))
            except Exception as error:
                self._leave_out(name, error)

    def close(self, failed: bool = False) -> None:
        """Close every sink."""
        for name, sink in list(self._open.items()):
            try:
                sink.close(failed)
            except Exception as error:
                self._leave_out(name, error)
        self._open.clear()

    def _leave_out(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        warnings.warn(
            f"{name} is left out from here on ({type(error).__name__}: {error}); "
            "the run goes on, and its folder has every metric",
            stacklevel=3,
        )
