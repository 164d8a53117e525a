"""Biological models in SBML as batched, differentiable systems."""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.sbml._load import load as load
    from unrolled.sbml.errors import SBMLError as SBMLError
    from unrolled.sbml.errors import UnsupportedError as UnsupportedError
    from unrolled.sbml.model import Model as Model

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("analysis", "compile", "expression", "infix", "ir", "model", "models"),
    names={"Model": "model", "SBMLError": "errors", "UnsupportedError": "errors", "load": "_load"},
)
