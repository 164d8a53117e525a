"""Chain of thought in words (2201.11903): what latent reasoning is measured against."""

from collections.abc import Sequence

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method
from unrolled.latent.tasks.problem import Problem


class CoT(Method):
    """Question, all steps in words, then the answer.

    Args:
        backbone: the model.
    """

    name, paper = "cot", "2201.11903"
    needs_steps = True
    cell = Cell("none", "explicit: tokens", "none", "post-training: explicit supervision")
    markers = False

    def __init__(self, backbone: Backbone | None = None):
        super().__init__()

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """Every step is said, at every stage."""
        return 0, problem.steps
