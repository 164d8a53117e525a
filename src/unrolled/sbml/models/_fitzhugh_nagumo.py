"""FitzHugh and Nagumo: a nerve cell in two variables."""

from unrolled.sbml.model import Model


def fitzhugh_nagumo() -> Model:
    """Spikes and recovery: v' = v - v^3 / 3 - w + I, w' = (v + a - b w) / tau (FitzHugh 1961, Biophys. J. 1:445).

    Excitable at I = 0, firing at I = 0.5. Its states may be negative.

    Example:
        >>> from unrolled.sbml.analysis import steady_states
        >>> at = lambda I: [s.kind for s in steady_states(fitzhugh_nagumo(), parameters={"I": I}, positive=False)]
        >>> at(0.0), at(0.5)
        (['stable focus'], ['unstable focus'])
    """
    return Model.from_equations(
        species={"v": 0.0, "w": 0.0},
        parameters={"I": 0.5, "a": 0.7, "b": 0.8, "tau": 12.5},
        rates={"v": "v - v^3 / 3 - w + I", "w": "(v + a - b * w) / tau"},
        name="FitzHugh-Nagumo",
    )
