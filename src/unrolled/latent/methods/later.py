"""LaTER: think in vectors for a bounded while, then go on in words (2605.07315)."""

from collections.abc import Sequence

from torch import Tensor

from unrolled.latent.backbone import Backbone
from unrolled.latent.methods.soft_thinking import entropy
from unrolled.latent.protocol import Cell, Method, exact
from unrolled.latent.realign import aligned, realignment
from unrolled.latent.tasks.problem import Problem


class LaTER(Method):
    """Realigned thoughts until the model is too unsure, would stop by itself, or the limit; then ordinary words.

    Args:
        backbone: the model.
        thoughts: most thoughts. The reference: 50.
        threshold: entropy of the next token, nats, above which thinking ends. The reference: 5.
        stop_token: id of the token whose being likeliest ends thinking, if the model has one.
        ridge: of the realignment.
    """

    name, paper = "later", "2605.07315"
    cell = Cell("backbone", "internal: hidden state", "interleaved: explicit-latent", "inference: scaling")
    markers, trains = False, False

    def __init__(
        self,
        backbone: Backbone,
        thoughts: int = 50,
        threshold: float = 5.0,
        stop_token: int | None = None,
        ridge: float = 1e-5,
    ):
        super().__init__()
        self.thoughts, self.threshold, self.stop_token = thoughts, threshold, stop_token
        self.register_buffer("matrix", realignment(*backbone.weights(), ridge), persistent=False)

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """At most `thoughts`."""
        return self.thoughts, ()

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """Realigned."""
        return aligned(backbone, hidden, self.matrix)  # pyright: ignore[reportArgumentType]

    def stop(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor | None:
        """Too unsure, or done."""
        logits = exact(backbone.head(hidden))
        done = entropy(logits) > self.threshold
        return done if self.stop_token is None else done | (logits.argmax(-1) == self.stop_token)
