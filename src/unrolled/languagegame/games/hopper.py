"""Hopper: go forward on one leg."""

from unrolled.languagegame.game import Game, Goal, Push

_JOINTS = ("thigh", "lower leg", "foot")

GAME = Game(
    name="hopper",
    env_id="Hopper-v4",
    title="Hopper",
    activity="hop forward on one leg",
    text=(
        "A torso stands on a single leg with a hip, a knee and a foot, in a flat world where it can only go forward or back. Standing "
        "still earns a little, going forward more, and falling ends the game. With one leg there is no walking: it must jump, land, and "
        "jump again. It is about hopping, bouncing, springing off the ground, and landing without a fall."
    ),
    moves=Push(
        tuple((f"I drove my {j} in its negative sense", f"I drove my {j} in its positive sense") for j in _JOINTS), _JOINTS, 1.0, "I kept my leg loose"
    ),
    goals=(
        Goal("jump up", ("hop", "jump", "up", "leap", "bounce", "high"), outcome="upward speed"),
        Goal("go forwards", ("forward", "forwards", "ahead", "onward"), outcome="forward speed"),
    ),
    said=(
        "hop", "hop on one leg", "jump forward", "bounce like a kangaroo on a single foot", "leap ahead", "spring off the ground", "bounce along on one foot",
        "jump and land safely", "skip on one leg", "use a pogo stick", "hop like a rabbit", "jump up", "take a leap and land", "hop without falling", "play hopscotch",
    ),
    observations=11,
    extra="mujoco",
)  # fmt: skip
