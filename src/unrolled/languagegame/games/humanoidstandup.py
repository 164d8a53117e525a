"""Humanoid, standing up: from lying on the back to the feet."""

from unrolled.languagegame.game import Game, Goal, Push

_JOINTS = (
    "waist, bending", "waist, turning", "waist, tilting", "right hip, sideways", "right hip, turning", "right hip", "right knee", "left hip, sideways",
    "left hip, turning", "left hip", "left knee", "right shoulder, first axis", "right shoulder, second axis", "right elbow",
    "left shoulder, first axis", "left shoulder, second axis", "left elbow",
)  # fmt: skip

GAME = Game(
    name="humanoidstandup",
    env_id="HumanoidStandup-v4",
    title="Humanoid, standing up",
    activity="get up from the floor",
    text=(
        "A human body with seventeen motors lies on its back. It has a head, arms, legs and a waist, and hundreds of sensors. Points are "
        "for the height of its head or trunk, gained quickly and without wild effort or hard knocks. It is about getting up, rising, "
        "standing up after a fall, waking, and lifting oneself off the floor."
    ),
    moves=Push(
        tuple((f"I drove my {j}, in its negative sense", f"I drove my {j}, in its positive sense") for j in _JOINTS), _JOINTS, 0.4, "I lay still"
    ),
    goals=(
        Goal("rise", ("rise", "up", "stand", "get up", "lift"), outcome="upward speed"),
    ),
    said=(
        "stand up", "get up", "get up from the floor", "rise to your feet", "lift yourself off the ground", "wake up and stand", "sit up", "raise your body",
        "stop lying around", "get out of bed", "stand tall", "pick yourself up after the fall", "rise", "up on your feet", "straighten up from lying down",
    ),
    observations=376,
    extra="mujoco",
)  # fmt: skip
