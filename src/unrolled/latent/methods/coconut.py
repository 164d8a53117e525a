"""Coconut: a thought is the last hidden state, fed back as the next input embedding (2412.06769)."""

from collections.abc import Sequence

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method
from unrolled.latent.tasks.problem import Problem


class Coconut(Method):
    """E_t = h_{t-1} between the markers (2412.06769, section 3); h is taken after the final norm, as the head takes it.

    Curriculum: at stage k the first k steps are replaced by k c thoughts; past the last stage no step is said, and
    there are `stages` c thoughts, or, with `pad_to_max` False, c for each of the problem's steps if that is fewer.

    Args:
        backbone: the model.
        c: thoughts a step.
        stages: max_latent_stage. The paper: 3 with c = 2 for GSM8k, 6 with c = 1 for ProntoQA and ProsQA.
        pad_to_max: think equally long about every problem past the last stage.

    Example:
        >>> from unrolled.latent import tasks
        >>> [problem] = tasks.arithmetic(1, seed=0, ops=(3, 3))
        >>> method = Coconut(None, c=2, stages=3)
        >>> [(thoughts, len(steps)) for thoughts, steps in (method.plan(problem, k) for k in (0, 1, 3, 4, None))]
        [(0, 3), (2, 2), (6, 0), (6, 0), (6, 0)]
    """

    name, paper = "coconut", "2412.06769"
    needs_steps = True
    cell = Cell("backbone", "internal: hidden state", "compressed: traces", "post-training: explicit supervision",
                ("reasoning", "planning"))  # fmt: skip

    def __init__(self, backbone: Backbone | None, c: int = 1, stages: int = 6, pad_to_max: bool = True):
        super().__init__()
        if c < 0 or stages < 0:
            raise ValueError(f"c and stages must be at least 0, got c={c}, stages={stages}")
        self.c, self.stages, self.pad_to_max = c, stages, pad_to_max

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """See the class."""
        if stage is None or stage > self.stages:
            spans = self.stages if self.pad_to_max else min(self.stages, len(problem.steps))
            return self.c * spans, ()
        return self.c * stage, problem.steps[stage:]
