"""Lorenz 1963: deterministic chaos in three equations."""

from unrolled.sbml.model import Model


def lorenz() -> Model:
    """The flow x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z (Lorenz 1963, J. Atmos. Sci. 20:130).

    No network of reactions: the language-game paper's control. Its states may be negative.

    Example:
        >>> lorenz().rate(0.0, lorenz().initial_state(x=1.0, y=2.0, z=3.0))[0].tolist()
        [10.0, 23.0, -6.0]
    """
    return Model.from_equations(
        species={"x": 1.0, "y": 1.0, "z": 20.0},
        parameters={"sigma": 10.0, "rho": 28.0, "beta": 8 / 3},
        rates={"x": "sigma * (y - x)", "y": "x * (rho - z) - y", "z": "x * y - beta * z"},
        name="Lorenz",
    )
