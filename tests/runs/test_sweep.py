import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unrolled.runs import Run, executors, index, sweep
from unrolled.runs.environment import cores
from unrolled.runs.executors import process

TOY = str(Path(__file__).parent.parent / "cli" / "toy_study.py")
BASE = {"preset": "tiny", "steps": 6}


def cells(**over):
    return {f"seed={seed}": {**BASE, "seed": seed, **over} for seed in range(3)}


def plan(root, made):
    return sweep.plan("toy-study", made, root, source=TOY)


def test_values():
    assert sweep.values("0..3") == ["0", "1", "2", "3"]
    assert sweep.values("-1..1") == ["-1", "0", "1"]
    assert sweep.values("adam, muon,adam") == ["adam", "muon"]
    assert sweep.values("1e-3,0.5,7..7") == ["1e-3", "0.5", "7"]
    for bad, told in (("3..1", "runs backwards: write 1..3"), ("a,,b", "empty value"), ("", "empty value")):
        with pytest.raises(ValueError, match=told):
            sweep.values(bad)


def test_grid():
    assert len(sweep.grid({"a": ["1", "2"], "b": ["x", "y", "z"]})) == 6
    assert sweep.grid({}) == [{}]


def test_a_plan_queues_each_cell_once(tmp_path):
    first = plan(tmp_path, cells())
    assert [cell.state for cell in first] == ["queued"] * 3
    # A second sweep, while the first is alive, leaves its cells alone.
    assert [(cell.state, cell.path) for cell in plan(tmp_path, cells())] == [
        ("running", cell.path) for cell in first
    ]
    assert len(plan(tmp_path, {"a": {**BASE, "seed": 9}, "again": {**BASE, "seed": 9}})) == 1
    assert len(index.query(tmp_path)) == 4


def test_a_plan_keeps_finished_cells_and_takes_up_the_others(tmp_path):
    with Run.create("toy-study", cells()["seed=0"], tmp_path, source=TOY) as done:
        pass
    with (
        pytest.raises(ZeroDivisionError),
        Run.create("toy-study", cells()["seed=1"], tmp_path, source=TOY) as failed,
    ):
        raise ZeroDivisionError
    planned = plan(tmp_path, cells())
    assert [(cell.state, cell.path) for cell in planned[:2]] == [
        ("finished", done.path),
        ("queued", failed.path),
    ]
    assert planned[2].state == "queued"
    assert Run.open(failed.path).status_now()["starts"] == 1
    # The same configuration of another file is another cell.
    assert (
        sweep.plan("toy-study", {"a": cells()["seed=0"]}, tmp_path, source="elsewhere.py")[0].state
        == "queued"
    )


def test_two_sweeps_at_once_do_not_queue_a_cell_twice(tmp_path):
    code = (
        "import sys, time; from unrolled.runs import sweep\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "made = sweep.plan('toy', {str(i): {'seed': i} for i in range(20)}, sys.argv[1])\n"
        "print(sum(cell.state == 'queued' for cell in made), flush=True); input()"
    )
    start = str(time.time() + 1.5)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    queued = [int(each.stdout.readline()) for each in both]
    for each in both:
        each.communicate("\n")
    assert sorted(queued) == [0, 20]
    assert len(index.query(tmp_path)) == 20


class Scripted:
    """An executor that does to each cell what the test says."""

    def __init__(self, **what):
        self.what = what

    def __call__(self, paths, *, workers, started, ended):
        for path in paths:
            started(path)
            what = self.what[f"s{Run.open(path).config['seed']}"]
            if what == "never starts":
                ended(path, "no module named unrolled")
                continue
            try:
                with Run.resume(path):
                    if what == "fails":
                        raise ZeroDivisionError("zero")
            except ZeroDivisionError:
                pass
            ended(path, "")


