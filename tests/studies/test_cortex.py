"""The cortex studies: judging is arithmetic on what the run holds; killed runs go on bit-equal; every figure draws."""

import dataclasses
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from unrolled.runs.run import Run
from unrolled.studies import _cortex as cortex
from unrolled.studies import (
    cortex_axon,
    cortex_objrec,
    cortex_ra25,
    cortex_reber,
    cortex_speed,
    cortex_synapse,
)


def run(study, config, tmp_path):
    with Run.create("some-study", config, root=tmp_path) as made:
        claims = study.study(config, made)
        made.save_claims(claims)
    return Run.open(made.path), {claim.id: claim for claim in claims}


def draws(study, done):
    made = study.figures(done)
    for figure, caption in made.values():
        figure.canvas.draw()
        assert caption
    return set(made)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [([], None), ([0.0], None), ([0.0, 0.1, 0.0], None), ([1.0, 0.0, 0.0, 1.0], 3), ([0.0, 0.0], 2)],
)
def test_criterion_is_two_perfect_epochs_in_a_row(errors, expected):
    assert cortex.criterion([{"error": e} for e in errors]) == expected


def test_synapse_study_claims_what_the_data_carry(tmp_path):
    config = dataclasses.replace(cortex_synapse.tiny(), trials=4000)
    done, made = run(cortex_synapse, config, tmp_path)
    assert {i for i, c in made.items() if c.status == "reproduced"} >= {
        "derivative", "ltd", "flat", "hebbian-fails", "cascade", "shortcut",
    }  # fmt: skip
    assert made["ltp-statistics"].status == "direction only"
    assert made["ltp-statistics"].ours == pytest.approx(0.069, abs=1e-3)
    assert made["hebbian-fails"].ours > 3
    assert draws(cortex_synapse, done) == {"in-vitro", "kinases"}


def test_synapse_study_notices_a_rule_that_does_not_fit(tmp_path, monkeypatch):
    """With the Hebbian rule in place of the kinase rule the same claims fail."""
    monkeypatch.setattr(
        cortex_synapse.kinase, "jang_protocol", cortex_synapse.kinase.hebbian_protocol, raising=False
    )
    config = dataclasses.replace(cortex_synapse.tiny(), trials=100)
    _, made = run(cortex_synapse, config, tmp_path)
    assert made["ltd"].status == "not reproduced"
    assert made["flat"].status == "not reproduced"
    assert made["cascade"].status == "not reproduced"


def test_axon_study_reproduces_and_notices_another_model(tmp_path, monkeypatch):
    done, made = run(cortex_axon, cortex_axon.tiny(), tmp_path / "a")
    assert {c.status for c in made.values()} == {"reproduced"}
    assert draws(cortex_axon, done) == {"reference"}
    from unrolled.cortex.axon.sheets import Rule

    other = (*cortex_axon.SHEET, Rule("Layer", {"nmda.mgc": 1.3}))
    monkeypatch.setattr(cortex_axon, "SHEET", other)
    _, made = run(cortex_axon, cortex_axon.tiny(), tmp_path / "b")
    assert made["naive-activity"].status == made["fused-learning"].status == "not reproduced"


def fake(tmp_path, study, config, errors):
    """A run whose rows are made up: arm -> one list of errors per seed."""
    made = Run.create("some-study", config, root=tmp_path)
    for arm, seeds in errors.items():
        for seed, series in enumerate(seeds):
            for step, error in enumerate(series):
                made.log(
                    step=step, arm=arm, seed=seed, error=error, unit_error=error / 10, correlation=1 - error, hidden1=0.06,
                    hidden2=0.06, trials=0,
                )  # fmt: skip
    return {c.id: c for c in study.claims(config, made)}


