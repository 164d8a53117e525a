"""Gymnasium's environments as a batch: MuJoCo, Atari by its memory, and whatever else is registered."""

import contextlib
import importlib
import warnings
from typing import Any

import numpy as np

from unrolled.core import require
from unrolled.languagegame.envs.batch import Array, Spec, Step

ELSEWHERE = {"PointMaze": "gymnasium_robotics", "AntMaze": "gymnasium_robotics", "dm_control/": "shimmy"}
"""Environments that packages of their own register: how their names begin -> the module."""


class Outside:
    """A batch of Gymnasium environments in this process, one after another; observations are flattened to numbers.

    Args:
        env_id: Gymnasium's name.
        batch: B.
        seed: of the first one, the next has seed + 1, and so on.
        options: of `gymnasium.make`; Atari is read by its 128 bytes of memory (`obs_type="ram"`) unless told otherwise.

    Attributes:
        envs: the environments.
        spec: sizes.

    Raises:
        ValueError: no such environment, or an action space that is neither choices nor a box.
        ImportError: Gymnasium, or what the environment needs, is not installed; the message names the extra.
    """

    def __init__(self, env_id: str, batch: int = 1, *, seed: int = 0, **options: Any) -> None:
        self.batch, self.seed = batch, seed
        self.envs: list[Any] = [make(env_id, **options) for _ in range(batch)]
        self.spec = spec(self.envs[0], env_id)
        self._begun = False

    def reset(self) -> Array:
        """Begin all episodes anew: observations `[B, m]` float32. The first time with the seeds."""
        seeds = [None] * self.batch if self._begun else [self.seed + i for i in range(self.batch)]
        self._begun = True
        return np.stack([flat(env.reset(seed=each)[0]) for env, each in zip(self.envs, seeds)])

    def step(self, actions: Any) -> Step:
        """One step of each environment; those that end begin anew."""
        actions = np.asarray(actions)
        rewards, ended, cut = np.zeros(self.batch), np.zeros(self.batch, bool), np.zeros(self.batch, bool)
        obs = np.empty((self.batch, self.spec.observations), dtype=np.float32)
        final = np.empty_like(obs)
        for i, env in enumerate(self.envs):
            action = int(actions[i]) if self.spec.discrete else actions[i].astype(env.action_space.dtype)
            seen, rewards[i], ended[i], cut[i], _ = env.step(action)
            obs[i] = final[i] = flat(seen)
            if ended[i] or cut[i]:
                obs[i] = flat(env.reset()[0])
        return Step(obs, rewards, ended, cut & ~ended, final)

    def save(self) -> dict[str, Any]:
        """Everything that the next step depends on.

        Raises:
            ValueError: the environment keeps a state outside Python that cannot be stored.
        """
        raise ValueError(
            f"{self.spec.env_id} keeps its state outside of Python: training on it goes on after a kill with new episodes"
        )

    def restore(self, saved: dict[str, Any]) -> None:
        """Not possible; see `save`."""
        self.save()

    def close(self) -> None:
        """Free what the environments hold."""
        for env in self.envs:
            with contextlib.suppress(Exception):
                env.close()


def flat(obs: Any) -> Array:
    """An observation as one row of float32; a dictionary's parts in the order of their names."""
    if isinstance(obs, dict):
        return np.concatenate([np.ravel(obs[key]) for key in sorted(obs)]).astype(np.float32)
    return np.ravel(obs).astype(np.float32)


def make(env_id: str, **options: Any) -> Any:
    """`gymnasium.make` with an error that says what is missing."""
    gymnasium = require("gymnasium", extra="rl")
    if env_id.startswith("ALE/"):
        ale = require("ale_py", extra="atari")
        with contextlib.suppress(Exception):
            gymnasium.register_envs(ale)
        options = {"obs_type": "ram", **options}
    module = next((module for start, module in ELSEWHERE.items() if env_id.startswith(start)), None)
    if module is not None:
        try:
            with warnings.catch_warnings(), contextlib.suppress(gymnasium.error.Error):
                warnings.simplefilter("ignore")
                gymnasium.register_envs(importlib.import_module(module))
        except ImportError as error:
            package = module.replace("_", "-")
            raise ImportError(
                f"{env_id} is an environment of {package}: pip install {package} ({error})"
            ) from error
    try:
        return gymnasium.make(env_id, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(
            f"{env_id} needs more: {error}. Install unrolled[mujoco], or what the message says"
        ) from error
    except gymnasium.error.Error as error:
        from unrolled.languagegame.envs._make import NATIVE

        raise ValueError(
            f"no environment {env_id!r}: {error}. There are {', '.join(NATIVE)}, and with unrolled[mujoco] and unrolled[atari] "
            f"those of Gymnasium, such as Hopper-v5 and ALE/BankHeist-v5"
        ) from None


def spec(env: Any, env_id: str) -> Spec:
    """Sizes of a Gymnasium environment."""
    space, action = env.observation_space, env.action_space
    parts = list(space.spaces.values()) if hasattr(space, "spaces") else [space]
    if any(getattr(part, "shape", None) is None for part in parts):
        raise ValueError(f"{env_id} observes {space}, which is no list of numbers")
    m = int(sum(np.prod(part.shape) for part in parts))
    limit = getattr(env.spec, "max_episode_steps", None)
    if hasattr(action, "n"):
        return Spec(env_id, m, int(action.n), True, limit=limit)
    if not hasattr(action, "low") or len(action.shape) != 1:
        raise ValueError(
            f"{env_id} acts in {action}; a policy makes choices, or a list of numbers within bounds"
        )
    return Spec(env_id, m, int(action.shape[0]), False, action.low.copy(), action.high.copy(), limit)
