"""The looped studies run end to end at a shrunken size, judge as they say, and draw from the run folder alone."""

import dataclasses
import math

import pytest
import torch

from unrolled.runs.run import Run
from unrolled.studies import (
    looped_convert,
    looped_lm,
    looped_parity,
    looped_rank,
    looped_recall,
    looped_speed,
    looped_stability,
    looped_swap,
)


def perform(module, tmp_path, **changes):
    config = dataclasses.replace(module.tiny(), **changes)
    with Run.create("demo", config, root=tmp_path) as run:
        made = module.study(config, run)
        run.save_claims(made)
    return {claim.id: claim for claim in made}, Run.open(run.path)


def test_rank(tmp_path):
    claims, run = perform(looped_rank, tmp_path, draws=200)
    assert {c.status for c in claims.values()} == {"reproduced"}
    assert [claims[f"rank-{i}"].ours for i in (1, 2, 3, 4)] == [4, 1, 0, 4]
    assert claims["leak"].ours == pytest.approx(0.5)
    assert claims["reach"].ours == 5
    assert set(looped_rank.figures(run)) == {"rank"}


def test_products_are_those_of_matrices():
    rng = torch.Generator().manual_seed(0)
    k = torch.randn(3, 4, 5, generator=rng, dtype=torch.float64)
    beta = 2 * torch.rand(3, 4, generator=rng, dtype=torch.float64)
    alpha = torch.rand(3, 4, generator=rng, dtype=torch.float64)
    made = looped_rank.product(k, beta, alpha)
    for b in range(3):
        A = torch.eye(5, dtype=torch.float64)
        for t in range(4):
            step = torch.eye(5, dtype=torch.float64) - beta[b, t] * torch.outer(k[b, t], k[b, t])
            A = alpha[b, t] * step @ A
        torch.testing.assert_close(made[b], A)


def test_parity(tmp_path):
    shrunken = {"steps": 6, "batch": 4, "length": 8, "tests": (8, 16), "test_batches": 1, "width": 8}
    claims, run = perform(looped_parity, tmp_path, **shrunken, loops=(2,), groups=("S3",), group_loops=(1, 2), group_steps=4)  # fmt: skip
    assert set(claims) == {"parity-8", "parity-16", "chance-1", "chance-2", "S3-2"}
    assert all(0 <= c.ours <= 1 for c in claims.values())
    assert claims["parity-8"].status == "not reproduced", "six steps teach nobody parity"
    assert set(looped_parity.figures(run)) == {"parity"}
    again = looped_parity.claims(run.config_as(looped_parity.Config), run)
    assert [(c.id, c.ours, c.status) for c in again] == [(c.id, c.ours, c.status) for c in claims.values()]


def test_recall(tmp_path):
    claims, run = perform(looped_recall, tmp_path, steps=4, batch=4, length=16, pairs=2, width=16, heads=2)
    assert set(claims) == {"softmax", "gated-delta", "hybrid", "window", "window-looped"}
    assert claims["softmax"].status == "not reproduced"
    assert set(looped_recall.figures(run)) == {"recall"}


def test_shares_within_reach():
    config = dataclasses.replace(looped_recall.tiny(), length=64, pairs=4)
    assert looped_recall._within(config, 63) == 1.0
    assert looped_recall._within(config, 0) == 0.0
    assert 0 < looped_recall._within(config, 14) < looped_recall._within(config, 40) < 1


def test_swap(tmp_path):
    claims, run = perform(
        looped_swap,
        tmp_path,
        stages=(2, 4),
        n_max=4,
        loops=(1, 2),
        cap=4,
        every=2,
        budget=6,
        batch=4,
        width=16,
    )
    assert claims["128"].status == "not attempted"
    assert claims["loops"].status in ("direction only", "not reproduced", "reproduced")
    spent = [r for r in run.metrics() if "solved" in r]
    assert len(spent) == 2
    assert all(r["step"] <= 6 for r in spent)
    assert set(looped_swap.figures(run)) == {"curriculum"}


def test_stability(tmp_path):
    claims, run = perform(
        looped_stability, tmp_path, steps=6, warmup=1, width=16, layers=1, batch=2, context=16, loops=2, text_bytes=100_000
    )  # fmt: skip
    assert set(claims) == {"retnet", "divergence", "spikes", "softmax"}
    assert claims["divergence"].ours == 0
    assert claims["spikes"].ours >= 1
    assert len([r for r in run.metrics() if "grad_norm" in r]) == 3 * 6
    assert set(looped_stability.figures(run)) == {"stability"}


