"""The studies of learning at scale: judging is arithmetic on the run, killed runs go on the same, every figure draws, absent data is said."""

import dataclasses
import subprocess
import sys
import time

import pytest
import torch

from unrolled.cortex.rate import Phases, generec
from unrolled.runs.run import Run
from unrolled.studies import (
    _rate_data,
    cortex_continual,
    cortex_fixed_point,
    cortex_spiking_fashion,
    cortex_why,
)

STUDIES = (cortex_continual, cortex_fixed_point, cortex_spiking_fashion, cortex_why)
SHORT = {
    cortex_continual: {"data": "digits", "images": 200, "test": 100, "tuning": 60, "hidden": 12, "seeds": 1},
    cortex_fixed_point: {"data": "digits", "images": 0, "test": 200, "tuning_steps": 5, "hidden": 12, "epochs": 1},
    cortex_why: {
        "data": "digits", "images": 0, "test": 200, "hidden": 12, "steps": 40, "probes": 2, "seeds": 1, "gains": (0.1, 3.0),
        "angles": (0.0, 90.0), "slow": (0.0, 70.0),
    },
}  # fmt: skip


def run(study, config, root):
    with Run.create("some-study", config, root=root) as made:
        claims = study.study(config, made)
        made.save_claims(claims)
    return Run.open(made.path), {claim.id: claim for claim in claims}


def draws(study, done):
    made = study.figures(done)
    for figure, caption in made.values():
        figure.canvas.draw()
        assert caption
    return set(made)


def rows(done):
    """What was measured, without when."""
    return [{k: v for k, v in r.items() if k not in ("time", "cpu")} for r in done.metrics()]


@pytest.mark.parametrize("study", STUDIES)
def test_without_images_every_claim_is_left_open_with_the_command(study, tmp_path, monkeypatch):
    monkeypatch.setattr(_rate_data.images, "FASHION", tmp_path / "nowhere")
    monkeypatch.delenv(_rate_data.images.FASHION_VARIABLE, raising=False)
    done, made = run(study, study.tiny(), tmp_path)
    assert {claim.status for claim in made.values()} == {"not attempted"}
    assert set(study.WANTED) <= set(made)
    assert any(study.__name__.rsplit(".", 1)[1].replace("_", "-") in c.note for c in made.values())
    assert not study.figures(done)


def test_fixed_point_study_measures_bits_and_draws(tmp_path):
    config = dataclasses.replace(cortex_fixed_point.tiny(), **SHORT[cortex_fixed_point])
    done, made = run(cortex_fixed_point, config, tmp_path)
    assert set(made) == {"int8", "kept", "traces", "nearest", "subtract", "after"}
    found = {r["arm"]: r for r in rows(done)}
    assert set(found) == set(cortex_fixed_point.ARMS)
    assert found["int8 weights, 8-bit traces"]["bytes"] < 0.4 * found["float32"]["bytes"]
    assert found["float32"]["test"] < 0.5
    assert draws(cortex_fixed_point, done) == {"accuracy"}


def test_continual_study_tells_forgetting_and_draws(tmp_path):
    config = dataclasses.replace(cortex_continual.tiny(), **SHORT[cortex_continual])
    done, made = run(cortex_continual, config, tmp_path)
    assert set(made) == set(cortex_continual.WANTED)
    ends = {(r["stream"], r["arm"]): r for r in rows(done) if r["part"] == "end"}
    assert len(ends) == 3 * 4
    for (stream, arm), row in ends.items():
        assert ("forgotten" in row) == (stream == "tasks"), arm
        assert ("first" in row) == (stream == "drift"), arm
    assert draws(cortex_continual, done) == {"online", "tasks"}


def test_streams_hold_the_same_images_in_their_own_order():
    whole, _ = _rate_data.load("digits")
    config = dataclasses.replace(cortex_continual.tiny(), images=200)
    shuffled, tasks, drift = (
        cortex_continual.stream(config, name, whole, 3) for name in cortex_continual.STREAMS
    )
    assert torch.equal(shuffled[0].sum((1, 2, 3)).sort().values, tasks[0].sum((1, 2, 3)).sort().values)
    assert (tasks[2].diff() >= 0).all()
    assert tasks[1].div(2, rounding_mode="floor").unique_consecutive().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(shuffled[1], drift[1])
    assert torch.allclose(drift[0][0], shuffled[0][0], atol=1e-5)
    assert torch.allclose(drift[0][-1].flip(1, 2), shuffled[0][-1], atol=1e-4)  # half a turn at the end


def test_a_reservoir_holds_everything_with_the_same_chance():
    counts = torch.zeros(20)
    for seed in range(2000):
        past = cortex_continual.Remembered(5, seed)
        for i in range(20):
            past.add(torch.tensor(i), torch.tensor(i))
        assert len(past.kept) == 5
        counts[torch.tensor([int(x) for x, _ in past.kept])] += 1
    assert ((counts / 2000 - 0.25).abs() < 4 * (0.25 * 0.75 / 2000) ** 0.5).all()


