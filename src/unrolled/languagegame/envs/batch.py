"""What an environment is here: a batch of them, stepped together, each begun anew as soon as it ends."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Spec:
    """Sizes of an environment.

    Attributes:
        env_id: Gymnasium's name.
        observations: m, how many numbers are observed.
        actions: number of choices, or of joints.
        discrete: which of the two.
        low: `[A]` float32, least value of each joint; None for choices.
        high: `[A]`, largest.
        limit: steps after which an episode is cut off.
    """

    env_id: str
    observations: int
    actions: int
    discrete: bool
    low: Any = None
    high: Any = None
    limit: int | None = None


class Step(NamedTuple):
    """What came of a step: arrays with the batch first.

    Attributes:
        obs: `[B, m]` float32; where an episode ended, the first of the next one.
        reward: `[B]` float64.
        terminated: `[B]` bool, ended by the task.
        truncated: `[B]` bool, cut off by the limit of steps, and not terminated.
        final: `[B, m]`, what was observed before any beginning anew.
    """

    obs: Array
    reward: Array
    terminated: Array
    truncated: Array
    final: Array


class Batch(Protocol):
    """A batch of environments."""

    spec: Spec
    batch: int

    def reset(self) -> Array:
        """Begin all episodes anew: observations `[B, m]` float32."""
        ...

    def step(self, actions: Any) -> Step:
        """One step of each."""
        ...

    def save(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        ...

    def restore(self, saved: dict[str, Any]) -> None:
        """Put back what `save` gave."""
        ...


class Native:
    """A batch of environments in NumPy: the arithmetic of Gymnasium's, in its order and its precision.

    Each environment has a random generator of its own, seeded with seed, seed + 1, ..., as Gymnasium's vectors are, so that
    beginnings agree too.

    Args:
        batch: B.
        seed: of the first environment.

    Attributes:
        state: `[B, k]` float64, the internal state, by the names in `fields`; may be set.
        elapsed: `[B]`, steps since each episode began.
        spec: sizes.
        fields: names of the columns of `state`.
        bounds: `[k, 2]`, within which a state can occur; infinite where nothing bounds it.
    """

    spec: ClassVar[Spec]
    fields: ClassVar[tuple[str, ...]]
    bounds: ClassVar[tuple[tuple[float, float], ...]]

    def __init__(self, batch: int = 1, *, seed: int = 0) -> None:
        self.batch = batch
        self.state: Array = np.zeros((batch, len(self.fields)))
        self.elapsed = np.zeros(batch, dtype=np.int64)
        seeds = [np.random.SeedSequence(seed + i) for i in range(batch)]
        self._streams = [np.random.Generator(np.random.PCG64(each)) for each in seeds]

    # --- what each environment defines -------------------------------------------------------------------------------

    def _begin(self, rng: np.random.Generator) -> Any:
        """One initial state."""
        raise NotImplementedError

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        """Move `state` on: reward and whether terminated."""
        raise NotImplementedError

    def observe(self, state: Array) -> Array:
        """What is observed in states `[B, k]`: `[B, m]` float32."""
        raise NotImplementedError

    # --- the loop ------------------------------------------------------------------------------------------------------

    def reset(self) -> Array:
        """Begin all episodes anew: observations `[B, m]` float32."""
        self._restart(np.arange(self.batch))
        return self.observe(self.state)

    def _restart(self, which: Array) -> None:
        for i in which.tolist():
            self.state[i] = self._begin(self._streams[i])
        self.elapsed[which] = 0

    def step(self, actions: Any) -> Step:
        """One step of each environment; those that end begin anew.

        Args:
            actions: int `[B]`, or float `[B, A]`.

        Raises:
            ValueError: another shape, an action that does not exist, or one that is not finite.
        """
        reward, terminated = self.advance(actions)
        truncated = (self.elapsed >= (self.spec.limit or np.inf)) & ~terminated
        final = obs = self.observe(self.state)
        done = np.flatnonzero(terminated | truncated)
        if len(done):
            self._restart(done)
            obs = final.copy()
            obs[done] = self.observe(self.state[done])
        return Step(obs, reward, terminated, truncated, final)

    def advance(self, actions: Any) -> tuple[Array, Array]:
        """Move `state` on by one step, without any beginning anew: rewards `[B]`, and whether terminated `[B]`.

        Raises:
            ValueError: as `step`.
        """
        made = self._advance(self._checked(actions))
        self.elapsed += 1
        return made

    def _checked(self, actions: Any) -> Array:
        about = self.spec
        made = np.asarray(actions)
        if about.discrete:
            if made.shape != (self.batch,) or made.dtype.kind not in "iu":
                raise ValueError(
                    f"{about.env_id} takes {self.batch} whole numbers, got {made.dtype} {made.shape}"
                )
            if made.min() < 0 or made.max() >= about.actions:
                raise ValueError(
                    f"{about.env_id} has actions 0 to {about.actions - 1}, got {made.min()} to {made.max()}"
                )
            return made
        made = made.astype(np.float32, copy=False)
        if made.shape != (self.batch, about.actions):
            raise ValueError(
                f"{about.env_id} takes actions [{self.batch}, {about.actions}], got {made.shape}"
            )
        if not np.isfinite(made).all():
            raise ValueError(f"{about.env_id} got an action that is not finite")
        return made

    def valid(self, state: Array) -> Array:
        """Which states `[B, k]` can occur: finite, and within `bounds`. `[B]` bool."""
        low, high = np.array(self.bounds).T
        state = np.asarray(state, dtype=np.float64)
        return (np.isfinite(state) & (state >= low) & (state <= high)).all(-1)

    def save(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        streams = [stream.bit_generator.state["state"] for stream in self._streams]
        words = [
            [str(each["state"]), str(each["inc"])] for each in streams
        ]  # of 128 bits: too long for JSON numbers
        return {"state": self.state.copy(), "elapsed": self.elapsed.copy(), "streams": words}

    def restore(self, saved: dict[str, Any]) -> None:
        """Put back what `save` gave.

        Raises:
            ValueError: it is of another number of environments.
        """
        if len(saved["streams"]) != self.batch:
            raise ValueError(f"saved were {len(saved['streams'])} environments, here are {self.batch}")
        self.state = np.array(saved["state"], dtype=np.float64)
        self.elapsed = np.array(saved["elapsed"], dtype=np.int64)
        for stream, (state, inc) in zip(self._streams, saved["streams"]):
            whole: dict[str, Any] = dict(stream.bit_generator.state)
            whole["state"] = {"state": int(state), "inc": int(inc)}
            stream.bit_generator.state = whole
