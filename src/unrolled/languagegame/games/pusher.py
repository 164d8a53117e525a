"""Pusher: shove an object to a place with a robot's arm."""

from unrolled.languagegame.game import Game, Goal, Push

_JOINTS = ("shoulder pan", "shoulder lift", "upper arm", "elbow", "forearm", "wrist", "hand")

GAME = Game(
    name="pusher",
    env_id="Pusher-v5",
    title="Pusher",
    activity="push an object to its place with an arm",
    text=(
        "An arm with seven joints like a human one, from shoulder to wrist, stands at a table. On the table are a cylinder and a marked "
        "place. The hand has no grip: the arm must come near the object and shove it until it lies on the mark. Distance of hand to "
        "object and of object to mark both cost. It is about moving things, delivering, sliding an object into position, and putting "
        "something where it belongs."
    ),
    moves=Push(
        tuple((f"I drove my {j} in its negative sense", f"I drove my {j} in its positive sense") for j in _JOINTS), _JOINTS, 2.0, "I kept my arm still"
    ),
    goals=(
        Goal("bring the hand to the object", ("approach", "near", "towards", "grab", "hand"), outcome="-distance of the hand from the object"),
        Goal("move the object to its place", ("push", "shove", "move", "spot", "place", "deliver"), outcome="-distance of the object from its place"),
    ),
    said=(
        "move it to the spot", "push the object to the goal", "slide the puck to its place", "shove the box over there", "deliver the parcel to the mark",
        "put the thing where it belongs", "push the cylinder onto the mark", "move the block with your hand", "nudge the cup to the corner of the table",
        "transport the object", "place it on the circle", "bring the piece into position", "push the item across the table", "shift the load", "relocate the cylinder",
    ),
    observations=23,
    extra="mujoco",
)  # fmt: skip
