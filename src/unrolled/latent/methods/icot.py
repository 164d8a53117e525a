"""iCoT: the chain of thought is taken away from the left, a few tokens an epoch, until only the answer is left."""

import math
from collections.abc import Sequence

import torch

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Example, Text


class ICoT(Method):
    """Stepwise internalisation (2405.14838): at stage s the first s `remove` + o tokens of the steps are left out.

    The offset o >= 0 is drawn with probability proportional to exp(-smoothing o) for every example, so that the model
    meets the next stage before it comes; without a generator it is 0. There are no thoughts.

    Args:
        backbone: the model.
        remove: tokens a stage. The paper: 8.
        smoothing: lambda. The paper: 4; infinite for no offset.
        stages: until everything is removed, whatever is left.
    """

    name, paper = "icot", "2405.14838"
    needs_steps = True
    cell = Cell(
        "backbone", "internal: hidden state", "compressed: traces", "post-training: implicit supervision"
    )
    markers = False

    def __init__(self, backbone: Backbone | None, remove: int = 8, smoothing: float = 4.0, stages: int = 40):
        super().__init__()
        if remove < 1 or smoothing <= 0 or stages < 0:
            raise ValueError(f"remove >= 1, smoothing > 0, stages >= 0; got {remove}, {smoothing}, {stages}")
        self.remove, self.smoothing, self.stages = remove, smoothing, stages

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """All steps; `example` takes tokens away."""
        return 0, () if stage is None or stage > self.stages else problem.steps

    def example(
        self, text: Text, problem: Problem, stage: int | None, rng: torch.Generator | None
    ) -> Example:
        """The row without the first tokens of its steps."""
        _, steps = self.plan(problem, stage)
        whole = text.example(problem, 0, steps, markers=False)
        answer = len(text.example(problem, 0, (), markers=False).tail)
        removed = self.remove * (stage or 0) + self.offset(rng)
        removed = min(removed, len(whole.tail) - answer)
        return Example(whole.question, 0, whole.tail[removed:], whole.labels[removed:])

    def offset(self, rng: torch.Generator | None) -> int:
        """A draw of o: geometric with ratio exp(-smoothing), by inversion."""
        if rng is None or math.isinf(self.smoothing):
            return 0
        u = float(torch.rand((), generator=rng, dtype=torch.float64))
        return int(math.log(max(1 - u, 1e-300)) / -self.smoothing)
