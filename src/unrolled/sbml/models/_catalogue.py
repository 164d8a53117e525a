"""The names of the shipped networks."""

from unrolled.sbml.model import Model

PAPER: dict[str, int | None] = {
    "tyson1999": 36, "weimann2004": 170, "almeida2019": 839, "leloup1999": 21, "tyson1991": 6, "gardner1998": 8,
    "gerard2010": 941, "chickarmane2006": 203, "chickarmane2008": 210, "zatorsky2006": 157, "gardner2000": 507,
    "liebal2012": 461, "markevich2004": 27, "kholodenko2000": 10, "lorenz": None,
}  # fmt: skip
"""The systems of the language-game paper (2605.16321), in its order: name -> BioModels number, None for the control."""

CLASSICS = (
    "repressilator", "brusselator", "oregonator", "van_der_pol", "goodwin", "lotka_volterra", "fitzhugh_nagumo",
    "schlogl", "robertson", "sir", "enzyme",
)  # fmt: skip
"""Textbook systems."""


def named(name: str) -> Model:
    """A shipped network by name.

    Raises:
        ValueError: there is none; the message lists those there are.

    Example:
        >>> named("lorenz").species
        ('x', 'y', 'z')
    """
    from unrolled.sbml import models

    if name not in PAPER and name not in CLASSICS:
        raise ValueError(f"no shipped network {name!r}; there are {', '.join([*PAPER, *CLASSICS])}")
    return getattr(models, name)()
