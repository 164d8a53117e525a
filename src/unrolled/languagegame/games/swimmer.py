"""Swimmer: move through a thick fluid by bending."""

from unrolled.languagegame.game import Game, Goal, Push

GAME = Game(
    name="swimmer",
    env_id="Swimmer-v4",
    title="Swimmer",
    activity="swim through a fluid by bending a chain of links",
    text=(
        "Three links joined in a chain float in a viscous fluid, like a worm or an eel. Two motors bend the joints. There is no ground "
        "to push on: only a wave of bending, running along the body, moves it. The points are the distance swum forward, less a little "
        "for effort. It is about swimming, undulating, gliding through water, and moving by rhythm rather than force."
    ),
    moves=Push(
        (("I bent my front joint clockwise", "I bent my front joint counter-clockwise"), ("I bent my rear joint clockwise", "I bent my rear joint counter-clockwise")),
        ("front joint", "rear joint"), 1.0, "I let myself drift",
    ),
    goals=(
        Goal("swim forwards", ("forward", "forwards", "ahead", "swim"), outcome="forward speed"),
        Goal("bend counter-clockwise", ("counter-clockwise", "counterclockwise", "left"), direction=(1.0, 0.0)),
        Goal("bend clockwise", ("clockwise", "right"), direction=(-1.0, 0.0)),
    ),
    said=(
        "swim", "swim forward", "paddle through the water", "glide like an eel", "undulate like a snake in a pond", "wriggle through the fluid",
        "move like a fish", "cross the lake", "do the dolphin stroke", "swim to the shore", "slither through the liquid", "ripple your body in the sea",
        "float and propel yourself", "dive and swim on", "crawl through water like a tadpole",
    ),
    observations=8,
    extra="mujoco",
)  # fmt: skip
