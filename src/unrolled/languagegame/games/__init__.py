"""The sixteen games of the language-game paper (2605.16321, its tasks), described in words of our own: one file each.

>>> from unrolled.languagegame.games import GAMES, named
>>> len(GAMES), named("pendulum").title
(16, 'Pendulum')
"""

from unrolled.languagegame.game import Game
from unrolled.languagegame.games import (
    acrobot,
    bankheist,
    cartpole,
    crazyclimber,
    fingerspin,
    halfcheetah,
    hopper,
    humanoidstandup,
    kangaroo,
    kungfumaster,
    mountaincar,
    pendulum,
    pointmaze,
    pusher,
    reacher,
    swimmer,
)

GAMES: dict[str, Game] = {
    module.GAME.name: module.GAME
    for module in (
        cartpole, acrobot, mountaincar, pendulum, reacher, pusher, swimmer, hopper, halfcheetah, humanoidstandup, pointmaze, fingerspin,
        bankheist, kungfumaster, crazyclimber, kangaroo,
    )
}  # fmt: skip
"""Name -> game, in the paper's order."""


def named(name: str) -> Game:
    """A game by its name, its environment's name, or its title.

    Raises:
        ValueError: there is none; the message lists those there are.

    Example:
        >>> named("CartPole-v1").name
        'cartpole'
    """
    for game in GAMES.values():
        if name in (game.name, game.env_id, game.title):
            return game
    from difflib import get_close_matches

    close = get_close_matches(name.lower(), GAMES, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    raise ValueError(f"no game {name!r}{hint} There are {', '.join(GAMES)}")
