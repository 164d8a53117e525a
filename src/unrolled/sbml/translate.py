"""From libsbml's model to a `Network`: what every element of SBML Levels 1 to 3 means for states, rates and initial values.

The decisions, in one place:

* A species' symbol in formulas is its concentration, or its amount with hasOnlySubstanceUnits (or, in Level 2, in a
  compartment without dimensions). Its column of x holds the same, except where the compartment's size changes: there it holds the amount,
  because reactions and changes of size then need no derivative of the size.
* d(amount)/dt = sum of conversion factor * stoichiometry * rate over the reactions, unless the species is a boundary
  species or constant.
* Everything with a rate rule or set by an event is a state; everything with an assignment rule is a rule; the rest is a
  parameter. Initial assignments replace initial values.

One long file, because each element's meaning depends on what the others do to the same name.
"""

from typing import Any

from unrolled.core import require
from unrolled.sbml.errors import SBMLError, UnsupportedError
from unrolled.sbml.expression import (
    NAN,
    Apply,
    Expression,
    Number,
    Symbol,
    is_logical,
    product,
    symbols,
    total,
    transform,
    walk,
)
from unrolled.sbml.ir import (
    Assignment,
    Event,
    Network,
    Parameter,
    Quantity,
    Reaction,
    State,
    in_order,
)
from unrolled.sbml.mathml import Reader


def translate(model: Any, name: str = "") -> Network:
    """A `Network` of libsbml's `Model`.

    Args:
        model: libsbml's.
        name: of the network where the model has no id.

    Raises:
        SBMLError: the model breaks the rules of SBML; the message names the element.
        UnsupportedError: correct, but not computed here: algebraic rules, fast reactions, delay(), reactions without a
            kinetic law.
    """
    return _Translation(model, name).network()


def _list(model: Any, kind: str) -> list[Any]:
    return [
        getattr(model, f"get{kind}")(i)
        for i in range(getattr(model, f"getNum{kind}" + "s" * (kind != "Species"))())
    ]


