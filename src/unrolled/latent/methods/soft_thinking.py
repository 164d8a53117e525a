"""Soft Thinking: a thought is the mean of the likeliest tokens' embeddings; nothing is trained (2505.15778)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.latent.backbone import Backbone, Stream
from unrolled.latent.protocol import Cell, Method, Thinking, exact, think
from unrolled.latent.tasks.problem import Problem


class SoftThinking(Method):
    """z = sum_i p_i e_i over the `k` likeliest tokens, after top-p and min-p filtering, renormalised (eq. 9 of the survey).

    Thinking ends when the likeliest token is `end`, or by Cold Stop: entropy (of all tokens, before filtering) below
    `tau` for `length` steps in a row; a single step above starts the count anew.

    The paper warns of small models, and its critics (2508.03440) find that models follow the likeliest token alone.

    Args:
        backbone: the model.
        thoughts: most thoughts.
        k: tokens mixed. The paper: 10.
        top_k: kept before that. The paper: 30.
        top_p: smallest set with that probability is kept. The paper: 0.95.
        min_p: least probability relative to the largest. The paper: 0.001.
        temperature: of the mixture. The paper: 0.6.
        tau: Cold Stop's entropy, nats. The paper: 0.01.
        length: Cold Stop's steps. The paper: 256.
        end: id of the token that ends thinking (`</think>`), if the model has one.

    Example:
        >>> SoftThinking(None, k=2, temperature=1.0).weights_of(torch.tensor([[0.5, 0.3, 0.2]]).log())
        tensor([[0.6250, 0.3750, 0.0000]])
    """

    name, paper = "soft_thinking", "2505.15778"
    cell = Cell("backbone", "internal: weighted embedding", "expanded: width", "inference: scaling")
    markers, trains = False, False

    def __init__(
        self,
        backbone: Backbone | None,
        thoughts: int = 64,
        k: int = 10,
        top_k: int = 30,
        top_p: float = 0.95,
        min_p: float = 0.001,
        temperature: float = 0.6,
        tau: float = 0.01,
        length: int = 256,
        end: int | None = None,
    ):
        super().__init__()
        if k < 1 or top_k < 1 or not 0 < top_p <= 1 or not 0 <= min_p <= 1 or temperature <= 0:
            raise ValueError(
                f"k {k} and top_k {top_k} >= 1, top_p {top_p} in (0, 1], min_p {min_p} in [0, 1], temperature {temperature} > 0"
            )
        self.thoughts, self.k, self.top_k, self.top_p, self.min_p = thoughts, k, top_k, top_p, min_p
        self.temperature, self.tau, self.length, self.end = temperature, tau, length, end
        self._cold: Tensor | None = None

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """At most `thoughts`."""
        return self.thoughts, ()

    def weights_of(self, logits: Tensor) -> Tensor:
        """Weights of the mixture `[B, vocabulary]`, zero but for `k` tokens at most."""
        p = (exact(logits) / self.temperature).softmax(-1)
        ordered, index = p.sort(-1, descending=True)
        keep = ordered.cumsum(-1) - ordered < self.top_p
        keep &= ordered >= self.min_p * ordered[..., :1]
        keep[..., min(self.k, self.top_k) :] = False
        ordered = ordered * keep
        return torch.zeros_like(p).scatter(-1, index, ordered / ordered.sum(-1, keepdim=True))

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """The mixture."""
        weights = self.weights_of(backbone.head(hidden))
        table = backbone.weights()[0]
        return weights.to(table.dtype)[..., : table.shape[0]] @ table

    def stop(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor | None:
        """`end` is likeliest, or it has been cold for long enough."""
        logits = exact(backbone.head(hidden))
        cold = entropy(logits) < self.tau
        if step == 0 or self._cold is None:
            self._cold = torch.zeros(hidden.shape[0], dtype=torch.long, device=hidden.device)
        self._cold = torch.where(cold, self._cold + 1, 0)
        done = self._cold >= self.length
        return done if self.end is None else done | (logits.argmax(-1) == self.end)

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor) -> Thinking:
        """One after the other; the count of cold steps begins anew."""
        self._cold = None
        return think(backbone, self, stream, counts)


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, nats.

    Example:
        >>> float(entropy(torch.zeros(4)))  # log 4
        1.386294...
    """
    p = logits.log_softmax(-1)
    return -(p.exp() * p).sum(-1)
