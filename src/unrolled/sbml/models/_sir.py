"""SIR: an epidemic."""

from unrolled.sbml.model import Model


def sir() -> Model:
    """S + I -> 2 I, I -> R (Kermack & McKendrick 1927, Proc. R. Soc. A 115:700).

    S + I + R is conserved, and the number who never fall ill solves ln(S0 / S) = (beta / gamma) (1 - S).

    Example:
        >>> from unrolled.sbml.analysis import conserved
        >>> print(conserved(sir())[0])
        S + I + R = 1
    """
    return Model.from_equations(
        species={"S": 0.999, "I": 0.001, "R": 0.0},
        parameters={"beta": 0.5, "gamma": 0.2},
        reactions={"infection": "S + I -> 2 I : beta * S * I", "recovery": "I -> R : gamma * I"},
        name="SIR",
    )
