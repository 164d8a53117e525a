"""Tyson 1991: the cell cycle in two variables."""

from unrolled.sbml.model import Model


def tyson1991() -> Model:
    """Active maturation-promoting factor u and all cyclin v, relative to total cdc2 (Tyson 1991, PNAS 88:7328).

    Inactive factor z is v - u at all times: here it is a species of its own, so that v - u - z is conserved. Active
    factor activates more of itself (u^2) until cyclin is destroyed. Time in minutes. As BIOMD0000000006, with its
    `EmptySet` as a constant.

    Example:
        >>> rates = tyson1991().rate(0.0, tyson1991().initial_state(u=0.02, z=0.2175, v=0.2375))[0]
        >>> [round(r, 6) for r in rates.tolist()]
        [0.0, -0.000425, -0.004575, -0.005]
    """
    return Model.from_equations(
        species={"EmptySet": 1.0, "u": 0.0, "z": 0.0, "v": 0.0},
        parameters={"kappa": 0.015, "k6": 1.0, "k4": 180.0, "k4prime": 0.018},
        reactions={
            "synthesis": "-> z + v : kappa",
            "activation": "z -> u : k4 * z * (k4prime / k4 + u^2)",
            "destruction": "u + v -> : k6 * u",
        },
        name="Tyson1991",
    )
