"""`design`: a state of a game in which the wanted action is the rational one."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.languagegame import games
from unrolled.languagegame.game import Game, Goal
from unrolled.languagegame.ground import Ahead, Ground, ground, probes


class NoStateError(ValueError):
    """Among the states that were looked at, there is none in which the wanted action is rational."""


@dataclass(frozen=True)
class Design:
    """A state, and why the wanted action is rational in it.

    Attributes:
        game: the game.
        goal: what is wanted.
        state: as the game's ground takes it.
        observation: what the player observes there, `[m]`.
        margin: merit of the best action that fulfils the goal minus that of the best that does not: positive.
        spread: standard deviation of merit over the actions there: the margin in proportion.
        best: the best action that fulfils the goal.
        rational: how many of the states looked at had a positive margin.
        considered: how many states were looked at.
        seed: of the states.
    """

    game: Game
    goal: Goal
    state: Any = field(repr=False)
    observation: Tensor
    margin: float
    spread: float
    best: Any
    rational: int
    considered: int
    seed: int


def design(
    game: Game | str,
    goal: Goal | str | None = None,
    *,
    seed: int = 0,
    candidates: int | None = None,
    where: Ground | None = None,
) -> Design:
    """Search the valid states of a game for one in which a goal's action is rational.

    Rational means: of all actions that are tried there, the best is one that fulfils the goal, judged by what follows when it is
    taken (see `unrolled.languagegame.ground`), and a known good player, where there is one, does it too; the policy that will
    be asked has no say. The state with the largest margin
    over the best action that does not fulfil it is chosen; goals of stillness look at states near rest.

    Args:
        game: a game or its name.
        goal: a goal or its name; the game's first when None.
        seed: of the states looked at; the same seed finds the same state.
        candidates: how many states to look at: 512 in native environments, 24 in simulators.
        where: the game's ground, to use one again.

    Returns:
        A valid, finite state.

    Raises:
        ValueError: no such game or goal.
        NoStateError: nowhere among the candidates is it rational.
        ImportError: the game's environment is not installed.

    Example:
        To want a push to the right, let the pole lean and tip to the right:

        >>> made = design("cartpole", "push right")
        >>> bool(made.observation[2] + 0.3 * made.observation[3] > 0), made.margin > 0
        (True, True)
    """
    game = games.named(game) if isinstance(game, str) else game
    wanted = game.goals[0] if goal is None else game.goal(goal) if isinstance(goal, str) else goal
    if wanted not in game.goals:
        raise ValueError(
            f"{game.title} has no goal {wanted.name!r}; it has {', '.join(g.name for g in game.goals)}"
        )
    world = ground(game) if where is None else where
    rng = torch.Generator().manual_seed(seed)
    count = candidates or (512 if game.extra == "" else 24)
    states = [state for state in world.sample(count, rng, calm=wanted.still) if world.valid(state)]
    actions = probes(game)
    found = world.ahead(states, actions, wanted.outcome.removeprefix("-"))
    margin, spread, best = margins(found, wanted, game, actions)
    finite = [bool(torch.isfinite(world.observe(state)).all()) for state in states]
    if found.player is not None:
        finite = [ok and wanted.fulfilled(game.moves, made) for ok, made in zip(finite, found.player)]
    usable = torch.tensor(finite) & torch.isfinite(margin) & (margin > 0)
    if not bool(usable.any()):
        raise NoStateError(
            f"{game.title}: among {len(states)} valid states there is none in which to {wanted.name} is the best thing to do"
        )
    chosen = int(torch.where(usable, margin, -math.inf).argmax())
    return Design(
        game, wanted, states[chosen], world.observe(states[chosen]), float(margin[chosen]), float(spread[chosen]),
        actions[int(best[chosen])], int(usable.sum()), len(states), seed,
    )  # fmt: skip


def margins(found: Ahead, goal: Goal, game: Game, actions: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Per state: best merit that fulfils a goal minus best that does not, spread of merit, and the best action that fulfils it.

    The margin is NaN where a merit is not finite, or where no action, or every action, fulfils the goal.
    """
    merit = found.merit
    if goal.outcome:
        assert found.outcome is not None
        raised = -found.outcome if goal.outcome.startswith("-") else found.outcome
        fulfils = raised > 1e-9
    else:
        fulfils = torch.tensor([goal.fulfilled(game.moves, action) for action in actions]).expand_as(merit)
    low = torch.full_like(merit, -math.inf)
    inside, outside = torch.where(fulfils, merit, low), torch.where(fulfils, low, merit)
    margin = inside.amax(1) - outside.amax(1)
    broken = ~torch.isfinite(merit).all(1) | ~fulfils.any(1) | fulfils.all(1)
    return torch.where(broken, math.nan, margin), merit.std(1), inside.argmax(1)
