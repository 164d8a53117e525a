"""What elements of SBML mean, on models small enough to know the answer."""

import math as m

import pytest
import torch
from sbml_text import ci, compartment, lists, math, parameter, reaction, reference, sbml, species, times

from unrolled.sbml import SBMLError, UnsupportedError, load

pytest.importorskip("libsbml")

F64 = torch.float64
C = [compartment(size=2)]
CSYMBOL = "<csymbol encoding='text' definitionURL='http://www.sbml.org/sbml/symbols/{0}'>{0}</csymbol>"
RATE_OF = f"<apply>{CSYMBOL.format('rateOf')}<ci>{{}}</ci></apply>"


def rule(kind, variable, body):
    return f'<{kind}Rule variable="{variable}">{math(body)}</{kind}Rule>'


def start(symbol, body):
    return f'<initialAssignment symbol="{symbol}">{math(body)}</initialAssignment>'


def rates(model, t=0.0, x=None, **values):
    x = model.initial_state(**values) if x is None else x
    return dict(zip(model.species, model.rate(t, x)[0].tolist()))


def read(model, which, name, values=None):
    begin = model.start(values or {})
    formula = getattr(model.network.quantities[name], which)
    return model.compiled.build("read", [formula])(torch.zeros((), dtype=F64), begin.x, begin.p)[0, 0].item()


def one(law, more="", **kinds):
    """A -> B in a compartment of size 2."""
    groups = {
        "Compartments": C,
        "Species": [species("A", 6), species("B", 0)],
        "Parameters": [parameter("k", 0.5)],
    }
    return lists(
        **{**groups, **kinds}, Reactions=[reaction("r", reference("A"), reference("B", 3), law, more=more)]
    )


def test_a_symbol_is_a_concentration_and_a_law_moves_amounts():
    model = load(sbml(one(times("k", "A"))))
    assert model.holds == ("concentration", "concentration")
    assert model.initial_state().tolist() == [[3, 0]]
    assert rates(model) == {"A": -0.75, "B": 2.25}
    assert (read(model, "value", "A"), read(model, "amount", "A"), read(model, "value", "r")) == (3, 6, 1.5)


def test_only_substance_units_make_it_an_amount():
    model = load(sbml(one(times("k", "A"), Species=[species("A", 6, hosu="true"), species("B", 0)])))
    assert model.holds == ("amount", "concentration")
    assert rates(model) == {"A": -3, "B": 4.5}
    assert (read(model, "value", "A"), read(model, "amount", "A")) == (3, 6)


def test_an_initial_concentration_of_an_amount():
    given = [species("A", 3, hosu="true", kind="Concentration"), species("B", 1, kind="Concentration")]
    assert load(sbml(one(times("k", "A"), Species=given))).initial_state().tolist() == [[6, 1]]


def test_boundary_and_constant_species_are_not_consumed():
    given = [species("A", 6, boundary="true"), species("B", 0)]
    assert rates(load(sbml(one(times("k", "A"), Species=given)))) == {"A": 0, "B": 2.25}
    given = [species("A", 6, boundary="true", constant="true"), species("B", 0)]
    assert rates(load(sbml(one(times("k", "A"), Species=given)))) == {"A": 0, "B": 2.25}


def test_conversion_factors():
    given = [species("A", 6, more='conversionFactor="f"'), species("B", 0)]
    model = load(
        sbml(one(times("k", "A"), Species=given, Parameters=[parameter("k", 0.5), parameter("f", 10)]))
    )
    assert rates(model) == {"A": -7.5, "B": 2.25}


def test_local_parameters_shadow():
    law = times("k", "A")
    model = load(sbml(lists(Compartments=C, Species=[species("A", 6)], Parameters=[parameter("k", 0.5)], Reactions=[
        reaction("r", reference("A"), law=law, local='<localParameter id="k" value="7"/>'), reaction("s", reference("A"), law=law),
    ])))  # fmt: skip
    assert model.parameters["r.k"] == 7
    assert rates(model) == {"A": -(7 * 3 + 0.5 * 3) / 2}
    assert model.rate(0.0, model.initial_state(), {"r.k": 1.0}).item() == -(3 + 1.5) / 2


