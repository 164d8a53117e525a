"""Pause tokens under Coconut's curriculum: the control that tells thinking from waiting (2310.02226; Martin's "M5")."""

import torch
from torch import Tensor, nn

from unrolled.latent.backbone import Backbone, Stream, read
from unrolled.latent.methods.coconut import Coconut
from unrolled.latent.protocol import Cell, Thinking, check_finite


class Pause(Coconut):
    """One learned vector in every place of a thought, read in one pass: the same text, curriculum and compute width,
    but nothing is handed from one place to the next.

    Args:
        backbone: the model.
        c: pauses a step.
        stages: as Coconut's.
        pad_to_max: as Coconut's.
    """

    name, paper = "pause", "2310.02226"
    cell = Cell("backbone", "learnable: a vector", "expanded: width", "post-training: explicit supervision")

    def __init__(self, backbone: Backbone, c: int = 1, stages: int = 6, pad_to_max: bool = True):
        super().__init__(backbone, c, stages, pad_to_max)
        start = backbone.weights()[0].detach().mean(0)
        self.vector = nn.Parameter(start.clone())

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """The vector, whatever was read."""
        return self.vector.expand(hidden.shape[0], -1)

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor) -> Thinking:
        """All pauses in one pass; none is left unread."""
        longest = int(counts.max())
        made = [self.thought(backbone, stream.hidden, step) for step in range(longest)]
        check_finite(made, counts)
        if longest:
            there = torch.arange(longest, device=counts.device) < counts[:, None]
            _, stream = read(backbone, stream, torch.stack(made, 1), there)
        return Thinking(stream, None, None, made, counts, ["limit"] * stream.batch)
