"""One enzyme, one substrate, all steps written out."""

from unrolled.sbml.model import Model


def enzyme() -> Model:
    """E + S <-> ES -> E + P (Michaelis & Menten 1913; Briggs & Haldane 1925).

    E + ES and S + ES + P are conserved; the quasi-steady rate is kcat E0 S / (Km + S) with Km = (koff + kcat) / kon.

    Example:
        >>> from unrolled.sbml.analysis import conserved
        >>> [str(law) for law in conserved(enzyme())]
        ['E + ES = 0.1', 'S + ES + P = 1']
    """
    return Model.from_equations(
        species={"E": 0.1, "S": 1.0, "ES": 0.0, "P": 0.0},
        parameters={"kon": 100.0, "koff": 5.0, "kcat": 10.0},
        reactions={"bind": "E + S -> ES : kon * E * S - koff * ES", "turn": "ES -> E + P : kcat * ES"},
        name="Enzyme",
    )
