"""Cart and pole: keep the pole upright by pushing the cart."""

from unrolled.languagegame.game import Choice, Game, Goal

GAME = Game(
    name="cartpole",
    env_id="CartPole-v1",
    title="Cart and pole",
    activity="balance a pole on a cart",
    text=(
        "A pole stands on a cart that rolls along a track. It is hinged at its foot and would fall by itself. The player feels "
        "where the cart is, how fast it rolls, how far the pole leans and how fast it tips, and may only push the cart to one side "
        "or the other, never rest. All that counts is time: how long the pole stays up and the cart on its track. It is about "
        "balance, poise, staying upright, and catching a fall before it becomes one."
    ),
    moves=Choice(
        ("I pushed the cart to the left", "I pushed the cart to the right"),
        ("left", "right"),
    ),
    goals=(
        Goal("push right", ("right", "rightwards", "east", "catch it on the right"), actions=(1,)),
        Goal("push left", ("left", "leftwards", "west", "catch it on the left"), actions=(0,)),
    ),
    said=(
        "stay balanced", "keep your balance", "balance the pole", "do not let it fall over", "keep the stick upright", "remain upright",
        "steady yourself", "stop the pole from tipping", "carry a broom on your hand", "keep your equilibrium", "stay on your feet",
        "push the cart left", "move the cart to the right", "do not topple", "hold the pole up on its cart",
    ),
    observations=4,
    sensors=("cart position", "cart velocity", "pole angle", "pole angular velocity"),
)  # fmt: skip
