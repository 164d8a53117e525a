"""The definition, as the papers write it: for every thought the whole prefix again, one row at a time, no cache.

The twin that the fast path is held to, loss and gradients.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Method
from unrolled.latent.text import IGNORED, Example


def hidden_states(backbone: Backbone, embeds: Tensor) -> Tensor:
    """`[L, d]` inputs -> `[L, d]` last hidden states, from the beginning."""
    positions = torch.arange(embeds.shape[0], device=embeds.device)[None]
    return backbone.advance(embeds[None], positions, None, None, None)[0][0]


def thoughts(backbone: Backbone, method: Method, question: Tensor, count: int) -> Tensor:
    """Embeddings of a question `[L, d]`, and `count` thoughts after it."""
    sequence = question
    for step in range(count):
        last = hidden_states(backbone, sequence)[-1]
        sequence = torch.cat([sequence, method.thought(backbone, last[None], step)])
    return sequence


def loss(backbone: Backbone, method: Method, batch: list[Example]) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the supervised tokens, and their number (Coconut 2412.06769, section 3)."""
    device = backbone.weights()[0].device
    total, count = torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device)
    for row in batch:
        sequence = thoughts(
            backbone, method, backbone.embed(torch.tensor(row.question, device=device)), row.thoughts
        )
        before = sequence.shape[0]
        sequence = torch.cat([sequence, backbone.embed(torch.tensor(row.tail, device=device))])
        logits = backbone.head(hidden_states(backbone, sequence))[before - 1 : -1]
        labels = torch.tensor(row.labels, device=device)
        total = total + F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
        count = count + (labels != IGNORED).sum()
    return total, count


def generate(
    backbone: Backbone, method: Method, row: Example, *, front: list[int], eos: int, most: int
) -> list[int]:
    """Greedy decoding after the thoughts, the whole prefix for every token."""
    device = backbone.weights()[0].device
    sequence = thoughts(
        backbone, method, backbone.embed(torch.tensor(row.question, device=device)), row.thoughts
    )
    if front:
        sequence = torch.cat([sequence, backbone.embed(torch.tensor(front, device=device))])
    said: list[int] = []
    for _ in range(most):
        token = int(backbone.head(hidden_states(backbone, sequence)[-1]).argmax())
        if token == eos:
            break
        said.append(token)
        sequence = torch.cat([sequence, backbone.embed(torch.tensor([token], device=device))])
    return said
