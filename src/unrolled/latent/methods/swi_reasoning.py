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
    it with e(`</think>`), beta_t alike. Reasoning ends where the model itself says `</think>` in words; what follows is
    spoken and never soft.

    Switches to words are counted. From the `most`-th on each reads `</think>` in place of its own step: the model may take
    the hint or reason on. At the 2 `most`-th reasoning is over, whatever it says: it reads `final` and has `budget` tokens
    left to answer with. Rows end one by one.

    Args:
        backbone: the model.
        thoughts: T, most steps of reasoning.
        window: least steps in words before going back. The reference: 512.
        alpha: of entering; 1 for no mixing.
        beta: of leaving. The reference: 0.7.
        most: C_max, switches to words before `</think>` is put in; None for no limit.
        think: id of `<think>`, if the model has one.
        end: id of `</think>`, if the model has one.
        final: token ids that ask for the answer. The reference: those of "</think>", two line breaks, "The final answer is".
        budget: tokens that may be said after `final`. The reference: 32.
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
        final: Sequence[int] = (),
        budget: int = 32,
    ):
        super().__init__()
        if not 0 <= alpha <= 1 or not 0 <= beta <= 1 or window < 1:
            raise ValueError(f"alpha {alpha} and beta {beta} in [0, 1], window {window} at least 1")
        if budget < 1 or (most is not None and most < 1):
            raise ValueError(f"budget {budget} and most {most} at least 1 (most=None for no limit)")
        self.thoughts, self.window, self.alpha, self.beta = thoughts, window, alpha, beta
        self.most, self.opening, self.end = most, think, end
        self.final, self.budget = tuple(final), budget
        self.switch = Switch(window)
        self._over: Tensor | None = None
        self._asked: Tensor | None = None

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """At most `thoughts` steps."""
        return self.thoughts, ()

    def stop(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor | None:
        """Switch modes; done where the model says `</think>` in words, or the switches are used up."""
        logits = exact(backbone.head(hidden))
        soft = self.switch.step(entropy(logits))
        done = torch.zeros_like(soft)
        if self.end is not None:
            done = ~soft & (logits.argmax(-1) == self.end)
        if self.most is not None:
            out = (self.switch.switches >= 2 * self.most) & ~done
            no = torch.zeros_like(done)
            over = no if self._over is None else self._over
            self._asked = (no if self._asked is None else self._asked) | (out & ~over)
            self._over = over | out | done
            done = done | out
        return done

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
        if self.most is not None and self.end is not None:
            hinted = self.switch.left & (self.switch.switches >= self.most)
            z = torch.where(hinted[:, None], table[self.end], z)
        return z

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor) -> Thinking:
        """One step after the other, modes begun anew; rows whose switches are used up are asked for their answer."""
        self.switch, self._over, self._asked = Switch(self.window), None, None
        thinking = think(backbone, self, stream, counts)
        asked: list[bool] = [] if self._asked is None else self._asked.tolist()  # pyright: ignore
        if any(asked):
            thinking.prompts = [self.final if row else () for row in asked]
            thinking.limits = [self.budget if row else None for row in asked]
        return thinking
