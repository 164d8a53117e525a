"""`unrolled talk`: without a terminal, without a network."""

import io

import pytest
import torch

from unrolled.cli.talk import found, spark, sparklines
from unrolled.languagegame import Policy


@pytest.fixture
def model(tmp_path):
    policy = Policy.make("CartPole-v1", "tyson1999")
    with torch.no_grad():
        policy.decoder.linear.weight.mul_(100)
    policy.save(tmp_path / "policy.safetensors")
    return tmp_path / "policy.safetensors"


def test_what_is_said_is_answered(unrolled, model, tmp_path):
    told = unrolled("talk", model, "--say", "push the cart left", "play chess", "--report", "talk")
    assert "you: push the cart left" in told
    assert "tyson1999: I pushed the cart to the" in told
    assert "I cannot play that. What I can do is balance a pole on a cart." in told
    assert "M " in told
    assert "→" in told
    assert "report: talk/report.md" in told
    assert (tmp_path / "talk" / "01-before.png").is_file()


def test_a_run_folder_is_searched_for_policies(unrolled, model, tmp_path):
    run = tmp_path / "run"
    (run / "policies").mkdir(parents=True)
    Policy.load(model).save(run / "policies" / "tyson1999.safetensors")
    assert [p.name for p in found(run)] == ["tyson1999.safetensors"]
    assert "tyson1999 listens" in unrolled("talk", run, "--say", "stay balanced")


def test_without_a_terminal_lines_are_read(unrolled, model, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("stay balanced\n\nnever read\n"))
    told = unrolled("talk", model)
    assert "I pushed the cart" in told
    assert "never read" not in told


def test_mistakes(unrolled, model, tmp_path):
    assert "talk needs MODEL" in unrolled("talk", code=2)
    assert "`unrolled talk train`" in unrolled("talk", "nothing", code=2)
    assert "takes URL,MODEL" in unrolled("talk", model, "--llm", "gpt", "--say", "swim", code=2)
    assert "no game 'chess'" in unrolled("talk", model, "--game", "chess", "--say", "swim", code=2)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    assert "broken.safetensors" in unrolled("talk", tmp_path / "broken.safetensors", code=2)


def test_an_unreachable_language_model_is_done_without(unrolled, model):
    pytest.importorskip("openai", reason="the extra llm brings it")
    told = unrolled("talk", model, "--llm", "http://127.0.0.1:9/v1,none", "--say", "stay balanced")
    assert "could not be asked" in told
    assert "I pushed the cart" in told


def test_sparklines():
    assert spark([3.0, 3.0]) == "▁▁"
    assert len(spark(list(range(1000)))) <= 40
    assert spark([float("nan")] * 3) == "xxx"
    assert sparklines({"A": [1.0, 1.0]}).plain == ""
    assert sparklines({}).plain == ""
