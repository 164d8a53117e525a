"""PCCoT: all thoughts at once, refined a few times in parallel (Jacobi), instead of one after the other (2506.18582)."""

import torch
from torch import Tensor, nn

from unrolled.latent.backbone import Backbone, Stream, read
from unrolled.latent.methods.codi import CODI
from unrolled.latent.protocol import Cell, Thinking, check_finite


class PCCoT(CODI):
    """z^(0) are the outputs of dummy inputs; z^(t+1) = prj(shift(f(z^(t)))), the first input being the question's own.

    The question is read once; each of the `iterations` passes reads all slots after it. The update is strictly
    lower-triangular, so as many iterations as thoughts equal making them one after the other, and fewer do not.

    Args:
        backbone: the model.
        thoughts: the paper: 24.
        iterations: T. The paper: 3.
        **options: CODI's.
    """

    name, paper = "pccot", "2506.18582"
    cell = Cell(
        "backbone", "external: reasoning priors", "expanded: width", "post-training: implicit supervision"
    )
    sequential = False

    def __init__(self, backbone: Backbone, thoughts: int = 24, iterations: int = 3, **options):
        super().__init__(backbone, thoughts=thoughts, **options)
        if iterations < 0:
            raise ValueError(f"iterations must be at least 0, got {iterations}")
        self.iterations = iterations
        self.slot = nn.Parameter(backbone.weights()[0].detach().mean(0).clone())

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor) -> Thinking:
        """Jacobi iteration over all slots."""
        longest = int(counts.max())
        if not longest:
            return Thinking(stream, None, None, [], counts, ["limit"] * stream.batch)
        valid = torch.arange(longest, device=counts.device) < counts[:, None]
        first = self.thought(backbone, stream.hidden, 0)[:, None]
        inputs = self.slot.expand(stream.batch, longest, -1)
        after = stream
        for t in range(self.iterations + 1):
            hidden, after = read(backbone, stream.fork(backbone), inputs, valid)
            if t < self.iterations:
                later = self.thought(backbone, hidden[:, :-1].flatten(0, 1), 0).unflatten(
                    0, (stream.batch, longest - 1)
                )
                inputs = torch.cat([first, later], 1)
        made = list(inputs.unbind(1))
        check_finite(made, counts)
        return Thinking(after, None, None, made, counts, ["limit"] * stream.batch)
