"""Tasks: ra25 (random pairs), reber (a grammar to predict), objrec (LED objects seen through a V1), fashion (clothes).

Each file holds what the task shows, the network that learns it with its parameter sheet, and one epoch of it.

>>> from unrolled.cortex import tasks
>>> tasks.reber.spell(tasks.reber.stream(8, data=1, rng=0).letters[:, 0])[0]
'B'
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, submodules=("ra25", "reber", "objrec", "fashion"))
