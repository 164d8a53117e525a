"""Networks that ship with the package: the fourteen of the language-game paper, and classics.

Each is a function that returns a new `Model`, in a file of its own, written from the published equations.

>>> from unrolled.sbml import models
>>> models.kholodenko2000().species[:3]
('MKKK', 'MKKK_P', 'MKK')
>>> from unrolled.sbml.analysis import conserved
>>> from unrolled.sbml.analysis import conserved
>>> [str(law) for law in conserved(models.markevich2004())][0]
'M + Mp + Mpp = 500'
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.sbml.models._almeida2019 import almeida2019 as almeida2019
    from unrolled.sbml.models._brusselator import brusselator as brusselator
    from unrolled.sbml.models._catalogue import CLASSICS as CLASSICS
    from unrolled.sbml.models._catalogue import PAPER as PAPER
    from unrolled.sbml.models._catalogue import named as named
    from unrolled.sbml.models._chickarmane2006 import chickarmane2006 as chickarmane2006
    from unrolled.sbml.models._chickarmane2008 import chickarmane2008 as chickarmane2008
    from unrolled.sbml.models._enzyme import enzyme as enzyme
    from unrolled.sbml.models._fitzhugh_nagumo import fitzhugh_nagumo as fitzhugh_nagumo
    from unrolled.sbml.models._gardner1998 import gardner1998 as gardner1998
    from unrolled.sbml.models._gardner2000 import gardner2000 as gardner2000
    from unrolled.sbml.models._gerard2010 import gerard2010 as gerard2010
    from unrolled.sbml.models._goodwin import goodwin as goodwin
    from unrolled.sbml.models._kholodenko2000 import kholodenko2000 as kholodenko2000
    from unrolled.sbml.models._leloup1999 import leloup1999 as leloup1999
    from unrolled.sbml.models._liebal2012 import liebal2012 as liebal2012
    from unrolled.sbml.models._lorenz import lorenz as lorenz
    from unrolled.sbml.models._lotka_volterra import lotka_volterra as lotka_volterra
    from unrolled.sbml.models._markevich2004 import markevich2004 as markevich2004
    from unrolled.sbml.models._oregonator import oregonator as oregonator
    from unrolled.sbml.models._repressilator import repressilator as repressilator
    from unrolled.sbml.models._robertson import robertson as robertson
    from unrolled.sbml.models._schlogl import schlogl as schlogl
    from unrolled.sbml.models._sir import sir as sir
    from unrolled.sbml.models._tyson1991 import tyson1991 as tyson1991
    from unrolled.sbml.models._tyson1999 import tyson1999 as tyson1999
    from unrolled.sbml.models._van_der_pol import van_der_pol as van_der_pol
    from unrolled.sbml.models._weimann2004 import weimann2004 as weimann2004
    from unrolled.sbml.models._zatorsky2006 import zatorsky2006 as zatorsky2006

_NAMES = (
    "almeida2019", "brusselator", "chickarmane2006", "chickarmane2008", "enzyme", "fitzhugh_nagumo", "gardner1998",
    "gardner2000", "gerard2010", "goodwin", "kholodenko2000", "leloup1999", "liebal2012", "lorenz", "lotka_volterra",
    "markevich2004", "oregonator", "repressilator", "robertson", "schlogl", "sir", "tyson1991", "tyson1999",
    "van_der_pol", "weimann2004", "zatorsky2006",
)  # fmt: skip

__getattr__, __dir__, __all__ = attach(
    __name__,
    names={name: f"_{name}" for name in _NAMES} | dict.fromkeys(("CLASSICS", "PAPER", "named"), "_catalogue"),
)
