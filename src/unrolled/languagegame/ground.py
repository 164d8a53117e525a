"""Where games take place: valid states, what is observed in them, and what follows from an action.

A ground can be put into a state, which an environment usually cannot. `Classic` is the native environments with a known good
player each; `Simulated` is MuJoCo and Atari through Gymnasium, whose states are only ever ones that were reached by playing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from unrolled.languagegame import envs
from unrolled.languagegame.game import Choice, Game


@dataclass(frozen=True)
class Ahead:
    """What follows from each action in each state.

    Attributes:
        merit: `[n, A]`, how well things went, more is better; NaN where the simulation broke.
        outcome: `[n, A]`, a named quantity after the action minus the same after doing nothing; None where none was asked for.
        player: what a known good player does in each state, where there is one.
    """

    merit: Tensor
    outcome: Tensor | None = None
    player: Sequence[Any] | None = None


class Ground(Protocol):
    """What the designer and the talk need of a game's world."""

    game: Game
    fields: tuple[str, ...]

    def sample(self, n: int, rng: torch.Generator, *, calm: bool = False) -> Sequence[Any]:
        """Some n valid states; calm ones, near rest, for goals of stillness."""
        ...

    def valid(self, state: Any) -> bool:
        """Whether a state can occur."""
        ...

    def observe(self, state: Any) -> Tensor:
        """What the player observes there, `[m]`."""
        ...

    def ahead(self, states: Sequence[Any], actions: Sequence[Any], outcome: str = "") -> Ahead:
        """What follows when each action is taken in each state."""
        ...

    def step(self, state: Any, action: Any) -> tuple[Any, float, bool]:
        """The next state, the reward, and whether the game is over."""
        ...

    def numbers(self, state: Any) -> list[float]:
        """The state as numbers, by `fields` where these have names."""
        ...


def ground(game: Game) -> "Ground":
    """The world of a game.

    Raises:
        ImportError: the environment is not installed; the message says how to get it.

    Example:
        >>> from unrolled.languagegame.games import named
        >>> ground(named("pendulum")).observe([0.0, 1.0]).tolist()
        [1.0, 0.0, 1.0]
    """
    if game.env_id in envs.NATIVE:
        return Classic(game)
    from unrolled.languagegame.simulated import Simulated

    return Simulated(game)


def probes(game: Game, ground: "Ground | None" = None) -> list[Any]:
    """The actions that are compared: all choices; or rest first, then a fan of pushes.

    One joint: eleven even steps within the bounds. Two: rest and sixteen directions, softly and with all force. More: rest, each
    joint both ways and sixteen random corners, the same ones every time, softly and with all force.
    """
    moves = game.moves
    if isinstance(moves, Choice):
        return list(range(len(moves.names)))
    joints, bound = len(moves.names), moves.bound
    if joints == 1:
        return [np.array([bound * v]) for v in (0, -1, -0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8, 1)]
    rest = [np.zeros(joints)]
    if joints == 2:
        turns = [2 * math.pi * k / 16 for k in range(16)]
        return rest + [
            size * bound * np.array([math.cos(a), math.sin(a)]) for size in (0.15, 1) for a in turns
        ]
    rng = np.random.default_rng(0)
    ways = [sign * bound * row for row in np.eye(joints) for sign in (1, -1)]
    corners = [bound * rng.choice([-1.0, 1.0], joints) for _ in range(16)]
    return rest + [size * action for size in (0.2, 1) for action in ways + corners]


# --- classic control ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """What is known of a classic task: where players meet it, how well a state stands, and a good player.

    Attributes:
        box: per field, the range of states to design from, well inside what is valid.
        merit: states `[n, k]` -> `[n]`, how well they stand; summed along the way.
        player: states -> actions.
        over: merit of an episode's end, per step that it no longer lasts; None: an end is a success, and merit stays.
    """

    box: tuple[tuple[float, float], ...]
    merit: Any
    player: Any
    over: float | None = None


BALANCE = np.array([-0.9, -1.75, -19.0, -3.6])
"""Gains on CartPole's state: a linear-quadratic regulator's, rounded; the push is right where BALANCE @ state is negative."""


def _lean(s: np.ndarray) -> np.ndarray:
    return -((s[:, 2] / 0.2) ** 2) - 0.1 * s[:, 3] ** 2 - 0.1 * (s[:, 0] / 2.4) ** 2


def _balance(s: np.ndarray) -> np.ndarray:
    return (s @ BALANCE < 0).astype(np.int64)


def _angle(s: np.ndarray) -> np.ndarray:
    return (s[:, 0] + math.pi) % (2 * math.pi) - math.pi


def _upright(s: np.ndarray) -> np.ndarray:
    return -(_angle(s) ** 2) - 0.1 * s[:, 1] ** 2


def _swing_up(s: np.ndarray) -> np.ndarray:
    """Near the top a spring and a brake; elsewhere energy is brought to that of standing upright."""
    angle, spin = _angle(s), s[:, 1]
    energy = spin**2 / 6 + 5 * (np.cos(angle) - 1)
    pump = -energy * np.where(spin == 0, 1.0, np.sign(spin))
    near = (np.abs(angle) < 0.5) & (np.abs(spin) < 3)
    return np.clip(np.where(near, -12 * angle - 3 * spin, pump), -2, 2)[:, None]


def _acrobot_energy(s: np.ndarray) -> np.ndarray:
    first, second, spin_1, spin_2 = s.T
    cos = np.cos(second)
    m11, m12, m22 = 3.5 + cos, 1.25 + 0.5 * cos, 1.25
    moving = 0.5 * m11 * spin_1**2 + m12 * spin_1 * spin_2 + 0.5 * m22 * spin_2**2
    return moving - 9.8 * (1.5 * np.cos(first) + 0.5 * np.cos(first + second))


def _pump(s: np.ndarray) -> np.ndarray:
    """A torque with the elbow's turning adds energy."""
    return np.where(s[:, 3] >= 0, 2, 0).astype(np.int64)


