"""The curvature studies: judging is arithmetic on what the run holds, and every study runs end to end."""

import dataclasses
import math

import pytest
import torch

from unrolled.core import Trajectory
from unrolled.runs.run import Run
from unrolled.studies import _curvature as curvature
from unrolled.studies import curvature_124m, curvature_text, curvature_theory, curvature_zipf


def path(loss, *, gain, penalty, norm=1.0, remainder=0.0, within=0.5):
    """A run whose decomposition is constant."""
    n = len(loss)
    nds = 2 * penalty / norm**2
    columns = {
        "gain": gain, "penalty": penalty, "predicted": gain - penalty, "remainder": remainder,
        "actual": gain - penalty + remainder, "nds": nds, "norm": norm, "within": within * nds, "rho_within": within,
    }  # fmt: skip
    records = {name: torch.full((n,), value, dtype=torch.float64) for name, value in columns.items()}
    return Trajectory.from_records(
        torch.arange(n) * 10, records | {"val_loss": torch.tensor(loss, dtype=torch.float64)}
    )


ADAM = path([4.0, 3.0, 2.5, 2.0], gain=0.05, penalty=0.02)
MUON = path([4.0, 2.5, 2.0, 1.8], gain=0.06, penalty=0.012, norm=2.0)


def claims(**changes):
    made = curvature.comparison_claims(
        [(ADAM, changes.get("muon", MUON))], [(ADAM, MUON)], 0, preset="tiny", hardware="none"
    )
    return {claim.id: claim for claim in made}


def test_shares_of_the_gap_add_up_to_one():
    shares = curvature.gap_shares(curvature.at_equal_loss(ADAM, MUON, 0))
    assert shares["gap"] == pytest.approx(0.018)
    assert shares["gain"] == pytest.approx(10 / 18)
    assert shares["penalty"] == pytest.approx(8 / 18)
    assert shares["remainder"] == pytest.approx(0.0, abs=1e-12)


def test_shares_are_nan_when_muon_has_no_lead():
    behind = path([4.0, 3.0, 2.0], gain=0.02, penalty=0.01)
    shares = curvature.gap_shares(curvature.at_equal_loss(ADAM, behind, 0))
    assert shares["gap"] < 0
    assert math.isnan(shares["penalty"])
    assert claims(muon=behind)["gap-is-penalty"].status == "not reproduced"


def test_claims_hold_the_numbers_of_a_constructed_pair():
    made = claims()
    assert made["nds-ratio"].ours == pytest.approx(0.04 / (0.024 / 4))
    assert made["nds-ratio"].status == "direction only"
    assert made["gain-ratio"].ours == pytest.approx(0.05 / 0.06)
    assert made["gain-ratio"].status == "reproduced"
    assert made["penalty-ratio"].ours == pytest.approx(0.02 / 0.012)
    assert made["norm-ratio"].ours == pytest.approx(0.5)
    assert made["norm-ratio"].status == "not reproduced"
    assert made["gap-is-penalty"].ours == pytest.approx(800 / 18)
    assert made["gap-is-penalty"].status == "not reproduced"
    assert made["steps"].ours == pytest.approx(1.5)  # Adam reaches 2.0 at step 30, Muon at 20
    assert made["within-muon"].ours == pytest.approx(0.0, abs=1e-9)
    assert made["within-adam"].status == "reproduced"


def test_disjoint_losses_give_no_number():
    made = claims(muon=path([1.5, 1.2], gain=0.06, penalty=0.01))
    assert math.isnan(made["nds-ratio"].ours)
    assert made["nds-ratio"].status == "not reproduced"
    assert math.isnan(made["steps"].ours)


def test_a_bad_prediction_is_not_reproduced():
    wild = path([4.0, 2.5, 2.0, 1.8], gain=0.06, penalty=0.01, remainder=0.05)
    assert claims(muon=wild)["prediction"].ours == pytest.approx(50.0)
    assert claims(muon=wild)["prediction"].status == "not reproduced"


def run(study, config, tmp_path):
    with Run.create("some-study", config, root=tmp_path) as made:
        claims = study.study(config, made)
        made.save_claims(claims)
    return Run.open(made.path), {claim.id: claim for claim in claims}


def test_124m_runs_end_to_end_and_resumes_to_the_same_claims(tmp_path):
    config = dataclasses.replace(curvature_124m.tiny(), steps=20, warmup=2)
    done, first = run(curvature_124m, config, tmp_path / "a")
    assert first["prediction"].ours < 20
    assert set(curvature_124m.figures(done)) >= {"loss", "budget", "sharpness", "prediction"}

    class Killed(Exception):
        pass

    def die(step, steps):
        if step == 13:
            raise Killed

    stopped = Run.create("some-study", config, root=tmp_path / "b")
    stopped.progress = die
    with pytest.raises(Killed), stopped:
        curvature_124m.study(config, stopped)
    with Run.resume(stopped.path) as again:
        second = {claim.id: claim for claim in curvature_124m.study(config, again)}
    assert {id: claim.ours for id, claim in first.items()} == {id: claim.ours for id, claim in second.items()}


