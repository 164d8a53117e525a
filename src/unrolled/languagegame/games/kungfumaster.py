"""Kung-Fu Master: fight through a temple floor by floor."""

from unrolled.languagegame.game import Game, Goal
from unrolled.languagegame.games._joystick import holding, joystick

_NAMES = (
    "noop", "up", "right", "left", "down", "down right", "down left", "right fire", "left fire", "down fire",
    "up right fire", "up left fire", "down right fire", "down left fire",
)  # fmt: skip

GAME = Game(
    name="kungfumaster",
    env_id="ALE/KungFuMaster-v5",
    title="Kung-Fu Master",
    activity="fight with punches and kicks",
    text=(
        "A fighter walks through the floors of a temple where opponents come from both sides: grapplers that cling, knife throwers, and "
        "at each floor's end a master. Punches and kicks bring points, being held costs strength. It is about fighting, martial arts, "
        "kicking and punching, defending oneself, and defeating enemies one after another."
    ),
    moves=joystick("struck", _NAMES),
    goals=(
        Goal("strike", ("kick", "punch", "strike", "hit", "fight", "attack"), actions=holding("fire", _NAMES)),
        Goal("walk left", ("left", "west", "advance"), actions=holding("left", _NAMES)),
        Goal("walk right", ("right", "east", "retreat"), actions=holding("right", _NAMES)),
        Goal("duck", ("duck", "crouch", "down"), actions=holding("down", _NAMES)),
    ),
    said=(
        "kick the enemy", "punch him", "fight the attackers", "use your kung fu", "defend yourself", "defeat your opponents", "strike the villain", "attack",
        "beat up the bad guys", "do a karate kick", "hit the knife thrower", "show your martial arts", "fight for your life", "knock out the boss", "crouch and strike",
    ),
    observations=128,
    extra="atari",
)  # fmt: skip
