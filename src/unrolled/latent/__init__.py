"""Reasoning in continuous latent space instead of words.

Under way: `tasks` and `superposition` stand.
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, submodules=("superposition", "tasks"), names={})
