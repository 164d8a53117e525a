"""Chickarmane 2008: a stem cell chooses between itself and endoderm."""

from unrolled.sbml.model import Model


def chickarmane2008() -> Model:
    """OCT4, SOX2 and NANOG against GATA6, CDX2 and GCNF (Chickarmane & Peterson 2008, PLoS ONE 3:e3478).

    The six that change. As BIOMD0000000210, whose pair OCT4_SOX2 stays at its initial 0.1 and whose signal A at 10: they
    are parameters here.

    Example:
        >>> model = chickarmane2008()
        >>> rates = model.rate(0.0, model.initial_state())[0].tolist()
        >>> round(rates[model.species.index("CDX2")], 8)
        0.01957815
    """
    return Model.from_equations(
        species=dict.fromkeys(("OCT4", "SOX2", "NANOG", "GATA6", "CDX2", "GCNF"), 0.01),
        parameters={
            "A": 10.0, "OCT4_SOX2": 0.1, "a0": 0.001, "a1": 0.02, "a2": 0.0125, "a3": 0.025, "b0": 1.0, "b1": 0.02,
            "b2": 0.0125, "b3": 0.03, "b4": 10.0, "b5": 10.0, "gamma1": 0.1, "c0": 0.001, "c1": 0.05, "c2": 0.0125,
            "d0": 0.001, "d1": 0.05, "d2": 0.0125, "d3": 0.05, "gamma2": 0.1, "gamman": 0.01, "g0": 0.001, "g1": 2.0,
            "h0": 2.0, "h1": 5.0, "gamma4": 0.1, "i0": 0.001, "i1": 0.1, "i2": 0.1, "j0": 0.1, "j1": 0.1, "gamma5": 0.1,
            "gammag": 0.01,
        },
        rules={"pair": "OCT4 * SOX2", "both": "OCT4 * SOX2 * NANOG"},
        reactions={
            "make_OCT4": "-> OCT4 : (a0 + a1 * A + a2 * pair + a3 * both)"
            " / (1 + b0 * A + b1 * OCT4 + b2 * pair + b3 * both + b4 * CDX2 * OCT4 + b5 * GCNF)",
            "lose_OCT4": "OCT4 -> : gamma1 * OCT4",
            "make_SOX2": "-> SOX2 : (c0 + c1 * pair + c2 * both) / (1 + d0 * OCT4 + d1 * pair + d2 * both)",
            "lose_SOX2": "SOX2 -> : gamma2 * SOX2",
            "make_NANOG": "-> NANOG : OCT4_SOX2 * (a1 + a2 * NANOG)"
            " / (1 + OCT4_SOX2 * (b1 + b2 * NANOG + b3 * GATA6))",
            "lose_NANOG": "NANOG -> : gamman * NANOG",
            "make_CDX2": "-> CDX2 : (g0 + g1 * CDX2) / (1 + h0 * CDX2 + h1 * CDX2 * OCT4)",
            "lose_CDX2": "CDX2 -> : gamma4 * CDX2",
            "make_GCNF": "-> GCNF : (i0 + i1 * CDX2 + i2 * GATA6) / (1 + j0 * CDX2 + j1 * GATA6)",
            "lose_GCNF": "GCNF -> : gamma5 * GCNF",
            "make_GATA6": "-> GATA6 : (c1 * OCT4_SOX2 + c2 * GATA6) / (1 + d1 * OCT4_SOX2 + d2 * GATA6 + d3 * NANOG)",
            "lose_GATA6": "GATA6 -> : gammag * GATA6",
        },
        name="Chickarmane2008",
    )  # fmt: skip
