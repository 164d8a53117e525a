"""Finger: keep a hinged body spinning by flicking it."""

from unrolled.languagegame.game import Game, Goal, Push

GAME = Game(
    name="fingerspin",
    env_id="dm_control/finger-spin-v0",
    title="Finger spin",
    activity="spin a wheel with a finger",
    text=(
        "A finger with two joints hangs beside a body that turns freely about a hinge. By striking it again and again the finger must keep "
        "it turning fast; every moment above a certain speed earns a point. The finger feels its joints, the body's angle and speed, and "
        "whether it touches. It is about spinning, twirling, flicking, whirling, and keeping a wheel in motion."
    ),
    moves=Push(
        (("I pulled my upper joint back", "I drove my upper joint on"), ("I pulled my lower joint back", "I drove my lower joint on")),
        ("upper joint", "lower joint"), 1.0, "I kept my finger still",
    ),
    goals=(
        Goal("spin faster", ("spin", "fast", "faster", "turn", "twirl", "rotate"), outcome="speed of the spinner"),
    ),
    said=(
        "spin", "spin the wheel", "twirl it around", "keep it spinning", "flick the spinner", "rotate the body with your finger", "whirl it round and round",
        "turn the wheel with a finger", "spin like a top", "play with a fidget spinner", "make it go round", "roll the dice wheel", "spin faster",
        "flick your finger", "keep the roulette turning",
    ),
    observations=9,
    extra="mujoco",
)  # fmt: skip
