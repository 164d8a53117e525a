import json
import sys
from pathlib import Path

import pytest

from unrolled.runs import Run, index


def test_a_run_ends_with_its_claims(unrolled, toy, tmp_path):
    told = unrolled("run", toy, "--seed", "3", "--steps", "10", "--no-report")
    assert "the loss falls below one" in unrolled.out
    assert "descent: 10/10 (100 %)" in told
    (row,) = index.query("runs")
    assert (row["state"], row["study"], row["seed"]) == ("finished", "toy-study", 3)
    assert row["source"] == toy
    assert row["path"].startswith(str(tmp_path / "runs" / "toy-study"))
    assert f"run: runs/toy-study/{row['id']}" in told


def test_help_lists_the_fields_with_their_meaning(unrolled, toy):
    told = unrolled("run", toy, "--help")
    assert "Noisy gradient descent on a quadratic, slow on request." in told
    assert "presets: tiny, small" in told
    assert "step size (default: 0.1)" in told
    assert "(default: 50)" in unrolled("run", toy, "--preset", "small", "--help")


def test_a_preset_sets_every_field_and_options_override_it(unrolled, toy):
    unrolled("run", toy, "--preset=small", "--rate", "0.2", "--no-report")
    config = index.query("runs")[0]["config"]
    assert (config["preset"], config["steps"], config["rate"]) == ("small", 50, 0.2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "needs the name of a study"),
        (["run", "--seed", "1"], "name the study first: unrolled run STUDY --seed 1"),
        (["run", "curvature-txt"], "no study 'curvature-txt'"),
        (["run", "./toi.py"], "no file ./toi.py"),
        (["run", "TOY", "--preset", "tyni"], "no preset 'tyni'; did you mean 'tiny'?"),
        (["run", "TOY", "--sed", "1"], "Unrecognized options: --sed"),
        (["run", "TOY", "--seed", "one"], "invalid literal for int"),
        (["run", "TOY", "--log", "tensorbord"], "did you mean 'tensorboard'?"),
        (["resume"], "RUN"),
        (["resume", "zzz"], "no run 'zzz': there are no runs under runs"),
        (["report", "last"], "there are no runs under runs"),
    ],
)
def test_bad_words_are_one_paragraph_and_make_no_run(unrolled, toy, tmp_path, words, told):
    shown = unrolled(*[toy if word == "TOY" else word for word in words], code=2)
    assert told in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "runs").exists()


def test_a_study_that_raises_is_told_without_a_traceback(unrolled, toy):
    told = unrolled("run", toy, "--fail-at", "7", "--no-report", code=2)
    (row,) = index.query("runs")
    assert "error: RuntimeError: told to fail at step 7 The run is marked failed" in told
    assert f"unrolled resume {row['id'][-8:]}" in told
    assert "Traceback" not in told
    assert "told to fail" in Run.open(row["path"]).status_now()["traceback"]
    assert "Traceback" in unrolled("run", toy, "--fail-at", "7", "--no-report", "--debug", code=2)


def test_a_full_disk_is_told_in_one_paragraph(unrolled, toy, monkeypatch):
    import os

    replace = os.replace

    def full(source, target):
        if "step-" in str(target):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    told = unrolled("run", toy, "--no-report", code=2)
    assert (
        "error: the disk is full: step-000000005.safetensors could not be written. Earlier files in" in told
    )
    assert "free some space and resume the run" in told
    assert "Errno" not in told
    (row,) = index.query("runs")
    assert row["state"] == "failed"
    monkeypatch.undo()
    assert [each["step"] for each in Run.open(row["path"]).metrics()] == [0, 0, 1, 2, 3, 4]


def test_claims_must_be_claims(unrolled, toy, tmp_path):
    text = (
        Path(toy).read_text().replace("    return [\n        Claim(", "    return 3\n    [\n        Claim(")
    )
    (tmp_path / "odd.py").write_text(text)
    assert "study() must return a list of Claim, it returned 3" in unrolled("run", "odd.py", code=2)
    assert index.query("runs")[0]["state"] == "failed"


def test_a_field_that_the_command_line_has_already(unrolled, toy, tmp_path):
    (tmp_path / "odd.py").write_text(Path(toy).read_text().replace("    pause: float", "    log: float"))
    assert "Config must not have a field log" in unrolled("run", "odd.py", code=2)