def test_a_missing_gpu_leaves_the_claims_open_with_a_command(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, made = run(curvature_124m, curvature_124m.paper(), tmp_path)
    assert {claim.status for claim in made.values()} == {"not attempted"}
    assert "unrolled run curvature-124m --preset paper" in made["nds-ratio"].note
    _, made = run(curvature_zipf, curvature_zipf.paper(), tmp_path)
    assert {claim.status for claim in made.values()} == {"not attempted"}


def test_one_optimizer_alone_claims_nothing(tmp_path):
    config = dataclasses.replace(
        curvature_text.tiny(), optimizer="muon", steps=10, warmup=1, text_bytes=300_000
    )
    _, made = run(curvature_text, config, tmp_path)
    assert made["nds-ratio"].status == "not attempted"


def test_text_tunes_on_its_grid_and_logs_what_it_chose(tmp_path):
    config = dataclasses.replace(
        curvature_text.tiny(), grid=(0.01, 1.0), steps=20, warmup=2, text_bytes=300_000
    )
    done, _ = run(curvature_text, config, tmp_path)
    tuned = [row for row in done.metrics() if "tuned" in row]
    assert {(row["tuned"], row["lr"]) for row in tuned} == {
        ("adam", 0.01 * config.adam_lr), ("adam", config.adam_lr), ("muon", 0.01 * config.muon_lr), ("muon", config.muon_lr),
    }  # fmt: skip


def test_zipf_and_theory_run_end_to_end(tmp_path):
    config = dataclasses.replace(curvature_zipf.tiny(), steps=20, warmup=2, tokens=50_000)
    done, made = run(curvature_zipf, config, tmp_path)
    assert "gap-growth-equal" in made
    assert "zipf" in curvature_zipf.figures(done)
    done, made = run(
        curvature_theory, dataclasses.replace(curvature_theory.tiny(), draws=20, seeds=1, rows=96), tmp_path
    )
    assert made["theorem-b"].ours == 100.0
    assert made["closed-forms"].ours < 1e-9
    assert "theory" in curvature_theory.figures(done)


def test_theory_draws_only_problems_that_satisfy_the_condition():
    import random

    rng = random.Random(7)
    assert all(curvature_theory.draw(rng).condition for _ in range(100))


# ---------------------------------------------------------------- acceptance (fact sheet, section 11 A), minutes each


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return run(curvature_text, curvature_text.small(), tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def zipf(tmp_path_factory):
    return run(curvature_zipf, curvature_zipf.small(), tmp_path_factory.mktemp("zipf"))


def matched(done, muon):
    config = done.config_as(curvature_text.Config)
    return [
        curvature.at_equal_loss(
            *(curvature.series(done, optimizer=o, seed=s) for o in ("adam", muon)), config.warmup
        )
        for s in range(config.seeds)
    ]


@pytest.mark.slow
def test_a1_gain_minus_penalty_predicts_the_decrease(text):
    assert text[1]["prediction"].ours <= 5


@pytest.mark.slow
def test_a2_adam_is_sharper_at_equal_loss_in_four_of_five_seeds(text):
    for muon in ("muon", "muon-equal"):
        assert sum(float(m["ratio[nds]"]) > 1.2 for m in matched(text[0], muon)) >= 4


def rises(done, muon):
    """Seeds in which both are sharper at s = 1, and seeds in which the gap is larger there."""
    table = curvature_zipf.normalized(done, done.config_as(curvature_zipf.Config), muon)
    both = sum(row["adam", 1.0] > row["adam", 0.0] and row[muon, 1.0] > row[muon, 0.0] for row in table)
    return both, sum(row["adam", 1.0] - row[muon, 1.0] > row["adam", 0.0] - row[muon, 0.0] for row in table)


@pytest.mark.slow
def test_a3_both_are_sharper_at_s_one_and_the_gap_is_larger_in_four_of_five_seeds(tmp_path):
    done, _ = run(curvature_zipf, dataclasses.replace(curvature_zipf.tiny(), seeds=5), tmp_path)
    assert min(rises(done, "muon-equal")) >= 4


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="at tuned rates Adam's sharpness is held down by its step length, whatever s (docs/log.md)",
)
def test_a3_at_tuned_rates(zipf):
    assert min(rises(zipf[0], "muon")) >= 4


@pytest.mark.slow
def test_a4_gains_are_comparable_at_equal_update_length(text):
    assert 0.6 <= text[1]["gain-ratio-equal"].ours <= 1.7


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="at tuned rates Muon's steps are 3.6 times as long and gain 2.3 times as much (docs/log.md)",
)
def test_a4_gains_are_comparable_at_tuned_rates(text):
    assert 0.6 <= text[1]["gain-ratio"].ours <= 1.7
