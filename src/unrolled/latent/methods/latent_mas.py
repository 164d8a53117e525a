"""LatentMAS: thoughts are realigned hidden states, and agents hand one another their caches (2511.20639)."""

from collections.abc import Sequence

from torch import Tensor

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method
from unrolled.latent.realign import aligned, realignment
from unrolled.latent.tasks.problem import Problem


class LatentMAS(Method):
    """z = (h W_a) |e| / |h W_a| with the realignment W_a and the mean embedding norm |e|; nothing is trained.

    `agents.Relay` passes what one agent has read and thought on to the next.

    Args:
        backbone: the model.
        thoughts: of each agent. The paper: 0 to 80, best at 40 to 80.
        realign: False leaves W_a out; the norm is restored all the same.
        ridge: of the regression.
    """

    name, paper = "latent_mas", "2511.20639"
    cell = Cell(
        "backbone",
        "internal: hidden state, cache",
        "expanded: depth",
        "inference: guidance",
        ("collaboration",),
    )
    markers, trains = False, False

    def __init__(self, backbone: Backbone, thoughts: int = 40, realign: bool = True, ridge: float = 1e-5):
        super().__init__()
        self.thoughts = thoughts
        self.register_buffer(
            "matrix", realignment(*backbone.weights(), ridge) if realign else None, persistent=False
        )

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """As many as an agent thinks."""
        return self.thoughts, ()

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """Realigned."""
        return aligned(backbone, hidden, self.matrix)  # pyright: ignore[reportArgumentType]
