"""Environments in batches: classic control of our own, equal to Gymnasium's step for step, and Gymnasium's for the rest.

>>> from unrolled.languagegame import envs
>>> env = envs.make("CartPole-v1", batch=3, seed=0)
>>> env.reset().shape, env.step([0, 1, 1]).reward.tolist()
((3, 4), [1.0, 1.0, 1.0])
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.languagegame.envs._make import NATIVE as NATIVE
    from unrolled.languagegame.envs._make import make as make
    from unrolled.languagegame.envs._make import spec as spec
    from unrolled.languagegame.envs.batch import Batch as Batch
    from unrolled.languagegame.envs.batch import Native as Native
    from unrolled.languagegame.envs.batch import Spec as Spec
    from unrolled.languagegame.envs.batch import Step as Step
    from unrolled.languagegame.envs.outside import Outside as Outside

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("acrobot", "batch", "cartpole", "mountaincar", "outside", "pendulum"),
    names={
        "Batch": "batch",
        "NATIVE": "_make",
        "Native": "batch",
        "Outside": "outside",
        "Spec": "batch",
        "Step": "batch",
        "make": "_make",
        "spec": "_make",
    },
)