def test_ra25_is_judged_by_the_share_of_seeds(tmp_path):
    good, bad = [1.0, 0.5, 0.0, 0.0], [1.0, 0.9, 0.8, 0.7]
    config = cortex_ra25.small()
    made = fake(
        tmp_path / "a",
        cortex_ra25,
        config,
        {"150+50": [good] * 4 + [bad], "no NMDA": [bad], "no GABA-B": [good]},
    )
    assert made["ra25"].status == "reproduced"
    assert made["ra25"].ours == 4
    assert made["activity"].status == "reproduced"
    assert made["no-nmda"].status == "reproduced"
    assert made["no-nmda"].ours == pytest.approx(70)
    assert made["no-gabab"].status == "not reproduced"
    assert made["ra25-textbook"].status == "not attempted"
    made = fake(
        tmp_path / "b", cortex_ra25, config, {"150+50": [good] * 3 + [bad] * 2, "100+100": [bad, bad]}
    )
    assert made["ra25"].status == "direction only"
    assert made["ra25-textbook"].status == "not reproduced"
    assert "unrolled run cortex-ra25 --preset small" in made["no-nmda"].note


def test_reber_is_judged_by_the_median_and_the_control(tmp_path):
    config = cortex_reber.small()

    def at(epoch):
        return [0.3] * (epoch - 2) + [0.0, 0.0]

    made = fake(
        tmp_path / "a",
        cortex_reber,
        config,
        {"150+50": [at(50), at(70), [0.02] * 100], "no context": [[0.5] * 40]},
    )
    assert made["reber"].ours == 70
    assert made["reber"].status == "reproduced"
    assert made["no-context"].status == "reproduced"
    assert made["reber-textbook"].status == "not attempted"
    # most seeds never got there: no median, and it says so
    made = fake(
        tmp_path / "b",
        cortex_reber,
        config,
        {"150+50": [at(20), [0.02] * 100, [0.02] * 100], "no context": [[0.1] * 40]},
    )
    assert made["reber"].status == "direction only"
    assert "1 of 3 seeds" in made["reber"].note
    assert made["no-context"].status == "not reproduced"
    # too fast is not what was published either
    made = fake(tmp_path / "c", cortex_reber, config, {"150+50": [at(10)]})
    assert made["reber"].status == "direction only"


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("study", "config", "arms"),
    [
        (
            cortex_ra25,
            {"seeds": 1, "epochs": 3, "control_seeds": 1, "control_epochs": 2, "hidden": 3, "trials": 2},
            {"150+50", "no NMDA", "no GABA-B"},
        ),
        (
            cortex_reber,
            {"seeds": 1, "epochs": 3, "control_seeds": 1, "control_epochs": 2, "hidden": 3, "data": 98},
            {"150+50", "no context"},
        ),
    ],
    ids=["ra25", "reber"],
)
def test_training_killed_twice_goes_on_bit_equal(study, config, arms, tmp_path):
    config = dataclasses.replace(study.tiny(), **config)
    done, first = run(study, config, tmp_path / "a")
    assert {r["arm"] for r in done.metrics()} == arms
    assert draws(study, done) == {"learning", "raster", "kinases", "delta", "weights"}

    count = 0

    def die(step, steps):
        nonlocal count
        count += 1
        if count in (2, 5):
            raise Killed

    stopped = Run.create("some-study", config, root=tmp_path / "b")
    stopped.progress = die
    with pytest.raises(Killed), stopped:
        study.study(config, stopped)
    again = Run.resume(stopped.path)
    again.progress = die
    with pytest.raises(Killed), again:
        study.study(config, again)
    with Run.resume(stopped.path) as last:
        second = {c.id: c for c in study.study(config, last)}

    def plain(rows):
        return [repr({k: v for k, v in row.items() if k != "time"}) for row in rows]  # nan is nan

    assert plain(Run.open(stopped.path).metrics()) == plain(done.metrics())
    assert {i: c.ours for i, c in first.items() if c.ours == c.ours} == {
        i: c.ours for i, c in second.items() if c.ours == c.ours
    }


KILLED = """
import dataclasses, sys
from unrolled.runs import Run
from unrolled.studies import cortex_ra25 as study
config = dataclasses.replace(study.tiny(), epochs=40, hidden=4, trials=3)
with Run.create("some-study", config, root=sys.argv[1]) as run:
    study.study(config, run)
"""


