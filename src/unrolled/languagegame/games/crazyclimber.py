"""Crazy Climber: up the face of a skyscraper."""

from unrolled.languagegame.game import Game, Goal
from unrolled.languagegame.games._joystick import holding, joystick

_NAMES = ("noop", "up", "right", "left", "down", "up right", "up left", "down right", "down left")

GAME = Game(
    name="crazyclimber",
    env_id="ALE/CrazyClimber-v5",
    title="Crazy Climber",
    activity="climb a skyscraper",
    text=(
        "A climber without ropes goes up the outside of a tower, window by window, hand over hand. Windows close on fingers, people throw "
        "flower pots, and a bird drops eggs. Every storey gained earns points, and on the roof a helicopter waits. It is about climbing, "
        "ascending, height, ambition, and dodging what falls from above."
    ),
    moves=joystick("pressed the button", _NAMES),
    goals=(
        Goal("climb up", ("up", "higher", "climb", "ascend", "north"), actions=holding("up", _NAMES)),
        Goal("climb right", ("right", "east"), actions=holding("right", _NAMES)),
        Goal("climb left", ("left", "west"), actions=holding("left", _NAMES)),
        Goal("climb down", ("down", "lower", "descend", "south"), actions=holding("down", _NAMES)),
    ),
    said=(
        "climb higher", "climb the building", "scale the skyscraper", "go up the tower", "ascend to the roof", "climb up the wall", "reach the top floor",
        "dodge the falling flower pots", "get to the rooftop", "be a human spider", "climb hand over hand", "go up window by window", "climb the facade",
        "ascend floor by floor", "make it to the top of the tower",
    ),
    observations=128,
    extra="atari",
)  # fmt: skip
