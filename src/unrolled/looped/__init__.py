"""Linear-time looped transformers."""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, submodules=("ops", "tasks"), names={})
