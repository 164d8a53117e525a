"""Conservation laws: what the reactions can only move around, never make or lose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm, nan
from typing import Any

import torch

from unrolled.sbml import naive
from unrolled.sbml.expression import TIME, Expression, Number, symbols, walk

Row = dict[int, Fraction]

RAYS = 2000
"""Rows of the tableau in which non-negative laws are sought; past it the plain basis is kept."""


@dataclass(frozen=True)
class Law:
    """A sum of amounts that no reaction changes: sum_i w_i n_i.

    Attributes:
        weights: species -> its whole-numbered weight w_i.
        total: the sum at the initial state, in amounts; NaN where that is not known.
        events: events that set one of the species: the law holds between them.

    Example:
        >>> print(Law({"E": 1, "ES": 1}, 2.0))
        E + ES = 2
    """

    weights: dict[str, int]
    total: float = nan
    events: tuple[str, ...] = ()

    def __str__(self) -> str:
        until = f" (between events {', '.join(self.events)})" if self.events else ""
        return f"{combination(self.weights)} = {self.total:.6g}{until}"


def combination(weights: Mapping[str, int]) -> str:
    """A weighted sum as a reader would write it.

    Example:
        >>> combination({"A": 1, "B": 2, "C": -1})
        'A + 2 B - C'
    """
    text = ""
    for name, weight in weights.items():
        sign = " - " if weight < 0 else " + "
        size = "" if abs(weight) == 1 else f"{abs(weight)} "
        text += f"{sign}{size}{name}"
    return text.removeprefix(" + ") if text.startswith(" + ") else text.replace(" - ", "-", 1)


def conserved(model: Any) -> list[Law]:
    """The conservation laws of a model, with their totals at its initial state.

    Only species that change by reactions take part: a rate rule may do anything, and what nothing changes is constant
    without a law. A stoichiometry that is not constant takes its species out.

    Args:
        model: the network.

    Example:
        >>> from unrolled.sbml.models import enzyme
        >>> [str(law) for law in conserved(enzyme())]
        ['E + ES = 0.1', 'S + ES + P = 1']
    """
    network = model.network
    constant = {parameter.name for parameter in network.parameters}
    out: set[str] = set()
    columns: list[dict[str, float | Fraction]] = []
    for reaction in network.reactions:
        column: dict[str, float | Fraction] = {}
        for i, coefficient in reaction.changes:
            name, value = network.states[i].name, _constant(coefficient, model, constant)
            if value is None:
                out.add(name)
            else:
                column[name] = column.get(name, Fraction(0)) + exact(value)
        columns.append(column)
    factor = amounts_per_column(model)
    moved = {name for column in columns for name in column}
    names = [name for name in model.species if name in moved - out and factor.get(name, nan) > 0]
    try:
        x0 = dict(zip(model.species, model.initial_state()[0].tolist()))
    except ValueError:
        x0 = {}
    setters = {
        name: [e.name for e in network.events if any(model.species[a.state] == name for a in e.assignments)]
        for name in names
    }
    return [
        Law(
            weights,
            sum(weight * factor[name] * x0.get(name, nan) for name, weight in weights.items()),
            tuple(dict.fromkeys(event for name in weights for event in setters[name])),
        )
        for weights in laws(columns, names)
    ]


def amounts_per_column(model: Any) -> dict[str, float]:
    """Species -> amount per unit of its column of x: the compartment's size where it holds a concentration.

    NaN where that is not a number that stays the same.
    """
    constant = {parameter.name for parameter in model.network.parameters}
    made: dict[str, float] = {}
    for state in model.network.states:
        about = model.network.quantities.get(state.name)
        if state.holds == "amount":
            made[state.name] = 1.0
        elif state.holds == "concentration" and about is not None and about.amount is not None:
            found = _constant(about.amount, model, constant | {state.symbol}, {state.symbol: 1.0})
            made[state.name] = nan if found is None else found
    return made


def _constant(
    formula: Expression, model: Any, constant: set[str], more: Mapping[str, float] | None = None
) -> float | None:
    """The value of a formula of constants; None where it is not constant."""
    if isinstance(formula, Number):
        return formula.value
    if symbols(formula) - constant or any(node == TIME for node in walk(formula)):
        return None
    values = {**model.parameters, **(more or {})}
    needed = {name: torch.tensor(values[name], dtype=torch.float64) for name in symbols(formula)}
    found = float(naive.evaluate(formula, needed, torch.zeros((), dtype=torch.float64)))
    return found if found == found else None


def laws(reactions: Sequence[Mapping[str, float | Fraction]], species: Sequence[str]) -> list[dict[str, int]]:
    """A basis of the left null space of the stoichiometric matrix, in whole numbers.

    w is a law when sum_i w_i N_ij = 0 for every reaction j. The arithmetic is exact. Of the many bases the one returned
    has non-negative laws first, those that count a moiety (extreme rays of the cone of laws, by Schuster & Hoefer 1991),
    the shortest before the longer; only what they do not span has laws with minus signs.

    Args:
        reactions: for each, species -> net stoichiometry (products minus reactants).
        species: those whose amounts may change by reactions alone.

    Returns:
        The laws, as species -> weight, in the order of `species`. A species that no reaction changes is a law by itself.

    Example:
        Michaelis-Menten: enzyme, and substrate in all its forms:

        >>> bind, turn = {"E": -1, "S": -1, "ES": 1}, {"ES": -1, "E": 1, "P": 1}
        >>> [combination(law) for law in laws([bind, turn], ["E", "S", "ES", "P"])]
        ['E + ES', 'S + ES + P']
    """
    place = {name: i for i, name in enumerate(species)}
    columns = [
        {place[name]: exact(value) for name, value in reaction.items() if name in place and value}
        for reaction in reactions
    ]
    basis = _null_space([column for column in columns if column], len(species))
    chosen = _Span()
    found = [ray for part in _blocks(basis) for ray in _rays(columns, part) if ray]
    kept = [ray for ray in sorted(found, key=_simplicity) if chosen.add(ray)]
    kept += [row for row in sorted(basis, key=_simplicity) if chosen.add(row)]
    return [{species[i]: weight for i, weight in sorted(_whole(row).items())} for row in kept]


def exact(value: float | Fraction) -> Fraction:
    """A stoichiometry as the decimal fraction it was written as: 0.1 is 1/10.

    Example:
        >>> exact(0.1)
        Fraction(1, 10)
    """
    return value if isinstance(value, Fraction) else Fraction(repr(float(value)))


def _null_space(equations: list[Row], size: int) -> list[Row]:
    """A basis of {w: every equation . w = 0}, from the reduced row echelon form."""
    pivots: dict[int, Row] = {}
    for equation in equations:
        row = dict(equation)
        for pivot in [p for p in row if p in pivots]:
            _subtract(row, row[pivot], pivots[pivot])
        if not row:
            continue
        # The latest species becomes the dependent one, so that laws are told by the first.
        pivot = max(row)
        row = {i: value / row[pivot] for i, value in row.items()}
        for other in pivots.values():
            if pivot in other:
                _subtract(other, other[pivot], row)
        pivots[pivot] = row
    free = [i for i in range(size) if i not in pivots]
    return [{i: Fraction(1)} | {p: -row[i] for p, row in pivots.items() if i in row} for i in free]


def _subtract(row: Row, factor: Fraction, other: Row) -> None:
    """Row minus factor times other, in place; zeros are dropped."""
    for i, value in other.items():
        made = row.get(i, Fraction(0)) - factor * value
        if made:
            row[i] = made
        else:
            row.pop(i, None)


def _blocks(basis: list[Row]) -> list[list[int]]:
    """Groups of species that share a law: each is searched by itself."""
    groups: list[set[int]] = []
    for row in basis:
        met = [group for group in groups if group & row.keys()]
        groups = [group for group in groups if not group & row.keys()] + [set(row).union(*met)]
    return [sorted(group) for group in groups]


def _rays(columns: list[Row], part: list[int]) -> list[Row]:
    """The non-negative laws of a block that are no sum of shorter ones; [] where there are too many."""
    inside = set(part)
    table: list[tuple[Row, Row]] = [
        ({j: column[i] for j, column in enumerate(columns) if i in column}, {i: Fraction(1)}) for i in part
    ]
    for j, column in enumerate(columns):
        if not inside & column.keys():
            continue
        zero = [row for row in table if j not in row[0]]
        plus = [row for row in table if row[0].get(j, 0) > 0]
        minus = [row for row in table if row[0].get(j, 0) < 0]
        if len(zero) + len(plus) * len(minus) > RAYS:
            return []
        made = [_cancel(up, down, j) for up in plus for down in minus]
        table = _shortest(zero + made)
    return [weights for rest, weights in table if not rest]


def _cancel(up: tuple[Row, Row], down: tuple[Row, Row], j: int) -> tuple[Row, Row]:
    a, b = -down[0][j], up[0][j]
    sums: list[Row] = []
    for x, y in zip(up, down):
        row = {i: a * value for i, value in x.items()}
        _subtract(row, -b, y)
        sums.append(row)
    return sums[0], sums[1]


def _shortest(table: list[tuple[Row, Row]]) -> list[tuple[Row, Row]]:
    """Rows whose support holds no other row's."""
    kept: list[tuple[Row, Row]] = []
    for row in sorted(table, key=lambda row: len(row[1])):
        if not any(other[1].keys() <= row[1].keys() for other in kept):
            kept.append(row)
    return kept


def _whole(row: Row) -> dict[int, int]:
    """The row in whole numbers without a common divisor, its first entry positive."""
    scale = lcm(*(value.denominator for value in row.values()))
    whole = {i: int(value * scale) for i, value in row.items()}
    share = gcd(*whole.values()) * (1 if whole[min(whole)] > 0 else -1)
    return {i: value // share for i, value in whole.items()}


def _simplicity(row: Row) -> tuple[int, int, tuple[int, ...]]:
    whole = _whole(row)
    return len(whole), sum(map(abs, whole.values())), tuple(sorted(whole))


class _Span:
    """A set of independent rows that grows."""

    def __init__(self) -> None:
        self._pivots: dict[int, Row] = {}

    def add(self, row: Row) -> bool:
        """Whether the row was independent of those before."""
        rest = dict(row)
        while rest and (pivot := max(rest)) in self._pivots:
            _subtract(rest, rest[pivot] / self._pivots[pivot][pivot], self._pivots[pivot])
        if not rest:
            return False
        self._pivots[max(rest)] = rest
        return True
