"""SIGKILL, lost, resume: bit-equal to uninterrupted."""

import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from unrolled.runs import Run, index


def numbers(path):
    """Every field of every row but the clock, exactly."""
    return [{k: v for k, v in row.items() if k != "time"} for row in Run.open(path).metrics()]


@pytest.mark.parametrize("kill_at", [2, 12])
def test_killed_lost_resumed_equals_uninterrupted(process, unrolled, toy, tmp_path, kill_at):
    child = process("run", toy, "--seed", "7", "--no-report", TOY_KILL_AT=str(kill_at))
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    (row,) = index.query("runs")
    assert row["state"] == "lost"
    killed = row["path"]
    assert Run.open(killed).metrics()[-1]["step"] == kill_at
    told = unrolled("runs")
    assert "lost" in told
    assert f"Go on with: unrolled resume {row['id'][-8:]}" in told

    assert "resuming toy-study" in unrolled("resume", "last", "--no-report")
    assert Run.open(killed).state == "finished"
    unrolled("run", toy, "--seed", "7", "--no-report")
    whole = index.query("runs")[-1]["path"]
    assert whole != killed
    assert numbers(killed) == numbers(whole)
    last = "checkpoints/step-000000020.safetensors"
    a, b = load_file(f"{killed}/{last}"), load_file(f"{whole}/{last}")
    assert {k: v.numpy().tobytes() for k, v in a.items()} == {k: v.numpy().tobytes() for k, v in b.items()}
    assert Run.open(killed).claims() == Run.open(whole).claims()


def test_ways_to_name_a_run(unrolled, toy):
    unrolled("run", toy, "--fail-at", "7", "--no-report", code=2)
    (row,) = index.query("runs")
    assert "resuming" in unrolled("resume", row["id"][-8:][:6], "--no-report")
    assert "has finished: there is nothing to resume" in unrolled("resume", row["path"], code=2)
    assert "no run under runs is lost or interrupted or failed" in unrolled("resume", "last", code=2)
    assert "did you mean" in unrolled("resume", row["id"][:-1] + "?", code=2)


def test_a_run_that_is_running_is_left_alone(unrolled, toy):
    config = {"preset": "tiny", "seed": 0}
    with Run.create("toy-study", config, source=toy) as run:
        assert "is being written by process" in unrolled("resume", run.id, code=2)
    assert run.state == "finished"


def test_a_study_that_has_changed_or_gone(unrolled, toy, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(Path(toy).read_text())
    unrolled("run", "mine.py", "--fail-at", "7", "--no-report", code=2)
    mine.write_text(Path(toy).read_text().replace("optimizer", "method"))
    told = unrolled("resume", "last", code=2)
    assert "no field 'optimizer'" in told
    assert "may have changed" in told
    mine.unlink()
    assert "mine.py" in unrolled("resume", "last", code=2)
    assert index.query("runs")[0]["state"] == "failed"
