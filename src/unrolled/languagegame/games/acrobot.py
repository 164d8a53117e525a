"""Acrobot: swing a two-link arm up by its elbow."""

from unrolled.languagegame.game import Choice, Game, Goal

GAME = Game(
    name="acrobot",
    env_id="Acrobot-v1",
    title="Acrobot",
    activity="swing a two-link arm up over a bar",
    text=(
        "Two links hang from a bar like a gymnast from its hands. Only the joint between them, the hips, has a motor, and a weak one: "
        "it turns one way, the other way, or not at all. Swinging back and forth in rhythm, the arm must gather energy until its free "
        "end rises above a line one link above the bar. Every moment costs a point until it does. It is about building up swing, "
        "timing, pumping like a child on a playground swing, and reaching high from hanging low."
    ),
    moves=Choice(
        ("I turned my elbow clockwise", "I let my elbow go", "I turned my elbow counter-clockwise"),
        ("clockwise", "none", "counter-clockwise"),
    ),
    goals=(
        Goal("swing counter-clockwise", ("counter-clockwise", "counterclockwise", "anticlockwise", "left"), actions=(2,)),
        Goal("swing clockwise", ("clockwise", "right"), actions=(0,)),
    ),
    said=(
        "swing up", "swing yourself up", "swing higher and higher", "raise the tip above the bar", "pump your swing like a gymnast",
        "do a pull over on the high bar", "swing the arm until it reaches the line", "build up momentum by swinging your legs",
        "gymnast on the bar", "swing your lower link", "flip up over the bar", "bend your elbow and swing", "swing like a trapeze artist",
        "two joints swing to the top", "swing back and forth until you get up high",
    ),
    observations=6,
    sensors=("cosine of the first angle", "sine of the first angle", "cosine of the second angle", "sine of the second angle",
             "first angular velocity", "second angular velocity"),
)  # fmt: skip
