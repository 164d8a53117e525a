"""The repressilator: three genes, each represses the next."""

from unrolled.sbml.model import Model


def repressilator() -> Model:
    """m_i' = alpha0 + alpha / (1 + p_j^n) - m_i, p_i' = beta (m_i - p_i) (Elowitz & Leibler 2000, Nature 403:335, box 1).

    Dimensionless: time in lifetimes of a message, proteins in units that half repress. Gene lacI is repressed by cI, tetR
    by LacI, cI by TetR.

    Example:
        Its one steady state has all proteins at p = alpha0 + alpha / (1 + p^n), here unstable:

        >>> from unrolled.sbml.analysis import steady_states
        >>> found = steady_states(repressilator())
        >>> len(found), found[0].kind
        (1, 'unstable focus')
    """
    genes = {"lacI": "cI", "tetR": "lacI", "cI": "tetR"}
    return Model.from_equations(
        species={"m_lacI": 0.2, "m_tetR": 0.1, "m_cI": 0.3, "lacI": 0.1, "tetR": 0.4, "cI": 0.5},
        parameters={"alpha": 216.0, "alpha0": 0.216, "beta": 0.2, "n": 2.0},
        rates={
            **{f"m_{gene}": f"alpha0 + alpha / (1 + {by}^n) - m_{gene}" for gene, by in genes.items()},
            **{gene: f"beta * (m_{gene} - {gene})" for gene in genes},
        },
        name="Repressilator",
    )
