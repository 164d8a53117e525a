import importlib.machinery
import os
import sys
import types
import warnings

import pytest

from unrolled.runs import Run, sinks


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Run.create("toy", {"seed": 3}, tmp_path, log=["tensorboard"]) as run:
        for step in range(4):
            run.log(step=step, optimizer="muon", loss=1 / (step + 1), note=["not", "a number"])
        run.log(step=4, val_loss=0.5)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("muon/loss")] == [
        (0, 1.0), (1, 0.5), (2, 0.3333), (3, 0.25),
    ]  # fmt: skip
    assert [(e.step, e.value) for e in events.Scalars("val_loss")] == [(4, 0.5)]
    assert events.Tags()["scalars"] == ["muon/loss", "val_loss"]


def test_a_resumed_run_purges_what_it_will_log_again(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt), Run.create("toy", {}, tmp_path, log=["tensorboard"]) as run:  # noqa: PT012
        run.log(step=0, loss=1.0)
        (run.checkpoints / "x").write_text("1")
        run.log(step=1, loss=0.5)
        raise KeyboardInterrupt
    with Run.resume(run.path, log=["tensorboard"]) as run:
        run.log(step=1, loss=0.25)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 1.0), (1, 0.25)]


def test_a_name_is_checked_before_a_run_is_made(tmp_path):
    with pytest.raises(ValueError, match="no sink 'wandbb'; did you mean 'wandb'"):
        Run.create("toy", {}, tmp_path, log=["wandbb"])
    if importlib.util.find_spec("trackio") is None:
        with pytest.raises(ImportError, match=r"pip install 'unrolled\[log\]'"):
            Run.create("toy", {}, tmp_path, log=["trackio"])
    assert not list(tmp_path.iterdir())


class Failing:
    """A sink that fails where it is told to, and remembers what it saw."""

    def __init__(self, at):
        self.at, self.seen = at, []

    def __call__(self, path, study, config, start):
        if self.at == "open":
            raise ConnectionError("no network")
        return self

    def log(self, numbers, step):
        if self.at == "log" and step == 1:
            raise ConnectionError("no network")
        self.seen.append(step)

    def close(self, failed):
        if self.at == "close":
            raise ConnectionError("no network")


@pytest.mark.parametrize(("at", "seen"), [("open", []), ("log", [0]), ("close", [0, 1, 2])])
def test_a_failing_sink_ends_no_run_and_warns_once(tmp_path, monkeypatch, at, seen):
    sink = Failing(at)
    monkeypatch.setitem(sinks.SINKS, "json", sink)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Run.create("toy", {}, tmp_path, log=["json"]) as run:
            for step in range(3):
                run.log(step=step, loss=1.0)
    assert run.state == "finished"
    assert len(run.metrics()) == 3
    assert sink.seen == seen
    assert [str(w.message) for w in caught] == [
        "json is left out from here on (ConnectionError: no network); the run goes on, and its folder has every metric"
    ]


class FakeWandB(types.ModuleType):
    """Stands in for W&B: notes what it is asked. The real one is exercised outside the test suite, it is heavy."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.asked, self.rows, self.ended = {}, [], []

    def init(self, **asked):
        self.asked = asked
        return self

    def define_metric(self, *_, **__):
        pass

    def log(self, row):
        self.rows.append(row)

    def finish(self, exit_code):
        self.ended.append(exit_code)


@pytest.mark.parametrize(
    ("set_by_user", "mode"), [(None, "offline"), ("online", "online"), ("disabled", "disabled")]
)
def test_wandb_is_offline_unless_the_user_says_otherwise(tmp_path, monkeypatch, set_by_user, mode):
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")  # so that it is put back
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    if set_by_user:
        monkeypatch.setenv("WANDB_MODE", set_by_user)
    with Run.create("toy", {"seed": 1}, tmp_path, log=["wandb"]) as run:
        run.log(step=0, optimizer="adam", loss=1.0)
    assert fake.asked["mode"] == mode
    assert os.environ.get("WANDB_ERROR_REPORTING") == (None if set_by_user else "false")
    assert (fake.asked["id"], fake.asked["dir"]) == (run.id, str(run.path))
    assert fake.rows == [{"adam/loss": 1.0, "step": 0}]
    assert fake.ended == [0]
