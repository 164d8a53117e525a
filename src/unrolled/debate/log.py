"""`DebateLog`: recorded debates, as the importers make them and `fit` takes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unrolled.core import seeds


@dataclass
class Question:
    """One question of a log.

    Attributes:
        id: its name, or the question itself.
        beliefs: `[T+1, n, K]`, NaN where an agent's answer is missing or could not be read.
        options: names of the K options.
        agents: names of the n agents.
        truth: index of the right option, if known.
        texts: what was said, `[T+1][n]`, if the log has it.
    """

    id: str
    beliefs: Tensor
    options: tuple[str, ...]
    agents: tuple[str, ...]
    truth: int | None = None
    texts: list[list[str]] | None = None

    @property
    def missing(self) -> int:
        """Beliefs (round and agent) that are missing."""
        return int(self.beliefs.isnan().any(-1).sum())


@dataclass
class DebateLog:
    """Recorded debates; `fit(log.beliefs)` fits one set of parameters per question.

    Attributes:
        questions: in the order of the source.
        source: where it comes from.
        kind: which importer read it.
        notes: what a careful reader should know, such as how answers became beliefs.

    Example:
        >>> trace = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
        >>> log = DebateLog([Question("q", trace, ("A", "B"), ("x", "y"), truth=0)])
        >>> log.accuracy().tolist(), log.majority().tolist()
        ([0.5, 1.0], [0.5, 1.0])
    """

    questions: list[Question]
    source: str = ""
    kind: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def beliefs(self) -> list[Tensor]:
        """One trace per question."""
        return [question.beliefs for question in self.questions]

    @property
    def missing(self) -> int:
        """Beliefs that are missing, in all."""
        return sum(question.missing for question in self.questions)

    def __len__(self) -> int:
        return len(self.questions)

    def select(self, ids: Sequence[int]) -> "DebateLog":
        """Some questions, by position."""
        return DebateLog([self.questions[i] for i in ids], self.source, self.kind, self.notes)

    def accuracy(self) -> Tensor:
        """Share of right answers per round, mean over agents and questions with a known answer, `[T+1]`.

        The answer is the option with the largest belief, ties shared; a missing belief is a wrong answer.
        """
        return self._scored(by_majority=False)

    def majority(self) -> Tensor:
        """Share of questions whose majority is right, per round; ties shared between the options that tie, `[T+1]`."""
        return self._scored(by_majority=True)

    def vote(self, samples: int | None = None, *, draws: int = 1000, rng: torch.Generator | int = 0) -> float:
        """Accuracy of a majority vote that costs as much as the debate, estimated from the first beliefs.

        Every agent whose first belief is known answers `samples` times, each answer drawn from that belief; ties are
        shared. A log holds one first answer per agent, so more samples can only be drawn, not looked up: where beliefs are
        certain, this is the majority of the first answers. `Debate(vote=True)` asks for real.

        Args:
            samples: per agent; rounds + 1 when None, what the debate cost.
            draws: votes per question.
            rng: generator or seed.

        Raises:
            ValueError: no question has a known answer.

        Example:
            >>> sure = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]] * 2)
            >>> DebateLog([Question("q", sure, ("A", "B"), ("x", "y", "z"), truth=0)]).vote()
            1.0
        """
        known = [q for q in self.questions if q.truth is not None]
        if not known:
            raise ValueError("no question of this log has a known answer: accuracy cannot be computed")
        generator = seeds.generator(rng)
        made: list[float] = []
        for q in known:
            first = q.beliefs[0][~q.beliefs[0].isnan().any(-1)]
            if not len(first):
                made.append(0.0)
                continue
            each = samples or len(q.beliefs)
            drawn = torch.multinomial(first, draws * each, replacement=True, generator=generator)
            votes = torch.nn.functional.one_hot(drawn.reshape(-1, draws), first.shape[1]).sum(0)
            top = votes == votes.amax(-1, keepdim=True)
            made.append(float((top[:, q.truth].double() / top.sum(-1)).mean()))
        return sum(made) / len(made)

    def _scored(self, *, by_majority: bool) -> Tensor:
        known = [q for q in self.questions if q.truth is not None]
        if not known:
            raise ValueError("no question of this log has a known answer: accuracy cannot be computed")
        rounds = min(len(q.beliefs) for q in known)
        made: list[Tensor] = []
        for q in known:
            votes = answers(q.beliefs[:rounds])  # [T+1, n, K]
            if by_majority:
                total = votes.sum(1)
                top = total == total.amax(-1, keepdim=True)
                counted = top.double() / top.sum(-1, keepdim=True)
                made.append(counted[:, q.truth].where(total.sum(-1) > 0, 0.0))
            else:
                made.append(votes[..., q.truth].mean(-1))
        return torch.stack(made).mean(0)

    def __repr__(self) -> str:
        if not self.questions:
            return f"DebateLog(empty, {self.kind})"
        n, T, K = (sorted({q.beliefs.shape[i] - (i == 0) for q in self.questions}) for i in (1, 0, 2))

        def span(values: list[int]) -> str:
            return str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}"

        return (
            f"DebateLog({len(self)} questions, {span(n)} agents, {span(T)} rounds, {span(K)} options, "
            f"{self.missing} beliefs missing, {self.kind})"
        )


def answers(beliefs: Tensor) -> Tensor:
    """Each agent's answer, the option with the largest belief, as a vote; ties shared, no vote where missing.

    Example:
        >>> answers(torch.tensor([[0.4, 0.6], [0.5, 0.5]])).tolist()
        [[0.0, 1.0], [0.5, 0.5]]
    """
    known = beliefs.double().nan_to_num(nan=-1.0)
    top = (known == known.amax(-1, keepdim=True)) & ~beliefs.isnan().any(-1, keepdim=True)
    return top.double() / top.sum(-1, keepdim=True).clamp(min=1)