def test_rules_in_any_order():
    names = [parameter(n, None, "false") for n in "abcd"]
    rules = [
        rule("assignment", "a", f"<apply><plus/>{ci('b', 'c')}</apply>"), rule("assignment", "b", f"<apply><times/>{ci('c', 'c')}</apply>"),
        rule("assignment", "c", CSYMBOL.format("time")), rule("rate", "d", ci("a")),
    ]  # fmt: skip
    starts = [start("d", f"<apply><plus/><ci>k</ci>{ci('b')}</apply>")]
    model = load(sbml(lists(Parameters=[parameter("k", 4), *names], InitialAssignments=starts, Rules=rules)))
    assert model.species == ("d",)
    assert model.initial_state(k=5.0).tolist() == [[5.0]]
    assert rates(model, t=3.0) == {"d": 12}


def test_initial_assignments_follow_what_is_given():
    starts = [
        start("k2", f"<apply><times/><cn>2</cn>{ci('k')}</apply>"),
        start("A", f"<apply><times/>{ci('k2', 'k2')}</apply>"),
    ]
    text = lists(Compartments=C, Species=[species("A", 99), species("B", 0)], Parameters=[parameter("k", 0.5), parameter("k2", 77)],
                 InitialAssignments=starts, Reactions=[reaction("r", reference("A"), reference("B"), times("k2", "A"))])  # fmt: skip
    model = load(sbml(text))
    assert model.parameters == {"k": 0.5, "k2": 1.0, "c": 2.0}
    assert model.initial_state().tolist() == [[1, 0]]
    assert model.initial_state(batch=2, k=torch.tensor([1.0, 2.0])).tolist() == [[4, 0], [16, 0]]
    assert model.initial_state(k2=3.0).tolist() == [[9, 0]]
    assert model.rate(0.0, model.initial_state(), {"k": 1.0}).tolist() == [[-1, 1]]


def test_function_definitions_of_functions():
    body = "<lambda><bvar><ci>k</ci></bvar><bvar><ci>A</ci></bvar><apply><minus/><ci>k</ci><ci>A</ci></apply></lambda>"
    outer = "<lambda><bvar><ci>A</ci></bvar><apply><ci>f</ci><apply><ci>f</ci><ci>A</ci><cn>1</cn></apply><cn>10</cn></apply></lambda>"
    made = [
        f'<functionDefinition id="{n}">{math(b)}</functionDefinition>' for n, b in (("g", outer), ("f", body))
    ]
    model = load(sbml(lists(FunctionDefinitions=made) + one(math("<apply><ci>g</ci><ci>k</ci></apply>"))))
    assert rates(model) == {"A": (0.5 - 1 - 10) / -2, "B": 3 * (0.5 - 11) / 2}


def test_a_growing_compartment_dilutes():
    """V' = 1, nothing reacts: the amount stays and the concentration is n / V."""
    text = lists(Compartments=[compartment(size=2, constant="false")], Species=[species("A", 6), species("D", 4, hosu="true")],
                 Parameters=[parameter("k", 1)], Rules=[rule("rate", "c", ci("k"))])  # fmt: skip
    model = load(sbml(text))
    assert dict(zip(model.species, model.holds)) == {"A": "amount", "D": "amount", "c": "value"}
    assert rates(model) == {"A": 0, "D": 0, "c": 1}
    run = model.simulate(4.0, 3)
    torch.testing.assert_close(run.value("A"), 6 / torch.tensor([2.0, 4.0, 6.0], dtype=F64))
    torch.testing.assert_close(run.amount("A"), torch.full((3,), 6.0, dtype=F64))
    assert model.initial_state(A=1.0)[0, 0] == 2  # a concentration of 1 in a size of 2


def test_a_compartment_given_by_a_rule():
    text = lists(Compartments=[compartment(size=9, constant="false")], Species=[species("A", 6)],
                 Rules=[rule("assignment", "c", f"<apply><plus/><cn>2</cn>{CSYMBOL.format('time')}</apply>")],
                 Reactions=[reaction("r", reference("A"), law=times("A", "c"))])  # fmt: skip
    model = load(sbml(text))
    run = model.simulate(1.0, 2)
    assert run.amount("A")[-1].item() == pytest.approx(6 * m.exp(-1), rel=1e-5)
    assert run.value("A")[-1].item() == pytest.approx(2 * m.exp(-1), rel=1e-5)


