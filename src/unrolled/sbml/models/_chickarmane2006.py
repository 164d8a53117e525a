"""Chickarmane 2006: the switch that keeps a stem cell a stem cell."""

from unrolled.sbml.model import Model


def chickarmane2006() -> Model:
    """OCT4 and SOX2 pair up; the pair and NANOG call for more of all three (Chickarmane et al. 2006, PLoS Comput. Biol.
    2:e123, reversible case).

    A is the signal, p53 represses NANOG, Protein is the product of a target gene. The genes, `degradation`, p53 and A are
    constants here, as they are boundary species of BIOMD0000000203.

    Example:
        >>> rates = chickarmane2006().rate(0.0, chickarmane2006().initial_state())[0].tolist()
        >>> [round(v, 7) for v in (rates[7], *rates[9:])]
        [9.8815915, -0.0093001, -0.500095, 0.0100976]
    """
    return Model.from_equations(
        species={
            "OCT4_Gene": 0.0, "NANOG_Gene": 0.0, "SOX2_Gene": 0.0, "targetGene": 0.01, "degradation": 0.0, "p53": 0.0,
            "A": 10.0, "OCT4": 0.01, "SOX2": 0.01, "NANOG": 0.01, "OCT4_SOX2": 0.1, "Protein": 0.0,
        },
        parameters={
            "eta1": 1e-4, "a1": 1.0, "a2": 0.01, "a3": 0.2, "f": 1000.0, "b1": 0.0011, "b2": 0.001, "b3": 0.0007,
            "gamma1": 1.0, "eta3": 1e-4, "c1": 1.0, "c2": 0.01, "c3": 0.2, "d1": 0.0011, "d2": 0.001, "d3": 0.0007,
            "gamma3": 1.0, "eta5": 1e-4, "e1": 0.005, "e2": 0.1, "f1": 0.001, "f2": 0.000995, "f3": 0.01, "gamma2": 1.0,
            "k1c": 0.05, "k2c": 0.001, "k3c": 5.0, "g1": 0.1, "eta7": 1e-4, "h1": 0.0019, "h2": 0.05, "gamma4": 0.01,
        },
        rules={"both": "OCT4_SOX2 * NANOG"},
        reactions={
            "make_OCT4": "-> OCT4 : (eta1 + a1 * A + a2 * OCT4_SOX2 + a3 * both)"
            " / (1 + eta1 / f + b1 * A + b2 * OCT4_SOX2 + b3 * both)",
            "lose_OCT4": "OCT4 -> : gamma1 * OCT4",
            "make_SOX2": "-> SOX2 : (eta3 + c1 * A + c2 * OCT4_SOX2 + c3 * both)"
            " / (1 + eta3 / f + d1 * A + d2 * OCT4_SOX2 + d3 * both)",
            "lose_SOX2": "SOX2 -> : gamma3 * SOX2",
            "make_NANOG": "-> NANOG : (eta5 + e1 * OCT4_SOX2 + e2 * both)"
            " / (1 + eta5 / f + f2 * OCT4_SOX2 + f1 * both + f3 * p53)",
            "lose_NANOG": "NANOG -> : gamma2 * NANOG",
            "pair": "OCT4 + SOX2 -> OCT4_SOX2 : k1c * OCT4 * SOX2 - k2c * OCT4_SOX2",
            "lose_pair": "OCT4_SOX2 -> : k3c * OCT4_SOX2",
            "make_Protein": "-> Protein : (g1 * OCT4_SOX2 + eta7) / (1 + eta7 / f + h1 * OCT4_SOX2 + h2 * both)",
            "lose_Protein": "Protein -> : gamma4 * Protein",
        },
        name="Chickarmane2006",
    )  # fmt: skip
