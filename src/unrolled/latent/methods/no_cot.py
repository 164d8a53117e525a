"""No chain of thought: the answer at once. The floor of every comparison."""

from collections.abc import Sequence

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method
from unrolled.latent.tasks.problem import Problem


class NoCoT(Method):
    """Question, then answer; no steps, no thoughts, no markers.

    Args:
        backbone: the model.
    """

    name, paper = "no_cot", "2412.06769"
    cell = Cell("none", "none", "none", "post-training: explicit supervision")
    markers = False

    def __init__(self, backbone: Backbone | None = None):
        super().__init__()

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """Nothing but the answer."""
        return 0, ()
