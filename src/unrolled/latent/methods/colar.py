"""CoLaR: the embeddings of the steps, a few merged into one, predicted by a head of their own (2505.16552)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone, read
from unrolled.latent.protocol import Cell, Method, Thinking, tail_loss
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Example, Text


def merge(embeds: Tensor, r: int) -> Tensor:
    """Groups of r consecutive embeddings, each group's sum over the root of its size: the variance stays.

    Args:
        embeds: `[L, d]`.
        r: embeddings a group; the last group takes what is left.

    Returns:
        `[ceil(L / r), d]`.

    Example:
        >>> (merge(torch.tensor([[1.0], [3.0], [5.0]]), 2)[:, 0] ** 2).round().tolist()  # 4^2 / 2, 5^2
        [8.0, 25.0]
    """
    if r < 1:
        raise ValueError(f"r must be at least 1, got {r}")
    groups = embeds.split(r)
    return torch.stack([group.sum(0) / group.shape[0] ** 0.5 for group in groups]) if groups else embeds


class CoLaR(Method):
    """The thought after h is N(mu(h), sigma(h)), fitted to the next merged embedding of the steps; then the answer.

    In training the thoughts are the true merged embeddings (one pass), r drawn from 1 to `most` for each batch where a
    generator is at hand; at inference the mean of the predicted Gaussian is fed back. Targets are measured in the
    standard deviation of the embedding table. Batches accumulated into one step share the last draw. The paper's second
    stage is `rl.grpo`, for which thoughts are drawn from the Gaussian.

    Args:
        backbone: the model.
        thoughts: at inference.
        most: largest group. The paper: 5.
        r: the group at inference, and in training without a generator.
        weight: of the latent loss beside the answer's cross-entropy.
        loss: "nll" of the Gaussian, or "mse".
    """

    name, paper = "colar", "2505.16552"
    needs_steps = True
    cell = Cell(
        "component: generation",
        "learnable: compression",
        "compressed: traces",
        "post-training: implicit supervision",
    )

    def __init__(
        self,
        backbone: Backbone,
        thoughts: int = 8,
        most: int = 5,
        r: int = 2,
        weight: float = 1.0,
        loss: str = "nll",
    ):
        super().__init__()
        if loss not in ("nll", "mse") or not 1 <= r <= most:
            raise ValueError(f"loss is 'nll' or 'mse', got {loss!r}; r {r} lies in 1 .. most = {most}")
        self.thoughts, self.most, self.r, self.weight, self.kind = thoughts, most, r, weight, loss
        table = backbone.weights()[0]
        self.spread: Tensor
        self.register_buffer("spread", table.detach().std())
        d = backbone.width
        self.head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 2 * d)).to(table)
        self._r = r

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """All steps are thought."""
        return self.thoughts, ()

    def example(
        self, text: Text, problem: Problem, stage: int | None, rng: torch.Generator | None
    ) -> Example:
        """A batch shares its r, drawn where there is a generator."""
        if rng is not None:
            self._r = int(torch.randint(1, self.most + 1, (), generator=rng))
        return super().example(text, problem, stage, rng)

    def gaussian(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the next thought, in units of the table's spread."""
        mean, log_sigma = self.head(hidden).chunk(2, -1)
        return mean, log_sigma.clamp(-8, 8)

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """The mean."""
        return self.gaussian(hidden)[0] * self.spread

    def draw(self, backbone: Backbone, hidden: Tensor, step: int, rng: torch.Generator | None) -> Tensor:
        """A point of the Gaussian, in units of the table's spread."""
        mean, log_sigma = self.gaussian(hidden.detach())
        noise = torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)
        return mean + log_sigma.exp() * noise

    def replay(self, backbone: Backbone, hidden: Tensor, step: int, choice: Tensor) -> tuple[Tensor, Tensor]:
        """The point as a thought, and its log-density per dimension: a thought weighs like a token, whatever d is."""
        mean, log_sigma = self.gaussian(hidden)
        off = (choice - mean) / log_sigma.exp()
        return choice * self.spread, -(0.5 * off.square() + log_sigma + 0.5 * math.log(2 * math.pi)).mean(-1)

    def loss(
        self, backbone: Backbone, batch: Sequence[Example], problems: Sequence[Problem], text: Text
    ) -> tuple[Tensor, Tensor]:
        """The latent loss over all merged embeddings, and the answer's cross-entropy after them.

        Raises:
            ValueError: rows without their problems.
        """
        if len(problems) != len(batch):
            raise ValueError("CoLaR's thoughts are made from the steps: pass problems, not encoded examples")
        device = backbone.weights()[0].device
        steps = [[t for step in problem.steps for t in text.encode(step + "\n")] for problem in problems]
        merged = [merge(backbone.embed(torch.tensor(ids, device=device)), self._r) for ids in steps]
        counts = torch.tensor([len(rows) for rows in merged], device=device)
        longest = int(counts.max())
        inputs = torch.stack([F.pad(rows, (0, 0, 0, longest - len(rows))) for rows in merged])
        valid = torch.arange(longest, device=device) < counts[:, None]
        stream = self.ask(backbone, [row.question for row in batch], text.pad, device)
        before = stream.hidden
        hidden, stream = read(backbone, stream, inputs, valid)
        mean, log_sigma = self.gaussian(torch.cat([before[:, None], hidden[:, :-1]], 1)[valid])
        off = mean - inputs[valid].detach() / self.spread
        each = 0.5 * (off / log_sigma.exp()).square() + log_sigma if self.kind == "nll" else off.square()
        thinking = Thinking(stream, None, None, list(inputs.unbind(1)), counts)
        summed, count = tail_loss(backbone, thinking, batch, text)
        return summed + self.weight * each.mean() * count, count
