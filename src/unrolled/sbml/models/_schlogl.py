"""Schloegl's reactions: the smallest chemical switch."""

from unrolled.sbml.model import Model


def schlogl() -> Model:
    """A + 2 X <-> 3 X, B <-> X with A and B held (Schloegl 1972, Z. Phys. 253:147).

    X' = -X^3 + 6 X^2 - 11 X + 6 = -(X - 1)(X - 2)(X - 3): rest at 1 and 3, and a threshold at 2.

    Example:
        >>> from unrolled.sbml.analysis import steady_states
        >>> [(s.kind, round(s["X"], 9)) for s in steady_states(schlogl())]
        [('stable node', 1.0), ('stable node', 3.0), ('unstable node', 2.0)]
    """
    return Model.from_equations(
        species={"X": 0.0},
        parameters={"k1": 6.0, "k2": 1.0, "k3": 6.0, "k4": 11.0},
        reactions={"autocatalysis": "2 X -> 3 X : k1 * X^2 - k2 * X^3", "exchange": "-> X : k3 - k4 * X"},
        name="Schloegl",
    )
