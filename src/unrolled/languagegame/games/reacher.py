"""Reacher: touch a point with the tip of a two-jointed arm."""

from unrolled.languagegame.game import Game, Goal, Push

GAME = Game(
    name="reacher",
    env_id="Reacher-v4",
    title="Reacher",
    activity="touch a target with the tip of an arm",
    text=(
        "An arm with two joints lies flat on a table, fixed at one end. Somewhere within reach is a small target. The player feels its "
        "joint angles, their speeds and where the target is, and turns shoulder and elbow. The closer the fingertip, the better, and "
        "rough movements cost a little. It is about pointing, touching, aiming, and stretching out a finger to one spot."
    ),
    moves=Push(
        (("I turned my shoulder clockwise", "I turned my shoulder counter-clockwise"), ("I turned my elbow clockwise", "I turned my elbow counter-clockwise")),
        ("shoulder", "elbow"), 1.0, "I kept my arm where it was",
    ),
    goals=(
        Goal("reach the target", ("touch", "reach", "target", "closer"), outcome="-distance of the fingertip from the target"),
        Goal("turn counter-clockwise", ("counter-clockwise", "counterclockwise", "left"), direction=(1.0, 0.0)),
        Goal("turn clockwise", ("clockwise", "right"), direction=(-1.0, 0.0)),
    ),
    said=(
        "touch the target", "reach for it", "put your finger on the dot", "point at the spot", "extend your arm to the goal", "touch this point",
        "stretch out your hand to the target", "move your fingertip to the mark", "reach out", "aim your arm at the target", "tap the red point",
        "bend your elbow so that the fingertip arrives", "bring the tip of the arm to the target", "lay a finger on it", "poke the target",
    ),
    observations=11,
    extra="mujoco",
)  # fmt: skip
