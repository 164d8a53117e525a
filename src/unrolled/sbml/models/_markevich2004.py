"""Markevich 2004: two phosphates on one kinase make a switch, without any feedback."""

from unrolled.sbml.model import Model


def markevich2004() -> Model:
    """MAPK in three forms M, Mp, Mpp; kinase MAPKK and phosphatase MKP3 saturate (Markevich, Hoek & Kholodenko 2004, J. Cell
    Biol. 164:353, ordered Michaelis-Menten mechanism).

    M + Mp + Mpp = 500 is conserved. Time in seconds. As BIOMD0000000027.

    Example:
        >>> rates = markevich2004().rate(0.0, markevich2004().initial_state())[0].tolist()
        >>> [round(v, 8) for v in rates]
        [-0.45454545, 0.45454545, 0.0, 0.0, 0.0]
    """
    return Model.from_equations(
        species={"M": 500.0, "Mp": 0.0, "Mpp": 0.0, "MAPKK": 50.0, "MKP3": 100.0},
        parameters={
            "k1cat": 0.01, "Km1": 50.0, "k2cat": 15.0, "Km2": 500.0, "k3cat": 0.084, "Km3": 22.0, "k4cat": 0.06, "Km4": 18.0,
            "Km5": 78.0,
        },
        rules={"kinase": "1 + M / Km1 + Mp / Km2", "phosphatase": "1 + Mpp / Km3 + Mp / Km4 + M / Km5"},
        reactions={
            "v1": "M -> Mp : k1cat * MAPKK * M / Km1 / kinase",
            "v2": "Mp -> Mpp : k2cat * MAPKK * Mp / Km2 / kinase",
            "v3": "Mpp -> Mp : k3cat * MKP3 * Mpp / Km3 / phosphatase",
            "v4": "Mp -> M : k4cat * MKP3 * Mp / Km4 / phosphatase",
        },
        name="Markevich2004",
    )  # fmt: skip