def test_failures_are_reported_and_the_others_go_on(tmp_path, monkeypatch):
    scripted = Scripted(s0="fails", s1="never starts", s2="finishes")
    monkeypatch.setattr(executors, "get", lambda name: scripted)
    seen = []
    done = sweep.run(plan(tmp_path, cells()), on_change=lambda cell: seen.append((cell.label, cell.state)))
    assert [(cell.state, cell.error) for cell in done] == [
        ("failed", "ZeroDivisionError: zero"), ("failed", "no module named unrolled"), ("finished", ""),
    ]  # fmt: skip
    assert seen[:3] == [("seed=0", "running"), ("seed=0", "failed"), ("seed=1", "running")]
    assert index.query(tmp_path, state="failed")[1]["error"] == "no module named unrolled"
    # The next sweep tries them again, and only them.
    monkeypatch.setattr(executors, "get", lambda name: Scripted(s0="finishes", s1="finishes"))
    assert [cell.state for cell in sweep.run(plan(tmp_path, cells()))] == ["finished"] * 3
    assert len(index.query(tmp_path)) == 3


def test_local_processes(tmp_path):
    made = cells()
    made["seed=1"]["fail_at"] = 2
    made["seed=2"]["rate"] = "fast"  # the study raises in its first step
    done = {cell.label: cell for cell in sweep.run(plan(tmp_path, made), workers=2)}
    assert done["seed=0"].state == "finished"
    assert (done["seed=1"].state, done["seed=1"].error) == ("failed", "RuntimeError: told to fail at step 2")
    assert done["seed=2"].state == "failed"
    assert "TypeError" in done["seed=2"].error
    run = Run.open(done["seed=0"].path)
    assert run.environment["threads"] == max(1, cores() // 2)
    assert "running toy-study" in (run.path / "output.log").read_text()
    assert run.claims()[0].id == "descends"


def test_a_cell_that_cannot_start_says_why(tmp_path):
    planned = sweep.plan("gone", {"a": {"preset": "tiny"}}, tmp_path, source=str(tmp_path / "gone.py"))
    (cell,) = sweep.run(planned)
    assert cell.state == "failed"
    assert "no file" in cell.error
    assert "gone.py" in cell.error


def test_a_killed_sweep_takes_its_cells_along_and_is_taken_up(tmp_path):
    code = (
        "import sys; from unrolled.runs import sweep\n"
        "cells = {'a': {'preset': 'tiny', 'steps': 400, 'pause': 0.05}}\n"
        f"sweep.run(sweep.plan('toy-study', cells, sys.argv[1], source={TOY!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    run = None
    deadline = time.time() + 60
    while time.time() < deadline:
        rows = index.query(tmp_path)
        if rows and Run.open(rows[0]["path"]).metrics()[7:]:
            run = Run.open(rows[0]["path"])
            break
        time.sleep(0.05)
    assert run is not None
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while run.state == "running" and time.time() < deadline:
        time.sleep(0.05)
    assert run.state == "interrupted"
    planned = sweep.plan(
        "toy-study", {"a": {"preset": "tiny", "steps": 400, "pause": 0.05}}, tmp_path, source=TOY
    )
    assert [(cell.state, cell.path) for cell in planned] == [("queued", run.path)]


def test_workers_and_threads():
    cores = len(os.sched_getaffinity(0))
    assert process.split(None, 100) == (cores, 1)
    assert process.split(1, 100) == (1, cores)
    assert process.split(8, 2)[0] == 2
    with pytest.raises(ValueError, match="at least 1, got 0"):
        process.split(0, 2)


def test_why_a_process_ended(tmp_path):
    assert process.reason(tmp_path, 0) == ""
    assert process.reason(tmp_path, -signal.SIGKILL) == "ended by SIGKILL, as when memory runs out"
    assert process.reason(tmp_path, 2) == "ended with exit code 2"
    (tmp_path / "output.log").write_text("a\nb\nc\nd\ne\n")
    assert process.reason(tmp_path, 2) == "b c d e"


def test_an_unknown_executor():
    with pytest.raises(ValueError, match="no executor 'rya'; did you mean 'ray'"):
        executors.get("rya")