class _Translation:
    def __init__(self, model: Any, name: str) -> None:
        libsbml = require("libsbml", extra="sbml")
        self.model, self.level, self.version = model, model.getLevel(), model.getVersion()
        self.name = model.getId() or name or "model"
        self.notes: list[str] = []
        self.compartments = {c.getId(): c for c in _list(model, "Compartment")}
        self.species = {s.getId(): s for s in _list(model, "Species")}
        self.parameters = {p.getId(): p for p in _list(model, "Parameter")}
        self.reactions = {r.getId(): r for r in _list(model, "Reaction")}
        definitions = {f.getId(): f for f in _list(model, "FunctionDefinition")}
        self.reader = Reader(libsbml, definitions)
        self.references = self._references()
        self._unique(definitions)
        self.assigned: dict[str, Expression] = {}
        self.rate_rules: dict[str, Expression] = {}
        self.starts: dict[str, Expression] = {}
        self._rules()
        self.locals: list[Parameter] = []
        self.events = self._event_elements()
        self.event_targets = {
            a.getVariable() for e in self.events for a in _list(e, "EventAssignment") if a.isSetMath()
        }
        for target in self.event_targets:
            self._settable(target, f"an event assignment to {target}")
            if target in self.assigned:
                raise SBMLError(f"event assignment to {target}, which an assignment rule computes")
        for target in self.starts:
            if target in self.assigned:
                raise SBMLError(f"initial assignment of {target}, which an assignment rule computes")

    # --- elements ----------------------------------------------------------------------------------------------------

    def _references(self) -> dict[str, Any]:
        """Species references with an identifier; SBML Level 3 lets formulas name them."""
        found: dict[str, Any] = {}
        for reaction in self.reactions.values():
            for side in ("Reactant", "Product"):
                for reference in _list(reaction, side):
                    if reference.getId():
                        found[reference.getId()] = reference
        return found

    def _unique(self, definitions: dict[str, Any]) -> None:
        seen: dict[str, str] = {}
        model = self.model
        counts = {
            "function": [f.getId() for f in _list(model, "FunctionDefinition")],
            "compartment": [c.getId() for c in _list(model, "Compartment")],
            "species": [s.getId() for s in _list(model, "Species")],
            "parameter": [p.getId() for p in _list(model, "Parameter")],
            "reaction": [r.getId() for r in _list(model, "Reaction")],
            "species reference": [
                s.getId() for r in _list(model, "Reaction") for side in ("Reactant", "Product") for s in _list(r, side) if s.getId()
            ],
        }  # fmt: skip
        for kind, names in counts.items():
            for one in names:
                if not one:
                    raise SBMLError(f"a {kind} has no identifier")
                if one in seen:
                    raise SBMLError(f"the identifier {one!r} belongs to a {seen[one]} and to another {kind}")
                seen[one] = kind

    def _settable(self, target: str, where: str) -> None:
        found = [
            names
            for names in (self.compartments, self.species, self.parameters, self.references)
            if target in names
        ]
        if not found:
            raise SBMLError(f"{where}: the model has no {target!r}")
        element = found[0][target]
        if (
            self.level > 1
            and hasattr(element, "getConstant")
            and element.isSetConstant()
            and element.getConstant()
        ):
            raise SBMLError(f"{where}: {target} is declared constant")

    def _rules(self) -> None:
        for rule in _list(self.model, "Rule"):
            if rule.isAlgebraic():
                raise UnsupportedError(
                    f"the algebraic rule '{_formula(rule)}' is not supported: solve it for one variable and write an assignment rule"
                )
            target = rule.getVariable()
            kind = "assignment rule" if rule.isAssignment() else "rate rule"
            if not rule.isSetMath():
                self.notes.append(f"the {kind} of {target} has no formula and is left out")
                continue
            where = f"{kind} of {target}"
            self._settable(target, where)
            if target in self.assigned or target in self.rate_rules:
                raise SBMLError(f"{target} has two rules")
            (self.assigned if rule.isAssignment() else self.rate_rules)[target] = self.reader.read(
                rule.getMath(), where
            )
        for start in _list(self.model, "InitialAssignment"):
            target = start.getSymbol()
            if not start.isSetMath():
                self.notes.append(f"the initial assignment of {target} has no formula and is left out")
                continue
            if target in self.starts:
                raise SBMLError(f"{target} has two initial assignments")
            if not any(
                target in names
                for names in (self.compartments, self.species, self.parameters, self.references)
            ):
                raise SBMLError(f"initial assignment of {target}: the model has no {target!r}")
            self.starts[target] = self.reader.read(start.getMath(), f"initial assignment of {target}")

    def _event_elements(self) -> list[Any]:
        kept = []
        for event in _list(self.model, "Event"):
            if event.isSetTrigger() and event.getTrigger().isSetMath():
                kept.append(event)
            else:
                self.notes.append(
                    f"the event {event.getId() or '(without id)'} has no trigger and never happens"
                )
        return kept

    # --- quantities --------------------------------------------------------------------------------------------------

    def network(self) -> Network:
        """All of it."""
        model = self.model
        rules: dict[str, Expression] = dict(self.assigned)
        parameters: list[Parameter] = []
        initial: dict[str, Expression] = {}
        quantities: dict[str, Quantity] = {}
        states: list[State] = []
        columns: dict[str, int] = {}
        missing: list[str] = []

        flows, reactions = self._flows(rules, parameters)

        def constant(name: str, kind: str, value: float | None) -> None:
            if name in self.starts:
                initial[name] = self.starts[name]
                value = None
            elif value is None:
                missing.append(name)
            parameters.append(Parameter(name, kind, value))

        def state(made: State, start: Expression | None) -> None:
            columns[made.name] = len(states)
            states.append(made)
            if start is None:
                missing.append(made.name)
            initial[made.symbol] = NAN if start is None else start

        for name, species in self.species.items():
            self._species(name, species, flows.get(name, []), rules, state, quantities)
        others = [
            ("parameter", self.parameters, lambda e: e.getValue() if e.isSetValue() else None),
            ("compartment", self.compartments, self._size),
            ("stoichiometry", self.references, lambda e: _stoichiometry(e, self.level)),
        ]
        for kind, elements, read in others:
            for name, element in elements.items():
                quantities[name] = Quantity(name, kind, Symbol(name))
                if name in self.assigned:
                    continue
                value = read(element)
                if name in self.rate_rules or name in self.event_targets:
                    start = self.starts.get(name, None if value is None else Number(value))
                    rate = self.rate_rules.get(name, Number(0.0))
                    state(State(name, name, kind, "value", rate), start)
                elif (
                    kind == "compartment"
                    and value is None
                    and name not in self.starts
                    and self._pointlike(name)
                ):
                    constant(name, kind, 1.0)
                elif kind != "stoichiometry" or name in self.named_references:
                    constant(name, kind, value)
                else:
                    quantities[name] = Quantity(name, kind, Number(NAN.value if value is None else value))
        for local in self.locals:
            parameters.append(local)
            quantities[local.name] = Quantity(local.name, "local parameter", Symbol(local.name))
            if local.value is None:
                missing.append(local.name)
        for name in self.reactions:
            if name in rules:
                quantities[name] = Quantity(name, "reaction", Symbol(name))
        if model.getNumConstraints():
            self.notes.append(
                f"{model.getNumConstraints()} constraints are not watched; they change no number"
            )
        made = Network(
            name=self.name,
            states=tuple(states),
            parameters=tuple(parameters),
            reactions=tuple(
                Reaction(r, rules[r], tuple((columns[s], c) for s, c in changes if s in columns))
                for r, changes in reactions
            ),
            quantities=quantities,
            events=tuple(self._event(i, event, columns, states) for i, event in enumerate(self.events)),
            notes=tuple(self.notes),
        )
        return _finish(made, rules, initial, missing)

    def _size(self, compartment: Any) -> float | None:
        if compartment.isSetSize() or compartment.isSetVolume():
            return compartment.getSize()
        return 1.0 if self.level == 1 else None

    def _flat(self, compartment: str) -> bool:
        """In Level 2 a compartment without dimensions has no size; Level 3 treats it as any other."""
        return self.level == 2 and self.compartments[compartment].getSpatialDimensions() == 0

    def _pointlike(self, compartment: str) -> bool:
        """Without dimensions, and without a size of its own: 1 leaves amounts as they are."""
        element = self.compartments[compartment]
        return self._flat(compartment) or (
            element.isSetSpatialDimensions() and element.getSpatialDimensionsAsDouble() == 0
        )

    def _changing(self, compartment: str) -> bool:
        return any(compartment in names for names in (self.assigned, self.rate_rules, self.event_targets))

    def _species(
        self, name: str, species: Any, flow: list[Expression], rules: Any, state: Any, quantities: Any
    ) -> None:
        where = species.getCompartment()
        if where not in self.compartments:
            raise SBMLError(f"the species {name} is in {where!r}, which is no compartment")
        if species.isSetSpatialSizeUnits() and species.getSpatialSizeUnits():
            self.notes.append(f"spatialSizeUnits of {name} is read over")
        size = Symbol(where)
        flat = self._flat(where)
        as_amount = (self.level > 1 and species.getHasOnlySubstanceUnits()) or flat
        here, density = Symbol(name), Apply("div", (Symbol(name), size))
        quantities[name] = (
            Quantity(name, "species", density, here)
            if as_amount
            else Quantity(name, "species", here, Apply("mul", (here, size)))
        )
        if flat:
            quantities[name] = Quantity(name, "species", here, here)
        moves = bool(flow)
        if name in self.assigned:
            if moves:
                raise SBMLError(
                    f"an assignment rule computes {name}, so reactions cannot change it: it is no boundary species"
                )
            return
        if name in self.rate_rules and moves:
            raise SBMLError(
                f"{name} has a rate rule, so reactions cannot change it: it is no boundary species"
            )
        start = self.starts.get(name)
        if start is None:
            start = _initial(species, size, as_amount, flat)
        if as_amount:
            rate = self.rate_rules.get(name, total(flow))
            state(State(name, name, "species", "amount", rate), start)
        elif not self._changing(where) or (name in self.rate_rules and where in self.assigned):
            rate = self.rate_rules.get(name)
            if rate is None:
                rate = Apply("div", (total(flow), size)) if moves else Number(0.0)
            state(State(name, name, "species", "concentration", rate), start)
        else:
            symbol = f"amount of {name}"
            rules[name] = Apply("div", (Symbol(symbol), size))
            quantities[name] = Quantity(name, "species", here, Symbol(symbol))
            rate = total(flow)
            if name in self.rate_rules:
                grows = Apply("rateof", (size,))
                rate = total([product(size, self.rate_rules[name]), product(here, grows)])
            start = None if start is None else Apply("mul", (start, size))
            state(State(name, symbol, "species", "amount", rate, size), start)

    # --- reactions ---------------------------------------------------------------------------------------------------

    def _flows(
        self, rules: dict[str, Expression], parameters: list[Parameter]
    ) -> tuple[dict[str, list[Expression]], list[tuple[str, list[tuple[str, Expression]]]]]:
        """Terms of d(amount)/dt of each species that reactions change, and what each reaction changes."""
        flows: dict[str, list[Expression]] = {}
        made: list[tuple[str, list[tuple[str, Expression]]]] = []
        laws = {name: self._law(name, reaction) for name, reaction in self.reactions.items()}
        formulas = [*self.assigned.values(), *self.rate_rules.values(), *self.starts.values()]
        formulas += [law for law in laws.values() if law is not None]
        for event in _list(self.model, "Event"):
            nodes = [
                event.getTrigger(),
                event.getDelay(),
                event.getPriority(),
                *_list(event, "EventAssignment"),
            ]
            formulas += [
                self.reader.read(n.getMath(), "event") for n in nodes if n is not None and n.isSetMath()
            ]
        used = set().union(*map(symbols, formulas)) if formulas else set()
        self.named_references = {
            name for name in self.references if name in used | self.starts.keys() | self.assigned.keys()
            | self.rate_rules.keys() | self.event_targets
        }  # fmt: skip
        for name, reaction in self.reactions.items():
            if (self.level, self.version) < (3, 2) and reaction.isSetFast() and reaction.getFast():
                raise UnsupportedError(
                    f"the reaction {name} is fast: infinitely fast reactions are not supported"
                )
            changes = self._changes(name, reaction)
            law = laws[name]
            if law is None:
                if changes or name in used:
                    raise UnsupportedError(f"the reaction {name} has no kinetic law, so its rate is unknown")
                continue
            rules[name] = law
            merged: dict[str, list[Expression]] = {}
            for species, coefficient in changes:
                merged.setdefault(species, []).append(coefficient)
            sums = {species: _sum(terms) for species, terms in merged.items()}
            for species, coefficient in sums.items():
                if coefficient != Number(0.0):
                    factor = self._conversion(species)
                    flows.setdefault(species, []).append(product(coefficient, *factor, Symbol(name)))
                else:
                    flows.setdefault(species, [])
            made.append(
                (name, [(s, product(c, *self._conversion(s))) for s, c in sums.items() if c != Number(0.0)])
            )
        return flows, made

    def _law(self, name: str, reaction: Any) -> Expression | None:
        law = reaction.getKineticLaw() if reaction.isSetKineticLaw() else None
        if law is None or not law.isSetMath():
            return None
        local: dict[str, str] = {}
        elements = _list(law, "LocalParameter") if self.level > 2 else _list(law, "Parameter")
        for parameter in elements:
            full = f"{name}.{parameter.getId()}"
            if parameter.getId() in local:
                raise SBMLError(f"the reaction {name} has two local parameters {parameter.getId()}")
            local[parameter.getId()] = full
            self.locals.append(
                Parameter(full, "local parameter", parameter.getValue() if parameter.isSetValue() else None)
            )
        return self.reader.read(law.getMath(), f"kinetic law of the reaction {name}", local)

    def _changes(self, name: str, reaction: Any) -> list[tuple[str, Expression]]:
        """(species, signed stoichiometry) of what the reaction changes."""
        out: list[tuple[str, Expression]] = []
        for side, sign in (("Reactant", -1.0), ("Product", 1.0)):
            for reference in _list(reaction, side):
                species = reference.getSpecies()
                if species not in self.species:
                    raise SBMLError(f"the reaction {name} has {species!r}, which is no species")
                element = self.species[species]
                if element.getBoundaryCondition() or (self.level > 1 and element.getConstant()):
                    continue
                coefficient = self._coefficient(name, reference)
                out.append((species, _signed(coefficient, sign)))
        for modifier in _list(reaction, "Modifier"):
            if modifier.getSpecies() not in self.species:
                raise SBMLError(f"the reaction {name} has {modifier.getSpecies()!r}, which is no species")
        return out

    def _coefficient(self, name: str, reference: Any) -> Expression:
        if reference.getId() and reference.getId() in self.named_references:
            return Symbol(reference.getId())
        if self.level == 2 and reference.isSetStoichiometryMath():
            return self.reader.read(
                reference.getStoichiometryMath().getMath(), f"stoichiometry in the reaction {name}"
            )
        value = _stoichiometry(reference, self.level)
        if value is None:
            raise SBMLError(f"the reaction {name} gives no stoichiometry for {reference.getSpecies()}")
        return Number(value)

    def _conversion(self, species: str) -> list[Expression]:
        element = self.species[species]
        for owner in (element, self.model):
            if self.level > 2 and owner.isSetConversionFactor():
                factor = owner.getConversionFactor()
                if factor not in self.parameters:
                    raise SBMLError(f"the conversion factor {factor!r} of {species} is no parameter")
                return [Symbol(factor)]
        return []

    # --- events ------------------------------------------------------------------------------------------------------

    def _event(self, i: int, event: Any, columns: dict[str, int], states: list[State]) -> Event:
        name = event.getId() or f"event {i + 1}"
        where = f"event {name}"
        trigger = event.getTrigger()

        def read(element: Any) -> Expression | None:
            return (
                self.reader.read(element.getMath(), where)
                if element is not None and element.isSetMath()
                else None
            )

        condition = read(trigger)
        assert condition is not None
        assignments: list[Assignment] = []
        for element in _list(event, "EventAssignment"):
            formula, target = read(element), element.getVariable()
            if formula is None:
                self.notes.append(f"the event {name} assigns nothing to {target}")
                continue
            if target in {a.name for a in assignments}:
                raise SBMLError(f"the {where} assigns {target} twice")
            state = states[columns[target]]
            assignments.append(Assignment(target, columns[target], formula, state.scale))
        late = self.level > 2 or (self.level == 2 and self.version > 3)
        return Event(
            name=name,
            trigger=condition if is_logical(condition) else Apply("ne", (condition, Number(0.0))),
            initial=trigger.getInitialValue() if self.level > 2 and trigger.isSetInitialValue() else True,
            persistent=trigger.getPersistent() if self.level > 2 and trigger.isSetPersistent() else True,
            delay=read(event.getDelay()),
            priority=read(event.getPriority()) if self.level > 2 else None,
            from_trigger_time=event.getUseValuesFromTriggerTime() if late else True,
            assignments=tuple(assignments),
        )


