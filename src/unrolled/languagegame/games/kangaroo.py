"""Kangaroo: a mother climbs to free her child."""

from unrolled.languagegame.game import Game, Goal
from unrolled.languagegame.games._joystick import holding, joystick

GAME = Game(
    name="kangaroo",
    env_id="ALE/Kangaroo-v5",
    title="Kangaroo",
    activity="rescue a kangaroo's child",
    text=(
        "A mother kangaroo in boxing gloves climbs ladders through three floors of a forest to her joey, which monkeys hold captive at "
        "the top. She jumps over gaps, ducks under apples that are thrown, punches monkeys and picks fruit on her way. It is about "
        "rescue, care, protecting a child, saving somebody small, and a mother's courage."
    ),
    moves=joystick("punched"),
    goals=(
        Goal("go right", ("right", "east"), actions=holding("right")),
        Goal("go left", ("left", "west"), actions=holding("left")),
        Goal("climb or jump", ("up", "jump", "climb", "ladder"), actions=holding("up")),
        Goal("punch", ("punch", "hit", "box", "monkey", "fight"), actions=holding("fire")),
    ),
    said=(
        "rescue the baby", "save the child", "free your joey", "protect the little one", "bring the baby home", "save the kid from the monkeys", "be a good mother",
        "go to your child", "punch the monkeys", "liberate the captive baby", "help the little kangaroo", "climb the ladder to your joey", "save your son",
        "rescue the infant", "come to the rescue",
    ),
    observations=128,
    extra="atari",
)  # fmt: skip
