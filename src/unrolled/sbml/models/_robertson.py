"""Robertson's reactions: three rates nine orders of magnitude apart, the stiff solvers' first test."""

from unrolled.sbml.model import Model


def robertson() -> Model:
    """Reactions a -> b, 2 b -> b + c, b + c -> a + c (Robertson 1966); a + b + c is conserved.

    Example:
        >>> from unrolled.sbml.analysis import conserved
        >>> print(conserved(robertson())[0])
        a + b + c = 1
    """
    return Model.from_equations(
        species={"a": 1.0, "b": 0.0, "c": 0.0},
        parameters={"k1": 0.04, "k2": 3e7, "k3": 1e4},
        reactions={
            "slow": "a -> b : k1 * a",
            "fast": "2 b -> b + c : k2 * b^2",
            "middle": "b + c -> a + c : k3 * b * c",
        },
        name="Robertson",
    )
