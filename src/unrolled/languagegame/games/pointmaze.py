"""Point maze: roll a ball to a goal around a wall."""

from unrolled.languagegame.game import Game, Goal, Push

GAME = Game(
    name="pointmaze",
    env_id="PointMaze_UMaze-v3",
    title="Point maze",
    activity="find the way through a small maze",
    text=(
        "A ball rolls on the floor of a small maze in the shape of a U, with a goal somewhere in it. The player feels where the ball is, "
        "how fast it rolls, and where the goal is, and pushes it in any direction. Walls stop it: the straight way is often closed, and "
        "it must go around. It is about finding the way, navigating, exits, detours, and exploring corridors."
    ),
    moves=Push(
        (("I pushed myself to the left", "I pushed myself to the right"), ("I pushed myself down the map", "I pushed myself up the map")),
        ("along x", "along y"), 1.0, "I let myself roll",
    ),
    goals=(
        Goal("approach the goal", ("exit", "goal", "find", "closer", "way"), outcome="-length of the way to the goal"),
        Goal("go right", ("right", "east"), direction=(1.0, 0.0)),
        Goal("go left", ("left", "west"), direction=(-1.0, 0.0)),
        Goal("go up", ("up", "north"), direction=(0.0, 1.0)),
        Goal("go down", ("down", "south"), direction=(0.0, -1.0)),
    ),
    said=(
        "find the exit", "solve the maze", "find your way out", "navigate the labyrinth", "go around the wall", "escape from the maze", "explore the corridors",
        "look for the way out", "walk through the maze to the goal", "you are lost, find the way", "get out of the labyrinth", "follow the corridor to the end",
        "find a path to the goal", "take the detour around the obstacle", "leave the dungeon",
    ),
    observations=8,
    sensors=("x", "y", "x velocity", "y velocity", "reached x", "reached y", "goal x", "goal y"),
    extra="mujoco",
)  # fmt: skip
