"""CODI: one model is its own teacher; the student's thoughts are drawn to where the words would have led (2502.21074)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method, Thinking, exact, follow
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import IGNORED, Example, Text, pad_right


class CODI(Method):
    """L = alpha L_teacher + beta L_student + gamma (1 / M) sum_l |sg h_l^T - h_l^S| / sigma(h_l^T) (2502.21074).

    The teacher reads the steps in words, the student thinks `thoughts` times, z = prj(h); both then say the answer.
    Their hidden states are compared in every layer, the embeddings included, at the last token before the answer (here
    "###", where the paper has "The answer is:"). The teacher's side of the comparison passes no gradient.

    Args:
        backbone: the model.
        thoughts: the paper: 6.
        width: inner width of the projection; the model's if not given.
        dropout: of the projection's input.
        alpha: weight of the teacher's cross-entropy.
        beta: weight of the student's.
        gamma: weight of the distance. The paper: 1 (GPT-2), 20 (Llama-1B).
        distance: "smooth_l1" or "l2".
        keep_last: whether the teacher reads the last step, which says the answer. The paper's default: no.
    """

    name, paper = "codi", "2502.21074"
    needs_steps = True
    cell = Cell(
        "backbone", "external: reasoning priors", "compressed: traces", "post-training: implicit supervision"
    )

    def __init__(
        self,
        backbone: Backbone,
        thoughts: int = 6,
        width: int | None = None,
        dropout: float = 0.0,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        distance: str = "smooth_l1",
        keep_last: bool = False,
    ):
        super().__init__()
        if distance not in ("smooth_l1", "l2"):
            raise ValueError(f"distance is 'smooth_l1' or 'l2', got {distance!r}")
        self.thoughts, self.alpha, self.beta, self.gamma = thoughts, alpha, beta, gamma
        self.distance, self.keep_last = distance, keep_last
        d, like = backbone.width, backbone.weights()[0]
        inner = width or d
        self.prj = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(d, inner), nn.GELU(), nn.Linear(inner, d), nn.LayerNorm(d)
        ).to(like)

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """One stage: all steps are thought."""
        return self.thoughts, ()

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """Z = prj(h)."""
        return self.prj(hidden)

    def loss(
        self, backbone: Backbone, batch: Sequence[Example], problems: Sequence[Problem], text: Text
    ) -> tuple[Tensor, Tensor]:
        """The three terms, scaled so that summed over count is the paper's mean.

        Raises:
            ValueError: rows without their problems: the teacher has nothing to read.
        """
        if len(problems) != len(batch):
            raise ValueError("CODI's teacher reads the steps: pass problems, not encoded examples")
        teacher, count, taught = self._teacher(backbone, problems, text)
        device = taught[0].device
        stream = self.ask(backbone, [row.question for row in batch], text.pad, device)
        thinking = self.think(backbone, stream, torch.tensor([row.thoughts for row in batch], device=device))
        student, said, learned = self._say(
            backbone, thinking, [row.tail for row in batch], [row.labels for row in batch], text
        )
        return (
            count
            * (
                self.alpha * teacher / count
                + self.beta * student / said
                + self.gamma * self.gap(taught, learned)
            ),
            count,
        )

    def gap(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """Mean over layers of the distance, in units of the teacher's spread in that layer; `[B, d]` each."""
        far = []
        for t, s in zip(teacher, student, strict=True):
            t = t.detach()
            distance = F.smooth_l1_loss(s, t) if self.distance == "smooth_l1" else F.mse_loss(s, t)
            far.append(distance / t.std().clamp(min=1e-12))
        return torch.stack(far).mean()

    def _teacher(
        self, backbone: Backbone, problems: Sequence[Problem], text: Text
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Cross-entropy of steps and answer in words, and the layers at the token before the answer."""
        rows = []
        for problem in problems:
            steps = problem.steps if self.keep_last else problem.steps[:-1]
            rows.append(text.example(problem, 0, steps, markers=False))
        device = backbone.weights()[0].device
        stream = self.ask(backbone, [row.question for row in rows], text.pad, device)
        idle = Thinking(stream, None, None, [], torch.zeros(len(rows), dtype=torch.long, device=device))
        return self._say(backbone, idle, [row.tail for row in rows], [row.labels for row in rows], text)

    def _say(
        self,
        backbone: Backbone,
        thinking: Thinking,
        tails: Sequence[Sequence[int]],
        labels: Sequence[Sequence[int]],
        text: Text,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Cross-entropy of tails, its count, and every layer `[B, d]` at the last token before the answer."""
        device = backbone.weights()[0].device
        tokens, valid = pad_right(tails, text.pad, device)
        wanted_ids, _ = pad_right(labels, IGNORED, device)
        every: list[Tensor] = []
        hidden, _ = follow(
            backbone,
            thinking,
            backbone.embed(tokens[:, :-1]),
            None if valid is None else valid[:, :-1],
            every,
        )
        wanted = wanted_ids != IGNORED
        logits = backbone.head(hidden[wanted])
        mark = tuple(text.encode("###"))
        at = torch.tensor([_last(tail, mark) for tail in tails], device=device)
        rows = torch.arange(len(tails), device=device)
        columns = tokens.shape[1] - 1
        layers = [layer[:, -columns:][rows, at] for layer in every]
        return F.cross_entropy(exact(logits), wanted_ids[wanted], reduction="sum"), wanted.sum(), layers


def _last(tail: Sequence[int], mark: Sequence[int]) -> int:
    """Where the last token of the answer's mark stands."""
    n = len(mark)
    return max(k for k in range(len(tail) - n + 1) if tuple(tail[k : k + n]) == tuple(mark)) + n - 1
