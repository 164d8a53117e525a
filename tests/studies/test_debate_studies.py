"""The debate studies run end to end, judge as they say, and draw from the run folder alone."""

import csv
import dataclasses
import importlib.util
import math
from pathlib import Path

import pytest
import torch

from unrolled.debate import FJ, DebateLog, Question
from unrolled.runs.run import Run
from unrolled.studies import _debate, debate_live, debate_martingale, debate_moe, debate_recorded


def perform(module, tmp_path, **changes):
    config = dataclasses.replace(module.tiny(), **changes)
    with Run.create("demo", config, root=tmp_path) as run:
        made = module.study(config, run)
        run.save_claims(made)
    return {claim.id: claim for claim in made}, Run.open(run.path)


def test_a10_routing_and_its_fall(tmp_path):
    claims, run = perform(debate_moe, tmp_path, seeds=1)
    assert {c.status for c in claims.values()} == {"reproduced"}
    assert len(claims) == 15
    assert claims["signs"].ours == 100
    assert set(debate_moe.figures(run)) == {"routing"}


def test_the_best_static_ensemble_is_a_minimum():
    S, truth = _debate.experts(2000, torch.Generator().manual_seed(0))
    S[:, 0] = _debate.spoken(S[:, 0].argmax(-1), torch.full((2000,), 0.97, dtype=S.dtype), 4)
    best = debate_moe.best_static(S, truth)
    e = torch.nn.functional.one_hot(truth, 4).double()

    def risk(a):
        return float((torch.einsum("n,qnk->qk", a, S) - e).square().sum(-1).mean())

    assert best.sum().item() == pytest.approx(1)
    for j in range(5):
        step = 0.01 * (torch.eye(5, dtype=torch.float64)[j] - best)
        assert risk(best + step) >= risk(best) - 1e-12


def test_a11_martingale(tmp_path):
    claims, run = perform(debate_martingale, tmp_path)
    assert claims["martingale"].status == "reproduced"
    assert abs(claims["martingale"].ours) < 0.005
    assert claims["oracle"].ours > claims["conformist"].ours > 0.005
    first = [r for r in run.metrics() if r["step"] == 0 and r["rule"] == "plain"]
    assert all(r["belief"] == pytest.approx(2 / 5.5, abs=1e-12) for r in first)
    assert set(debate_martingale.figures(run)) == {"martingale"}


def test_recorded_on_the_generated_log(tmp_path):
    claims, run = perform(debate_recorded, tmp_path, questions=20, shuffles=20)
    assert claims["fit"].status == "not attempted"
    assert claims["recovered"].status == "reproduced"
    assert claims["confidence"].paper is None
    assert "first majority" in claims["vote"].note
    assert claims["forest"].paper is None  # built in: no evidence for the paper
    assert (
        "influence shuffled within questions" in claims["forest"].note
        or "scikit-learn" in claims["forest"].note
    )
    assert set(debate_recorded.figures(run)) == {"graph", "beliefs", "moved", "advantage"}


def test_recorded_on_a_log_where_nothing_is_identified(tmp_path):
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "round", "agent", "option", "prob"])
        writer.writerows(["q", t, a, o, 0.5] for t in (0, 1) for a in "xyz" for o in "AB")
    claims, run = perform(debate_recorded, tmp_path, path=path)
    assert claims["confidence"].status == claims["advantage"].status == "not attempted"
    assert "0 questions are identified" in claims["confidence"].note
    assert debate_recorded.figures(run) == {}


def crew_log(fj, questions, noise, rng):
    made = []
    for q in range(questions):
        S = torch._standard_gamma(torch.full((3, 4), 5.0, dtype=torch.float64), generator=rng)
        S = S / S.sum(-1, keepdim=True)
        B = torch.stack([fj.M_T(t) @ S for t in range(4)])
        B = (B + noise * torch.randn(B.shape, generator=rng, dtype=torch.float64)).clamp(min=1e-6)
        made.append(Question(f"q{q}", B / B.sum(-1, keepdim=True), tuple("ABCD"), tuple("xyz")))
    return DebateLog(made, "here", "csv")


def test_the_held_out_error_is_the_noise_for_one_crew_and_no_better_than_standing_still_for_noise():
    rng = torch.Generator().manual_seed(0)
    crew = FJ([0.5, 0.2, 0.1], [0.25, 0.5, 0.4], [[0, 0.7, 0.3], [0.6, 0, 0.4], [0.9, 0.1, 0]])
    exact = _debate.held_out(crew_log(crew, 6, 0.0, rng))
    assert exact["fj"].max() < 1e-15 < 1e-4 < exact["persistence"].min()
    still = FJ(
        [1.0, 1.0, 1.0], [0.5] * 3, (torch.ones(3, 3) - torch.eye(3)) / 2
    )  # the first belief, and noise
    noisy = _debate.held_out(crew_log(still, 30, 0.02, rng))
    assert noisy["fj"].mean() < noisy["persistence"].mean()  # two draws of noise there, one here
    assert (
        noisy["fj"].mean() > 0.02**2 * 3 / 4
    )  # of the belief to be foretold alone: no held-out error is below it
    assert _debate.held_out(crew_log(crew, 2, 0.0, rng)) == {}


def test_paired_p_value():
    x = torch.linspace(0, 1, 20, dtype=torch.float64)
    assert _debate.paired_p_value(x, x) == 1
    assert _debate.paired_p_value(x, x + 1) < 1e-4


def test_the_null_of_stubbornness_is_far_from_zero():
    """Part of 'the stubborn are influential' is algebra: the reason why the study prints a null."""
    from unrolled.debate import fit

    log, _ = _debate.generated(12, 5, 0.001, torch.Generator().manual_seed(1))
    null = _debate.stubbornness_null(fit(log.beliefs), torch.Generator().manual_seed(2), 30)
    assert null.mean() > 0.3


def test_correlations():
    assert math.isnan(_debate.rank_correlation(torch.ones(5), torch.arange(5.0)))
    assert _debate.rank_correlation(torch.arange(5.0), torch.arange(5.0)) == pytest.approx(1)


def tiny_model(path):
    """The random model of the debate tests: this study runs on llama.cpp's real server, without a download."""
    place = Path(__file__).parents[1] / "debate" / "_gguf.py"
    spec = importlib.util.spec_from_file_location("_gguf", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write(path)


def test_live_on_a_random_model(tmp_path):
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (extra local)")
    pytest.importorskip("openai", reason="openai is not installed (extra local)")
    gguf = tiny_model(tmp_path / "tiny.gguf")
    claims, run = perform(debate_live, tmp_path, gguf=gguf, rounds=3)
    assert (run.path / "debate.jsonl").read_text().count("\n") == 1 + 2 * 3 * 4
    assert claims["gain"].status == "not reproduced"  # noise learns nothing from noise
    assert claims["control"].status == "not attempted"  # 4 permutations cannot show 5 %
    assert 0 <= claims["consensus"].ours <= 1
    assert "2 questions" in claims["vote"].note
    assert "rounds" in debate_live.figures(run)


def test_the_live_questions_have_one_right_choice_that_moves():
    asked = debate_live.questions(dataclasses.replace(debate_live.small(), questions=20))
    assert len(asked) == 20
    assert all(len(set(q["choices"])) == 4 and q["truth"] in q["choices"] for q in asked)
    assert {q["choices"].index(q["truth"]) for q in asked} == {0, 1, 2, 3}
