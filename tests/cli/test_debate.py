"""`unrolled debate`: run, report and fit on the command line."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{i}", "text": "Which?", "choices": list("vwxyz"), "truth": "A"} for i in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_run_report_and_fit(unrolled, asked, tmp_path):
    told = unrolled(
        "debate", "run", asked, "--agents", "scripted,4", "--rounds", "3", "--control", "no_peers"
    )
    assert "finished" in told
    assert "majority vote of as many samples" in told
    assert "0 calls now" in unrolled(
        "debate", "run", asked, "--agents", "scripted,4", "--rounds", "3", "--control", "no_peers"
    )
    told = unrolled("debate", "report", "debate.jsonl")
    assert "stubbornness" in told
    assert "identified" in told
    told = unrolled("debate", "fit", "debate.jsonl", "--pool", "--bootstrap", "10", "--out", "fit.csv")
    assert "90 % intervals" in told
    assert "no control arm" in told
    assert (tmp_path / "fit.csv").read_text().startswith("agent,gamma")
    assert "--pool fits them together" in unrolled("debate", "fit", "debate.jsonl")


def test_agents_on_a_local_model(unrolled, asked, tmp_path):
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (extra local)")
    pytest.importorskip("openai", reason="openai is not installed (extra local)")
    place = Path(__file__).parents[1] / "debate" / "_gguf.py"
    spec = importlib.util.spec_from_file_location("_gguf", place)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    module.write(tmp_path / "tiny.gguf")
    told = unrolled("debate", "run", asked, "--agents", "tiny.gguf,2", "--rounds", "1", "--no-vote")
    assert "finished" in told
    assert "0 answers could not be read" in told
    told = unrolled("debate", "fit", "debate.jsonl")
    assert "a majority vote of as many samples, drawn from the first beliefs" in told
    assert "no GGUF file at none.gguf" in unrolled("debate", "run", asked, "--agents", "none.gguf,2", code=2)


def test_a_budget_stops_and_goes_on(unrolled, asked):
    words = ("debate", "run", asked, "--agents", "scripted,3", "--rounds", "2", "--no-vote")
    assert "a larger --budget goes on" in unrolled(*words, "--budget", "7", code=1)
    assert "29 calls now" in unrolled(*words)


@pytest.mark.parametrize("part", ["fit", "run", "report"])
def test_each_part_has_help_with_an_example(unrolled, part):
    told = unrolled("debate", part, "--help")
    assert "example: unrolled debate" in told
    assert f"usage: unrolled debate {part}" in told


def test_mistakes(unrolled, asked, tmp_path):
    assert "there are fit, run, report" in unrolled("debate", "fitt", code=2)
    assert "no debate log at" in unrolled("debate", "fit", "none.csv", code=2)
    assert "URL,MODEL or URL,MODEL,COUNT" in unrolled("debate", "run", asked, "--agents", "gpt", code=2)
    (tmp_path / "bad.jsonl").write_text('{"text": "?"')
    assert "bad.jsonl, line 1" in unrolled("debate", "run", "bad.jsonl", "--agents", "scripted,3", code=2)
    assert "no trace of a debate" in unrolled("debate", "report", asked, code=2)
