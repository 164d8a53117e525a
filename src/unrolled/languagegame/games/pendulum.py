"""Pendulum: swing a rod up and hold it there."""

from unrolled.languagegame.game import Game, Goal, Push

GAME = Game(
    name="pendulum",
    env_id="Pendulum-v1",
    title="Pendulum",
    activity="swing up a pendulum and hold it still",
    text=(
        "A rod turns about a fixed pivot, and a motor at the pivot gives it a torque, too little to lift it outright. Every moment away "
        "from pointing straight up costs, turning fast costs, and so does force. The player feels the direction of the rod and how fast "
        "it turns. The best is to bring it up and then do as little as possible. It is about stabilizing, settling down, holding a "
        "position with small corrections, and calm at an unstable point."
    ),
    moves=Push((("I turned the rod clockwise", "I turned the rod counter-clockwise"),), ("torque",), 2.0, "I held the rod almost without force"),
    goals=(
        Goal("hold still", ("hold", "still", "stabilize", "stable", "settle", "calm", "keep", "rest", "quiet"), still=True),
        Goal("turn counter-clockwise", ("counter-clockwise", "counterclockwise", "anticlockwise", "left"), direction=(1.0,)),
        Goal("turn clockwise", ("clockwise", "right"), direction=(-1.0,)),
    ),
    said=(
        "stabilize and hold", "hold still at the top", "stabilize the pendulum", "settle down and stay there", "hold the rod straight up",
        "calm down and hold your position", "damp the oscillation", "keep the pendulum inverted", "bring the rod to rest pointing up",
        "stop oscillating", "hold the position steadily", "turn the pendulum clockwise", "apply a small torque", "invert the pendulum", "come to rest at the top",
    ),
    observations=3,
    sensors=("cosine of the angle", "sine of the angle", "angular velocity"),
)  # fmt: skip
