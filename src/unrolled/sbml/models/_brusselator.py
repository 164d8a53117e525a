"""The Brusselator: the smallest chemical oscillator on paper."""

from unrolled.sbml.model import Model


def brusselator() -> Model:
    """-> X, 2 X + Y -> 3 X, X -> Y, X -> (Prigogine & Lefever 1968, J. Chem. Phys. 48:1695).

    Its steady state X = A, Y = B / A is unstable where B > 1 + A^2.

    Example:
        >>> from unrolled.sbml.analysis import steady_states
        >>> found = steady_states(brusselator())
        >>> [(s.kind, round(s["X"], 9), round(s["Y"], 9)) for s in found]
        [('unstable focus', 1.0, 3.0)]
    """
    return Model.from_equations(
        species={"X": 1.0, "Y": 1.0},
        parameters={"A": 1.0, "B": 3.0},
        reactions={
            "feed": "-> X : A",
            "autocatalysis": "2 X + Y -> 3 X : X^2 * Y",
            "conversion": "X -> Y : B * X",
            "removal": "X -> : X",
        },
        name="Brusselator",
    )
