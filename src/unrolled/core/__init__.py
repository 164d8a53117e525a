"""The core: a system iterates, `rollout` drives it, a `Trajectory` remembers.

>>> import torch
>>> from unrolled.core import rollout
>>> class Halve:
...     def init(self, input, *, rng=None):
...         return input
...
...     def step(self, state, input, *, rng=None):
...         return state / 2
>>> rollout(Halve(), torch.tensor([8.0]), steps=3)["state"].flatten().tolist()
[8.0, 4.0, 2.0, 1.0]
"""

from unrolled.core import seeds, tree
from unrolled.core.check import Check, SystemCheckError, check_system
from unrolled.core.extras import require
from unrolled.core.rollout import rollout
from unrolled.core.stop import Halted, Settled, Stop
from unrolled.core.system import Input, State, System
from unrolled.core.trajectory import Trajectory

__all__ = [
    "Check",
    "Halted",
    "Input",
    "Settled",
    "State",
    "Stop",
    "System",
    "SystemCheckError",
    "Trajectory",
    "check_system",
    "require",
    "rollout",
    "seeds",
    "tree",
]
