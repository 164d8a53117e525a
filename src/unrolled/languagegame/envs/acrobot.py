"""Acrobot-v1: two links hang from a bar, a torque at the joint between them swings the tip above the bar (Sutton 1996)."""

import math

import numpy as np

from unrolled.languagegame.envs.batch import Array, Native, Spec

DT, SPEED_1, SPEED_2, GRAVITY = 0.2, 4 * math.pi, 9 * math.pi, 9.8
LENGTH, MASS, CENTRE, INERTIA = 1.0, 1.0, 0.5, 1.0
PI = math.pi


class Acrobot(Native):
    """Actions: torque -1, 0, 1. Reward -1 a step, 0 when the tip is one link above the bar, which ends the episode.

    Example:
        Both links straight up are above the line, and stay there for a step:

        >>> env = Acrobot(1)
        >>> env.state[:] = [[math.pi - 0.01, 0.0, 0.0, 0.0]]
        >>> made = env.step([1])
        >>> made.reward.tolist(), made.terminated.tolist()
        ([0.0], [True])
    """

    spec = Spec("Acrobot-v1", 6, 3, True, limit=500)
    fields = ("angle 1", "angle 2", "angular velocity 1", "angular velocity 2")
    bounds = ((-PI, PI), (-PI, PI), (-SPEED_1, SPEED_1), (-SPEED_2, SPEED_2))

    def _begin(self, rng: np.random.Generator) -> Array:
        return rng.uniform(low=-0.1, high=0.1, size=(4,)).astype(np.float32)

    def observe(self, state: Array) -> Array:
        """Cosine and sine of both angles, and the angular velocities."""
        first, second, spin_1, spin_2 = state.T
        parts = [np.cos(first), np.sin(first), np.cos(second), np.sin(second), spin_1, spin_2]
        return np.stack(parts, -1).astype(np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        y, torque = self.state.T, actions - 1.0
        k1 = _rate(y, torque)
        k2 = _rate(y + DT / 2.0 * k1, torque)
        k3 = _rate(y + DT / 2.0 * k2, torque)
        k4 = _rate(y + DT * k3, torque)
        y = y + DT / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        y[0], y[1] = _wrapped(y[0]), _wrapped(y[1])
        y[2] = np.minimum(np.maximum(y[2], -SPEED_1), SPEED_1)
        y[3] = np.minimum(np.maximum(y[3], -SPEED_2), SPEED_2)
        self.state = np.ascontiguousarray(y.T)
        over = -np.cos(y[0]) - np.cos(y[1] + y[0]) > 1.0
        return np.where(over, 0.0, -1.0), over


def _wrapped(angle: Array) -> Array:
    """Within [-pi, pi], by turns added one by one: another order of arithmetic would round elsewhere."""
    turn = 2 * PI
    while (beyond := angle > PI).any():
        angle = np.where(beyond, angle - turn, angle)
    while (beyond := angle < -PI).any():
        angle = np.where(beyond, angle + turn, angle)
    return angle


def _rate(y: Array, torque: Array) -> Array:
    first, second, spin_1, spin_2 = y
    cos, sin = np.cos(second), np.sin(second)
    reach = LENGTH * CENTRE
    d1 = MASS * CENTRE**2 + MASS * (LENGTH**2 + CENTRE**2 + 2 * reach * cos) + INERTIA + INERTIA
    d2 = MASS * (CENTRE**2 + reach * cos) + INERTIA
    pull_2 = MASS * CENTRE * GRAVITY * np.cos(first + second - PI / 2.0)
    pull_1 = (
        -MASS * reach * spin_2**2 * sin
        - 2 * MASS * reach * spin_2 * spin_1 * sin
        + (MASS * CENTRE + MASS * LENGTH) * GRAVITY * np.cos(first - PI / 2)
        + pull_2
    )
    turn_2 = (torque + d2 / d1 * pull_1 - MASS * reach * spin_1**2 * sin - pull_2) / (
        MASS * CENTRE**2 + INERTIA - d2**2 / d1
    )
    turn_1 = -(d2 * turn_2 + pull_1) / d1
    return np.stack([spin_1, spin_2, turn_1, turn_2])
