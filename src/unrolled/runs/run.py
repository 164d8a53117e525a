"""A run is a folder: config, environment, heartbeat, metrics, checkpoints, claims, figures, report."""

import contextlib
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from unrolled.runs import atomic, checkpoint, claims, distributed, environment, exhibits, folder, plain, sinks
from unrolled.runs import config as configs
from unrolled.runs.checkpoint import Checkpoint
from unrolled.runs.claims import Claim
from unrolled.runs.folder import Lock, RunError
from unrolled.runs.liveness import BEAT, owner
from unrolled.runs.metrics import CLOCK, Metrics
from unrolled.runs.resuming import Ledger, Replay

if TYPE_CHECKING:
    from unrolled.core import Trajectory

C = TypeVar("C")

_THROTTLE = 1.0  # seconds between two writes of progress alone


class Run:
    """One run, as a folder `<root>/<study>/<date>-<hash>/`.

    Make one with `create`, read one with `open`, go on with `resume`. As a context manager it ends *finished*,
    *interrupted* (Ctrl-C) or *failed* (an exception, which is passed on). Under `torchrun` rank 0 owns the folder;
    on the other ranks everything that writes does nothing.

    Example:
        >>> import tempfile
        >>> with Run.create("demo", {"seed": 1}, root=tempfile.mkdtemp()) as run:
        ...     for step in range(3):
        ...         run.log(step=step, loss=1 / (step + 1))
        ...         run.progress(step + 1, 3)
        >>> [row["loss"] for row in Run.open(run.path).metrics()][:2]
        [1.0, 0.5]
    """

    def __init__(self, path: Path, mode: Literal["read", "write", "silent"], config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.resumed = False
        self.display: Callable[[str, int | None, int | None], None] | None = None
        """Called with (phase, step, steps) at each change, to show it; None shows nothing."""
        self._mode = mode
        self._metrics = Metrics(path)
        self._status: dict[str, Any] = {}
        self._written = 0.0
        self._began, self._spent = 0.0, 0.0
        self._rows = 0
        self._ledger: Ledger | None = None
        self._replay: Replay | None = None
        self._sinks: sinks.Sinks | None = None
        self._lock: Lock | None = None
        self._mutex = threading.RLock()
        self._over = threading.Event()

    # ---------------------------------------------------------------- make, open, resume

    @classmethod
    def create(
        cls,
        study: str,
        config: Any,
        root: str | os.PathLike[str] = "runs",
        *,
        source: str | None = None,
        log: Iterable[str] = (),
    ) -> "Run":
        """Make a new run and start it.

        Args:
            study: the study's name.
            config: its configuration, a dataclass or a dict.
            root: the folder that holds all runs.
            source: the study's file, when it does not ship with the package.
            log: sinks by name, see `unrolled.runs.sinks`.

        Raises:
            TypeError: the configuration holds what JSON cannot.
            ValueError: an unknown sink.
            ImportError: a sink is not installed.
            RunError: the folder cannot be made.
        """
        values = configs.to_dict(config)
        log = sinks.check(log)
        path = None
        if distributed.rank() == 0:
            path = folder.make(study, values, Path(root), source, state="running")
        path = Path(distributed.share(None if path is None else str(path)))
        if distributed.rank() != 0:
            return cls(path, "silent", values)
        run = cls(path, "write", values)
        run._start(log)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Open a run for reading, whatever its state.

        Raises:
            RunError: there is no run at `path`.
        """
        place = Path(path)
        try:
            values = plain.loads((place / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"no run at {place}: a run is a folder with a config.json") from error
        except ValueError as error:
            raise RunError(f"{place / 'config.json'} is damaged: {error}") from error
        return cls(place, "read", values)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], *, log: Iterable[str] = ()) -> "Run":
        """Open a run to go on with it: after a crash, a Ctrl-C, a failure, or when it was queued.

        Metrics logged after the newest checkpoint are dropped, because they will be logged again; see
        `unrolled.runs.resuming`. The study itself looks for its checkpoints in `run.checkpoints`.

        Args:
            path: the run folder.
            log: sinks by name.

        Raises:
            RunError: there is no such run, it has finished, or another process is writing it.
        """
        log = sinks.check(log)
        run = cls.open(path)
        if run.state == "finished":
            raise RunError(f"{run.path} has finished: there is nothing to resume")
        if distributed.rank() != 0:
            run._mode, run.resumed = "silent", True
            return run
        run._mode = "write"
        run._start(log, again=True)
        return run

    # ---------------------------------------------------------------- what it is

    @property
    def id(self) -> str:
        """The folder's name, `<date>-<hash>`."""
        return self.path.name

    @property
    def study(self) -> str:
        """The study's name."""
        return self.path.parent.name

    @property
    def source(self) -> str | None:
        """The file of a study that does not ship with the package; None for one that does."""
        return self.environment.get("source")

    @property
    def environment(self) -> dict[str, Any]:
        """environment.json; empty if it cannot be read."""
        return folder.read(self.path / "environment.json")

    @property
    def hash(self) -> str:
        """Identity of study and configuration: equal for two runs of the same cell."""
        return configs.identity(self.study, self.config)

    @property
    def hardware(self) -> str:
        """One line about this machine, for `Claim.hardware`."""
        return environment.hardware()

    @property
    def checkpoints(self) -> Path:
        """Folder for checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Folder for figures."""
        return self.path / "figures"

    @property
    def state(self) -> str:
        """One of `folder.STATES`."""
        return self.status_now()["state"]

    @property
    def writes(self) -> bool:
        """Whether this process writes the folder: not after `open`, and only on rank 0."""
        return self._mode == "write"

    def config_as(self, cls: type[C]) -> C:
        """The configuration as its dataclass.

        Raises:
            ValueError: the dataclass has changed since the run was made.
        """
        return configs.from_dict(cls, self.config)

    def status_now(self) -> dict[str, Any]:
        """status.json, with the state as it is: *lost* when the process that wrote it is gone."""
        return folder.judge(folder.read(self.path / "status.json"))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.state})"

    # ---------------------------------------------------------------- metrics

    def log(self, *, step: int | None = None, **fields: Any) -> None:
        """Append one row to the metrics; it survives the death of this process.

        Strings among the fields are labels (`optimizer="muon"`); give one to each series that counts its own steps.
        Log a step before saving its checkpoint, so that a resumed run has each row once.

        Args:
            step: the step it belongs to.
            fields: numbers, strings, lists; a zero-dimensional tensor is a number.

        Raises:
            TypeError: a field is something else.
            DiskFull: no space left; earlier rows are whole.
            RunError: the run was opened for reading.
        """
        if not self._may_write():
            return
        if CLOCK in fields:
            raise ValueError(f"{CLOCK!r} is the field of the clock; give yours another name")
        head = {} if step is None else {"step": int(step)}
        row = plain.plain({**head, **fields}, where="a logged row")
        with self._mutex:
            if self._replay is not None and self._replay.repeats(row):
                return
            row[CLOCK] = round(time.time(), 3)
            if self._ledger is not None:
                self._ledger.note(self._metrics, self._rows)
            self._metrics.append(row)
            self._rows += 1
            if self._sinks is not None:
                self._sinks.log(row)

    def metrics(self) -> list[dict[str, Any]]:
        """Every row logged, in order; each has `time`, Unix seconds.

        Raises:
            ValueError: the file is damaged somewhere else than in its last line.
        """
        return self._metrics.rows()

    # ---------------------------------------------------------------- heartbeat

    def status(self, phase: str | None = None, step: int | None = None, steps: int | None = None) -> None:
        """Say what the run is doing. A new phase starts without steps; progress is written once a second at most."""
        if not self._may_write():
            return
        with self._mutex:
            new = phase is not None and phase != self._status.get("phase")
            if new:
                self._status |= {"phase": phase, "step": None, "steps": None}
            if step is not None:
                self._status["step"] = int(step)
            if steps is not None:
                self._status["steps"] = int(steps)
            if new or time.monotonic() - self._written > _THROTTLE:
                # A full disk is for the next row or checkpoint to report: a heartbeat is no reason to stop.
                with contextlib.suppress(OSError):
                    self._write_status()
            shown = self._status.get("phase") or "", self._status.get("step"), self._status.get("steps")
        if self.display is not None:
            self.display(*shown)

    def progress(self, step: int, steps: int) -> None:
        """`status(step=..., steps=...)`, as a callback."""
        self.status(step=step, steps=steps)

    # ---------------------------------------------------------------- what it leaves behind

    def save_checkpoint(self, step: int, tensors: Mapping[str, Any], **meta: Any) -> None:
        """Write a checkpoint: a dict of tensors, and plain values. The last two are kept.

        Args:
            step: steps taken.
            tensors: name -> tensor.
            meta: what JSON can hold.

        Raises:
            DiskFull: no space left; earlier checkpoints are whole.
        """
        if self._may_write():
            self._metrics.sync()
            checkpoint.save(self.checkpoints, step, tensors, meta, self._rows)

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint written by `save_checkpoint`, or None; later metrics are dropped."""
        found = checkpoint.load(self.checkpoints)
        if found is not None and self.writes and found.rows < self._rows:
            self._cut(found.rows)
        return found

    def commit(self) -> None:
        """What has been logged so far stays when the run is resumed: for a part whose result is its rows.

        Checkpoints do the same for what was logged before them, so this is for parts that write none.
        """
        if self._may_write():
            with self._mutex:
                self._metrics.sync()
                atomic.write_json(self.checkpoints / "committed.json", {"rows": self._rows})

    def save_trajectory(self, trajectory: "Trajectory") -> Path:
        """Write trajectory.safetensors."""
        path = self.path / "trajectory.safetensors"
        if self._may_write():
            with atomic.full_disk(path):
                trajectory.save(path)
        return path

    def trajectory(self, *, like: Any = None) -> "Trajectory":
        """Read trajectory.safetensors.

        Raises:
            FileNotFoundError: the run saved none.
        """
        from unrolled.core import Trajectory

        return Trajectory.load(self.path / "trajectory.safetensors", like=like)

    def save_exhibit(
        self,
        name: str,
        kind: str,
        *,
        title: str,
        caption: str = "",
        unit: str = "step",
        t: Any = None,
        data: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Leave something to be looked at, one panel of `unrolled view`; see `unrolled.runs.exhibits.save`.

        Raises:
            ExhibitError: it does not hold what its kind needs.
            DiskFull: no space left.
        """
        if self._may_write():
            exhibits.save(
                self.path, name, kind, title=title, caption=caption, unit=unit, t=t, data=data, arrays=arrays
            )

    def exhibits(self) -> list[str]:
        """The names of the exhibits; `unrolled.runs.exhibits.load` reads one."""
        return exhibits.names(self.path)

    def save_reading(self, reading: Any, name: str | None = None) -> None:
        """Leave a `Reading` to be looked at; its own name by default."""
        if self._may_write():
            exhibits.save_reading(self.path, reading, name)

    def readings(self) -> dict[str, dict[str, Any]]:
        """The readings saved, as plain values, by name."""
        return exhibits.readings(self.path)

    def save_claims(self, made: Sequence[Claim]) -> None:
        """Write claims.json.

        Raises:
            ValueError: two claims share an id.
        """
        if self._may_write():
            claims.write(self.path / "claims.json", made)

    def claims(self) -> list[Claim]:
        """The claims of claims.json; none if there is none yet."""
        return claims.read(self.path / "claims.json")

    # ---------------------------------------------------------------- end

    def end(self, state: str = "finished", error: BaseException | None = None) -> None:
        """End the run; nothing can be written afterwards. Leaving the context manager does it.

        Args:
            state: `"finished"`, `"failed"` or `"interrupted"`.
            error: why it failed; its traceback goes into status.json.

        Raises:
            DiskFull: the end could not be written; the run will show as lost and can be resumed.
        """
        if self._mode != "write":
            return
        self._over.set()
        try:
            with self._mutex:
                if state == "finished":
                    self._metrics.compact()
                self._metrics.close()
                self._status |= {"state": state, "ended": round(time.time(), 3)}
                if error is not None:
                    lines = traceback.format_exception(type(error), error, error.__traceback__)
                    self._status |= {"error": f"{type(error).__name__}: {error}", "traceback": "".join(lines)}
                self._write_status()
        finally:
            self._mode = "read"
            if self._sinks is not None:
                self._sinks.close(failed=state != "finished")
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end("finished")
            return
        # What went wrong matters more than that it could not be written down.
        with contextlib.suppress(OSError):
            if isinstance(error, KeyboardInterrupt):
                self.end("interrupted")
            else:
                self.end("failed", error)

    # ---------------------------------------------------------------- inside

    def _may_write(self) -> bool:
        if self._mode == "read":
            raise RunError(
                f"{self.path} is open for reading, or has ended; Run.resume(path) goes on with an unfinished run"
            )
        return self._mode == "write"

    def _start(self, log: Iterable[str], again: bool = False) -> None:
        """Take the folder over, bring its metrics to the checkpoint, begin the heartbeat."""
        self._lock = Lock(self.path)
        try:
            status = folder.read(self.path / "status.json")
            mine = owner()
            self._began, self._spent = time.time(), float(status.get("spent") or 0.0)
            last = None
            self.resumed = again and status.get("starts", 0) > 0
            if self.resumed:
                last = self._bring_back()
            if again:
                self._environment_again()
            self._status = {
                "state": "running", "phase": None, "step": None, "steps": None, **mine,
                "created": status.get("created", round(time.time(), 3)),
                "starts": status.get("starts", 0) + 1,
            }  # fmt: skip
            self._ledger = Ledger(self.path)
            self._sinks = sinks.Sinks(log, self.path, self.study, self.config, last)
            self._write_status()
        except BaseException:
            self._lock.release()
            raise
        threading.Thread(target=_beat, args=(weakref.ref(self), self._over), daemon=True).start()

    def _bring_back(self) -> int | None:
        """Drop the metrics after the newest checkpoint; the first step to come."""
        self._metrics.repair()
        rows = self._metrics.rows()
        self._cut(Ledger(self.path).rows(len(rows)), rows)
        steps = [row["step"] for row in rows[: self._rows] if "step" in row]
        return max(steps) + 1 if steps else 0

    def _cut(self, rows: int, there: list[dict[str, Any]] | None = None) -> None:
        there = self._metrics.rows() if there is None else there
        if rows < len(there):
            self._metrics.cut(rows)
        self._rows = rows
        self._replay = Replay(there[:rows])

    def _environment_again(self) -> None:
        """A queued run gets the environment it really runs in; a resumed one keeps the first and adds this."""
        before = self.environment
        now = environment.snapshot()
        if self.resumed:
            before.setdefault("resumed", []).append(now)
        else:
            before |= now
        atomic.write_json(self.path / "environment.json", before)

    def _write_status(self) -> None:
        now = time.time()
        self._status |= {"time": round(now, 3), "spent": round(self._spent + now - self._began, 3)}
        self._written = time.monotonic()
        atomic.write_json(self.path / "status.json", self._status)


def _beat(reference: "weakref.ref[Run]", over: threading.Event) -> None:
    """Say every few seconds that the process is there."""
    while not over.wait(BEAT):
        run = reference()
        if run is None:
            return
        with contextlib.suppress(OSError), run._mutex:
            if not over.is_set():
                run._write_status()
        del run
