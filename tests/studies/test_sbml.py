"""The SBML studies: what they are made of is right, verdicts follow from numbers, figures draw."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch

from unrolled.runs.run import Run
from unrolled.sbml import SBMLError, load, models
from unrolled.studies import _sbml, sbml_attractors, sbml_conformance, sbml_speed
from unrolled.studies._sbml_builder import sbml
from unrolled.studies._sbml_cases import CASES, refusals

QUICK = [case for case in CASES if not case.options]


def perform(study, tmp_path, **changes):
    config = dataclasses.replace(study.tiny(), **changes)
    with Run.create("some-study", config, root=tmp_path) as made:
        claims = study.study(config, made)
        made.save_claims(claims)
    return Run.open(made.path), {claim.id: claim for claim in claims}


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_small_models_give_their_closed_forms(case):
    run = load(case.text()).simulate(case.t_end, case.points, rtol=1e-8, atol=1e-11)
    for name, expected in case.answer().items():
        value = run.amount(name[7:-1]) if name.startswith("amount(") else run.value(name)
        np.testing.assert_allclose(value.numpy()[-1 if case.last else 0 :], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answers_are_libroadrunners(case):
    """The oracle agrees with the closed forms: an error in one of them would show."""
    roadrunner = pytest.importorskip("roadrunner")
    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    text, answer = case.text(), case.answer()
    oracle = roadrunner.RoadRunner(text)
    oracle.integrator.relative_tolerance, oracle.integrator.absolute_tolerance = 1e-9, 1e-12
    species = set(oracle.model.getFloatingSpeciesIds() + oracle.model.getBoundarySpeciesIds())
    names = [n[7:-1] if n.startswith("amount(") else f"[{n}]" if n in species else n for n in answer]
    found = oracle.simulate(0, case.t_end, case.points, ["time", *names])
    for k, expected in enumerate(answer.values(), 1):
        np.testing.assert_allclose(found[-1 if case.last else 0 :, k], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("refusal", refusals(), ids=lambda refusal: refusal.name)
def test_refusals_name_the_element(refusal):
    with pytest.raises(SBMLError, match=refusal.named):
        load(refusal.document)


@pytest.mark.parametrize("name", ["tyson1991", "kholodenko2000", "lorenz", "robertson"])
def test_networks_written_to_sbml_and_read_again_are_the_same(name):
    model = models.named(name)
    twin = load(_sbml.document(model))
    x = model.initial_state(batch=4) + torch.rand(4, len(model.species), dtype=torch.float64)
    assert twin.species == model.species
    torch.testing.assert_close(twin.rate(0.0, x), model.rate(0.0, x), rtol=1e-13, atol=1e-13)


def test_the_builder_says_what_it_cannot_read():
    with pytest.raises(ValueError, match="a reaction reads"):
        sbml(species={"S": 1}, reactions=["S -> : S"])
    with pytest.raises(ValueError, match="cannot be read"):
        sbml(parameters={"x": 1}, rules=["x = 1 +"])
    with pytest.raises(ValueError, match="no species with a stoichiometry"):
        sbml(species={"S": 1}, reactions=["J: S! -> : S"])


def test_conformance_counts_what_is_wrong(tmp_path, monkeypatch):
    """A case whose answer is not what SBML means is counted, not passed."""
    right, wrong = (
        QUICK[0],
        dataclasses.replace(QUICK[0], name="wrong", expected=lambda t: {"S": 9 * np.exp(-t)}),
    )
    monkeypatch.setattr(sbml_conformance, "CASES", (right, wrong))
    run, claims = perform(sbml_conformance, tmp_path)
    assert claims["own"].ours == 0.5
    assert claims["own"].status == "not reproduced"
    assert claims["refused"].status == "reproduced"
    assert claims["f1"].ours < 1e-6
    assert claims["f2"].ours < 1e-5
    assert claims["round-trip"].status == "reproduced"
    assert claims["suite-wrong"].status == claims["rates"].status == "not attempted"
    assert set(sbml_conformance.figures(run)) == {"own"}


def test_attractors_judges_what_it_found():
    row = {
        "moving": True,
        "scale": 24.0,
        "paper_scale": 24,
        "stable": 0,
        "mu_off": 0.01,
        "std_log": 0.0,
        "laws": [],
    }
    made = {c.id: c for c in sbml_attractors.judged({"tyson1999": row}, {})}
    assert {c.status for c in made.values()} == {"reproduced"}
    made = {
        c.id: c for c in sbml_attractors.judged({"tyson1999": row | {"moving": False, "mu_off": 0.5}}, {})
    }
    assert made["rhythm"].status == made["calibration"].status == "not reproduced"


def test_textbook_systems(tmp_path):
    with Run.create("some-study", sbml_attractors.tiny(), root=tmp_path) as made:
        errors = sbml_attractors.known(made)
    assert len(errors) == 8
    assert max(errors.values()) < 1e-8
    z = sbml_attractors.goodwin_rest()
    assert z * (1 + z**10) == pytest.approx(1000)


def test_the_numpy_twin_of_the_speed_study_is_the_network():
    model = models.kholodenko2000()
    x = model.initial_state() * torch.rand(7, 8, dtype=torch.float64)
    np.testing.assert_allclose(model.rate(0.0, x).numpy().T, sbml_speed.kholodenko(x.numpy().T), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("roadrunner") is None, reason="libroadrunner is the peer")
def test_speed_runs(tmp_path):
    run, claims = perform(sbml_speed, tmp_path, networks=("tyson1999",), rounds=1, batch=64)
    assert set(claims) == {"rhs", "batch", "single"}
    assert set(sbml_speed.figures(run)) == {"speed"}