def test_training_killed_by_the_system_goes_on_bit_equal(tmp_path):
    """A process of its own, SIGKILL in the middle of an epoch: weights, metrics and claims are those of an undisturbed run."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a")])
    try:
        limit = time.monotonic() + 300
        while (
            sum(file.read_text().count("unit_error") for file in (tmp_path / "a").glob("**/metrics.jsonl"))
            < 3
        ):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < limit, "it never came to its third epoch"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    (folder,) = {file.parent for file in (tmp_path / "a").glob("**/metrics.jsonl")}
    killed = len(Run.open(folder).metrics())
    assert 3 <= killed < 40
    config = dataclasses.replace(cortex_ra25.tiny(), epochs=killed + 3, hidden=4, trials=3)
    resumed, undisturbed = Run.resume(folder), Run.create("some-study", config, root=tmp_path / "b")
    for each in (resumed, undisturbed):
        with each:
            cortex_ra25.study(config, each)

    def plain(run):
        return [repr({k: v for k, v in row.items() if k != "time"}) for row in run.metrics()]

    assert len(plain(undisturbed)) == killed + 3
    assert plain(resumed) == plain(undisturbed)
    a, b = (load_file(run.checkpoints / "network.safetensors") for run in (resumed, undisturbed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_changed_run_folder_is_refused(tmp_path):
    config = dataclasses.replace(cortex_ra25.tiny(), epochs=2, hidden=3, trials=2)
    done, _ = run(cortex_ra25, config, tmp_path)
    net = cortex_ra25.make(config, "150+50", 0)
    again = Run.create("some-study", config, root=tmp_path / "b")
    (done.checkpoints / "network.safetensors").rename(again.checkpoints / "network.safetensors")
    again.log(step=0, arm="150+50", seed=0, error=1.0, trials=999)
    with pytest.raises(RuntimeError, match="999"):
        cortex.learn(again, {"arm": "150+50", "seed": 0}, net, lambda net, epoch: {}, 2)


def test_objrec_runs_end_to_end_and_says_what_it_did_not_try(tmp_path):
    config = dataclasses.replace(cortex_objrec.tiny(), trials=4, data=2, v4=2)
    done, made = run(cortex_objrec, config, tmp_path)
    assert {c.status for c in made.values()} == {"not attempted"}
    assert made["epoch-25"].paper == 12.5
    assert draws(cortex_objrec, done) == {"learning", "images"}


def test_objrec_is_judged_at_its_epochs(tmp_path):
    config = cortex_objrec.small()
    with Run.create("some-study", config, root=tmp_path) as made:
        for step in range(50):
            made.log(step=step, arm="objrec", seed=0, error=0.14 if step < 40 else 0.2, trials=0)
        made.log(test=0, unseen=0.6)
        claims = {c.id: c for c in cortex_objrec.claims(config, made)}
    assert claims["epoch-25"].status == "reproduced"
    assert claims["epoch-49"].status == "direction only"
    assert claims["unseen"].status == "not reproduced"


def test_speed_study_times_what_it_says(tmp_path):
    config = dataclasses.replace(cortex_speed.tiny(), side=8, batches=(1, 4), sides=(6, 8), repeats=1)
    done, made = run(cortex_speed, config, tmp_path)
    assert 0 < made["ra25"].ours < 60
    assert made["naive"].ours > 1
    assert made["bench"].status == "not attempted"  # not the benchmark's size
    assert {(r["bench"], r["data"]) for r in done.metrics() if "bench" in r} == {(8, 1), (8, 4), (6, 1)}
    assert draws(cortex_speed, done) == {"speed"}
    if not torch.cuda.is_available():
        _, made = run(cortex_speed, cortex_speed.paper(), tmp_path)
        assert made["bench"].status == "not attempted"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_T10_ra25_learns(seed, tmp_path):
    _, made = run(cortex_ra25, dataclasses.replace(cortex_ra25.tiny(), seed=seed, epochs=100), tmp_path)
    assert made["ra25"].ours <= 100
    assert made["ra25"].status == "reproduced"


@pytest.mark.slow
def test_T11_reber_uses_context_and_the_control_does_not(tmp_path):
    config = dataclasses.replace(cortex_reber.tiny(), epochs=40, control_epochs=25)
    _, made = run(cortex_reber, config, tmp_path)
    assert made["reber-error"].ours < 10
    assert made["no-context"].status == "reproduced"
