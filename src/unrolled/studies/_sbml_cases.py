"""Small SBML models with known answers: one feature of the language each, and a closed form for it.

Sampling times avoid the moments at which something jumps, where a value before and one after are both right.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.studies._sbml_builder import sbml

Array = Any
JUMPS = 5.03
"""End of simulations with jumps at whole times: no sample falls on one."""


@dataclass(frozen=True)
class Case:
    """A model with its answer.

    Attributes:
        name: what it tests.
        document: arguments of the builder.
        expected: t -> name -> values; `amount(S)` is an amount, other names are concentrations, parameters, sizes.
        t_end: of the simulation.
        points: of the simulation, both ends counted.
        last: compare the last point only (a recorded number rather than a closed form).
        options: of `simulate`, where the answer is not about the choice of method.
    """

    name: str
    document: Mapping[str, Any]
    expected: Callable[[Array], dict[str, Any]]
    t_end: float = 5.0
    points: int = 51
    last: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The SBML document."""
        return sbml(**self.document)

    def answer(self) -> dict[str, Any]:
        """Name -> values at the times of the simulation."""
        t = np.linspace(0, self.t_end, self.points)[-1 if self.last else 0 :]
        return {name: np.broadcast_to(value, t.shape) for name, value in self.expected(t).items()}


@dataclass(frozen=True)
class Refusal:
    """A model that must be refused, with an error that names the element: never a wrong number."""

    name: str
    document: str
    named: str
    notes: str = field(default="")


def _reversible(t: Array) -> dict[str, Any]:
    A = 0.25 + 0.75 * np.exp(-0.8 * t)
    return {"A": A, "B": 1 - A}


def _chain(t: Array) -> dict[str, Any]:
    A, B = np.exp(-t), (np.exp(-0.3 * t) - np.exp(-t)) / 0.7
    return {"A": A, "B": B, "C": 1 - A - B}


def _michaelis(t: Array) -> dict[str, Any]:
    from scipy.special import lambertw

    return {"S": 0.5 * lambertw(4 * np.exp(4 - 2 * t)).real}


def _robertson(t: Array) -> dict[str, Any]:
    return {"a": 0.7158270687194, "b": 0.9185534764558e-5, "c": 0.2841637457458}


