"""Kholodenko 2000: a cascade of kinases, held back by its own end, oscillates."""

from unrolled.sbml.model import Model


def kholodenko2000() -> Model:
    """MKKK, MKK and MAPK, each phosphorylated by the one before; doubly phosphorylated MAPK inhibits the first step
    (Kholodenko 2000, Eur. J. Biochem. 267:1583).

    The three totals 100, 300, 300 are conserved. Time in seconds; a period takes about 20 minutes. As BIOMD0000000010.

    Example:
        >>> from unrolled.sbml.analysis import conserved
        >>> print(conserved(kholodenko2000())[0])
        MKKK + MKKK_P = 100
    """

    def saturated(v: str, s: str, k: str) -> str:
        return f"{v} * {s} / ({k} + {s})"

    return Model.from_equations(
        species={
            "MKKK": 90.0, "MKKK_P": 10.0, "MKK": 280.0, "MKK_P": 10.0, "MKK_PP": 10.0, "MAPK": 280.0, "MAPK_P": 10.0,
            "MAPK_PP": 10.0,
        },
        parameters={
            "V1": 2.5, "Ki": 9.0, "n": 1.0, "K1": 10.0, "V2": 0.25, "K2": 8.0, "k3": 0.025, "K3": 15.0, "k4": 0.025,
            "K4": 15.0, "V5": 0.75, "K5": 15.0, "V6": 0.75, "K6": 15.0, "k7": 0.025, "K7": 15.0, "k8": 0.025, "K8": 15.0,
            "V9": 0.5, "K9": 15.0, "V10": 0.5, "K10": 15.0,
        },
        reactions={
            "v1": "MKKK -> MKKK_P : V1 * MKKK / ((1 + (MAPK_PP / Ki)^n) * (K1 + MKKK))",
            "v2": f"MKKK_P -> MKKK : {saturated('V2', 'MKKK_P', 'K2')}",
            "v3": f"MKK -> MKK_P : MKKK_P * {saturated('k3', 'MKK', 'K3')}",
            "v4": f"MKK_P -> MKK_PP : MKKK_P * {saturated('k4', 'MKK_P', 'K4')}",
            "v5": f"MKK_PP -> MKK_P : {saturated('V5', 'MKK_PP', 'K5')}",
            "v6": f"MKK_P -> MKK : {saturated('V6', 'MKK_P', 'K6')}",
            "v7": f"MAPK -> MAPK_P : MKK_PP * {saturated('k7', 'MAPK', 'K7')}",
            "v8": f"MAPK_P -> MAPK_PP : MKK_PP * {saturated('k8', 'MAPK_P', 'K8')}",
            "v9": f"MAPK_PP -> MAPK_P : {saturated('V9', 'MAPK_PP', 'K9')}",
            "v10": f"MAPK_P -> MAPK : {saturated('V10', 'MAPK_P', 'K10')}",
        },
        name="Kholodenko2000",
    )  # fmt: skip
