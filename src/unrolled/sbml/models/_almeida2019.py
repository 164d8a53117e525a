"""Almeida 2019: the mammalian clock through its three kinds of clock-controlled elements."""

from unrolled.sbml.model import Model


def almeida2019() -> Model:
    """Eight proteins that act through E-box, R-box and D-box (Almeida, Chaves & Delaunay 2020, J.
    Theor. Biol. 484:110015).

    PER and CRY form a complex that removes BMAL1; ROR and REV compete for the R-box, DBP and E4BP4 for the D-box. Time
    in hours. As BIOMD0000000839.

    Example:
        >>> rates = almeida2019().rate(0.0, almeida2019().initial_state())[0].tolist()
        >>> [round(v, 6) for v in rates[:4]]
        [3.388791, 0.978913, -8.904033, -0.015878]
    """
    return Model.from_equations(
        species={
            "BMAL1": 1.0, "ROR": 1.0, "REV": 110.0, "DBP": 1.0, "E4BP4": 80.0, "CRY": 1.0, "PER": 25.0, "PERCRY": 0.0,
        },
        parameters={
            "V_R": 44.4, "k_R": 3.54, "k_R_r": 80.1, "V_E": 30.3, "k_E": 214.0, "k_E_r": 1.24, "V_D": 202.0, "k_D": 5.32,
            "k_D_r": 94.7, "gamma_ror": 2.55, "gamma_rev": 0.241, "gamma_p": 0.844, "gamma_c": 2.34, "gamma_db": 0.156,
            "gamma_E4": 0.295, "gamma_pc": 0.191, "gamma_cp": 0.141, "gamma_bp": 2.58,
        },
        rules={
            "E_box": "V_E * BMAL1 / (BMAL1 + k_E + k_E_r * BMAL1 * CRY)",
            "R_box": "V_R * ROR / (ROR + k_R) * k_R_r^2 / (k_R_r^2 + REV^2)",
            "D_box": "V_D * DBP / (DBP + k_D) * k_D_r / (k_D_r + E4BP4)",
        },
        reactions={
            "make_BMAL1": "-> BMAL1 : R_box",
            "lose_BMAL1": "BMAL1 -> : gamma_bp * BMAL1 * PERCRY",
            "make_ROR": "-> ROR : E_box + R_box",
            "lose_ROR": "ROR -> : gamma_ror * ROR",
            "make_REV": "-> REV : 2 * E_box + D_box",
            "lose_REV": "REV -> : gamma_rev * REV",
            "make_DBP": "-> DBP : E_box",
            "lose_DBP": "DBP -> : gamma_db * DBP",
            "make_E4BP4": "-> E4BP4 : 2 * R_box",
            "lose_E4BP4": "E4BP4 -> : gamma_E4 * E4BP4",
            "make_CRY": "-> CRY : E_box + 2 * R_box",
            "lose_CRY": "CRY -> : gamma_c * CRY",
            "make_PER": "-> PER : E_box + D_box",
            "lose_PER": "PER -> : gamma_p * PER",
            "bind": "PER + CRY -> PERCRY : gamma_pc * PER * CRY",
            "part": "PERCRY -> PER + CRY : gamma_cp * PERCRY",
            "lose_PERCRY": "PERCRY -> : gamma_bp * BMAL1 * PERCRY",
        },
        name="Almeida2019",
    )  # fmt: skip
