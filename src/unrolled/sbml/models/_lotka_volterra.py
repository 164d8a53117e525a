"""Lotka and Volterra: prey, and those that live on it."""

from unrolled.sbml.model import Model


def lotka_volterra() -> Model:
    """-> prey, prey -> predator, predator -> (Lotka 1920; Volterra 1926).

    The flow has the invariant V = c prey - d ln prey + b predator - a ln predator: orbits close, none attracts.

    Example:
        >>> from unrolled.sbml.analysis import steady_states
        >>> [s.kind for s in steady_states(lotka_volterra())]
        ['marginal', 'saddle']
    """
    return Model.from_equations(
        species={"prey": 1.0, "predator": 0.5},
        parameters={"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0},
        reactions={
            "birth": "-> prey : a * prey",
            "hunt": "prey -> : b * prey * predator",
            "growth": "-> predator : c * prey * predator",
            "death": "predator -> : d * predator",
        },
        name="Lotka-Volterra",
    )
