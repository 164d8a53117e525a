"""Mountain car: out of a valley with an engine too weak for the slope."""

from unrolled.languagegame.game import Game, Goal, Push

GAME = Game(
    name="mountaincar",
    env_id="MountainCarContinuous-v0",
    title="Mountain car",
    activity="drive a weak car out of a valley",
    text=(
        "A car stands in a valley between two hills, with a flag on the right one. Its engine is weaker than the slope, so driving "
        "straight at the hill fails: the car must first roll back up the other side, and let gravity help. The player feels position "
        "and speed and chooses a force forwards or backwards. Reaching the flag is worth a hundred points, and fuel costs. It is about "
        "getting over an obstacle, going back in order to go forward, gathering momentum, and patience with a hill."
    ),
    moves=Push((("I drove backwards, to the left", "I drove forwards, to the right"),), ("engine",), 1.0, "I let the car roll"),
    goals=(
        Goal("drive forwards", ("forward", "forwards", "right", "accelerate", "gas", "ahead"), direction=(1.0,)),
        Goal("drive backwards", ("back", "backward", "backwards", "left", "reverse", "run-up", "away from the flag"), direction=(-1.0,)),
    ),
    said=(
        "get over the hill", "drive up the mountain", "climb the slope with the car", "reach the flag on the hill", "escape from the valley",
        "rock the car back and forth", "get out of the valley", "take a run-up for the hill", "drive the car to the summit", "step on the gas",
        "reverse to gain momentum", "accelerate up the slope", "overcome the steep hill", "get your car unstuck from the dip", "go uphill",
    ),
    observations=2,
    sensors=("position", "velocity"),
)  # fmt: skip
