"""`Simulated`: MuJoCo and Atari as grounds. Their states are only ever ones that were reached by playing.

A state of a body or of a game console cannot be written down number by number: limbs would overlap, memory would contradict
itself. So moments of random play are kept, and each can be returned to and branched from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.core import require
from unrolled.languagegame.game import Choice, Game
from unrolled.languagegame.ground import Ahead

OTHERS = {
    "pointmaze": "pip install gymnasium-robotics",
    "fingerspin": "pip install dm-control shimmy",
}
"""What brings the games that no extra of this package brings."""
HOLD, AFTER = {"mujoco": 4, "atari": 8}, {"mujoco": 4, "atari": 12}
"""Steps for which an action is held, and steps of rest after it, per kind."""


@dataclass(frozen=True)
class Moment:
    """A moment of play that can be returned to.

    Attributes:
        observation: `[m]`.
        snapshot: what returns to it: (qpos, qvel), or the emulator's own state.
    """

    observation: np.ndarray
    snapshot: Any = field(repr=False)


class Simulated:
    """A Gymnasium environment whose moments can be returned to.

    The merit of an action is the reward while it is held (4 steps; 8 in Atari) and during rest after it (4; 12), in the
    environment's own points; the emulator never repeats an action by chance here, so that every action meets the same world.

    Args:
        game: one with an extra.

    Raises:
        ImportError: its environment is not installed; the message says how to get it.
    """

    def __init__(self, game: Game) -> None:
        self.game, self.fields = (
            game,
            game.sensors or tuple(f"observation {i}" for i in range(game.observations)),
        )
        gymnasium = require("gymnasium", extra=game.extra)
        options: dict[str, Any] = {}
        if game.extra == "atari":
            gymnasium.register_envs(require("ale_py", extra="atari"))
            options = {"obs_type": "ram", "repeat_action_probability": 0.0, "render_mode": "rgb_array"}
        try:
            gymnasium.logger.min_level = gymnasium.logger.ERROR
            self._env: Any = gymnasium.make(game.env_id, disable_env_checker=True, **options).unwrapped
        except Exception as error:
            how = OTHERS.get(game.name, f'pip install "unrolled[{game.extra}]"')
            raise ImportError(f"{game.title} ({game.env_id}) is not installed: {how} ({error})") from error
        self._rest: Any = 0 if isinstance(game.moves, Choice) else np.zeros(len(game.moves.names))

    # --- moments -------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: torch.Generator, *, calm: bool = False) -> list[Moment]:
        """Some n moments of random play, each held for a few steps: `calm` ones with no push at all."""
        draw = np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng)))
        made: list[Moment] = []
        observation, _ = self._env.reset(seed=int(draw.integers(2**31)))
        while len(made) < n:
            action = self._rest if calm else self._drawn(draw)
            for _ in range(int(draw.integers(1, 12))):
                observation, _, terminated, truncated, _ = self._env.step(action)
                if terminated or truncated:
                    observation, _ = self._env.reset(seed=int(draw.integers(2**31)))
                    break
            else:
                made.append(Moment(np.asarray(observation).reshape(-1).copy(), self._snapshot()))
        return made

    def _drawn(self, draw: np.random.Generator) -> Any:
        moves = self.game.moves
        if isinstance(moves, Choice):
            return int(draw.integers(len(moves.names)))
        return draw.uniform(-moves.bound, moves.bound, len(moves.names))

    def _snapshot(self) -> Any:
        if self.game.extra == "atari":
            return self._env.ale.cloneState(include_rng=True)
        return self._env.data.qpos.copy(), self._env.data.qvel.copy()

    def _return(self, moment: Moment) -> None:
        if self.game.extra == "atari":
            self._env.ale.restoreState(moment.snapshot)
            return
        mujoco = require("mujoco", extra="mujoco")
        mujoco.mj_resetData(self._env.model, self._env.data)
        self._env.set_state(*moment.snapshot)

    def valid(self, state: Any) -> bool:
        """Whether it is a moment of play with finite numbers."""
        return isinstance(state, Moment) and bool(np.isfinite(state.observation.astype(float)).all())

    def observe(self, state: Any) -> Tensor:
        """What the player observes there, `[m]`.

        Raises:
            ValueError: it is no moment of play.
        """
        if not self.valid(state):
            raise ValueError(
                f"{self.game.title} can only be put into moments of play, got {type(state).__name__}"
            )
        return torch.as_tensor(state.observation.astype(np.float32))

    # --- what follows --------------------------------------------------------------------------------------------------

    def ahead(self, states: Sequence[Any], actions: Sequence[Any], outcome: str = "") -> Ahead:
        """See `Ahead`; one branch after another."""
        read = self._quantity(outcome) if outcome else None
        merit = torch.full((len(states), len(actions)), torch.nan, dtype=torch.float64)
        reached = torch.full_like(merit, torch.nan)
        for i, state in enumerate(states):
            for j, action in enumerate(actions):
                self._return(state)
                merit[i, j] = self._branch(action)
                reached[i, j] = read() if read else 0.0
        return Ahead(merit, reached - reached[:, :1] if read else None)

    def _branch(self, action: Any) -> float:
        kind, total = self.game.extra, 0.0
        for k in range(HOLD[kind] + AFTER[kind]):
            _, reward, terminated, _, _ = self._env.step(action if k < HOLD[kind] else self._rest)
            total += float(reward)
            if terminated:
                break
        return total

    def step(self, state: Any, action: Any) -> tuple[Moment, float, bool]:
        """One step from a moment."""
        self._return(state)
        made = (
            int(action)
            if isinstance(self.game.moves, Choice)
            else np.asarray(action, dtype=float).reshape(-1)
        )
        observation, reward, terminated, _, _ = self._env.step(made)
        return (
            Moment(np.asarray(observation).reshape(-1).copy(), self._snapshot()),
            float(reward),
            bool(terminated),
        )

    def numbers(self, state: Any) -> list[float]:
        """The observation's entries: the state itself is a whole machine."""
        return [float(v) for v in state.observation]

    def screen(self, state: Any) -> np.ndarray | None:
        """The screen of a console at a moment; None for bodies, which need a graphics library to be drawn."""
        if self.game.extra != "atari":
            return None
        self._return(state)
        return self._env.ale.getScreenRGB()

    def _quantity(self, name: str) -> Callable[[], float]:
        data, env = self._env.data, self._env

        def apart(a: str, b: str) -> float:
            return float(np.linalg.norm(env.get_body_com(a) - env.get_body_com(b)))

        def height() -> float:
            return float(data.body("torso").xpos[2])

        quantities: dict[str, Callable[[], float]] = {
            "distance of the fingertip from the target": lambda: apart("fingertip", "target"),
            "distance of the hand from the object": lambda: apart("tips_arm", "object"),
            "distance of the object from its place": lambda: apart("object", "goal"),
            "forward speed": lambda: float(data.qpos[0]),
            "upward speed": height,
        }
        if name not in quantities:
            raise ValueError(f"{self.game.title} measures no {name!r}; there are {', '.join(quantities)}")
        return quantities[name]