def test_a_rate_rule_is_of_the_concentration_in_a_growing_compartment():
    text = lists(Compartments=[compartment(size=2, constant="false")], Species=[species("A", 6, boundary="true")], Parameters=[parameter("k", 1)],
                 Rules=[rule("rate", "c", ci("k")), rule("rate", "A", ci("k"))])  # fmt: skip
    run = load(sbml(text)).simulate(4.0, 3)
    torch.testing.assert_close(run.value("A"), torch.tensor([3.0, 5.0, 7.0], dtype=F64))
    torch.testing.assert_close(run.amount("A"), torch.tensor([6.0, 20.0, 42.0], dtype=F64))


def test_an_event_that_resizes_keeps_amounts():
    happens = f'<event useValuesFromTriggerTime="true"><trigger initialValue="true" persistent="true">{math("<apply><gt/>" + CSYMBOL.format("time") + "<cn>1</cn></apply>")}</trigger>'
    assign = "<listOfEventAssignments>{}</listOfEventAssignments></event>"
    size = f'<eventAssignment variable="c">{math("<cn>4</cn>")}</eventAssignment>'
    amount = f'<eventAssignment variable="B">{math("<cn>5</cn>")}</eventAssignment>'
    text = lists(Compartments=[compartment(size=2, constant="false")], Species=[species("A", 6), species("B", 2)],
                 Events=[happens + assign.format(size + amount)])  # fmt: skip
    run = load(sbml(text)).simulate(2.0, 5)
    assert run.value("A").tolist() == pytest.approx([3, 3, 3, 1.5, 1.5])
    # 5 in the old size of 2 is an amount of 10, which the new size of 4 dilutes (test suite, case 1779).
    assert run.amount("B").tolist() == pytest.approx([2, 2, 2, 10, 10])
    assert run.value("B").tolist() == pytest.approx([1, 1, 1, 2.5, 2.5])


def test_stoichiometry_that_changes():
    text = lists(Compartments=[compartment()], Species=[species("A", 0)], Parameters=[parameter("k", 1)],
                 Rules=[rule("assignment", "n", CSYMBOL.format("time"))],
                 Reactions=[reaction("r", "", reference("A", 1, "false", "n"), math(ci("k")))])  # fmt: skip
    model = load(sbml(text))
    assert rates(model, t=3.0) == {"A": 3}
    assert model.simulate(2.0, 3).value("A").tolist() == pytest.approx([0, 0.5, 2], abs=1e-9)


def test_a_species_on_both_sides():
    both = [reaction("r", reference("A", 2), reference("A", 5), times("c", "A"))]
    assert rates(load(sbml(lists(Compartments=C, Species=[species("A", 2)], Reactions=both)))) == {"A": 3}


def test_rate_of():
    text = lists(
        Compartments=[compartment(size=2, constant="false")], Species=[species("A", 6), species("D", 4, hosu="true")],
        Parameters=[parameter("k", 1), *(parameter(n, 0, "false") for n in ("a", "b", "d", "e", "z"))],
        Rules=[rule("rate", "c", "<cn>1</cn>"), *(rule("assignment", n, RATE_OF.format(of)) for n, of in zip("abde", "AcDk")),
               rule("rate", "z", RATE_OF.format("A"))],
        Reactions=[reaction("r", reference("A"), reference("D"), times("k", "A"))],
    )  # fmt: skip
    model = load(sbml(text))
    # A' = (n' - A V') / V = (-3 - 3) / 2
    assert [read(model, "value", n) for n in "abde"] == [-3, 1, 3, 0]
    assert rates(model)["z"] == -3
    with pytest.raises(UnsupportedError, match=r"rateOf\(a\) is not supported: an assignment rule"):
        load(sbml(text.replace(RATE_OF.format("k"), RATE_OF.format("a"))))
    circle = text.replace(rule("rate", "z", RATE_OF.format("A")), rule("rate", "z", RATE_OF.format("z")))
    with pytest.raises(SBMLError, match="circle"):
        load(sbml(circle))


