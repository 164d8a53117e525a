"""Gerard & Goldbeter 2010 (online): four cyclin complexes carry the mammalian cell cycle round."""

from unrolled.sbml.model import Model


def gerard2010() -> Model:
    """A growth factor GF starts cyclin D, and each complex calls the next, until Cdc20 ends them (Gerard & Goldbeter 2011,
    Interface Focus 1:24, the skeleton model).

    Md, Me, Ma, Mb are the complexes of cyclins D, E, A, B; E2F and Cdc20 their active forms, with constant totals. Time
    in hours. As BIOMD0000000941.

    Example:
        >>> rates = gerard2010().rate(0.0, gerard2010().initial_state())[0].tolist()
        >>> [round(v, 6) for v in (rates[0], *rates[-2:])]
        [-0.056049, 0.0, 0.0]
    """
    return Model.from_equations(
        species={
            "Md": 0.7205, "E2F": 2.4855, "Me": 2.0, "Ma": 2.6, "Mb": 1.0, "Cdc20": 0.5, "E2F_tot": 3.0, "Cdc20_tot": 5.0,
        },
        parameters={
            "GF": 1.0, "Kgf": 0.1, "vsd": 0.175, "Vdd": 0.245, "Kdd": 0.1, "V1e2f": 0.805, "K1e2f": 0.01, "V2e2f": 0.7,
            "K2e2f": 0.01, "vse": 0.21, "Vde": 0.35, "Kde": 0.1, "vsa": 0.175, "Vda": 0.245, "Kda": 0.1, "vsb": 0.21,
            "Vdb": 0.28, "Kdb": 0.005, "V1cdc20": 0.21, "K1cdc20": 1.0, "V2cdc20": 0.35, "K2cdc20": 1.0,
        },
        reactions={
            "make_Md": "-> Md : vsd * GF / (Kgf + GF)",
            "lose_Md": "Md -> : Vdd * Md / (Kdd + Md)",
            "activate_E2F": "-> E2F : V1e2f * (E2F_tot - E2F) / (K1e2f + E2F_tot - E2F) * (Md + Me)",
            "inactivate_E2F": "E2F -> : V2e2f * E2F / (K2e2f + E2F) * Ma",
            "make_Me": "-> Me : vse * E2F",
            "lose_Me": "Me -> : Vde * Ma * Me / (Kde + Me)",
            "make_Ma": "-> Ma : vsa * E2F",
            "lose_Ma": "Ma -> : Vda * Cdc20 * Ma / (Kda + Ma)",
            "make_Mb": "-> Mb : vsb * Ma",
            "lose_Mb": "Mb -> : Vdb * Cdc20 * Mb / (Kdb + Mb)",
            "activate_Cdc20": "-> Cdc20 : V1cdc20 * Mb * (Cdc20_tot - Cdc20) / (K1cdc20 + Cdc20_tot - Cdc20)",
            "inactivate_Cdc20": "Cdc20 -> : V2cdc20 * Cdc20 / (K2cdc20 + Cdc20)",
        },
        name="Gerard2010",
    )  # fmt: skip