def _formula(rule: Any) -> str:
    return str(rule.getFormula() or "(empty)")[:80]


def _stoichiometry(reference: Any, level: int) -> float | None:
    if level == 2 and reference.isSetStoichiometryMath():
        return None
    value = reference.getStoichiometry()
    if level == 1:
        return value / reference.getDenominator()
    return value if level == 2 or reference.isSetStoichiometry() else None


def _signed(coefficient: Expression, sign: float) -> Expression:
    if isinstance(coefficient, Number):
        return Number(sign * coefficient.value)
    return coefficient if sign > 0 else Apply("neg", (coefficient,))


def _sum(terms: list[Expression]) -> Expression:
    numbers = [term.value for term in terms if isinstance(term, Number)]
    return Number(sum(numbers)) if len(numbers) == len(terms) else total(terms)


def _initial(species: Any, size: Expression, as_amount: bool, flat: bool) -> Expression | None:
    """The start of a species' symbol, or None."""
    if species.isSetInitialAmount():
        amount = Number(species.getInitialAmount())
        return amount if as_amount else Apply("div", (amount, size))
    if species.isSetInitialConcentration():
        density = Number(species.getInitialConcentration())
        return density if not as_amount or flat else Apply("mul", (density, size))
    return None


def _finish(
    network: Network, rules: dict[str, Expression], initial: dict[str, Expression], missing: list[str]
) -> Network:
    """Resolve rateOf, check that every name exists, and put everything in dependency order."""
    rates = {state.symbol: state.rate for state in network.states}
    still = {parameter.name for parameter in network.parameters}
    scaled = {state.name: state for state in network.states if state.scale is not None}
    known = rates.keys() | still | rules.keys()

    def check(where: str, formula: Expression) -> Expression:
        for name in symbols(formula):
            if name not in known:
                raise SBMLError(f"{where} names {name!r}, which the model does not have")
        return formula

    for label, group in (("the rule of", rules), ("the rate of", rates), ("the initial value of", initial)):
        for name, formula in group.items():
            check(f"{label} {name}", formula)
    for event in network.events:
        for formula in (event.trigger, event.delay, event.priority, *(a.formula for a in event.assignments)):
            if formula is not None:
                check(f"event {event.name}", formula)

    extra: dict[str, Expression] = {}

    def rate_of(name: str) -> Expression:
        """The symbol of d(name)/dt, with the rule that computes it."""
        if name in still:
            return Number(0.0)
        symbol = f"rate of {name}"
        if symbol in extra:
            return Symbol(symbol)
        if name in rates:
            extra[symbol] = NAN
            extra[symbol] = resolve(rates[name])
        elif name in scaled:
            state = scaled[name]
            assert isinstance(state.scale, Symbol)
            extra[symbol] = NAN
            grows = rate_of(state.scale.name)
            gains = rate_of(state.symbol)
            change = Apply("sub", (gains, product(Symbol(name), grows)))
            extra[symbol] = Apply("div", (change, state.scale))
        else:
            raise UnsupportedError(
                f"rateOf({name}) is not supported: an assignment rule or a reaction computes {name}"
            )
        return Symbol(symbol)

    def resolve(formula: Expression) -> Expression:
        def change(node: Expression) -> Expression:
            if isinstance(node, Apply) and node.op == "rateof":
                target = node.args[0]
                assert isinstance(target, Symbol)
                return rate_of(target.name)
            return node

        if not any(isinstance(node, Apply) and node.op == "rateof" for node in walk(formula)):
            return formula
        return transform(formula, change)

    rules = {name: resolve(formula) for name, formula in rules.items()}
    rates = {name: resolve(formula) for name, formula in rates.items()}
    initial = {name: resolve(formula) for name, formula in initial.items()}
    events = tuple(_resolved(event, resolve) for event in network.events)
    rules |= extra
    shared = {
        name: Symbol(f"rate of {name}") if f"rate of {name}" in extra else rate
        for name, rate in rates.items()
    }
    states = tuple(
        State(s.name, s.symbol, s.kind, s.holds, shared[s.symbol], s.scale) for s in network.states
    )
    try:
        ordered = in_order(rules, "rules")
        starts = in_order({**rules, **initial}, "initial values and rules")
    except ValueError as error:
        raise SBMLError(f"{network.name}: {error}") from None
    made = Network(
        name=network.name,
        states=states,
        parameters=network.parameters,
        rules=ordered,
        initial=starts,
        events=events,
        reactions=tuple(Reaction(r.name, rules[r.name], r.changes) for r in network.reactions),
        quantities=network.quantities,
        notes=network.notes,
    )
    needed = _needed(made, missing)
    return Network(**{**{f: getattr(made, f) for f in made.__dataclass_fields__}, "missing": needed})


