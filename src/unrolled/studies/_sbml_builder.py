"""Small SBML documents from a few words: what the conformance study is made of.

Formulas are infix (SBML Level 3 syntax). Rules read `"x = 2 * y"` (assignment) and `"x' = -k * x"` (rate); reactions read
`"J: 2 A + B -> C : k * A * B"`, and `{n} A` gives a stoichiometry the id n.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unrolled.core import require

Reaction = str | tuple[str, Mapping[str, float]]


def sbml(
    *,
    level: tuple[int, int] = (3, 2),
    compartments: Mapping[str, float] | None = None,
    species: Mapping[str, Any] | None = None,
    parameters: Mapping[str, float] | None = None,
    functions: Mapping[str, str] | None = None,
    initial: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
    reactions: Sequence[Reaction] = (),
    events: Sequence[Mapping[str, Any]] = (),
) -> str:
    """An SBML document as text.

    Args:
        level: level and version.
        compartments: id -> size; one of size 1 called `cell` by default.
        species: id -> initial concentration, or a mapping with `concentration` or `amount`, `compartment`, `boundary`,
            `constant`, `substance` (its id means an amount) and `conversion` (a parameter).
        parameters: id -> value. What a rule or an event sets is made variable.
        functions: id -> `"lambda(a, b, a + b)"`.
        initial: id -> formula of its initial assignment.
        rules: as above.
        reactions: as above; with local parameters, a pair.
        events: mappings with `at` (trigger) and `do` (id -> formula), and optionally `delay`, `priority`, `persistent`,
            `initial` (the trigger's value before t = 0) and `from_trigger` (values of the moment it fired).

    Raises:
        ImportError: python-libsbml is not installed (extra `sbml`).
        ValueError: a formula or reaction that cannot be read.
    """
    libsbml = require("libsbml", extra="sbml")
    document = libsbml.SBMLDocument(*level)
    model = document.createModel()
    model.setId("model")
    ruled = {_left(rule)[0] for rule in rules} | {id for event in events for id in event["do"]}
    for id, size in (compartments or {"cell": 1.0}).items():
        made = model.createCompartment()
        made.setId(id)
        made.setSize(size)
        if level[0] > 1:
            made.setConstant(id not in ruled)
            made.setSpatialDimensions(3)
    first = next(iter(compartments or {"cell": 1.0}))
    for id, about in (species or {}).items():
        _species(
            model,
            id,
            about if isinstance(about, Mapping) else {"concentration": about},
            first,
            level,
            compartments,
        )
    for id, value in (parameters or {}).items():
        made = model.createParameter()
        made.setId(id)
        made.setValue(value)
        if level[0] > 1:
            made.setConstant(id not in ruled)
    for id, formula in (functions or {}).items():
        made = model.createFunctionDefinition()
        made.setId(id)
        made.setMath(_math(libsbml, formula))
    for id, formula in (initial or {}).items():
        made = model.createInitialAssignment()
        made.setSymbol(id)
        made.setMath(_math(libsbml, formula))
    for rule in rules:
        variable, kind, formula = _left(rule)
        made = model.createRateRule() if kind == "'" else model.createAssignmentRule()
        made.setVariable(variable)
        made.setMath(_math(libsbml, formula))
    for reaction in reactions:
        _reaction(libsbml, model, *((reaction, {}) if isinstance(reaction, str) else reaction), ruled, level)
    for k, event in enumerate(events):
        _event(libsbml, model, f"event{k}", event, level)
    return libsbml.writeSBMLToString(document)


def _left(rule: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"\s*(\w+)\s*('?)\s*=(.*)", rule)
    if match is None:
        raise ValueError(f'a rule reads "x = ..." or "x\' = ...", got {rule!r}')
    return match[1], match[2], match[3]


def _math(libsbml: Any, formula: str) -> Any:
    math = libsbml.parseL3Formula(formula)
    if math is None:
        raise ValueError(f"{formula!r} cannot be read: {libsbml.getLastParseL3Error()}")
    return math


def _species(
    model: Any,
    id: str,
    about: Mapping[str, Any],
    first: str,
    level: tuple[int, int],
    compartments: Mapping[str, float] | None,
) -> None:
    made = model.createSpecies()
    made.setId(id)
    place = about.get("compartment", first)
    made.setCompartment(place)
    made.setBoundaryCondition(about.get("boundary", False))
    if "amount" in about:
        made.setInitialAmount(about["amount"])
    elif level[0] == 1:
        made.setInitialAmount(about["concentration"] * (compartments or {place: 1.0})[place])
    elif "concentration" in about:
        made.setInitialConcentration(about["concentration"])
    if level[0] > 1:
        made.setConstant(about.get("constant", False))
        made.setHasOnlySubstanceUnits(about.get("substance", False))
    if "conversion" in about:
        made.setConversionFactor(about["conversion"])


def _reaction(
    libsbml: Any, model: Any, text: str, local: Mapping[str, float], ruled: set[str], level: tuple[int, int]
) -> None:
    match = re.fullmatch(r"\s*(\w+)\s*:(.*?)->(.*?):(.*)", text)
    if match is None:
        raise ValueError(f'a reaction reads "J: A -> B : rate", got {text!r}')
    made = model.createReaction()
    made.setId(match[1])
    made.setReversible(False)
    if level[0] == 3 and level[1] == 1:
        made.setFast(False)
    met: set[str] = set()
    for side, create in ((match[2], made.createReactant), (match[3], made.createProduct)):
        for term in filter(None, map(str.strip, side.split("+"))):
            part = re.fullmatch(r"(?:\{(\w+)\}|([\d.]+))?\s*([A-Za-z_]\w*)", term)
            if part is None:
                raise ValueError(f"{term!r} in reaction {match[1]!r} is no species with a stoichiometry")
            reference = create()
            reference.setSpecies(part[3])
            met.add(part[3])
            if part[1] is None:
                reference.setStoichiometry(float(part[2] or 1))
            else:
                reference.setId(part[1])
            if level[0] == 3:
                reference.setConstant(part[1] is None or part[1] not in ruled)
    law = made.createKineticLaw()
    law.setMath(_math(libsbml, match[4]))
    for id, value in local.items():
        parameter = law.createLocalParameter() if level[0] == 3 else law.createParameter()
        parameter.setId(id)
        parameter.setValue(value)
    if level[0] > 1:
        species = {model.getSpecies(k).getId() for k in range(model.getNumSpecies())}
        for id in sorted((set(re.findall(r"[A-Za-z_]\w*", match[4])) & species) - met - set(local)):
            made.createModifier().setSpecies(id)


def _event(libsbml: Any, model: Any, id: str, about: Mapping[str, Any], level: tuple[int, int]) -> None:
    made = model.createEvent()
    made.setId(id)
    trigger = made.createTrigger()
    trigger.setMath(_math(libsbml, about["at"]))
    if level[0] == 3:
        trigger.setPersistent(about.get("persistent", True))
        trigger.setInitialValue(about.get("initial", True))
    if level >= (2, 4):
        made.setUseValuesFromTriggerTime(about.get("from_trigger", True))
    for name, create in (("delay", made.createDelay), ("priority", made.createPriority)):
        if name in about:
            create().setMath(_math(libsbml, about[name]))
    for variable, formula in about["do"].items():
        assignment = made.createEventAssignment()
        assignment.setVariable(variable)
        assignment.setMath(_math(libsbml, formula))