def test_avogadro_and_uncommon_mathematics():
    law = math(
        f"<apply><times/>{CSYMBOL.format('avogadro')}<cn type='e-notation'>1<sep/>-23</cn><cn type='rational'>1<sep/>2</cn></apply>"
    )
    assert rates(load(sbml(one(law))))["A"] == pytest.approx(-6.02214179 / 4)
    chain = math("<apply><lt/><cn>1</cn><ci>k</ci><cn>2</cn></apply>")
    assert rates(load(sbml(one(chain))), k=1.0)["A"] == 0
    assert load(sbml(one(chain))).rate(0.0, torch.ones(1, 2, dtype=F64), {"k": 1.5}).tolist() == [[-0.5, 1.5]]


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (one(times("k", "A"), Rules=[rule("assignment", "A", ci("k"))]), "assignment rule computes A, so reactions cannot change it"),
        (one(times("k", "A"), Rules=[rule("rate", "A", ci("k"))]), "A has a rate rule, so reactions cannot change it"),
        (one(times("k", "A"), Rules=[rule("rate", "k", ci("A"))]), "rate rule of k: k is declared constant"),
        (one(times("k", "A"), Rules=[rule("rate", "nobody", ci("A"))]), "the model has no 'nobody'"),
        (one(times("k", "A"), InitialAssignments=[start("nobody", ci("A"))]), "the model has no 'nobody'"),
        (one(times("k", "A"), InitialAssignments=[start("k", ci("k"))]), "circle: k -> k"),
    ],
)  # fmt: skip
def test_models_that_break_the_rules(inside, message):
    with pytest.raises(SBMLError, match=message):
        load(sbml(inside))


# --- older levels -----------------------------------------------------------------------------------------------------

LEVEL_1 = """<sbml xmlns="http://www.sbml.org/sbml/level1" level="1" version="2"><model name="old">
<listOfCompartments><compartment name="c" volume="2"/></listOfCompartments>
<listOfSpecies><species name="A" compartment="c" initialAmount="6"/><species name="B" compartment="c" initialAmount="0"/>
<species name="X" compartment="c" initialAmount="1" boundaryCondition="true"/></listOfSpecies>
<listOfParameters><parameter name="k" value="0.5"/><parameter name="q"/></listOfParameters>
<listOfRules><parameterRule name="q" formula="pow(k, 2) + log(exp(1))" type="scalar"/></listOfRules>
<listOfReactions><reaction name="r"><listOfReactants><speciesReference species="A" stoichiometry="1"/>
<speciesReference species="X"/></listOfReactants><listOfProducts><speciesReference species="B" stoichiometry="3" denominator="2"/>
</listOfProducts><kineticLaw formula="j * q * A"><listOfParameters><parameter name="j" value="4"/></listOfParameters></kineticLaw>
</reaction></listOfReactions></model></sbml>"""


def test_level_1():
    model = load(LEVEL_1)
    v = 4 * (0.25 + 1) * 3
    assert model.name == "old"
    assert rates(model) == {"A": -v / 2, "B": 1.5 * v / 2, "X": 0}


def test_level_2_stoichiometry_math():
    stated = f'<speciesReference species="B"><stoichiometryMath>{math("<apply><times/><ci>k</ci><cn>8</cn></apply>")}</stoichiometryMath></speciesReference>'
    text = (
        '<listOfCompartments><compartment id="c" size="2"/></listOfCompartments><listOfSpecies>'
        '<species id="A" compartment="c" initialAmount="6"/><species id="B" compartment="c" initialConcentration="1"/></listOfSpecies>'
        '<listOfParameters><parameter id="k" value="0.5"/></listOfParameters><listOfReactions><reaction id="r"><listOfReactants>'
        f'<speciesReference species="A"/></listOfReactants><listOfProducts>{stated}</listOfProducts>'
        f'<kineticLaw>{times("k", "A")}</kineticLaw></reaction></listOfReactions>'
    )  # fmt: skip
    model = load(sbml(text, level=2, version=4))
    assert rates(model) == {"A": -0.75, "B": 3}
