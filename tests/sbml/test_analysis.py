"""Analyses against closed forms and on awkward networks."""

import math

import pytest
import torch

from unrolled.sbml import Model, analysis, models
from unrolled.sbml.analysis.conservation import combination, laws

F64 = torch.float64


def test_laws_are_exact_whole_and_non_negative_where_they_can_be():
    found = laws([{"A": -1, "B": 1}, {"B": -2, "C": 1}], ["A", "B", "C", "D"])
    assert [combination(law) for law in found] == ["D", "A + B + 2 C"]
    assert laws([{"A": -1, "B": -1}], ["A", "B"]) == [{"A": 1, "B": -1}]
    assert laws([{"A": -0.1, "B": 0.3}], ["A", "B"]) == [{"A": 3, "B": 1}]
    assert laws([{"A": -1}, {"B": 1}], ["A", "B"]) == []


def test_a_rate_rule_takes_part_in_no_law():
    model = Model.from_equations({"A": 1.0, "B": 0.0}, {}, {"A": "-A", "B": "A"})
    assert analysis.conserved(model) == []


def test_a_law_that_an_event_breaks_says_so():
    model = Model.from_equations(
        {"A": 1.0, "B": 0.0}, reactions={"v": "A -> B : A"}, events={"dose": {"trigger": "time > 1", "assign": {"A": "A + 1"}}}
    )  # fmt: skip
    assert str(model.conserved[0]) == "A + B = 1 (between events dose)"


def test_steady_states_keep_the_totals_of_the_initial_state():
    for total in (1.0, 7.0):
        found = analysis.steady_states(models.enzyme(), x0={"S": total})
        assert [s.kind for s in found] == ["stable node"]
        assert found[0]["P"] == pytest.approx(total)
        assert found[0].residual < 1e-12


def test_a_line_of_steady_states_is_said_to_be_one():
    found = analysis.steady_states(models.sir())
    assert any("not isolated" in note for note in found.notes)
    assert sum(s.kind == "marginal" for s in found) == 1


def test_nothing_at_rest_is_said():
    found = analysis.steady_states(Model.from_equations({"x": 1.0}, {}, {"x": "1 + x^2"}))
    assert len(found) == 0
    assert any("nothing converged" in note for note in found.notes)


def test_eigenvalues_are_those_of_the_jacobian():
    state = analysis.steady_states(models.brusselator())[0]
    values = sorted(state.eigenvalues.tolist(), key=lambda z: z.imag)  # lambda^2 - lambda + 1 = 0
    assert values == pytest.approx([complex(0.5, -math.sqrt(0.75)), complex(0.5, math.sqrt(0.75))])


def test_scans_are_grids_or_zipped_and_follow_initial_values():
    model = Model.from_equations({"S": 1.0}, {"k": 1.0}, {"S": "-k * S"})
    made = analysis.scan(model, {"k": [0.5, 1.0, 2.0], "S": [1.0, 3.0]}, t_end=1, points=3, rtol=1e-9)
    exact = torch.tensor([1.0, 3.0], dtype=F64) * torch.exp(-torch.tensor([[0.5], [1.0], [2.0]], dtype=F64))
    torch.testing.assert_close(made.end("S"), exact, rtol=1e-7, atol=0)
    assert analysis.scan(model, {"k": [1.0, 2.0], "S": [1.0, 3.0]}, 1, 3, grid=False).shape == (2,)
    with pytest.raises(ValueError, match="one length"):
        analysis.scan(model, {"k": [1.0], "S": [1.0, 3.0]}, 1, grid=False)
    with pytest.raises(KeyError, match="no parameter or species 'q'"):
        analysis.scan(model, {"q": [1.0]}, 1)
    with pytest.raises(ValueError, match="nothing to scan over"):
        analysis.scan(model, {}, 1)


def test_sensitivities_of_a_closed_form():
    model = Model.from_equations({"S": 1.0}, {"k": 0.5, "s": 1.0}, {"S": "s - k * S"})
    found = analysis.sensitivities(model, t_end=1.5, of="S")
    k, s, t = 0.5, 1.0, 1.5
    decay = math.exp(-k * t)
    by_k = -t * decay * (1 - s / k) - s / k**2 * (1 - decay)
    by_s = (1 - decay) / k
    assert found["gradient"][:, 0].tolist() == pytest.approx([by_k, by_s], rel=1e-6)
    assert found["disagreement"] < 1e-5


def test_starts_keep_every_total():
    from unrolled.sbml.analysis._field import Field

    for name in ("kholodenko2000", "tyson1991", "enzyme"):
        field = Field(models.named(name))
        x = field.starts(50, 0.0, 0)
        assert (x >= 0).all()
        assert (x @ field.W.T - field.totals).abs().max() <= 1e-8 * field.scale.max()
        assert len(x.unique(dim=0)) > 40 or name == "tyson1991"
