import signal
import time

import pytest

from unrolled.runs import Run, index


def test_a_sweep_runs_each_cell_once_reports_failures_and_goes_on(unrolled, toy, tmp_path):
    words = ("sweep", toy, "--over", "fail-at=-1,3", "--steps", "6", "--workers", "2")
    told = unrolled(*words, code=1)
    assert "2 cells of toy-study: 2 to run" in told
    assert "fail_at=3: failed: RuntimeError: told to fail at step 3" in told
    assert "1 of 2 cells did not finish; the same command tries them again" in told
    assert {r["config"]["fail_at"]: r["state"] for r in index.query("runs")} == {-1: "finished", 3: "failed"}

    assert "1 to run, 1 finished before" in unrolled(*words)  # a resumed toy does not fail
    assert "2 cells of toy-study: 2 finished before" in unrolled(*words)
    rows = index.query("runs")
    assert {r["config"]["fail_at"]: Run.open(r["path"]).status_now()["starts"] for r in rows} == {-1: 1, 3: 2}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "a sweep needs --over"),
        (["--over", "sed=0..1"], "no field 'sed' to vary; did you mean 'seed'?"),
        (["--over", "preset=tiny,small"], "no field 'preset' to vary"),
        (["--over", "seed"], "--over takes FIELD=VALUES"),
        (["--over", "seed=a"], "invalid literal for int"),
        (["--over", "seed=3..1"], "runs backwards: write 1..3"),
        (["--over", "seed=0", "--executor", "rya"], "did you mean 'ray'?"),
        (["--over", "seed=0", "--preset", "smal"], "did you mean 'small'?"),
    ],
)
def test_bad_words_make_no_run(unrolled, toy, tmp_path, words, told):
    assert told in unrolled("sweep", toy, *words, code=2)
    assert index.query("runs") == []


def test_values_take_the_type_of_their_field(unrolled, toy, monkeypatch):
    from unrolled.cli.sweep import configurations
    from unrolled.runs import study

    toy_study = study.load(toy)
    made = configurations(toy_study, toy_study.config(), ["seed=0..1", "rate=1,0.5"])
    assert list(made) == ["seed=0 rate=1", "seed=0 rate=0.5", "seed=1 rate=1", "seed=1 rate=0.5"]
    assert [type(made["seed=1 rate=1"].rate), made["seed=1 rate=1"].seed] == [float, 1]


def test_ctrl_c_ends_the_cells_in_order_and_the_same_command_goes_on(process, unrolled, toy, tmp_path):
    words = ("sweep", toy, "--over", "seed=0..1", "--steps", "400", "--pause", "0.02", "--workers", "1")
    child = process(*words)
    deadline = time.time() + 60
    while time.time() < deadline:
        rows = index.query("runs", state="running")
        if rows and len(Run.open(rows[0]["path"]).metrics()) > 20:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    told = child.communicate(timeout=60)[0]
    assert child.returncode == 130
    assert "interrupted; the same command goes on with what is left" in told
    assert [row["state"] for row in index.query("runs")] == ["interrupted", "lost"]
    from unrolled.runs import sweep

    cells = {str(r["seed"]): r["config"] for r in index.query("runs")}
    again = sweep.plan("toy-study", cells, "runs", source=toy)
    assert [(cell.state, str(cell.path)) for cell in again] == [
        ("queued", r["path"]) for r in index.query("runs")
    ]
