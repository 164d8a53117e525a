"""Geva-Zatorsky 2006: p53 and Mdm2 oscillate after damage to DNA."""

from unrolled.sbml.model import Model


def zatorsky2006() -> Model:
    """p53 (x) calls for Mdm2, first as a precursor (y0), then active (y), which removes p53 (Geva-Zatorsky et al. 2006,
    Mol. Syst. Biol. 2:2006.0033, model IV).

    Removal is saturated, x / (x + k) with k = 1e-4: a stiff corner at x near 0. Time in hours. As BIOMD0000000157.

    Example:
        >>> [round(v, 12) for v in zatorsky2006().rate(0.0, zatorsky2006().initial_state())[0].tolist()]
        [0.9, -0.56, -0.08]
    """
    return Model.from_equations(
        species={"x": 0.0, "y": 0.8, "y0": 0.1},
        parameters={
            "beta_x": 0.9, "psi": 1.0, "alpha_x": 0.0, "beta_y": 1.1, "alpha_y": 0.8, "alpha_0": 0.8, "k": 1e-4,
            "alpha_k": 1.7,
        },
        reactions={
            "make_x": "-> x : beta_x * psi",
            "lose_x": "x -> : alpha_x * x",
            "remove_x": "x -> : alpha_k * y * x / (x + k)",
            "make_y0": "-> y0 : beta_y * x * psi",
            "mature": "y0 -> y : alpha_0 * y0",
            "lose_y": "y -> : alpha_y * y",
        },
        name="Zatorsky2006",
    )  # fmt: skip
