"""What a model is, between the document and the code: states, parameters, rules, reactions, events, as plain data.

A `Network` says everything that a solver needs and nothing about SBML. Its formulas are `Expression`s whose symbols are
names of states (`State.symbol`), of parameters (`Parameter.name`), of rules (`Rule.name`), or `TIME`.

**The state x**, `[B, d]`: one column per entry of `states`, in order. A column holds a *concentration* (a species in a
compartment of constant size), an *amount* (hasOnlySubstanceUnits, or a compartment whose size changes), or a *value*
(a parameter, compartment size or stoichiometry that a rate rule or an event changes). Species that nothing changes
are states with rate 0. Where the column of species S holds an amount while formulas mean its concentration, the column's
symbol is `amount of S`, and a rule named `S` divides by the compartment's size.

**Parameters p**, `[P]` or `[B, P]`: one column per entry of `parameters`. A parameter with a formula (`initial`) takes its
value from it at the start, unless it is given.

**Events**: at each sign change of a `trigger` from false to true the event is scheduled at t + `delay`; see `Event`.
"""

from dataclasses import dataclass, field

from unrolled.sbml.expression import Expression, ordered


@dataclass(frozen=True, slots=True)
class State:
    """One column of x.

    Attributes:
        name: what users call it: the identifier of the species, parameter, compartment or stoichiometry.
        symbol: what formulas call the column; equals `name` but for amounts of species whose symbol is a concentration.
        kind: `"species"`, `"parameter"`, `"compartment"`, `"stoichiometry"`.
        holds: `"concentration"`, `"amount"` or `"value"`.
        rate: dx/dt of the column.
        scale: the compartment's size where formulas mean the concentration and the column holds the amount: a given
            concentration is multiplied by it.
    """

    name: str
    symbol: str
    kind: str
    holds: str
    rate: Expression
    scale: Expression | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One column of p: what stays constant during a run. `value` is None where only `Network.initial` gives it, or nothing."""

    name: str
    kind: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` equals `formula` at all times (assignment rules, reaction rates) or at the start (initial values)."""

    name: str
    formula: Expression


@dataclass(frozen=True, slots=True)
class Assignment:
    """What an event sets: column `state` of x, to `formula`, times `scale` (a compartment's size) as it is before the event."""

    name: str
    state: int
    formula: Expression
    scale: Expression | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens when a condition turns true.

    Attributes:
        name: identifier.
        trigger: a truth value; the event is due at every change from false to true.
        initial: the value of the trigger just before t = 0: False lets the event happen at t = 0.
        persistent: False: the event is withdrawn if the trigger turns false before its delay is over.
        delay: time from trigger to execution; None for none.
        priority: among events that execute at one time, the highest first; None for no priority (any order).
        from_trigger_time: assigned values are computed when the trigger turns true, not at execution.
        assignments: what it sets, all at once.
    """

    name: str
    trigger: Expression
    initial: bool = True
    persistent: bool = True
    delay: Expression | None = None
    priority: Expression | None = None
    from_trigger_time: bool = True
    assignments: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reaction: its rate is the rule `name`; it adds coefficient * rate to d(amount)/dt of the state columns it changes."""

    name: str
    formula: Expression
    changes: tuple[tuple[int, Expression], ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A name that can be read from a run: `value` (concentration, parameter, size, rate) and, for species, `amount`."""

    name: str
    kind: str
    value: Expression
    amount: Expression | None = None


@dataclass(frozen=True)
class Network:
    """A whole model.

    Attributes:
        name: of the model.
        states: columns of x.
        parameters: columns of p.
        rules: in dependency order; a rule may use states, parameters, time and earlier rules.
        initial: values at the start by symbol, in dependency order: of every state, of parameters that have a formula, and
            of every rule.
        missing: names without any value; a run must be given one.
        events: see `Event`.
        reactions: see `Reaction`; the rates in `states` already hold them.
        quantities: what `Simulation.value` and `.amount` can read.
        notes: what was assumed or left out without effect on numbers, for the report.
    """

    name: str
    states: tuple[State, ...]
    parameters: tuple[Parameter, ...]
    rules: tuple[Rule, ...] = ()
    initial: tuple[Rule, ...] = ()
    missing: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    reactions: tuple[Reaction, ...] = ()
    quantities: dict[str, Quantity] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def in_order(formulas: dict[str, Expression], what: str = "rules") -> tuple[Rule, ...]:
    """Formulas as rules in dependency order.

    Raises:
        ValueError: they define each other in a circle.
    """
    return tuple(Rule(name, formulas[name]) for name in ordered(formulas, what))