def _hill_energy(s: np.ndarray) -> np.ndarray:
    return 1e4 * (s[:, 1] ** 2 / 2 + 0.0025 / 3 * np.sin(3 * s[:, 0]))


def _with_speed(s: np.ndarray) -> np.ndarray:
    return np.where(s[:, 1:] >= 0, 1.0, -1.0)


_CLASSIC: dict[str, _Known] = {
    "cartpole": _Known(((-1, 1), (-0.8, 0.8), (-0.12, 0.12), (-0.8, 0.8)), _lean, _balance, over=-10.0),
    "acrobot": _Known(((-1.5, 1.5), (-1.5, 1.5), (-2, 2), (-3, 3)), _acrobot_energy, _pump),
    "mountaincar": _Known(((-1.1, 0.35), (-0.06, 0.06)), _hill_energy, _with_speed),
    "pendulum": _Known(((-math.pi, math.pi), (-3, 3)), _upright, _swing_up),
}
CALM = 0.05
"""Size of the box of calm states."""
HOLD, AFTER = 2, 25
"""Steps for which the action is held, and steps that the good player takes from there."""


class Classic:
    """A native environment that can be put into any valid state, with a good player of it.

    The merit of an action is the sum, along the way, of how well states stand when the action is held for two steps and the
    good player goes on for twenty-five: the cart and pole's lean, the pendulum's own cost without effort, the mechanical energy
    of acrobot and mountain car.

    Args:
        game: one of the four.
    """

    def __init__(self, game: Game) -> None:
        self.game, self._known = game, _CLASSIC[game.name]
        self.env: Any = envs.make(game.env_id, 1)
        self.fields = tuple(self.env.fields)

    def sample(self, n: int, rng: torch.Generator, *, calm: bool = False) -> list[np.ndarray]:
        """Some n states, evenly from the box where players meet the task, or from a twentieth of it about rest."""
        low, high = np.array(self._known.box, dtype=float).T * (CALM if calm else 1.0)
        drawn = low + (high - low) * torch.rand(n, len(low), generator=rng, dtype=torch.float64).numpy()
        return [row for row in drawn if self.valid(row)]

    def valid(self, state: Any) -> bool:
        """Finite, and within the environment's own bounds."""
        return bool(self.env.valid(np.asarray(state, dtype=float)[None])[0])

    def observe(self, state: Any) -> Tensor:
        """What the player observes there, `[m]`.

        Raises:
            ValueError: a state that cannot occur.
        """
        row = np.asarray(state, dtype=float)
        if row.shape != (len(self.fields),) or not self.valid(row):
            raise ValueError(
                f"{self.game.title} has no state {np.round(row, 4).tolist()}: it takes {', '.join(self.fields)} within "
                f"{[tuple(b) for b in self.env.bounds]}"
            )
        return torch.as_tensor(np.array(self.env.observe(row[None])[0]))

    def ahead(self, states: Sequence[Any], actions: Sequence[Any], outcome: str = "") -> Ahead:
        """See `Ahead`; all states and actions as one batch."""
        rows, n, choices = np.asarray(states, dtype=float), len(states), len(actions)
        env = envs.make(self.game.env_id, n * choices)
        env.state = np.repeat(rows, choices, axis=0)
        held = np.tile(np.asarray(actions), (n, *[1] * (np.asarray(actions).ndim - 1)))
        merit, alive = np.zeros(n * choices), np.ones(n * choices, dtype=bool)
        last = np.zeros(n * choices)
        for k in range(HOLD + AFTER):
            made = held if k < HOLD else self._known.player(env.state)
            before = env.state.copy()
            _, ended = env.advance(made)
            env.state = np.where(alive[:, None], env.state, before)
            value = self._known.merit(env.state)
            over = last if self._known.over is None else self._known.over
            last = np.where(alive, value, last)
            merit += np.where(alive, value, over)
            alive &= ~ended
        return Ahead(torch.from_numpy(merit.reshape(n, choices)), player=list(self._known.player(rows)))

    def step(self, state: Any, action: Any) -> tuple[np.ndarray, float, bool]:
        """One step of the environment, without beginning anew at the end."""
        self.env.state = np.asarray(state, dtype=float)[None].copy()
        made = np.asarray(action)
        reward, over = self.env.advance(made.reshape(1) if self.env.spec.discrete else made.reshape(1, -1))
        return self.env.state[0].copy(), float(reward[0]), bool(over[0])

    def numbers(self, state: Any) -> list[float]:
        """The state's entries."""
        return [float(v) for v in state]