def test_why_study_answers_all_and_draws(tmp_path):
    config = dataclasses.replace(cortex_why.tiny(), **SHORT[cortex_why])
    done, made = run(cortex_why, config, tmp_path)
    assert set(made) == set(cortex_why.WANTED)
    assert made["alignment"].status == "reproduced"
    assert made["settling"].status == "reproduced"
    assert made["reversed"].ours < 40
    taxes = {r["rule"]: r for r in rows(done) if r["part"] == "curvature" and r["step"] == config.steps}
    assert taxes["backprop"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert taxes["backprop"]["gain_part"] > taxes["Hebb"]["gain_part"]
    assert draws(cortex_why, done) == {"alignment", "settling", "lesions"}


def test_a_slow_integral_adds_what_it_has_not_caught_up_with():
    free, high = torch.rand(4, 3), 0.1 * torch.randn(4, 3)
    net = cortex_why.Net(2, [3, 3], rng=0)
    x = Phases(torch.rand(4, 3), torch.zeros(4, 3), None)
    x = Phases(x.free, None, torch.zeros(4, 3))
    y = Phases(free, None, high)
    path = net.paths[1]
    exact = generec.weight(path, Phases(x.free, None, None), y, None)
    off = [
        float((cortex_why.slowed(generec, tau).weight(path, x, y, None) - exact).norm())
        for tau in (21.0, 40.0, 70.0)
    ]
    assert off[0] < off[1] < off[2]
    still = Phases(
        torch.ones(4, 3), None, torch.zeros(4, 3)
    )  # the same in every trial: nothing to catch up with
    assert cortex_why.slowed(generec, 70.0).weight(path, x, still, None).abs().max() < 1e-6


def test_the_way_down_stands_at_its_angle():
    net = cortex_why.Net(4, [8, 6, 3], rng=0, feedback="random")
    noise = [torch.randn_like(p.weight) for p in net.paths]
    for degrees in (0.0, 60.0, 90.0, 120.0):
        cortex_why.turn(net, degrees, noise)
        for path in net.paths[1:]:
            angle = torch.rad2deg(
                torch.acos((path.back * path.weight).sum() / path.back.norm() / path.weight.norm())
            )
            assert float(angle) == pytest.approx(degrees, abs=0.1)
            assert float(path.back.norm()) == pytest.approx(float(path.weight.norm()), rel=1e-4)


SPIKING = {"images": 24, "test": 6, "chunk": 8, "data": 4, "hidden": 3, "arms": ("kinase", "hybrid"), "rates": (0.05,)}  # fmt: skip


def idx_folder(folder):
    """Fashion-MNIST's four files, of bars that stand or lie."""
    import struct

    rng = torch.Generator().manual_seed(0)
    for prefix, n in (("train", 60), ("t10k", 20)):
        labels = torch.randint(10, (n,), generator=rng).to(torch.uint8)
        pixels = torch.zeros(n, 28, 28, dtype=torch.uint8)
        for x, k in zip(pixels, labels.tolist()):
            x[2 * k + 2 : 2 * k + 8, 4:24] = 255
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">III", n, 28, 28) + pixels.numpy().tobytes())  # fmt: skip
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", n) + labels.numpy().tobytes())  # fmt: skip
    return folder


def test_spiking_study_runs_every_arm_and_draws(tmp_path):
    (tmp_path / "idx").mkdir()
    config = dataclasses.replace(cortex_spiking_fashion.tiny(), folder=str(idx_folder(tmp_path / "idx")), **SPIKING)  # fmt: skip
    done, made = run(cortex_spiking_fashion, config, tmp_path)
    assert {"fashion", "hidden", "hybrid", "hybrid-start", "rate", "mnist", "cifar"} == set(made)
    assert made["hidden"].status == "not attempted"
    assert "24 images" in made["fashion"].note
    assert len([r for r in rows(done) if r.get("arm") == "kinase" and "trials" in r]) == 3
    assert draws(cortex_spiking_fashion, done) == {"learning", "fields"}


def test_spiking_study_refuses_arms_that_there_are_not(tmp_path):
    config = dataclasses.replace(cortex_spiking_fashion.tiny(), arms=("hybrid",))
    with pytest.raises(ValueError, match="kinase"), Run.create("x", config, root=tmp_path) as made:
        cortex_spiking_fashion.study(config, made)


KILLED = """
import dataclasses, sys
from unrolled.runs.run import Run
from unrolled.studies import {name} as study
config = dataclasses.replace(study.tiny(), **{short!r})
run = Run.create("some-study", config, root=sys.argv[1])
with run:
    run.save_claims(study.study(config, run))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cortex_spiking_fashion", "cortex_continual", "cortex_fixed_point"])
def test_a_killed_run_goes_on_to_the_same_numbers(name, tmp_path):
    study = next(s for s in STUDIES if s.__name__.endswith(name))
    (tmp_path / "idx").mkdir()
    short = SHORT.get(study) or {**SPIKING, "folder": str(idx_folder(tmp_path / "idx"))}
    config = dataclasses.replace(study.tiny(), **short)
    whole, _ = run(study, config, tmp_path / "whole")
    root = tmp_path / "killed"
    going = subprocess.Popen([sys.executable, "-c", KILLED.format(name=name, short=short), str(root)])
    until = time.monotonic() + 120
    while time.monotonic() < until and going.poll() is None:
        there = [p for p in root.rglob("metrics.jsonl") if p.read_text().count("\n") >= 3]
        if there:
            break
        time.sleep(0.02)
    going.kill()
    going.wait()
    folder = next(root.rglob("config.json")).parent
    with Run.resume(folder) as again:
        again.save_claims(study.study(config, again))
    assert rows(Run.open(folder)) == rows(whole)
