import math
import shutil

import pytest
import torch

from unrolled.core import Trajectory
from unrolled.sbml import models
from unrolled.sbml.model import Model
from unrolled.sbml.simulate import simulate

F64 = torch.float64
compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def decay(**options):
    return Model.from_equations(
        {"A": 2.0, "B": 0.0}, {"k": 0.5}, {"A": "-k * A", "B": "k * A"}, rules={"total": "A + B"}, **options
    )


def test_one_run_is_a_trajectory_that_reads_any_quantity(tmp_path):
    found = decay().simulate(4.0, 9, rtol=1e-9, atol=1e-12)
    assert isinstance(found, Trajectory)
    assert found.t.tolist() == [0.5 * i for i in range(9)]
    assert (found.value("A") - 2 * torch.exp(-0.5 * found.t)).abs().max() < 1e-8
    assert found.value("total").shape == (9,)
    assert (found.value("total") - 2).abs().max() < 1e-9
    assert found.value("k").tolist() == [0.5] * 9
    assert (found.amount("A") - found.value("A")).abs().max() == 0
    with pytest.raises(KeyError, match="it has"):
        found.value("C")
    with pytest.raises(ValueError, match="only species"):
        found.amount("k")
    assert found.stop.ok
    assert found.delta("x").shape == (8, 2)
    back = Trajectory.load(found.save(tmp_path / "run.safetensors"))
    assert torch.equal(back["x"], found["x"])


def test_batches_of_parameters_and_starts():
    k = torch.tensor([0.1, 1.0, 3.0], dtype=F64)
    found = decay().simulate(2.0, 5, parameters={"k": k}, x0={"A": [1.0, 2.0, 3.0]}, rtol=1e-9, atol=1e-12)
    exact = torch.tensor([1.0, 2.0, 3.0]) * torch.exp(-found.t[:, None] * k)
    assert found.value("A").shape == (5, 3)
    assert (found.value("A") - exact).abs().max() < 1e-8
    assert torch.equal(found.value("k"), k.expand(5, 3))
    rows = decay().simulate(2.0, 5, parameters={"k": k}, x0=torch.tensor([[1.0, 0.0]], dtype=F64))
    assert rows.value("B").shape == (5, 3)
    assert decay().simulate(2.0, 5, x0=torch.tensor([1.0, 0.0], dtype=F64)).value("A").shape == (5,)
    assert decay().simulate(2.0, 5, parameters=torch.tensor([[0.5]], dtype=F64)).value("A").shape == (5, 1)


def test_arguments_that_make_no_sense():
    model = decay()
    for t_end in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="t_end"):
            model.simulate(t_end, 3)
    for points in (1, 2.5):
        with pytest.raises(ValueError, match="points"):
            model.simulate(1.0, points)
    with pytest.raises(ValueError, match="x0 has shape"):
        model.simulate(1.0, 3, x0=torch.ones(4, 3))
    with pytest.raises(ValueError, match="rows"):
        model.simulate(1.0, 3, x0=torch.ones(4, 2, dtype=F64), parameters={"k": [1.0, 2.0]})
    with pytest.raises(ValueError, match="give it once"):
        model.simulate(1.0, 3, x0={"k": 1.0}, parameters={"k": 1.0})
    with pytest.raises(KeyError, match="has no 'q'"):
        model.simulate(1.0, 3, parameters={"q": 1.0})
    with pytest.raises(ValueError, match="method"):
        model.simulate(1.0, 3, method="lsoda")
    with pytest.raises(ValueError, match="cannot be fused"):
        model.simulate(1.0, 3, method="rodas5p", fused=True)


@compiler
def test_fused_and_plain_agree_and_say_which_they_are():
    model = models.brusselator()
    x0 = model.initial_state(64) + torch.rand(
        64, len(model.species), dtype=F64, generator=torch.Generator().manual_seed(0)
    )
    fused, plain = simulate(model, 5.0, 6, x0=x0), simulate(model, 5.0, 6, x0=x0, fused=False)
    assert (fused.meta["path"], plain.meta["path"]) == ("fused", "plain")
    assert torch.equal(fused.steps, plain.steps)
    assert (fused["x"] - plain["x"]).abs().max() < 1e-10
    assert fused.meta["trajectories_per_second"] > 0
    assert simulate(model, 5.0, 6).meta["path"] == "plain"  # one sample


