"""Gardner 2000: the genetic toggle switch, built in E. coli."""

from unrolled.sbml.model import Model


def gardner2000(*, paper_compat: bool = False) -> Model:
    """Two repressors that repress each other; IPTG takes LacI off TetR's gene (Gardner, Cantor & Collins 2000, Nature
    403:339).

    LacI acts through U = LacI / (1 + IPTG / K)^nu, and TetR is made at a2 / (1 + U^gamma) with gamma = 1. As BIOMD0000000507.

    Args:
        paper_compat: follow the code of the language-game paper instead, which raises LacI to the power nu and has no gamma
            (fact sheet, A4): 31 % off where LacI = 20.

    Example:
        >>> x = gardner2000().initial_state(LacI=20.0, TetR=3.0)
        >>> [round(float(gardner2000(paper_compat=c).rate(0.0, x)[0, 1]), 7) for c in (False, True)]
        [-2.2571429, -2.9612712]
    """
    return Model.from_equations(
        species={"LacI": 0.0, "TetR": 0.0, "IPTG": 0.0},
        parameters={"a1": 156.25, "a2": 15.6, "beta": 2.5, "gamma": 1.0, "K": 2.9618e-5, "nu": 2.0015},
        rules={"U": "(LacI / (1 + IPTG / K))^nu" if paper_compat else "LacI / (1 + IPTG / K)^nu"},
        reactions={
            "make_LacI": "-> LacI : a1 / (1 + TetR^beta)",
            "lose_LacI": "LacI -> : LacI",
            "make_TetR": "-> TetR : a2 / (1 + U)" if paper_compat else "-> TetR : a2 / (1 + U^gamma)",
            "lose_TetR": "TetR -> : TetR",
        },
        name="Gardner2000" + (" (paper_compat)" if paper_compat else ""),
    )
