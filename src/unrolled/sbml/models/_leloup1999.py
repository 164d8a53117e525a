"""Leloup & Goldbeter 1999: the fruit fly's clock, with both of its proteins."""

from unrolled.sbml.model import Model


def leloup1999() -> Model:
    """PER and TIM are phosphorylated twice, pair up, enter the nucleus and repress their genes (Leloup & Goldbeter
    1999, J. Theor. Biol. 198:445).

    P0 to P2 and T0 to T2 are proteins with none to two phosphates, CC and Cn their complex outside and inside the
    nucleus, Mp and Mt the messages. Time in hours. As BIOMD0000000021.

    Example:
        >>> rates = leloup1999().rate(0.0, leloup1999().initial_state(Mp=1.0))[0].tolist()
        >>> [round(v, 8) for v in (rates[0], *rates[-2:])]
        [0.9, 0.40666667, 1.0]
    """
    cascade = {
        f"{x}_{step}": f"{x}{a} -> {x}{b} : V{k}{x} * {x}{a} / (K{k}{x} + {x}{a})"
        for x in "PT"
        for step, a, b, k in (
            ("first", 0, 1, 1),
            ("first_back", 1, 0, 2),
            ("second", 1, 2, 3),
            ("second_back", 2, 1, 4),
        )
    }
    decay = {
        f"lose_{name}": f"{name} -> : kd * {name}"
        for name in ("P0", "T0", "P1", "T1", "P2", "T2", "Mp", "Mt")
    }
    enzymes = {
        f"digest_{name}": f"{name} -> : {v} * {name} / ({k} + {name})"
        for name, v, k in (
            ("P2", "VdP", "KdP"),
            ("T2", "VdT", "KdT"),
            ("Mp", "VmP", "KmP"),
            ("Mt", "VmT", "KmT"),
        )
    }
    constants = {f"V{k}{x}": value for x in "PT" for k, value in ((1, 8.0), (2, 1.0), (3, 8.0), (4, 1.0))}
    constants |= {f"K{k}{x}": 2.0 for x in "PT" for k in (1, 2, 3, 4)}
    return Model.from_equations(
        species=dict.fromkeys(("P0", "T0", "P1", "T1", "P2", "T2", "CC", "Cn", "Mp", "Mt"), 0.0),
        parameters=constants | {
            "kd": 0.01, "VdP": 2.0, "KdP": 0.2, "VdT": 2.0, "KdT": 0.2, "VmP": 0.7, "KmP": 0.2, "VmT": 0.7, "KmT": 0.2,
            "k1": 0.6, "k2": 0.2, "k3": 1.2, "k4": 0.6, "kdC": 0.01, "kdN": 0.01, "vsP": 1.0, "vsT": 1.0, "KIP": 1.0,
            "KIT": 1.0, "n": 4.0, "ksP": 0.9, "ksT": 0.9,
        },
        reactions=cascade | decay | enzymes | {
            "bind": "P2 + T2 -> CC : k3 * P2 * T2 - k4 * CC",
            "enter": "CC -> Cn : k1 * CC - k2 * Cn",
            "lose_CC": "CC -> : kdC * CC",
            "lose_Cn": "Cn -> : kdN * Cn",
            "transcribe_per": "-> Mp : vsP * KIP^n / (KIP^n + Cn^n)",
            "transcribe_tim": "-> Mt : vsT * KIT^n / (KIT^n + Cn^n)",
            "translate_per": "-> P0 : ksP * Mp",
            "translate_tim": "-> T0 : ksT * Mt",
        },
        name="Leloup1999",
    )  # fmt: skip
