"""Pendulum-v1: swing a pendulum up and hold it there, with a torque too weak to lift it at once."""

import math

import numpy as np

from unrolled.languagegame.envs.batch import Array, Native, Spec

SPEED, TORQUE, DT, GRAVITY, MASS, LENGTH = 8.0, 2.0, 0.05, 10.0, 1.0, 1.0


class Pendulum(Native):
    """Action: a torque within [-2, 2]. Reward -(angle^2 + 0.1 velocity^2 + 0.001 torque^2), at most 0; 0 is upright.

    Gymnasium squares a float32 torque with C's `powf`, which now and then errs in the last bit: rewards agree to 1e-9, all else
    is equal.

    Example:
        >>> env = Pendulum(1)
        >>> env.state[:] = [[math.pi, 0.0]]
        >>> round(float(env.step([[0.0]]).reward[0]), 4)  # hanging: -pi^2
        -9.8696
    """

    spec = Spec(
        "Pendulum-v1", 3, 1, False,
        low=np.array([-TORQUE], dtype=np.float32), high=np.array([TORQUE], dtype=np.float32), limit=200,
    )  # fmt: skip
    fields = ("angle", "angular velocity")
    bounds = ((-math.inf, math.inf), (-SPEED, SPEED))

    def _begin(self, rng: np.random.Generator) -> Array:
        return rng.uniform(low=np.array([-math.pi, -1.0]), high=np.array([math.pi, 1.0]))

    def observe(self, state: Array) -> Array:
        """Cosine and sine of the angle, and the angular velocity."""
        angle, spin = state.T
        return np.stack([np.cos(angle), np.sin(angle), spin], -1).astype(np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        angle, spin = self.state.T
        torque = np.clip(actions, -TORQUE, TORQUE)[:, 0]  # float32, and so are its products: as in Gymnasium
        upright = ((angle + np.pi) % (2 * np.pi)) - np.pi
        cost = upright**2 + 0.1 * spin**2 + 0.001 * (torque**2)
        turn = 3 * GRAVITY / (2 * LENGTH) * np.sin(angle) + 3.0 / (MASS * LENGTH**2) * torque
        spin = np.clip(spin + turn * DT, -SPEED, SPEED)
        self.state = np.stack([angle + spin * DT, spin], -1)
        return -cost, np.zeros(self.batch, dtype=bool)
