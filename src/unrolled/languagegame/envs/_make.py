"""An environment by its name."""

from functools import cache
from typing import Any

from unrolled.languagegame.envs import outside
from unrolled.languagegame.envs.acrobot import Acrobot
from unrolled.languagegame.envs.batch import Native, Spec
from unrolled.languagegame.envs.cartpole import CartPole
from unrolled.languagegame.envs.mountaincar import MountainCar, MountainCarContinuous
from unrolled.languagegame.envs.pendulum import Pendulum

NATIVE: dict[str, type[Native]] = {
    each.spec.env_id: each for each in (CartPole, Acrobot, MountainCar, MountainCarContinuous, Pendulum)
}
"""Gymnasium's name -> the environment in NumPy."""


def make(env_id: str, batch: int = 1, *, seed: int = 0, native: bool | None = None, **options: Any) -> Any:
    """A batch of environments, see `unrolled.languagegame.envs.batch.Batch`.

    Args:
        env_id: Gymnasium's name.
        batch: how many.
        seed: of the first; the next have seed + 1, ...
        native: ours (True), Gymnasium's (False), or ours where there is one (None).
        options: of `gymnasium.make`.

    Raises:
        ValueError: there is none of that name; the message lists what there is.
        ImportError: an extra is missing; the message names it.

    Example:
        >>> make("Pendulum-v1", 2).reset().shape
        (2, 3)
    """
    if batch < 1:
        raise ValueError(f"a batch has at least one environment, got {batch}")
    if env_id in NATIVE and native is not False and not options:
        return NATIVE[env_id](batch, seed=seed)
    if native:
        raise ValueError(f"no native environment {env_id!r}; there are {', '.join(NATIVE)}")
    return outside.Outside(env_id, batch, seed=seed, **options)


def spec(env_id: str) -> Spec:
    """Sizes of an environment.

    Raises:
        ValueError: there is none of that name.

    Example:
        >>> spec("CartPole-v1").actions
        2
    """
    return NATIVE[env_id].spec if env_id in NATIVE else _outside(env_id)


@cache
def _outside(env_id: str) -> Spec:
    env = outside.make(env_id)
    try:
        return outside.spec(env, env_id)
    finally:
        env.close()
