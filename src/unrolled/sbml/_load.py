"""`load`: a file, or its text, to a `Model`."""

import os
from typing import Any

from unrolled.sbml.document import read
from unrolled.sbml.model import Model
from unrolled.sbml.translate import translate


def load(path_or_text: "str | bytes | os.PathLike[str]", **options: Any) -> Model:
    """Read an SBML model, Level 1 Version 2 to Level 3 Version 2.

    Files are data: nothing in one is executed, no name of it becomes code, entities are refused.

    Args:
        path_or_text: a path, or the text itself (it begins with `<`).
        options: of `Model`: `dtype`, `device`, `dt`, `fuse`.

    Raises:
        FileNotFoundError: no such file.
        SBMLError: no SBML, or SBML that breaks its own rules; the message names the element.
        UnsupportedError: correct SBML that is not computed here (algebraic rules, fast reactions, delay(), packages that
            change the mathematics); the message names the element.
        ImportError: python-libsbml is not installed (extra `sbml`).

    Example:
        >>> text = '''<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="decay">
        ... <listOfCompartments><compartment id="c" size="2" constant="true"/></listOfCompartments>
        ... <listOfSpecies><species id="S" compartment="c" initialAmount="6" hasOnlySubstanceUnits="false"
        ...   boundaryCondition="false" constant="false"/></listOfSpecies>
        ... <listOfReactions><reaction id="r" reversible="false"><listOfReactants><speciesReference species="S"
        ...   stoichiometry="1" constant="true"/></listOfReactants><kineticLaw>
        ...   <math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci>c</ci><ci>k</ci><ci>S</ci></apply></math>
        ...   <listOfLocalParameters><localParameter id="k" value="0.5"/></listOfLocalParameters></kineticLaw>
        ... </reaction></listOfReactions></model></sbml>'''
        >>> model = load(text)
        >>> model.initial_state().tolist(), model.rate(0.0, model.initial_state()).tolist()
        ([[3.0]], [[-1.5]])
    """
    document = read(path_or_text)
    return Model(translate(document.getModel()), **options)
