"""Gardner 1998: Goldbeter's mitotic oscillator, steered by a binding protein."""

from unrolled.sbml.model import Model


def gardner1998() -> Model:
    """Cyclin C drives kinase M, which drives protease X, which destroys cyclin; Y binds cyclin into Z (Gardner, Dolnik &
    Collins 1998, PNAS 95:14190).

    Time in minutes. As BIOMD0000000008.

    Example:
        >>> rates = gardner1998().rate(0.0, gardner1998().initial_state(C=0.5, X=0.2, M=0.5))[0].tolist()
        >>> [round(v, 8) for v in rates]
        [0.02384615, 0.05333333, 0.18229167, 0.177, -0.032]
    """
    return Model.from_equations(
        species={"C": 0.0, "X": 0.0, "M": 0.0, "Y": 1.0, "Z": 1.0},
        parameters={
            "vi": 0.1, "k1": 0.5, "K5": 0.02, "kd": 0.02, "V1p": 0.75, "K6": 0.3, "K1": 0.1, "V2": 0.25, "K2": 0.1,
            "V3p": 0.3, "K3": 0.2, "V4": 0.1, "K4": 0.1, "a1": 0.05, "a2": 0.05, "alpha": 0.1, "d1": 0.05, "vs": 0.2,
        },
        reactions={
            "make_cyclin": "-> C : vi",
            "destroy_cyclin": "C -> : k1 * X * C / (C + K5)",
            "lose_cyclin": "C -> : kd * C",
            "activate_M": "-> M : V1p * C / (C + K6) * (1 - M) / (K1 + 1 - M)",
            "inactivate_M": "M -> : V2 * M / (K2 + M)",
            "activate_X": "-> X : V3p * M * (1 - X) / (K3 + 1 - X)",
            "inactivate_X": "X -> : V4 * X / (K4 + X)",
            "bind": "C + Y -> Z : a1 * C * Y",
            "part": "Z -> C + Y : a2 * Z",
            "lose_Y_bound": "Z -> C : alpha * d1 * Z",
            "lose_C_bound": "Z -> Y : alpha * kd * Z",
            "make_Y": "-> Y : vs",
            "lose_Y": "Y -> : d1 * Y",
        },
        name="Gardner1998",
    )  # fmt: skip
