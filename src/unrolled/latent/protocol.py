"""One protocol for every method: how a thought is made, when to stop, what is supervised.

A method is a `Method`: a module, because some carry weights of their own, with three functions that have a default
each. The defaults are Coconut's: a thought is the last hidden state, nobody stops early, and what follows the thoughts
is predicted. Everything else here (`think`, `speak`, `supervise`) is shared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone, Stream, read
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import IGNORED, Example, Text, pad_left, pad_right


@dataclass(frozen=True)
class Cell:
    """A method's place in the survey's taxonomy (2604.02029, section 4): four mechanisms, and abilities (section 5)."""

    architecture: str
    representation: str
    computation: str
    optimization: str
    abilities: tuple[str, ...] = ("reasoning",)


class Thoughtless(ArithmeticError):
    """A thought that is not a number. `step` counts from 1, `rows` are those it happened in."""

    def __init__(self, step: int, rows: list[int]):
        super().__init__(
            f"thought {step} is not finite in row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}: the hidden state it is made "
            "from overflowed; lower the learning rate, clip the gradient, or make thoughts in float32"
        )
        self.step, self.rows = step, rows


@dataclass
class Thinking:
    """What `think` leaves: the stream, the thought that is made but not yet read, and all of them.

    Attributes:
        stream: what was read, the last thought excluded where `waiting` says so.
        thought: `[B, d]`, the last thought; None before the first.
        waiting: `[B]` bool, rows whose last thought is not read yet; None where there is none.
        made: the thoughts, `[B, d]` each.
        counts: `[B]`, thoughts of each row.
        stops: why each row stopped, where a method says.
    """

    stream: Stream
    thought: Tensor | None
    waiting: Tensor | None
    made: list[Tensor]
    counts: Tensor
    stops: list[str] = field(default_factory=list[str])
    prompts: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    """What each row reads before it speaks, where a method puts words in its mouth; empty for none."""
    limits: list[int | None] = field(default_factory=list[int | None])
    """Most tokens each row may then say, where a method bounds them."""


class Method(nn.Module):
    """A way to reason in latent space.

    Attributes:
        name: as in the literature.
        paper: arXiv identifier.
        cell: its place in the taxonomy.
        markers: whether thoughts stand between marker tokens.
        trains: False for methods that need no training.
        sequential: whether a thought is `thought` of the state before it. Where it is not, thoughts cannot be edited one by
            one, nor be the steps of a System.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    cell: ClassVar[Cell]
    markers: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    sequential: ClassVar[bool] = True
    needs_steps: ClassVar[bool] = False
    """Whether its training is made from a problem's steps, so that a problem without any is refused."""
    training_only: ClassVar[tuple[str, ...]] = ()
    """Names of sub-modules that only the loss uses; they are not saved."""

    stages: int = 0
    """Of the curriculum, beyond stage 0; stage `stages` + 1 says no step at all."""

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """How many thoughts, and which steps are still said, at a stage of the curriculum; None is the end of it."""
        raise NotImplementedError(
            f"{type(self).__name__} has no plan(problem, stage): it says how many thoughts there are, and which steps are still said"
        )

    def example(
        self, text: Text, problem: Problem, stage: int | None, rng: torch.Generator | None
    ) -> Example:
        """A problem as a row of a batch. Override it where a curriculum counts tokens rather than steps."""
        thoughts, steps = self.plan(problem, stage)
        return text.example(problem, thoughts, steps, markers=self.markers)

    def ask(
        self, backbone: Backbone, questions: Sequence[Sequence[int]], pad: int, device: torch.device
    ) -> Stream:
        """Read the questions. Override it where more is known of them than their tokens."""
        return ask(backbone, questions, pad, device)

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """The next input `[B, d]`, made from last hidden states `[B, d]` (survey, eq. 4 and 7)."""
        return hidden

    def stop(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor | None:
        """`[B]` bool, rows that have thought enough after `step` thoughts (eq. 17); None: nobody stops early."""
        return None

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor) -> Thinking:
        """The thoughts, `counts` `[B]` of them at most. Override it where they are not made one after the other."""
        return think(backbone, self, stream, counts)

    def loss(
        self, backbone: Backbone, batch: Sequence[Example], problems: Sequence[Problem], text: Text
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and what it is summed over; override it where more than the tail is supervised."""
        return supervise(backbone, self, batch, text)


def think(backbone: Backbone, method: Method, stream: Stream, counts: Tensor) -> Thinking:
    """One thought after the other, each read as a one-token input: no head, no vocabulary.

    The last thought of a row is made but not read, so that it can share a pass with what follows.

    Raises:
        Thoughtless: a thought with NaN or infinity, with its step and rows.
    """
    longest = int(counts.max()) if counts.numel() else 0
    ragged = bool((counts != longest).any())
    made: list[Tensor] = []
    given = counts.clone()
    waiting: Tensor | None = None
    stopped = torch.zeros_like(counts, dtype=torch.bool)
    for step in range(longest):
        if made:
            _, stream = read(
                backbone, stream, made[-1][:, None], None if waiting is None else waiting[:, None]
            )
        enough = method.stop(backbone, stream.hidden, step)
        if enough is not None:
            newly = enough & ~stopped & (counts > step)
            given, stopped = torch.where(newly, step, given), stopped | newly
            ragged = ragged or bool(newly.any())
        alive = (given > step) & ~stopped
        if ragged and not bool(alive.any()):
            waiting = None
            break
        made.append(method.thought(backbone, stream.hidden, step))
        waiting = alive if ragged else None
    else:
        if waiting is None and made:
            waiting = torch.ones_like(counts, dtype=torch.bool)
    check_finite(made, given)
    return Thinking(stream, made[-1] if made else None, waiting, made, given, _reasons(stopped))


def _reasons(stopped: Tensor) -> list[str]:
    return ["stopped" if row else "limit" for row in stopped.tolist()]


def check_finite(made: list[Tensor], counts: Tensor) -> None:
    """Raise `Thoughtless` where a thought that counts has NaN or infinity."""
    if not made:
        return
    finite = torch.stack([thought.detach().isfinite().all(-1) for thought in made])
    finite |= torch.arange(len(made), device=counts.device)[:, None] >= counts
    if not bool(finite.all()):
        step = int((~finite).any(1).nonzero()[0])
        raise Thoughtless(step + 1, (~finite[step]).nonzero().flatten().tolist())


def follow(
    backbone: Backbone,
    thinking: Thinking,
    embeds: Tensor,
    valid: Tensor | None,
    every: list[Tensor] | None = None,
) -> tuple[Tensor, Stream]:
    """Read a tail after the thoughts, the last thought in the same pass.

    Args:
        backbone: the model.
        thinking: what `think` left.
        embeds: the tail, `[B, L, d]`.
        valid: `[B, L]` bool, None for all.
        every: a list to fill with the hidden states of every layer at the tail's columns (the last L of each).

    Returns:
        Hidden states `[B, 1 + L, d]`: the one that precedes the tail, then the tail's own; and the stream.
    """
    before = thinking.stream.hidden
    if thinking.waiting is None or thinking.thought is None:
        hidden, stream = read(backbone, thinking.stream, embeds, valid, every)
        return torch.cat([before[:, None], hidden], 1), stream
    if not bool(thinking.waiting.all()) or valid is not None:
        tail = (
            torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device) if valid is None else valid
        )
        valid = torch.cat([thinking.waiting[:, None], tail], 1)
    hidden, stream = read(
        backbone, thinking.stream, torch.cat([thinking.thought[:, None], embeds], 1), valid, every
    )
    first = torch.where(thinking.waiting[:, None], hidden[:, 0], before)
    return torch.cat([first[:, None], hidden[:, 1:]], 1), stream


def ask(backbone: Backbone, questions: Sequence[Sequence[int]], text_pad: int, device: Any) -> Stream:
    """Read the questions, padded on the left."""
    tokens, valid = pad_left(questions, text_pad, device)
    return read(backbone, None, backbone.embed(tokens), valid)[1]


def supervise(
    backbone: Backbone, method: Method, batch: Sequence[Example], text: Text
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of what follows the thoughts: question once, thoughts one by one, tail once, head where labels are.

    Returns:
        The sum over supervised tokens, and their number.
    """
    fits(backbone, batch)
    device = backbone.weights()[0].device
    stream = method.ask(backbone, [row.question for row in batch], text.pad, device)
    thinking = method.think(backbone, stream, torch.tensor([row.thoughts for row in batch], device=device))
    return tail_loss(backbone, thinking, batch, text)


def tail_loss(
    backbone: Backbone, thinking: Thinking, batch: Sequence[Example], text: Text
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the tails after some thinking; the head is asked for at supervised positions only."""
    device = backbone.weights()[0].device
    tokens, valid = pad_right([row.tail for row in batch], text.pad, device)
    labels, _ = pad_right([row.labels for row in batch], IGNORED, device)
    # The last token is predicted, never read.
    hidden, _ = follow(
        backbone, thinking, backbone.embed(tokens[:, :-1]), None if valid is None else valid[:, :-1]
    )
    wanted = labels != IGNORED
    logits = backbone.head(hidden[wanted])
    return F.cross_entropy(exact(logits), labels[wanted], reduction="sum"), wanted.sum()


def exact(logits: Tensor) -> Tensor:
    """At least float32, for a softmax."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def fits(backbone: Backbone, batch: Sequence[Example]) -> None:
    """Refuse what is longer than the model's context.

    Raises:
        ValueError: an empty batch, or a row that is too long.
    """
    if not batch:
        raise ValueError("an empty batch: there is nothing to learn from")
    longest = max(len(row.question) + row.thoughts + len(row.tail) for row in batch)
    if backbone.context is not None and longest > backbone.context:
        most = max(row.thoughts for row in batch)
        raise ValueError(
            f"{longest} positions (up to {most} of them thoughts) are more than the model's context of {backbone.context}: "
            "ask for fewer thoughts, shorter questions, or a model with a longer context"
        )


@dataclass(frozen=True)
class Reply:
    """What came back from one prompt.

    Attributes:
        text: decoded tokens.
        tokens: their ids, the end of the text excluded.
        thoughts: how many were thought.
        stop: why speaking ended: "eos" or "length".
    """

    text: str
    tokens: tuple[int, ...]
    thoughts: int
    stop: str


Sampler = Callable[[Tensor], Tensor]
"""Logits `[B, vocabulary]` -> token ids `[B]`."""


def speak(
    backbone: Backbone,
    stream: Stream,
    hidden: Tensor,
    sampler: Sampler,
    *,
    eos: int,
    max_new_tokens: int,
    limits: Sequence[int | None] = (),
) -> list[tuple[list[int], str]]:
    """Decode from last hidden states `[B, d]` on, one token a pass, finished rows skipping.

    Args:
        backbone: the model.
        stream: what was read.
        hidden: where to speak from.
        sampler: of tokens.
        eos: ends a row.
        max_new_tokens: most tokens of every row.
        limits: of rows, where they are fewer.

    Returns:
        For every row its tokens, `eos` excluded, and "eos" or "length".
    """
    said: list[list[int]] = [[] for _ in range(stream.batch)]
    why = ["length"] * stream.batch
    alive = torch.ones(stream.batch, dtype=torch.bool, device=hidden.device)
    most = torch.tensor([max_new_tokens if n is None else n for n in limits or [None] * stream.batch])
    most = most.to(hidden.device)
    for k in range(max_new_tokens):
        alive = alive & (most > k)
        if not bool(alive.any()):
            break
        token = sampler(backbone.head(hidden))
        for row, (t, going) in enumerate(zip(token.tolist(), alive.tolist(), strict=True)):
            if going and t == eos:
                why[row] = "eos"
            elif going:
                said[row].append(t)
        alive = alive & (token != eos)
        if k + 1 == max_new_tokens or not bool(alive.any()):
            break
        everyone = bool(alive.all())
        _, stream = read(
            backbone, stream, backbone.embed(token)[:, None], None if everyone else alive[:, None]
        )
        hidden = stream.hidden
    return list(zip(said, why, strict=True))
