"""Resumed equals uninterrupted, for studies that checkpoint in every way a study may."""

import itertools
import os
import shutil

import pytest

from unrolled.runs import Run, atomic


class Killed(BaseException):
    pass


def abandon(run):
    """What a SIGKILL leaves behind: no end is written, the lock is gone."""
    run._over.set()
    run._metrics.close()
    run._lock.release()
    run._mode = "read"


def own_checkpoints(run, kill, clock):
    """A study with its own checkpoint file, replaced in place, and fields that no repetition shares."""
    run.log(parameters=8)
    ticks = iter(range(kill)) if kill is not None else itertools.count()
    for part in ("adam", "muon"):
        path = run.checkpoints / part / "state.txt"
        path.parent.mkdir(exist_ok=True)
        first = int(path.read_text()) if path.exists() else 0
        for step in range(first, 7):
            if next(ticks, None) is None:
                raise Killed
            run.log(step=step, optimizer=part, loss=1 / (step + 1), rate=clock())
            if step % 2 == 0:
                run.log(step=step, optimizer=part, val_loss=2 / (step + 1))
            if (step + 1) % 3 == 0:
                atomic.write_text(path, str(step + 1))
        if first < 7:
            atomic.write_text(path, "7")
        run.log(optimizer=part, final=0.5)


def run_checkpoints(run, kill, clock):
    """A study with `save_checkpoint`."""
    import torch

    saved = run.load_checkpoint()
    first = saved.step if saved else 0
    ticks = iter(range(kill)) if kill is not None else itertools.count()
    for step in range(first, 14):
        if next(ticks, None) is None:
            raise Killed
        run.log(step=step, loss=1 / (step + 1), rate=clock())
        if (step + 1) % 4 == 0:
            run.save_checkpoint(step + 1, {"x": torch.ones(1) * step})


def no_checkpoints(run, kill, clock):
    """A study that starts over."""
    for step in range(14):
        if step == kill:
            raise Killed
        run.log(step=step, loss=1 / (step + 1), rate=clock())


def told(run):
    return [{k: v for k, v in row.items() if k not in ("time", "rate")} for row in run.metrics()]


@pytest.mark.parametrize("study", [own_checkpoints, run_checkpoints, no_checkpoints])
@pytest.mark.parametrize("kill", range(14))
def test_killed_after_any_step_and_resumed(tmp_path, study, kill):
    clock = itertools.count(0.5).__next__
    with Run.create("whole", {}, tmp_path) as whole:
        study(whole, None, clock)
    run = Run.create("part", {}, tmp_path)
    with pytest.raises(Killed):
        study(run, kill, clock)
    abandon(run)
    # Killed once more on the way.
    run = Run.resume(run.path)
    assert run.resumed
    try:
        study(run, 2, clock)
    except Killed:
        abandon(run)
        with Run.resume(run.path) as run:
            study(run, None, clock)
    else:
        run.end()
    assert told(run) == told(whole)


def test_a_checkpoint_written_after_the_last_row_keeps_every_row(tmp_path):
    run = Run.create("s", {}, tmp_path)
    for step in range(3):
        run.log(step=step, rate=step / 7)
    (run.checkpoints / "x").write_text("3")
    abandon(run)
    with Run.resume(run.path) as run:
        run.log(step=3, rate=9.0)
    assert [row["step"] for row in run.metrics()] == [0, 1, 2, 3]


def test_a_copied_folder_resumes_without_repeating_rows(tmp_path):
    run = Run.create("s", {}, tmp_path)
    run.log(step=0, loss=1.0)
    (run.checkpoints / "x").write_text("1")
    run.log(step=1, loss=0.5)
    abandon(run)
    copy = tmp_path / "s" / "20260101-000000-00000000"
    shutil.copytree(run.path, copy, copy_function=shutil.copyfile)  # without times: no file is what was noted
    with Run.resume(copy) as again:
        again.log(step=1, loss=0.5)
        again.log(step=2, loss=0.25)
    assert [row["step"] for row in again.metrics()] == [0, 1, 2]


def test_an_older_checkpoint_takes_the_metrics_back_with_it(tmp_path):
    import torch

    run = Run.create("s", {}, tmp_path)
    for step in range(6):
        run.log(step=step, rate=step / 7)
        if step in (1, 3):
            run.save_checkpoint(step + 1, {"x": torch.tensor([step])})
    abandon(run)
    newest = run.checkpoints / "step-000000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:40])
    run = Run.resume(run.path)
    with pytest.warns(UserWarning, match="cannot be read"):
        saved = run.load_checkpoint()
    assert saved.step == 2
    assert [row["step"] for row in run.metrics()] == [0, 1]
    run.end()


def test_rows_lost_with_the_power_are_told(tmp_path):
    run = Run.create("s", {}, tmp_path)
    for step in range(3):
        run.log(step=step)
    (run.checkpoints / "x").write_text("3")
    run.log(step=3)
    abandon(run)
    os.truncate(run.path / "metrics.jsonl", 10)
    with pytest.warns(UserWarning, match="has 0 rows of metrics, its checkpoint is 3 rows in"):
        again = Run.resume(run.path)
    again.end()


def test_committed_rows_stay_without_a_checkpoint(tmp_path):
    run = Run.create("s", {}, tmp_path)
    run.log(tuned="adam", seconds=1.25)
    run.commit()
    run.log(tuned="muon", seconds=2.5)
    abandon(run)
    with Run.resume(run.path) as run:
        assert [row["tuned"] for row in run.metrics()] == ["adam"]
        run.log(tuned="muon", seconds=2.75)
    assert [row["seconds"] for row in run.metrics()] == [1.25, 2.75]
