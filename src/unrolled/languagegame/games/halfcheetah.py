"""Half cheetah: run on two legs in a flat world."""

from unrolled.languagegame.game import Game, Goal, Push

_JOINTS = ("back thigh", "back shin", "back foot", "front thigh", "front shin", "front foot")

GAME = Game(
    name="halfcheetah",
    env_id="HalfCheetah-v4",
    title="Half cheetah",
    activity="run forward as fast as possible",
    text=(
        "Half of a big cat, cut lengthwise: a long body with one leg behind and one in front, each with thigh, shin and foot. It lives in "
        "a flat world and cannot fall out of the game. Points are for speed forward alone, less a little for effort. It is about "
        "running, sprinting, galloping, racing, and being fast over the ground."
    ),
    moves=Push(
        tuple((f"I drove my {j} in its negative sense", f"I drove my {j} in its positive sense") for j in _JOINTS), _JOINTS, 1.0, "I kept my legs loose"
    ),
    goals=(
        Goal("run forwards", ("forward", "forwards", "fast", "run", "ahead", "faster"), outcome="forward speed"),
        Goal("slow down", ("slow", "brake", "stop", "backwards", "back"), outcome="-forward speed"),
    ),
    said=(
        "run forward", "run as fast as you can", "sprint", "gallop", "race ahead", "dash to the finish line", "run like a cheetah", "win the race",
        "chase the prey", "speed up and run", "jog along", "run for your life", "move fast on all fours", "break the speed record on foot", "hurry, run",
    ),
    observations=17,
    extra="mujoco",
)  # fmt: skip
