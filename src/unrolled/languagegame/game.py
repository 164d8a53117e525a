"""`Game`: what a task is about, what its actions mean in words, and which goals one may ask for."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """One of several actions: an index.

    Attributes:
        did: per action, what the player says after it: first person, past tense, no full stop.
        names: per action, a short name, for tables.
    """

    did: tuple[str, ...]
    names: tuple[str, ...]

    def say(self, action: Any) -> str:
        """What was done, in words.

        Args:
            action: an index.

        Raises:
            ValueError: no such action.
        """
        index = int(action)
        if not 0 <= index < len(self.did):
            raise ValueError(
                f"action {index} is none of the {len(self.did)} there are: {', '.join(self.names)}"
            )
        return self.did[index]


@dataclass(frozen=True)
class Push:
    """A force or torque per joint, each within [-bound, bound].

    Attributes:
        did: per joint, (what is said of a negative value, of a positive one), as in `Choice`.
        names: per joint, a short name.
        bound: the largest size; an action beyond it acts as the bound.
        rest: what is said when nothing is larger than `STILL` of the bound.
    """

    did: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    bound: float = 1.0
    rest: str = "I kept still"

    def shares(self, action: Any) -> Tensor:
        """The action divided by its bound, cut to [-1, 1], `[joints]`.

        Raises:
            ValueError: another number of joints, or a value that is not finite.
        """
        values = torch.as_tensor(action, dtype=torch.float64).reshape(-1)
        if len(values) != len(self.names) or not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"an action here is {len(self.names)} finite numbers ({', '.join(self.names)}), got {values.tolist()}"
            )
        return (values / self.bound).clamp(-1, 1)

    def say(self, action: Any) -> str:
        """What the strongest joint did, and how strongly: gently below a third of the bound, with all force from 0.9 on."""
        shares = self.shares(action)
        joint = int(shares.abs().argmax())
        share = float(shares[joint])
        if abs(share) < STILL:
            return self.rest
        how = " gently" if abs(share) < 1 / 3 else " with all my force" if abs(share) >= 0.9 else ""
        return self.did[joint][share > 0] + how


STILL = 0.1
"""A push is called stillness below this share of the bound."""


@dataclass(frozen=True)
class Goal:
    """Something that one may ask a player to do: one action, a direction of pushing, stillness, or an outcome.

    Exactly one of `actions`, `direction`, `still` and `outcome` says what fulfils it.

    Attributes:
        name: short, e.g. `"push left"`.
        words: words and phrases that ask for it within its game.
        actions: indices of a `Choice` that fulfil it.
        direction: w: a `Push` a fulfils it when w . a / bound exceeds `STILL`.
        still: a `Push` fulfils it when no joint exceeds a quarter of its bound.
        outcome: a quantity of the game's simulator that the action must raise, against doing nothing; `-` before its name:
            that it must lower.

    Raises:
        ValueError: none of them is given, or several.

    Example:
        >>> Goal("turn left", direction=(1.0,)).fulfilled(Push((("", ""),), ("torque",), 2.0), 0.5)
        True
        >>> Goal("kick", actions=(3, 4)).fulfilled(Choice(("",) * 5, ("",) * 5), 2)
        False
    """

    name: str
    words: tuple[str, ...] = ()
    actions: tuple[int, ...] = ()
    direction: tuple[float, ...] = ()
    still: bool = False
    outcome: str = ""

    def __post_init__(self) -> None:
        given = [bool(self.actions), bool(self.direction), self.still, bool(self.outcome)]
        if sum(given) != 1:
            raise ValueError(
                f"goal {self.name!r} needs exactly one of actions, direction, still and outcome; it has {sum(given)}"
            )

    def fulfilled(self, moves: Choice | Push, action: Any) -> bool:
        """Whether an action is the wanted one.

        Raises:
            ValueError: the goal is an outcome, which only a simulator can tell.
        """
        if self.outcome:
            raise ValueError(f"goal {self.name!r} is an outcome ({self.outcome}): ask the game's simulator")
        if isinstance(moves, Choice):
            return int(action) in self.actions
        shares = moves.shares(action)
        if self.still:
            return float(shares.abs().max()) <= 0.25
        return float(shares @ torch.tensor(self.direction, dtype=torch.float64)) > STILL


@dataclass(frozen=True)
class Game:
    """A task that a policy can learn and be talked to about.

    Attributes:
        name: short, lower case.
        env_id: Gymnasium's name of the environment.
        title: its name in words.
        activity: completes "I can ..." and "I have learned to ...".
        text: what it is about, in a paragraph: what is seen, what can be done, what is wanted.
        moves: what actions mean.
        goals: what may be asked; the first is meant when nothing more is said.
        said: ways of asking for this game; the router learns from them.
        observations: how many numbers are observed.
        sensors: their names where each has one.
        extra: the package's extra that brings the environment; empty for native ones.

    Example:
        >>> from unrolled.languagegame.games import named
        >>> game = named("cartpole")
        >>> game.env_id, [goal.name for goal in game.goals]
        ('CartPole-v1', ['push right', 'push left'])
        >>> game.moves.say(0)
        'I pushed the cart to the left'
    """

    name: str
    env_id: str
    title: str
    activity: str
    text: str
    moves: Choice | Push
    goals: tuple[Goal, ...]
    said: tuple[str, ...]
    observations: int
    sensors: tuple[str, ...] = ()
    extra: str = ""

    def goal(self, name: str) -> Goal:
        """A goal by name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        found = next((goal for goal in self.goals if goal.name == name), None)
        if found is None:
            known = ", ".join(repr(goal.name) for goal in self.goals)
            raise ValueError(f"{self.title} has no goal {name!r}; it has {known}")
        return found