def test_gradients_of_parameters_and_starts_against_closed_forms():
    model = decay()
    k = torch.tensor([0.3, 0.7], dtype=F64, requires_grad=True)
    found = model.simulate(2.0, 3, parameters={"k": k}, rtol=1e-9, atol=1e-12)
    (slope,) = torch.autograd.grad(found.value("A")[-1].sum(), k)
    assert (slope + 2.0 * 2.0 * torch.exp(-2.0 * k)).abs().max() < 1e-7
    x0 = torch.tensor([2.0, 0.0], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(model.simulate(2.0, 3, x0=x0, rtol=1e-9, atol=1e-12).value("B")[-1], x0)
    assert (slope - torch.tensor([1 - math.exp(-1.0), 1.0], dtype=F64)).abs().max() < 1e-7
    assert not model.simulate(2.0, 3, x0=x0, grad=False)["x"].requires_grad
    assert not model.simulate(2.0, 3)["x"].requires_grad


def test_gradients_through_events_are_refused_not_wrong():
    model = Model.from_equations(
        {"A": 1.0}, {"k": 1.0}, {"A": "-k * A"}, events={"e": {"trigger": "A < 0.5", "assign": {"A": "1"}}}
    )
    k = torch.tensor(1.0, dtype=F64, requires_grad=True)
    with pytest.raises(ValueError, match="has events, and gradients do not pass"):
        model.simulate(2.0, 3, parameters={"k": k})
    assert model.simulate(2.0, 3, parameters={"k": k}, grad=False).ok.all()


def test_gradients_where_the_rate_jumps_in_time():
    model = Model.from_equations({"A": 0.0}, {"k": 1.0}, {"A": "piecewise(k, time >= 1, 0)"})
    k = torch.tensor(3.0, dtype=F64, requires_grad=True)
    found = model.simulate(4.0, 5, parameters={"k": k})
    (slope,) = torch.autograd.grad(found.value("A")[-1], k)
    assert abs(float(slope) - 3.0) < 1e-9


@pytest.mark.parametrize("batch", [1, pytest.param(64, marks=compiler)])
def test_a_blow_up_names_species_and_time(batch):
    model = Model.from_equations({"calm": 1.0, "x": 1.0}, {"k": 2.0}, {"calm": "-calm", "x": "k * x^2"})
    with pytest.warns(RuntimeWarning, match=r"1 of|64 of"):
        found = model.simulate(1.0, 5, parameters={"k": torch.full((batch,), 2.0, dtype=F64)})
    assert set(found.where) == {"x"}
    assert (found.failed_at - 0.5).abs().max() < 1e-4
    assert not found.stop.ok
    assert "0.5" in found.stop.hint
    assert found["x"][2:].isnan().all()
    assert (found.value("x")[1] - 2).abs().max() < 1e-4


def test_stiff_samples_switch_and_are_counted():
    model = models.robertson()
    found = model.simulate(40.0, 3, rtol=1e-7, atol=1e-12)
    assert found.meta["stiff_samples"] == 1
    assert 0 < found.stiff_from.item() < 40
    assert (
        found["x"][-1] - torch.tensor([0.7158270687, 9.185534764e-06, 0.2841637457], dtype=F64)
    ).abs().max() < 1e-7
    assert model.simulate(40.0, 3, method="rodas5p").stiff_from.item() == 0


@pytest.mark.parametrize(
    ("name", "t_end", "expected"),
    [
        ("tyson1999", 48, {"M": 0.55942872, "P": 1.7246705}),
        ("weimann2004", 48, {"y1": 0.29618649, "y7": 1.4417291}),
        ("liebal2012", 100, {"sigb": 224475.95, "lacz": 15.169405, "x": 137.17867}),
        ("chickarmane2006", 50, {"OCT4": 7.2581389, "NANOG": 0.0028838805, "OCT4_SOX2": 0.52670047}),
        ("kholodenko2000", 3000, {"MKKK": 55.555524, "MAPK_PP": 36.964673}),
        ("gardner2000", 48, {"LacI": 155.76341, "TetR": 0.099513019}),
    ],
)  # fmt: skip
def test_trajectories_of_the_shipped_networks(name, t_end, expected):
    # Language-game fact sheet, F2: from SBML defaults, relative 1e-5.
    model = getattr(models, name)()
    found = model.simulate(t_end, 2, rtol=1e-7, atol=1e-10)
    for species, value in expected.items():
        assert float(found.value(species)[-1]) == pytest.approx(value, rel=1e-5), species


def test_conserved_totals_stay():
    found = models.kholodenko2000().simulate(500, 11)
    totals = [
        found.value("MKKK") + found.value("MKKK_P"),
        sum(found.value(n) for n in ("MKK", "MKK_P", "MKK_PP")),
    ]
    for total, expected in zip(totals, (100, 300)):
        assert (total - expected).abs().max() < 1e-9