CASES: tuple[Case, ...] = (
    Case(
        "first-order decay",
        {"species": {"S": 10}, "parameters": {"k": 0.5}, "reactions": ["J: S -> : k * S"]},
        lambda t: {"S": 10 * np.exp(-0.5 * t)},
    ),
    Case(
        "reversible reaction",
        {"species": {"A": 1, "B": 0}, "reactions": ["J: A -> B : 0.6 * A - 0.2 * B"]},
        _reversible,
    ),
    Case(
        "chain of reactions",
        {"species": {"A": 1, "B": 0, "C": 0}, "reactions": ["J: A -> B : A", "K: B -> C : 0.3 * B"]},
        _chain,
    ),
    Case(
        "second order",
        {"species": {"A": 2, "B": 2, "C": 0}, "reactions": ["J: A + B -> C : 0.5 * A * B"]},
        lambda t: {"A": 2 / (1 + t), "C": 2 - 2 / (1 + t)},
    ),
    Case(
        "stoichiometry of 2",
        {"species": {"A": 1, "D": 0}, "reactions": ["J: 2 A -> D : 0.25 * A^2"]},
        lambda t: {"A": 1 / (1 + 0.5 * t), "D": 0.5 - 0.5 / (1 + 0.5 * t)},
    ),
    Case(
        "stoichiometry that is no whole number",
        {"species": {"A": 3, "B": 0}, "reactions": ["J: 0.5 A -> 1.5 B : A"]},
        lambda t: {"A": 3 * np.exp(-0.5 * t), "B": 9 - 9 * np.exp(-0.5 * t)},
    ),
    Case(
        "source and sink",
        {"species": {"S": 0}, "reactions": ["J: -> S : 2", "K: S -> : 0.5 * S"]},
        lambda t: {"S": 4 - 4 * np.exp(-0.5 * t)},
    ),
    Case(
        "rates are amounts per time",
        {"compartments": {"cell": 2.5}, "species": {"S": 4}, "reactions": ["J: S -> : 0.5 * S"]},
        lambda t: {"S": 4 * np.exp(-0.2 * t), "amount(S)": 10 * np.exp(-0.2 * t)},
    ),
    Case(
        "a species whose id means its amount",
        {
            "compartments": {"cell": 2.5},
            "species": {"S": {"amount": 4, "substance": True}},
            "reactions": ["J: S -> : 0.5 * S"],
        },
        lambda t: {"amount(S)": 4 * np.exp(-0.5 * t), "S": 1.6 * np.exp(-0.5 * t)},
    ),
    Case(
        "transport between compartments",
        {
            "compartments": {"one": 1.0, "three": 3.0},
            "species": {"a": 4, "b": {"concentration": 0, "compartment": "three"}},
            "reactions": ["J: a -> b : 0.6 * (a - b)"],
        },
        lambda t: {"a": 1 + 3 * np.exp(-0.8 * t), "b": 1 - np.exp(-0.8 * t)},
    ),
    Case(
        "boundary species",
        {
            "species": {"X": {"concentration": 2, "boundary": True}, "S": 0},
            "reactions": ["J: X -> S : 0.5 * X", "K: S -> : S"],
        },
        lambda t: {"X": 2.0, "S": 1 - np.exp(-t)},
    ),
    Case(
        "constant species",
        {
            "species": {"E": {"concentration": 3, "constant": True}, "S": 1, "P": 0},
            "reactions": ["J: S -> P : 0.2 * E * S"],
        },
        lambda t: {"E": 3.0, "P": 1 - np.exp(-0.6 * t)},
    ),
    Case(
        "boundary species set by a rule",
        {
            "species": {"X": {"concentration": 1, "boundary": True}, "S": 0},
            "rules": ["X = 1 + sin(time)"],
            "reactions": ["J: X -> S : X", "K: S -> : S"],
        },
        lambda t: {"X": 1 + np.sin(t), "S": 1 - np.exp(-t) + (np.sin(t) - np.cos(t) + np.exp(-t)) / 2},
    ),
    Case(
        "local parameter over global",
        {
            "species": {"S": 1, "P": 0},
            "parameters": {"k": 100.0},
            "reactions": [("J: S -> P : k * S", {"k": 0.5})],
        },
        lambda t: {"S": np.exp(-0.5 * t), "k": 100.0},
    ),
    Case(
        "functions that call functions",
        {
            "species": {"S": 0},
            "functions": {"square": "lambda(x, x * x)", "hill": "lambda(x, k, square(x) / (k + square(x)))"},
            "reactions": ["J: -> S : hill(time, 2)"],
        },
        lambda t: {"S": t - math.sqrt(2) * np.arctan(t / math.sqrt(2))},
    ),
    Case(
        "assignment rules in any order",
        {
            "species": {"S": 1},
            "parameters": {"a": 0, "b": 0, "c": 0},
            "rules": ["c = b + a", "b = a + S", "a = 2 * S"],
            "reactions": ["J: S -> : S"],
        },
        lambda t: {"a": 2 * np.exp(-t), "b": 3 * np.exp(-t), "c": 5 * np.exp(-t)},
    ),
    Case(
        "rate rule on a parameter",
        {
            "species": {"S": 3},
            "parameters": {"p": 1},
            "rules": ["p' = -p^2"],
            "reactions": ["J: S -> : p * S"],
        },
        lambda t: {"p": 1 / (1 + t), "S": 3 / (1 + t)},
    ),
    Case(
        "compartment that grows",
        {"compartments": {"cell": 1.0}, "species": {"S": 2}, "rules": ["cell' = 0.5"]},
        lambda t: {"cell": 1 + 0.5 * t, "S": 2 / (1 + 0.5 * t), "amount(S)": 2.0},
    ),
    Case(
        "initial assignments in any order",
        {
            "species": {"S": 0},
            "parameters": {"a": 0, "b": 0, "c": 0.5},
            "initial": {"S": "a * b", "a": "2 * b", "b": "c + 1"},
            "reactions": ["J: S -> : S"],
        },
        lambda t: {"S": 4.5 * np.exp(-t), "a": 3.0},
    ),
    Case(
        "piecewise in time",
        {"species": {"S": 0}, "reactions": ["J: -> S : piecewise(1.5, time < 2, 0)"]},
        lambda t: {"S": 1.5 * np.minimum(t, 2)},
    ),
    Case(
        "time",
        {"parameters": {"x": 0}, "rules": ["x' = cos(time)"]},
        lambda t: {"x": np.sin(t)},
        t_end=20,
        points=101,
    ),
    Case(
        "functions of one and two numbers",
        {
            "parameters": {"x": 0, "y": 0},
            "rules": [
                "x = floor(2.5 * time) + abs(time - 2) - ceil(time)",
                "y = exp(-time) + ln(1 + time) + log10(2 + time) + sqrt(time) + 2^time + tanh(time) + root(3, 8 + time)",
            ],
        },
        lambda t: {
            "x": np.floor(2.5 * t) + np.abs(t - 2) - np.ceil(t),
            "y": np.exp(-t) + np.log1p(t) + np.log10(2 + t) + np.sqrt(t) + 2**t + np.tanh(t) + np.cbrt(8 + t),
        },
        t_end=JUMPS,
    ),
    Case(
        "logic",
        {
            "parameters": {"x": 0},
            "rules": [
                "x = piecewise(1, time > 1 && !(time >= 2 || time < 0), 2, xor(time < 3, time < 4), 5)"
            ],
        },
        lambda t: {"x": np.where((t > 1) & (t < 2), 1.0, np.where((t >= 3) & (t < 4), 2.0, 5.0))},
        t_end=JUMPS,
    ),
    Case(
        "logistic growth",
        {"species": {"S": 0.1}, "rules": ["S' = 2 * S * (1 - S / 3)"]},
        lambda t: {"S": 3 / (1 + 29 * np.exp(-2 * t))},
    ),
    Case(
        "Michaelis-Menten kinetics",
        {"species": {"S": 2, "P": 0}, "reactions": ["J: S -> P : S / (0.5 + S)"]},
        _michaelis,
    ),
    Case(
        "harmonic oscillator",
        {"parameters": {"x": 1, "y": 0}, "rules": ["x' = y", "y' = -x"]},
        lambda t: {"x": np.cos(t), "y": -np.sin(t)},
        t_end=30,
        points=61,
    ),
    Case(
        "stiff: a fast species follows a slow drive",
        {"parameters": {"x": 1}, "rules": ["x' = -10000 * (x - cos(time)) - sin(time)"]},
        lambda t: {"x": np.cos(t)},
        options={"method": "rodas5p"},
    ),
    Case(
        "stiff: Robertson's kinetics",
        {
            "species": {"a": 1, "b": 0, "c": 0},
            "reactions": [
                "J: a -> b : 0.04 * a",
                "K: 2 b -> b + c : 3e7 * b^2",
                "L: b + c -> a + c : 1e4 * b * c",
            ],
        },
        _robertson,
        t_end=40,
        points=5,
        last=True,
        options={"method": "rodas5p"},
    ),
    Case(
        "conversion factor",
        {
            "species": {"S": {"concentration": 0, "conversion": "f"}},
            "parameters": {"f": 10},
            "reactions": ["J: -> S : 0.3"],
        },
        lambda t: {"S": 3 * t},
    ),
    Case(
        "stoichiometry set by a rule",
        {"species": {"S": 0}, "rules": ["n = 2 + time"], "reactions": ["J: -> {n} S : 1"]},
        lambda t: {"S": 2 * t + t**2 / 2},
    ),
    Case(
        "rateOf",
        {
            "species": {"S": 1},
            "parameters": {"x": 0},
            "rules": ["x = rateOf(S)"],
            "reactions": ["J: S -> : 0.7 * S"],
        },
        lambda t: {"x": -0.7 * np.exp(-0.7 * t)},
    ),
    Case(
        "Level 1",
        {
            "level": (1, 2),
            "compartments": {"cell": 2.0},
            "species": {"S": 3, "P": 0},
            "parameters": {"k": 0.8},
            "reactions": ["J: S -> P : k * S"],
        },
        lambda t: {"S": 3 * np.exp(-0.4 * t), "P": 3 - 3 * np.exp(-0.4 * t)},
    ),
    Case(
        "event at a time",
        {
            "species": {"S": 1},
            "reactions": ["J: S -> : S"],
            "events": [{"at": "time >= 2", "do": {"S": "S + 5"}}],
        },
        lambda t: {"S": np.exp(-t) + 5 * (t >= 2) * np.exp(-(t - 2))},
        t_end=JUMPS,
    ),
    Case(
        "event at a level, again and again",
        {"species": {"S": 0}, "rules": ["S' = 1"], "events": [{"at": "S >= 1", "do": {"S": "0"}}]},
        lambda t: {"S": t % 1},
        t_end=3.33,
        points=68,
    ),
    Case(
        "event with a delay",
        {
            "species": {"S": 1},
            "parameters": {"p": 0},
            "rules": ["p' = 1"],
            "events": [{"at": "time >= 1", "do": {"S": "p"}, "delay": "1"}],
        },
        lambda t: {"S": 1.0 + 0 * t},
        t_end=JUMPS,
    ),
    Case(
        "event with a delay, values of when it executes",
        {
            "species": {"S": 1},
            "parameters": {"p": 0},
            "rules": ["p' = 1"],
            "events": [{"at": "time >= 1", "do": {"S": "p"}, "delay": "1", "from_trigger": False}],
        },
        lambda t: {"S": 1.0 + (t >= 2)},
        t_end=JUMPS,
    ),
    Case(
        "events with priorities",
        {
            "species": {"S": 1},
            "events": [
                {"at": "time >= 1", "do": {"S": "S * 2"}, "priority": "1", "from_trigger": False},
                {"at": "time >= 1", "do": {"S": "3"}, "priority": "10", "from_trigger": False},
            ],
        },
        lambda t: {"S": 1.0 + 5 * (t >= 1)},
        t_end=JUMPS,
    ),
    Case(
        "event that is called off",
        {
            "species": {"S": 1},
            "events": [
                {"at": "time >= 1 && time < 2", "do": {"S": "7"}, "delay": "1.5", "persistent": False},
                {"at": "time >= 3", "do": {"S": "S + 1"}},
            ],
        },
        lambda t: {"S": 1.0 + (t >= 3)},
        t_end=JUMPS,
    ),
    Case(
        "event that fires at the start",
        {
            "species": {"S": 1},
            "reactions": ["J: S -> : S"],
            "events": [{"at": "time >= 0", "do": {"S": "7"}, "initial": False}],
        },
        lambda t: {"S": 7 * np.exp(-t)},
    ),
    Case(
        "event that sets a parameter",
        {
            "species": {"S": 4},
            "parameters": {"k": 0},
            "reactions": ["J: S -> : k * S"],
            "events": [{"at": "time >= 1", "do": {"k": "0.5"}}],
        },
        lambda t: {"S": 4 * np.exp(-0.5 * np.maximum(t - 1, 0)), "k": 0.5 * (t >= 1)},
        t_end=JUMPS,
    ),
)


def refusals() -> tuple[Refusal, ...]:
    """Documents outside of what is supported."""
    decay = {"species": {"S": 1}, "reactions": ["J: S -> : S"]}
    plain = sbml(level=(2, 4), **decay)
    algebraic = (
        '<listOfRules><algebraicRule><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><minus/><ci>S</ci>'
        "<cn>1</cn></apply></math></algebraicRule></listOfRules><listOfReactions>"
    )
    return (
        Refusal("algebraic rule", plain.replace("<listOfReactions>", algebraic), "algebraic"),
        Refusal("fast reaction", plain.replace('<reaction id="J"', '<reaction id="J" fast="true"'), "J"),
        Refusal(
            "delay()", sbml(species={"S": 1}, parameters={"x": 0}, rules=["x = delay(S, 1)"]), "delay"
        ),
        Refusal("unknown function", sbml(**decay).replace("<ci> S </ci>", "<apply><ci> mystery </ci><ci> S </ci></apply>"), "mystery"),
        Refusal("truncated file", plain[: len(plain) // 2], "malformed or does not end"),
        Refusal("no SBML", "<html><body>503</body></html>", "SBML"),
        Refusal("entity expansion", '<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><sbml>&b;</sbml>', "document type"),
    )  # fmt: skip
