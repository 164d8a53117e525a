import json
import math
import multiprocessing
import os
import time
from dataclasses import dataclass

import pytest
import torch

from unrolled.core import Trajectory
from unrolled.runs import Claim, Run, RunError, folder


@dataclass(frozen=True)
class Config:
    preset: str = "tiny"
    seed: int = 0
    rates: tuple[float, ...] = (0.5,)


@pytest.fixture
def run(tmp_path):
    made = Run.create("toy", Config(), tmp_path)
    yield made
    made.end()


def test_the_folder_has_everything(tmp_path):
    with Run.create("toy", Config(seed=3), tmp_path) as run:
        run.log(step=0, loss=1.0)
        run.save_trajectory(Trajectory.from_records([0, 1], {"x": [1.0, 2.0]}))
        run.save_claims([Claim.not_attempted("a", "b", why="c")])
    assert run.path.parent == tmp_path / "toy"
    assert {p.name for p in run.path.iterdir() if p.name[0] != "."} == {
        "config.json", "environment.json", "status.json", "metrics.parquet", "trajectory.safetensors", "checkpoints",
        "claims.json", "figures",
    }  # fmt: skip
    again = Run.open(run.path)
    assert again.config_as(Config) == Config(seed=3)
    assert again.state == "finished"
    assert again.study == "toy"
    assert again.hash == run.hash
    assert again.trajectory()["x"].tolist() == [1.0, 2.0]
    assert again.claims()[0].note == "c"
    assert json.loads((run.path / "config.json").read_text()) == {"preset": "tiny", "seed": 3, "rates": [0.5]}
    environment = again.environment
    assert {"python", "torch", "platform", "cpu", "threads", "git", "unrolled", "command"} <= set(environment)
    assert environment["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_states(tmp_path):
    run = Run.create("toy", {}, tmp_path)
    assert Run.open(run.path).state == "running"
    run.end("finished")
    assert run.state == "finished"
    with pytest.raises(ZeroDivisionError), Run.create("toy", {}, tmp_path) as run:
        raise ZeroDivisionError("by zero")
    assert run.state == "failed"
    assert run.status_now()["error"] == "ZeroDivisionError: by zero"
    assert "test_run.py" in run.status_now()["traceback"]
    with pytest.raises(KeyboardInterrupt), Run.create("toy", {}, tmp_path) as run:
        raise KeyboardInterrupt
    assert run.state == "interrupted"


def test_a_resumed_run_forgets_the_error_and_counts_its_work(tmp_path):
    with pytest.raises(ZeroDivisionError), Run.create("toy", {}, tmp_path) as run:  # noqa: PT012
        time.sleep(0.05)
        raise ZeroDivisionError
    with Run.resume(run.path) as run:
        assert run.resumed
        assert run.state == "running"
    status = run.status_now()
    assert "error" not in status
    assert status["starts"] == 2
    assert status["spent"] >= 0.05
    assert status["ended"] >= status["created"]
    assert len(run.environment["resumed"]) == 1


def test_only_one_process_writes(run):
    with pytest.raises(RunError, match=f"is being written by process {os.getpid()}"):
        Run.resume(run.path)


def test_a_finished_run_is_not_resumed(tmp_path):
    with Run.create("toy", {}, tmp_path) as run:
        pass
    with pytest.raises(RunError, match="has finished: there is nothing to resume"):
        Run.resume(run.path)


def test_nothing_is_written_to_an_open_or_ended_run(run):
    reader = Run.open(run.path)
    run.end()
    for other in (reader, run):
        for write in (
            lambda r: r.log(step=0),
            lambda r: r.status(phase="x"),
            lambda r: r.save_claims([]),
            lambda r: r.save_checkpoint(0, {}),
            lambda r: r.commit(),
        ):
            with pytest.raises(RunError, match="open for reading, or has ended"):
                write(other)


def test_no_run(tmp_path):
    with pytest.raises(RunError, match="no run at"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config.json is damaged"):
        Run.open(tmp_path)


@pytest.mark.parametrize("study", ["", "a/b", "../up", ".hidden"])
def test_a_study_name_is_no_path(tmp_path, study):
    with pytest.raises(RunError, match="a study's name is one word"):
        Run.create(study, {}, tmp_path)


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match="no folder for runs at .*Not a directory"):
        Run.create("toy", {}, tmp_path / "runs")


def test_logged_fields(run):
    run.log(step=torch.tensor(3), loss=torch.tensor(0.1), label="muon", bad=math.nan, many=[1, 2])
    row = run.metrics()[0]
    assert row["step"] == 3
    assert row["loss"] == float(torch.tensor(0.1))
    assert math.isnan(row["bad"])
    assert abs(row["time"] - time.time()) < 60
    with pytest.raises(TypeError, match=r"a logged row\['model'\] is a Linear"):
        run.log(step=4, model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="'time' is the field of the clock"):
        run.log(step=4, time=3.0)
    assert len(run.metrics()) == 1


def test_the_heartbeat_says_where_it_is(run):
    run.status(phase="training", step=0, steps=10)
    assert run.status_now() | {"phase": "training", "step": 0, "steps": 10} == run.status_now()
    seen = []
    run.display = lambda *where: seen.append(where)
    run.progress(4, 10)
    run.status(phase="evaluating")
    assert seen == [("training", 4, 10), ("evaluating", None, None)]
    assert run.status_now()["step"] is None


def test_the_heartbeat_beats_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("unrolled.runs.run.BEAT", 0.05)
    with Run.create("toy", {}, tmp_path) as run:
        first = run.status_now()["time"]
        deadline = time.time() + 5
        while run.status_now()["time"] == first and time.time() < deadline:
            time.sleep(0.02)
        assert run.status_now()["time"] > first
    ended = run.status_now()
    time.sleep(0.2)
    assert run.status_now() == ended


def test_a_heartbeat_that_cannot_be_written_stops_nothing(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run.status(phase="training")
    run.log(step=0, loss=1.0)  # appended without fsync
    monkeypatch.undo()
    assert run.metrics()[0]["loss"] == 1.0


def test_checkpoints_keep_two_and_come_back(run):
    x = torch.arange(6.0).view(2, 3)
    for step in range(1, 5):
        run.save_checkpoint(
            step, {"x": x * step, "column": x[:, 0], "n": torch.tensor(step)}, phase="a", nan=math.nan
        )
    assert len(list(run.checkpoints.iterdir())) == 2
    saved = run.load_checkpoint()
    assert (saved.step, saved.meta["phase"]) == (4, "a")
    assert math.isnan(saved.meta["nan"])
    assert torch.equal(saved.tensors["x"], x * 4)
    assert torch.equal(saved.tensors["column"], x[:, 0])
    with pytest.raises(TypeError, match="give 'lr' as meta instead"):
        run.save_checkpoint(5, {"lr": 0.1})


def test_queued_then_resumed(tmp_path):
    path = folder.make("toy", {"seed": 1}, tmp_path, None, state="queued")
    assert Run.open(path).state == "queued"
    assert "python" not in Run.open(path).environment
    with Run.resume(path) as run:
        assert not run.resumed
    assert run.environment["python"]
    assert "resumed" not in run.environment


def _make(root, many, queue):
    for _ in range(many):
        run = Run.create("toy", {"seed": 0}, root)
        run.end()
        queue.put(str(run.path))


def test_names_are_unique_when_many_processes_make_runs(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_make, args=(tmp_path, 10, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    paths = [queue.get(timeout=60) for _ in range(40)]
    for worker in workers:
        worker.join()
    assert len(set(paths)) == 40
    assert all(Run.open(path).state == "finished" for path in paths)
