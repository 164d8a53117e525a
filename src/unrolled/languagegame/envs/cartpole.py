"""CartPole-v1: keep a pole upright on a cart by pushing left or right (Barto, Sutton & Anderson 1983)."""

import math

import numpy as np

from unrolled.languagegame.envs.batch import Array, Native, Spec

GRAVITY, CART, POLE, HALF, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
TOTAL, MOMENT = POLE + CART, POLE * HALF
TRACK, LEAN = 2.4, 12 * 2 * math.pi / 360


class CartPole(Native):
    """Actions: 0 pushes left, 1 right. Reward 1 a step, until the pole leans beyond 12 degrees or the cart leaves the track.

    Example:
        A cart at rest under an upright pole is pushed to the right with 10 N, and the pole falls to the left:

        >>> env = CartPole(1)
        >>> env.state[:] = 0.0
        >>> [round(float(v), 4) for v in env.step([1]).obs[0]]
        [0.0, 0.1951, 0.0, -0.2927]
    """

    spec = Spec("CartPole-v1", 4, 2, True, limit=500)
    fields = ("cart position", "cart velocity", "pole angle", "pole angular velocity")
    bounds = ((-TRACK, TRACK), (-math.inf, math.inf), (-LEAN, LEAN), (-math.inf, math.inf))

    def _begin(self, rng: np.random.Generator) -> Array:
        return rng.uniform(low=-0.05, high=0.05, size=(4,))

    def observe(self, state: Array) -> Array:
        """The state itself."""
        return state.astype(np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        x, v, angle, spin = self.state.T
        force = np.where(actions == 1, FORCE, -FORCE)
        cos, sin = np.cos(angle), np.sin(angle)
        temp = (force + MOMENT * np.square(spin) * sin) / TOTAL
        turn = (GRAVITY * sin - cos * temp) / (HALF * (4.0 / 3.0 - POLE * np.square(cos) / TOTAL))
        push = temp - MOMENT * turn * cos / TOTAL
        self.state = np.stack([x + TAU * v, v + TAU * push, angle + TAU * spin, spin + TAU * turn], -1)
        over = (np.abs(self.state[:, 0]) > TRACK) | (np.abs(self.state[:, 2]) > LEAN)
        return np.ones(self.batch), over
