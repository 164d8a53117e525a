"""Tyson 1999: a circadian rhythm from a protein that slows its own decay by pairing up."""

from unrolled.sbml.model import Model


def tyson1999() -> Model:
    """PER in the fruit fly: message M, protein P; pairs of P escape degradation (Tyson et al. 1999, Biophys. J. 77:2411).

    The share of P in single copies follows from fast dimerisation, q = 2 / (1 + sqrt(1 + 8 Keq P)). Time in hours; the
    rhythm has a period near a day. As BIOMD0000000036, with its empty `EmptySet` as a constant.

    Example:
        >>> x = tyson1999().initial_state(M=1.3, P=1.9)
        >>> [round(v, 8) for v in tyson1999().rate(0.0, x)[0].tolist()]
        [0.0, -0.11822626, 0.08368421]
    """
    return Model.from_equations(
        species={"EmptySet": 0.0, "M": 1.0, "P": 1.0},
        parameters={
            "Vm": 1.0, "Pcrit": 0.1, "Keq": 200.0, "V": 0.5, "D": 0.1, "k1": 10.0, "k2": 0.03, "J": 0.05,
        },
        rules={"q": "2 / (1 + sqrt(1 + 8 * Keq * P))"},
        reactions={
            "transcription": "-> M : Vm / (1 + (P * (1 - q) / (2 * Pcrit))^2)",
            "translation": "-> P : V * M",
            "message_decay": "M -> : D * M",
            "protein_decay": "P -> : D * P",
            "phosphorylation": "P -> : (k1 * P * q + k2 * P) / (J + P)",
        },
        name="Tyson1999",
    )  # fmt: skip
