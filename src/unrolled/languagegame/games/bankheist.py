"""Bank Heist: rob banks in a town of mazes."""

from unrolled.languagegame.game import Game, Goal
from unrolled.languagegame.games._joystick import holding, joystick

GAME = Game(
    name="bankheist",
    env_id="ALE/BankHeist-v5",
    title="Bank Heist",
    activity="rob banks by car",
    text=(
        "A getaway car drives the streets of a town seen from above. Banks wait to be robbed, police cars give chase, sticks of dynamite "
        "can be dropped behind, and fuel runs out. Each bank robbed brings points and one more pursuer; leaving town brings new banks. "
        "It is about money, greed, loot, grabbing riches, and getting away with it."
    ),
    moves=joystick("dropped dynamite"),
    goals=(
        Goal("drive right", ("right", "east"), actions=holding("right")),
        Goal("drive left", ("left", "west"), actions=holding("left")),
        Goal("drive up", ("up", "north"), actions=holding("up")),
        Goal("drive down", ("down", "south"), actions=holding("down")),
    ),
    said=(
        "grab money", "rob the bank", "steal the cash", "get rich", "take the money and run", "collect the loot", "escape from the police with the gold",
        "drop dynamite on the police car", "drive the getaway car", "go for the riches", "make a fortune", "be greedy", "raid the vault", "earn some money", "heist",
    ),
    observations=128,
    extra="atari",
)  # fmt: skip
