"""Goodwin's oscillator: a gene turned off by the end of its own chain."""

from unrolled.sbml.model import Model


def goodwin() -> Model:
    """X' = a / (1 + Z^n) - b X, Y' = c X - d Y, Z' = e Y - f Z (Goodwin 1965, Adv. Enzyme Regul. 3:425).

    With equal decays it can oscillate only where n > 8 (Griffith 1968); here n = 10 and all decays are 0.1.

    Example:
        >>> from unrolled.sbml.analysis import steady_states
        >>> found = steady_states(goodwin())
        >>> [s.kind for s in found], [s.kind for s in steady_states(goodwin(), parameters={"n": 7.0})]
        (['unstable focus'], ['stable focus'])
    """
    return Model.from_equations(
        species={"X": 0.1, "Y": 0.2, "Z": 2.5},
        parameters={"a": 1.0, "b": 0.1, "c": 1.0, "d": 0.1, "e": 1.0, "f": 0.1, "n": 10.0},
        rates={"X": "a / (1 + Z^n) - b * X", "Y": "c * X - d * Y", "Z": "e * Y - f * Z"},
        name="Goodwin",
    )
