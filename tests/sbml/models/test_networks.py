"""Shipped networks against the right-hand sides of their SBML files: recorded numbers here, the files themselves with `data`."""

import json
from pathlib import Path

import pytest
import torch
from _names import NAMES, scales

from unrolled.sbml import models
from unrolled.sbml.analysis import conserved
from unrolled.sbml.expression import Number
from unrolled.studies._sbml import F1

F64 = torch.float64
RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
NETWORKS = [name for name, number in models.PAPER.items() if number is not None]
D = {
    "tyson1999": 3, "weimann2004": 7, "almeida2019": 8, "leloup1999": 10, "tyson1991": 4, "gardner1998": 5, "gerard2010": 8,
    "chickarmane2006": 12, "chickarmane2008": 6, "zatorsky2006": 3, "gardner2000": 3, "liebal2012": 4, "markevich2004": 5,
    "kholodenko2000": 8, "lorenz": 3,
}  # fmt: skip
"""Language-game fact sheet, A4."""


def test_dimensions():
    assert {name: len(models.named(name).species) for name in models.PAPER} == D


@pytest.mark.parametrize("name", list(F1))
def test_f1(name):
    model = models.named(name)
    for state, expected in F1[name]:
        rate = dict(zip(model.species, model.rate(0.0, model.initial_state(**state))[0].tolist()))
        for species, value in expected.items():
            assert rate[species] == pytest.approx(value, rel=1e-6, abs=1e-9), species


@pytest.mark.parametrize("name", NETWORKS)
def test_rates_equal_recorded_ones(name):
    """libroadrunner 2.10.0 on the BioModels file, two random states each."""
    model = models.named(name)
    for row in RECORDED[name]:
        rate = model.rate(0.0, torch.tensor(row["x"], dtype=F64)[None])[0].tolist()
        for species, mine, theirs in zip(model.species, rate, row["rate"]):
            if theirs is not None:
                assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-12), species


def test_gardner_as_the_paper_has_it():
    x = models.gardner2000().initial_state(LacI=20.0, TetR=3.0)
    assert models.gardner2000().rate(0.0, x)[0, 1].item() == pytest.approx(-2.2571429, rel=1e-7)
    assert models.gardner2000(paper_compat=True).rate(0.0, x)[0, 1].item() == pytest.approx(
        -2.9612712, rel=1e-7
    )


@pytest.mark.parametrize("name", [*models.PAPER, *models.CLASSICS])
def test_every_network_is_finite_differentiable_and_batched(name):
    model = models.named(name)
    x = (scales(model) * torch.rand(5, len(model.species), dtype=F64) + 0.1).requires_grad_()
    rate = model.rate(0.0, x)
    assert rate.isfinite().all()
    assert torch.equal(rate[3], model.rate(0.0, x[3:4])[0])
    (slope,) = torch.autograd.grad(rate.sum(), x)
    assert slope.isfinite().all()
    constant = [i for i, state in enumerate(model.network.states) if state.rate == Number(0.0)]
    assert not rate[:, constant].any()


@pytest.mark.parametrize("name", [*models.PAPER, *models.CLASSICS])
def test_conserved_totals_are_conserved(name):
    model = models.named(name)
    x = scales(model) * torch.rand(64, len(model.species), dtype=F64) + 0.01
    rate = model.rate(0.0, x)
    for law in conserved(model):
        weights = torch.tensor([law.weights.get(s, 0) for s in model.species], dtype=F64)
        assert (rate @ weights).abs().max() <= 1e-12 * rate.abs().max()


def test_totals_of_the_paper():
    assert [str(law) for law in conserved(models.kholodenko2000())] == [
        "MKKK + MKKK_P = 100",
        "MKK + MKK_P + MKK_PP = 300",
        "MAPK + MAPK_P + MAPK_PP = 300",
    ]
    assert [str(law) for law in conserved(models.markevich2004())] == ["M + Mp + Mpp = 500"]
    assert [law.weights for law in conserved(models.tyson1991())] == [{"u": 1, "z": 1, "v": -1}]


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"no shipped network 'tyson'; there are tyson1999, .*enzyme"):
        models.named("tyson")


@pytest.mark.data
@pytest.mark.parametrize("name", NETWORKS)
def test_rates_equal_those_of_the_file(name, biomodels):
    """Six random states, to 1e-6; they agree to 1e-13."""
    roadrunner = pytest.importorskip("roadrunner")
    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    model, number = models.named(name), models.PAPER[name]
    oracle = roadrunner.RoadRunner(str(biomodels / f"BIOMD{number:010d}.xml"))
    rng = torch.Generator().manual_seed(number)
    constant = [i for i, state in enumerate(model.network.states) if state.rate == Number(0.0)]
    for _ in range(6):
        x = scales(model) * 10 ** (2 * torch.rand(len(model.species), generator=rng, dtype=F64) - 1)
        x[constant] = model.initial_state()[0, constant]
        if name == "tyson1991":
            x[3] = x[1] + x[2]
        moving = [
            (i, NAMES.get(name, {}).get(s, s))
            for i, s in enumerate(model.species)
            if i not in constant and s != "z"
        ]
        for i, species in moving:
            oracle[species if name == "tyson1991" else f"[{species}]"] = float(x[i])
        rate = model.rate(0.0, x[None])[0]
        for i, species in moving:
            assert rate[i].item() == pytest.approx(oracle[f"{species}'"], rel=1e-6, abs=1e-9), species
