"""Van der Pol's oscillator: a circuit that feeds itself when small and starves itself when large."""

from unrolled.sbml.model import Model


def van_der_pol(mu: float = 1.0) -> Model:
    """The flow x' = y, y' = mu (1 - x^2) y - x (van der Pol 1926, Phil. Mag. 2:978).

    A limit cycle of amplitude near 2 and period near 2 pi for small mu, (3 - 2 ln 2) mu for large mu, when it is stiff.

    Args:
        mu: the non-linearity; a parameter of the model.

    Example:
        >>> from unrolled.sbml.analysis import steady_states
        >>> [s.kind for s in steady_states(van_der_pol(), positive=False)]
        ['unstable focus']
    """
    return Model.from_equations(
        species={"x": 2.0, "y": 0.0},
        parameters={"mu": mu},
        rates={"x": "y", "y": "mu * (1 - x^2) * y - x"},
        name="van der Pol",
    )
