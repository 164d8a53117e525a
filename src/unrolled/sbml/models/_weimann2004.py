"""Becker-Weimann 2004: the mammalian clock, with the positive loop through Bmal1."""

from unrolled.sbml.model import Model


def weimann2004() -> Model:
    """Per2/Cry represses its activator BMAL1 and, through Bmal1's message, makes more of it (Becker-Weimann et al. 2004,
    Biophys. J. 87:3023).

    y1 Per2 or Cry message, y2 and y3 the PER2-CRY complex outside and inside the nucleus, y4 Bmal1 message, y5 BMAL1
    outside, y6 inside, y7 active. Time in hours. As BIOMD0000000170.

    Example:
        >>> rates = weimann2004().rate(0.0, weimann2004().initial_state())[0].tolist()
        >>> [round(v, 8) for v in rates]
        [0.01864746, 0.034, -0.154, -0.18000459, -0.258, 0.18315, -0.00765]
    """
    return Model.from_equations(
        species={"y1": 0.2, "y2": 0.0, "y3": 1.1, "y4": 0.8, "y5": 1.0, "y6": 1.0, "y7": 1.05},
        parameters={
            "v1b": 9.0, "k1b": 1.0, "k1i": 0.56, "c": 0.01, "hill": 8.0, "k1d": 0.12, "k2b": 0.3, "q": 2.0, "k2d": 0.05,
            "k2t": 0.24, "k3t": 0.02, "k3d": 0.12, "v4b": 3.6, "k4b": 2.16, "r": 3.0, "k4d": 0.75, "k5b": 0.24,
            "k5d": 0.06, "k5t": 0.45, "k6t": 0.06, "k6d": 0.12, "k6a": 0.09, "k7a": 0.003, "k7d": 0.09,
        },
        reactions={
            "per_transcription": "-> y1 : v1b * (y7 + c) / (k1b * (1 + (y3 / k1i)^hill) + y7 + c)",
            "per_message_decay": "y1 -> : k1d * y1",
            "complex_formation": "-> y2 : k2b * y1^q",
            "complex_decay_outside": "y2 -> : k2d * y2",
            "complex_import": "y2 -> y3 : k2t * y2",
            "complex_export": "y3 -> y2 : k3t * y3",
            "complex_decay_inside": "y3 -> : k3d * y3",
            "bmal_transcription": "-> y4 : v4b * y3^r / (k4b^r + y3^r)",
            "bmal_message_decay": "y4 -> : k4d * y4",
            "bmal_translation": "-> y5 : k5b * y4",
            "bmal_decay_outside": "y5 -> : k5d * y5",
            "bmal_import": "y5 -> y6 : k5t * y5",
            "bmal_export": "y6 -> y5 : k6t * y6",
            "bmal_decay_inside": "y6 -> : k6d * y6",
            "activation": "y6 -> y7 : k6a * y6",
            "deactivation": "y7 -> y6 : k7a * y7",
            "active_decay": "y7 -> : k7d * y7",
        },
        name="Weimann2004",
    )  # fmt: skip
