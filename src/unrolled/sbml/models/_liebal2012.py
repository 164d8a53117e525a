"""Liebal 2012: sigma factor B in B. subtilis, with a product that inhibits transcription."""

from unrolled.sbml.model import Model


def liebal2012() -> Model:
    """IPTG makes sigB, which makes lacZ and an inhibitor x of its own action (Liebal et al. 2012, Mol. BioSyst. 8:1806,
    transcription inhibition).

    The reactions use up sigB, as they do in BIOMD0000000461. Time in minutes.

    Example:
        >>> rates = liebal2012().rate(0.0, liebal2012().initial_state(sigb=2e5, lacz=15.0, x=120.0))[0].tolist()
        >>> [round(v, 6) for v in rates]
        [0.0, 1023.755496, 0.046157, 176.198347]
    """
    return Model.from_equations(
        species={"IPTG": 100.0, "sigb": 0.0, "lacz": 0.0, "x": 0.0},
        parameters={"kbs": 100.0, "kbd": 0.044, "kzs": 0.0004, "kzd": 0.041, "kxs": 0.76, "kxd": 9.0},
        reactions={
            "v1": "-> sigb : kbs * IPTG - kbd * sigb",
            "v2": "sigb -> lacz : kzs * sigb / (1 + x) - kzd * lacz",
            "v3": "sigb -> x : kxs * sigb / (1 + x) - kxd * x",
        },
        name="Liebal2012",
    )
