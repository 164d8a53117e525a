"""cortex: the same cells are a prediction, then an outcome; a synapse learns from the difference.

>>> import unrolled.cortex as cortex
>>> round(cortex.td.fast_slow(50, 80), 3)
6.466
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, submodules=("kinase", "td"))