def test_a_report_that_fails_takes_nothing_from_the_run(unrolled, toy, monkeypatch):
    import unrolled.report as report

    def broken(path):
        raise ZeroDivisionError("no figures")

    monkeypatch.setattr(report, "write", broken, raising=False)
    told = unrolled("run", toy, "--steps", "5")
    assert "no report.html (ZeroDivisionError: no figures)" in told
    assert index.query("runs")[0]["state"] == "finished"


def test_run_and_report_write_the_page(unrolled, toy):
    pytest.importorskip("matplotlib")
    told = unrolled("run", toy, "--steps", "5")
    (row,) = index.query("runs")
    assert f"report: runs/toy-study/{row['id']}/report.html" in told
    page = Path(row["path"], "report.html")
    assert "the loss falls below one" in page.read_text()
    page.write_text("")
    assert "report: " in unrolled("report", "last")
    assert page.read_text()
    unrolled("report", row["id"], "last", "--out", "both.html")
    assert Path("both.html").read_text()


def test_tensorboard_on_request(unrolled, toy):
    pytest.importorskip("tensorboard")
    unrolled("run", toy, "--steps", "5", "--log", "tensorboard", "--no-report")
    assert list(Path(index.query("runs")[0]["path"], "tensorboard").glob("events*"))


def test_runs_shows_the_table(unrolled, toy):
    assert "no runs under runs yet" in unrolled("runs")
    unrolled("run", toy, "--steps", "5", "--no-report")
    unrolled("run", toy, "--steps", "5", "--seed", "1", "--optimizer", "muon", "--no-report")
    unrolled("run", toy, "--fail-at", "2", "--no-report", code=2)
    told = unrolled("runs")
    assert "toy-study tiny seed=1 optimizer=muon" in told
    assert "failed: RuntimeError: told to fail at step 2" in told
    assert "1/1" in told
    rows = [json.loads(line) for line in unrolled("runs", "--json") and unrolled.out.splitlines()]
    assert [row["state"] for row in rows] == ["finished", "finished", "failed"]
    assert len(unrolled("runs", "--json", "--where", "seed=1", "steps=5") and unrolled.out.splitlines()) == 1
    assert "2 earlier runs are not shown" in unrolled("runs", "--limit", "1")
    assert "no such runs" in unrolled("runs", "--state", "lost")
    assert "no state 'lsot'; did you mean 'lost'" in unrolled("runs", "--state", "lsot", code=2)
    assert "--where takes FIELD=VALUE" in unrolled("runs", "--where", "seed", code=2)


def test_the_table_is_whole_at_80_columns(unrolled, toy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    unrolled("run", toy, "--steps", "5", "--rate", "0.125", "--no-report")
    unrolled("runs")
    assert max(map(len, unrolled.out.splitlines())) <= 80
    assert "…" not in unrolled.out
    assert index.query("runs")[0]["id"][-8:] in unrolled.out


def test_a_lost_run_elsewhere_is_named_by_its_path(unrolled, toy, tmp_path):
    from unrolled.runs import folder

    path = folder.make("toy-study", {"preset": "tiny"}, tmp_path / "other", None, state="running")
    status = folder.read(path / "status.json")
    (path / "status.json").write_text(json.dumps({**status, "pid_started": -5}))
    assert f"unrolled resume other/toy-study/{path.name}" in unrolled("runs", "--runs", "other")


def test_list_shows_studies_without_importing_them(unrolled, monkeypatch, tmp_path):
    from unrolled.runs import study

    (tmp_path / "curvature_text.py").write_text(
        '"""Why does it?"""\nraise ZeroDivisionError\ndef tiny(): ...\n'
    )
    monkeypatch.setattr(study, "FOLDER", tmp_path)
    told = unrolled("list")
    assert "curvature-text Why does it? tiny" in told
    (tmp_path / "curvature_text.py").unlink()
    assert "no studies yet" in unrolled("list")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_marks_the_run_and_says_how_to_go_on(process, unrolled, toy, tmp_path):
    import signal

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = process("run", toy, "--steps", "200", "--pause", "0.02", "--no-report")
        for line in child.stdout:
            if "descent: 20/" in line:
                break
        child.send_signal(number)
        rest = child.stdout.read()
        assert child.wait(30) == code
        row = index.query(tmp_path / "runs")[-1]
        assert row["state"] == "interrupted"
        assert f"unrolled resume {row['id'][-8:]}" in rest
        assert "Traceback" not in rest
