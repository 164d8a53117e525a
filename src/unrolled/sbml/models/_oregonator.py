"""The Oregonator: the Belousov-Zhabotinsky reaction in three species."""

from unrolled.sbml.model import Model


def oregonator() -> Model:
    """HBrO2 x, bromide y, cerium z; relaxation oscillations, very stiff (Field & Noyes 1974, J. Chem. Phys. 60:1877).

    Scaled as in the stiff solvers' test of Hairer & Wanner (OREGO): x' = s (y + x (1 - q x - y)), y' = (z - (1 + x) y) / s,
    z' = w (x - z).

    Example:
        The state at rest x = z, with dx/dt = 0 where y = x (1 - q x) / (x - 1):

        >>> model = oregonator()
        >>> x = model.initial_state(x=2.0, y=2.0 - 4 * 8.375e-6, z=2.0)
        >>> [round(v, 9) for v in model.rate(0.0, x)[0, [0, 2]].tolist()]
        [0.0, 0.0]
    """
    return Model.from_equations(
        species={"x": 1.0, "y": 2.0, "z": 3.0},
        parameters={"s": 77.27, "q": 8.375e-6, "w": 0.161},
        rates={"x": "s * (y + x * (1 - q * x - y))", "y": "(z - (1 + x) * y) / s", "z": "w * (x - z)"},
        name="Oregonator",
    )
