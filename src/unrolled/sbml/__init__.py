"""Biological models in SBML as batched, differentiable systems."""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.sbml.model import Model as Model

__getattr__, __dir__, __all__ = attach(
    __name__, submodules=("compile", "expression", "infix", "ir", "model"), names={"Model": "model"}
)
