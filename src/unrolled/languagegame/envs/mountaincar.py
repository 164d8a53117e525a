"""MountainCar-v0 and MountainCarContinuous-v0: leave a valley in a car too weak to drive straight out (Moore 1990)."""

import numpy as np

from unrolled.languagegame.envs.batch import Array, Native, Spec

LEFT, RIGHT, SPEED = -1.2, 0.6, 0.07


class MountainCar(Native):
    """Actions: 0 pushes left, 1 does nothing, 2 pushes right. Reward -1 a step, until the flag at 0.5.

    Example:
        >>> env = MountainCar(1)
        >>> env.state[:] = [[0.49, 0.05]]
        >>> env.step([2]).terminated.tolist()
        [True]
    """

    spec = Spec("MountainCar-v0", 2, 3, True, limit=200)
    fields = ("position", "velocity")
    bounds = ((LEFT, RIGHT), (-SPEED, SPEED))

    def _begin(self, rng: np.random.Generator) -> Array:
        return np.array([rng.uniform(low=-0.6, high=-0.4), 0.0])

    def observe(self, state: Array) -> Array:
        """The state itself."""
        return state.astype(np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        position, velocity = self.state.T
        velocity = velocity + ((actions - 1) * 0.001 + np.cos(3 * position) * (-0.0025))
        velocity = np.clip(velocity, -SPEED, SPEED)
        position = np.clip(position + velocity, LEFT, RIGHT)
        velocity = np.where((position == LEFT) & (velocity < 0), 0.0, velocity)
        self.state = np.stack([position, velocity], -1)
        return np.full(self.batch, -1.0), (position >= 0.5) & (velocity >= 0)


class MountainCarContinuous(Native):
    """Action: a force within [-1, 1]. Reward 100 at the flag at 0.45, less 0.1 force^2 a step.

    Gymnasium keeps this state in float32 from the first step on, and so does this.

    Example:
        >>> env = MountainCarContinuous(1)
        >>> env.state[:] = [[0.449, 0.05]]
        >>> round(float(env.step([[1.0]]).reward[0]), 1)
        99.9
    """

    spec = Spec(
        "MountainCarContinuous-v0", 2, 1, False,
        low=np.array([-1.0], dtype=np.float32), high=np.array([1.0], dtype=np.float32), limit=999,
    )  # fmt: skip
    fields = ("position", "velocity")
    bounds = ((LEFT, RIGHT), (-SPEED, SPEED))

    def _begin(self, rng: np.random.Generator) -> Array:
        return np.array([rng.uniform(low=-0.6, high=-0.4), 0.0])

    def observe(self, state: Array) -> Array:
        """The state itself."""
        return state.astype(np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        made = self._moved(self.state.astype(np.float32), actions)
        fresh = np.flatnonzero(self.elapsed == 0)
        if len(fresh):  # the first step of an episode is made in float64, from the float64 of its beginning
            made[fresh] = self._moved(self.state[fresh], actions[fresh])
        self.state = made.astype(np.float64)
        position, velocity = made.T
        terminated = (position >= np.float32(0.45)) & (velocity >= 0)
        terminated[fresh] = (position[fresh].astype(np.float64) >= 0.45) & (velocity[fresh] >= 0)
        reward = np.where(terminated, 100.0, 0.0) - np.square(actions[:, 0].astype(np.float64)) * 0.1
        return reward, terminated

    def _moved(self, state: Array, actions: Array) -> Array:
        position, velocity = state.T
        kind = state.dtype
        force = actions[:, 0]
        slope = 0.0025 * np.cos((kind.type(3) * position).astype(np.float64))
        # A force that is cut becomes a Python float in Gymnasium, so its sum is made in float64; any other is in float32.
        cut = np.where(force > 0, 0.0015, -0.0015) - slope
        push = force * np.float32(0.0015) - slope.astype(np.float32)
        velocity = velocity + np.where(np.abs(force) > 1, cut, push).astype(kind)
        velocity = np.clip(velocity, kind.type(-SPEED), kind.type(SPEED))
        position = np.clip(position + velocity, kind.type(LEFT), kind.type(RIGHT))
        velocity = np.where((position == kind.type(LEFT)) & (velocity < 0), kind.type(0), velocity)
        return np.stack([position, velocity], -1).astype(np.float32)