def _resolved(event: Event, resolve: Any) -> Event:
    return Event(
        name=event.name,
        trigger=resolve(event.trigger),
        initial=event.initial,
        persistent=event.persistent,
        delay=None if event.delay is None else resolve(event.delay),
        priority=None if event.priority is None else resolve(event.priority),
        from_trigger_time=event.from_trigger_time,
        assignments=tuple(
            Assignment(a.name, a.state, resolve(a.formula), a.scale) for a in event.assignments
        ),
    )


def _needed(network: Network, missing: list[str]) -> tuple[str, ...]:
    """Of the names without a value, those that some rate, event or start depends on."""
    definitions: dict[str, Expression] = {rule.name: rule.formula for rule in network.initial}
    by_symbol = {state.name: state.symbol for state in network.states}
    roots = [state.rate for state in network.states]
    for event in network.events:
        roots += [f for f in (event.trigger, event.delay, event.priority) if f is not None]
        roots += [f for a in event.assignments for f in (a.formula, a.scale) if f is not None]
    rules: dict[str, Expression] = {rule.name: rule.formula for rule in network.rules}
    used: set[str] = set()
    stack = roots + [definitions[s.symbol] for s in network.states if s.symbol in definitions]
    while stack:
        for name in symbols(stack.pop()):
            if name not in used:
                used.add(name)
                stack += [table[name] for table in (rules, definitions) if name in table]
    return tuple(name for name in missing if by_symbol.get(name, name) in used or name in by_symbol)
