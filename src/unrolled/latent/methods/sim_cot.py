"""SIM-CoT: a helper model must read each step back from its thought; it is dropped once training ends (2509.20317)."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone, adapt, read
from unrolled.latent.methods.coconut import Coconut
from unrolled.latent.protocol import Cell, exact, tail_loss
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Example, Text


class SIMCoT(Coconut):
    """L = L_answer + lambda sum_k CE(g(z_k), step_k): the decoder g says step k after reading the thoughts of step k.

    The last thoughts stand for their own step and all that are left. The decoder begins as a copy of the backbone (larger
    ones hurt, says the paper), learns with it, and is used by nothing but the loss.

    Args:
        backbone: the model.
        c: thoughts a step. The paper: 2.
        stages: as Coconut's. The paper: 5.
        pad_to_max: as Coconut's.
        weight: lambda.
        decoder: the helper; a copy of the backbone if not given.
    """

    name, paper = "sim_cot", "2509.20317"
    cell = Cell(
        "auxiliary: supervision",
        "internal: hidden state",
        "compressed: traces",
        "post-training: implicit supervision",
    )
    training_only = ("decoder",)

    def __init__(
        self,
        backbone: Backbone,
        c: int = 2,
        stages: int = 5,
        pad_to_max: bool = True,
        weight: float = 1.0,
        decoder: Any = None,
    ):
        super().__init__(backbone, c, stages, pad_to_max)
        self.weight = weight
        self.decoder = copy.deepcopy(backbone.model) if decoder is None else decoder  # pyright: ignore

    def loss(
        self, backbone: Backbone, batch: Sequence[Example], problems: Sequence[Problem], text: Text
    ) -> tuple[Tensor, Tensor]:
        """Both terms; the second is a mean over tokens of the steps, weighed like the first.

        Raises:
            ValueError: rows without their problems: steps could silently go unsupervised.
        """
        if len(problems) != len(batch):
            raise ValueError("SIM-CoT supervises the steps: pass problems, not encoded examples")
        device = backbone.weights()[0].device
        stream = self.ask(backbone, [row.question for row in batch], text.pad, device)
        thinking = self.think(backbone, stream, torch.tensor([row.thoughts for row in batch], device=device))
        summed, count = tail_loss(backbone, thinking, batch, text)
        helper, total, tokens = adapt(self.decoder), summed.new_zeros(()), 0
        for b, problem in enumerate(problems):
            spans = batch[b].thoughts // self.c if self.c else 0
            for k in range(spans):
                steps = problem.steps[k:] if k + 1 == spans else problem.steps[k : k + 1]
                if not steps:
                    continue
                said = torch.tensor([t for step in steps for t in text.encode(step + "\n")], device=device)
                z = torch.stack([thinking.made[k * self.c + i][b] for i in range(self.c)])
                embeds = torch.cat([z, helper.embed(said[:-1])])[None]
                hidden, _ = read(helper, None, embeds)
                logits = helper.head(hidden[0, self.c - 1 :])
                total = total + F.cross_entropy(exact(logits), said, reduction="sum")
                tokens += len(said)
        return summed + (self.weight * total / tokens * count if tokens else 0.0), count
