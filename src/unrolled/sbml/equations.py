"""Models written as equations: infix text to a `Network`."""

import re
from collections.abc import Mapping
from typing import Any

from unrolled.sbml.expression import (
    Expression,
    Number,
    Symbol,
    apply,
    is_logical,
    product,
    symbols,
    total,
)
from unrolled.sbml.infix import parse
from unrolled.sbml.ir import Assignment, Event, Network, Parameter, Quantity, Reaction, State, in_order

_NAME = re.compile(r"[^\W\d]\w*\Z")
_TERM = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*\*?\s*)?([^\W\d]\w*)\s*\Z")


def network(
    species: Mapping[str, float | str],
    parameters: Mapping[str, float | str],
    rates: Mapping[str, str],
    reactions: Mapping[str, str],
    rules: Mapping[str, str],
    events: Mapping[str, Mapping[str, Any]],
    name: str,
) -> Network:
    """See `Model.from_equations`.

    Raises:
        ValueError: as there.
    """
    kinds = {"species": species, "parameter": parameters, "reaction": reactions, "rule": rules}
    seen: dict[str, str] = {}
    for kind, names in kinds.items():
        for key in names:
            if not _NAME.match(key) or key == "time":
                raise ValueError(
                    f"{key!r} cannot be the name of a {kind}: use letters, digits and underscores"
                )
            if key in seen:
                raise ValueError(f"{key} is both a {seen[key]} and a {kind}")
            seen[key] = kind
    set_by_events = {target for event in events.values() for target in event.get("assign", {})}
    columns = [*species, *(key for key in parameters if key in set_by_events)]
    formulas = {f"rule {key}": _read(text, f"rule {key}") for key, text in rules.items()}
    sums: dict[str, list[Expression]] = {key: [] for key in columns}
    made: list[Reaction] = []
    for key, text in reactions.items():
        reaction = _reaction(key, text, columns, seen)
        formulas[f"reaction {key}"] = reaction.formula
        made.append(reaction)
        for i, coefficient in reaction.changes:
            sums[columns[i]].append(product(coefficient, Symbol(key)))
    for key, text in rates.items():
        if key not in sums:
            raise ValueError(
                f"there is a rate for {key}, which is no species; there are {', '.join(columns)}"
            )
        if sums[key]:
            raise ValueError(f"{key} has a rate and is changed by reactions: write one or the other")
        sums[key].append(_read(text, f"rate of {key}"))
    still = [key for key in species if not sums[key] and key not in rates and not reactions]
    if still:
        raise ValueError(f"there is no rate for {', '.join(still)}: write one, '0' for what stays constant")
    constants = [key for key in parameters if key not in set_by_events]
    starts = {
        key: _read(value, f"initial value of {key}") for key, value in {**species, **parameters}.items()
    }
    initial = {key: value for key, value in starts.items() if key in columns or not isinstance(value, Number)}
    timeless = {label.split(" ", 1)[1]: formula for label, formula in formulas.items()}
    parts = tuple(_event(key, event, columns) for key, event in events.items())
    for where, formula in [
        *formulas.items(),
        *((f"rate of {key}", term) for key, terms in sums.items() for term in terms),
        *((f"initial value of {key}", value) for key, value in starts.items()),
        *((f"event {e.name}", f) for e in parts for f in _formulas(e)),
    ]:
        unknown = symbols(formula) - seen.keys()
        if unknown:
            raise ValueError(
                f"{where} names {sorted(unknown)[0]!r}, which is no species, parameter, reaction or rule"
            )
    quantities = {key: Quantity(key, "species", Symbol(key), Symbol(key)) for key in species}
    quantities |= {key: Quantity(key, seen[key], Symbol(key)) for key in (*parameters, *reactions, *rules)}
    return Network(
        name=name,
        states=tuple(
            State(
                key,
                key,
                *(("species", "concentration") if key in species else ("parameter", "value")),
                total(sums[key]),
            )
            for key in columns
        ),
        parameters=tuple(
            Parameter(key, "parameter", v.value if isinstance(v := starts[key], Number) else None)
            for key in constants
        ),
        rules=in_order(timeless),
        initial=in_order({**timeless, **initial}, "initial values and rules"),
        events=parts,
        reactions=tuple(made),
        quantities=quantities,
    )


def _read(text: Any, where: str) -> Expression:
    if isinstance(text, int | float):
        return Number(float(text))
    try:
        made = parse(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return made


def _reaction(key: str, text: str, columns: list[str], seen: Mapping[str, str]) -> Reaction:
    sides, colon, formula = text.partition(":")
    left, arrow, right = sides.partition("->")
    if not colon or not arrow:
        raise ValueError(f"reaction {key} is written 'A + 2 B -> C : rate', got {text!r}")
    changes: dict[str, float] = {}
    for side, sign in ((left, -1.0), (right, 1.0)):
        for term in side.split("+") if side.strip() else ():
            found = _TERM.match(term)
            if found is None or seen.get(found[2]) != "species":
                raise ValueError(
                    f"reaction {key}: {term.strip()!r} is no species with a number in front of it"
                )
            changes[found[2]] = changes.get(found[2], 0.0) + sign * float(found[1] or 1)
    parts = tuple((columns.index(one), Number(by)) for one, by in changes.items() if by != 0)
    return Reaction(key, _read(formula, f"reaction {key}"), parts)


def _event(key: str, event: Mapping[str, Any], columns: list[str]) -> Event:
    known = {"trigger", "assign", "delay", "priority", "initial", "persistent", "from_trigger_time"}
    if "trigger" not in event or "assign" not in event or set(event) - known:
        raise ValueError(
            f"event {key} needs trigger and assign, and may have {', '.join(sorted(known))}; got {list(event)}"
        )
    where = f"event {key}"
    trigger = _read(event["trigger"], where)
    if not is_logical(trigger):
        trigger = apply("ne", trigger, Number(0.0))
    for target in event["assign"]:
        if target not in columns:
            raise ValueError(f"{where} sets {target}, which is no species and no parameter")
    return Event(
        name=key,
        trigger=trigger,
        delay=_read(event["delay"], where) if "delay" in event else None,
        priority=_read(event["priority"], where) if "priority" in event else None,
        assignments=tuple(
            Assignment(t, columns.index(t), _read(text, where)) for t, text in event["assign"].items()
        ),
        **{
            option: bool(event[option])
            for option in ("initial", "persistent", "from_trigger_time")
            if option in event
        },
    )


def _formulas(event: Event) -> list[Expression]:
    more = [formula for formula in (event.delay, event.priority) if formula is not None]
    return [event.trigger, *more, *(assignment.formula for assignment in event.assignments)]
