"""Biological models in SBML as batched, differentiable systems."""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, submodules=(), names={})