def test_a_run_that_breaks_off_counts_as_diverged(tmp_path):
    config = dataclasses.replace(looped_stability.tiny(), mixers=("retnet", "gated_delta"), steps=3, warmup=0)
    with Run.create("demo", config, root=tmp_path) as run:
        for mixer, norms, reason in (
            ("retnet", [1.0, 50.0], "nonfinite"),
            ("gated_delta", [1.0, 2.0, 1.5], "steps"),
        ):
            for step, norm in enumerate(norms):
                run.log(step=step, mixer=mixer, seed=0, loss=1.0, grad_norm=norm)
            run.log(mixer=mixer, seed=0, ended=len(norms), reason=reason)
        made = {c.id: c for c in looped_stability.claims(config, run)}
    assert math.isinf(made["retnet"].ours)
    assert made["divergence"].ours == 1
    assert made["divergence"].status == "reproduced"


def test_speed(tmp_path):
    claims, run = perform(looped_speed, tmp_path, lengths=(32, 64, 128), rounds=1, texts=(8, 24), width=16, heads=2, size=16, layers=2, loops=2, decode=2)  # fmt: skip
    assert claims["memory"].status == "reproduced"
    assert claims["memory"].ours == 6
    assert claims["h100"].status == "not attempted"
    assert all(c.ours > 0 for c in claims.values() if c.id in ("forward-long", "backward-long", "token-loop"))
    assert set(looped_speed.figures(run)) == {"speed"}


def test_where_two_lines_cross():
    assert math.isnan(looped_speed.crossover({1: 2.0, 2: 2.0}, {1: 1.0, 2: 1.0}))
    # Once past it, before it, past it for good: the last one counts.
    assert looped_speed.crossover({1: 1.0, 2: 4.0, 4: 4.0, 8: 4.0}, {1: 2.0, 2: 2.0, 4: 4.0, 8: 8.0}) == 4.0
    assert looped_speed.crossover({1: 2.0, 4: 2.0}, {1: 1.0, 4: 4.0}) == pytest.approx(2.0)


def test_lm(tmp_path):
    shrunken = {
        "width": 16,
        "heads": 2,
        "steps": 4,
        "batch": 2,
        "context": 16,
        "text_bytes": 100_000,
        "curve": (1, 2, 3),
        "shown": 12,
    }
    claims, run = perform(looped_lm, tmp_path, **shrunken, loops=2)
    assert set(claims) == {"looping", "hybrid", "linear", "peak", "settles", "paper-scale", "niah"}
    assert claims["peak"].ours in (1, 2, 3)
    curve = {r["at_loops"]: r["curve_loss"] for r in run.metrics() if "at_loops" in r}
    final = [r["val_loss"] for r in run.metrics() if r.get("arm") == "hybrid" and "val_loss" in r][-1]
    assert curve[2] == pytest.approx(final, rel=1e-5), (
        "the curve at the trained number of loops is the held-out loss"
    )
    assert set(looped_lm.figures(run)) == {"residual", "lens", "loops", "rank", "learning"}


def test_what_is_watched_is_what_the_model_says():
    model = looped_lm.LT2(looped_lm.LT2Config.preset("tiny", loops=2), rng=3)
    tokens = torch.randint(256, (1, 10), generator=torch.Generator().manual_seed(0))
    saved = looped_lm.watched(model, tokens, 3)
    assert saved["h"].shape == (4, 10, 64)
    torch.testing.assert_close(saved["logits"][2], model(tokens).logits[0])
    torch.testing.assert_close(saved["logits"][3], model(tokens, loops=3).logits[0])
    assert set(saved.records) == {"h", "logits", "S/0"}
    assert looped_lm.residuals(saved).shape == (4, 10)


def test_convert(tmp_path):
    shrunken = {
        "width": 16,
        "heads": 2,
        "layers": 2,
        "pattern": "interleaved:1:1",
        "batch": 2,
        "context": 16,
        "text_bytes": 100_000,
    }
    claims, run = perform(
        looped_convert, tmp_path, **shrunken, teacher_steps=4, align_steps=2, loop_steps=2, last_steps=2
    )
    assert set(claims) == {"kept", "against-plain", "against-longer", "ouro"}
    taken = {
        a: sum(r["taken"] for r in run.metrics() if r.get("arm") == a and "taken" in r)
        for a in looped_convert.ARMS
    }
    assert taken == {"aligned": 6, "plain": 4, "longer": 6}
    assert set(looped_convert.figures(run)) == {"conversion"}
