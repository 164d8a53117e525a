"""SwiReasoning: in vectors while unsure, in words while sure, switched by the trend of the entropy (2510.05069)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.latent.backbone import Backbone, Stream
from unrolled.latent.methods.soft_thinking import entropy
from unrolled.latent.protocol import Cell, Method, Thinking, exact, think
from unrolled.latent.tasks.problem import Problem


class Switch:
    """Which rows are soft: soft -> normal as soon as H_t < H_ref; normal -> soft when H_t > H_ref after `window` steps.

    At every switch H_ref becomes H_t. Rows begin soft, with the entropy of their first step.

    Args:
        window: least steps in words.

    Example:
        >>> switch = Switch(window=2)
        >>> [bool(switch.step(torch.tensor([h]))) for h in (3.0, 4.0, 2.0, 2.5, 2.5, 2.5, 1.0)]
        [True, True, False, False, True, True, False]
    """

    def __init__(self, window: int = 512):
        self.window = window
        self.reference: Tensor | None = None

    def step(self, h: Tensor) -> Tensor:
        """`[B]` entropies -> `[B]` bool, soft or not. `entered` and `left` say who has just switched."""
        if self.reference is None:
            self.reference, self.soft = h.clone(), torch.ones_like(h, dtype=torch.bool)
            self.stayed = torch.zeros_like(h, dtype=torch.long)
            self.switches = torch.zeros_like(self.stayed)
            self.entered, self.left = self.soft.clone(), ~self.soft
            return self.soft
        self.stayed = self.stayed + 1
        self.left = self.soft & (h < self.reference)
        self.entered = ~self.soft & (h > self.reference) & (self.stayed >= self.window)
        switched = self.left | self.entered
        self.soft = self.soft ^ switched
        self.reference = torch.where(switched, h, self.reference)
        self.stayed = torch.where(switched, 0, self.stayed)
        self.switches = self.switches + self.left
        return self.soft


class SwiReasoning(Method):
    """A step is p' E in soft mode (all of the vocabulary, no temperature), the likeliest token's embedding in normal mode.

    On entering soft mode the step is mixed with e(`<think>`), alpha_t = alpha + (1 - alpha) t / T of it soft; on leaving
    it with e(`</think>`), beta_t alike. Reasoning ends with `</think>`, which is forced after `most` switches to words;
    what follows is spoken and never soft. The reference's further prompt for a final answer is left to the caller.

    Args:
        backbone: the model.
        thoughts: T, most steps of reasoning.
        window: least steps in words before going back. The reference: 512.
        alpha: of entering; 1 for no mixing.
        beta: of leaving. The reference: 0.7.
        most: switches to words after which reasoning ends; None for no limit.
        think: id of `<think>`, if the model has one.
        end: id of `</think>`, if the model has one.
    """

    name, paper = "swi_reasoning", "2510.05069"
    cell = Cell(
        "backbone", "internal: weighted embedding", "interleaved: explicit-latent", "inference: scaling"
    )
    markers, trains, sequential = False, False, False

    def __init__(
        self,
        backbone: Backbone | None,
        thoughts: int = 2048,
        window: int = 512,
        alpha: float = 1.0,
        beta: float = 0.7,
        most: int | None = None,
        think: int | None = None,
        end: int | None = None,
    ):
        super().__init__()
        if not 0 <= alpha <= 1 or not 0 <= beta <= 1 or window < 1:
            raise ValueError(f"alpha {alpha} and beta {beta} in [0, 1], window {window} at least 1")
        self.thoughts, self.window, self.alpha, self.beta = thoughts, window, alpha, beta
        self.most, self.opening, self.end = most, think, end
        self.switch = Switch(window)

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """At most `thoughts` steps."""
        return self.thoughts, ()

    def stop(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor | None:
        """Switch modes; done where `</think>` is said in words, or the switches are used up."""
        logits = exact(backbone.head(hidden))
        soft = self.switch.step(entropy(logits))
        done = torch.zeros_like(soft)
        if self.end is not None:
            done = ~soft & (logits.argmax(-1) == self.end)
        return done if self.most is None else done | (self.switch.switches > self.most)

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """The next input, by mode."""
        logits, table = exact(backbone.head(hidden)), backbone.weights()[0]
        mixture = logits.softmax(-1).to(table.dtype)[..., : table.shape[0]] @ table
        z = torch.where(self.switch.soft[:, None], mixture, table[logits.argmax(-1)])
        for switched, start, token in (
            (self.switch.entered, self.alpha, self.opening),
            (self.switch.left, self.beta, self.end),
        ):
            if token is not None:
                own = start + (1 - start) * min(1.0, step / self.thoughts)
                z = torch.where(switched[:, None], own * z + (1 - own) * table[token], z)
        return z

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor) -> Thinking:
        """One step after the other, modes begun anew."""
        self.switch = Switch(self.window)
        return think(backbone, self, stream, counts)
