"""The normal equations of the one-step fit: for agent i, b_i(t+1) = [s_i, b_1(t), ..., b_n(t), (1 per option)] u."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.debate._beliefs import observed
from unrolled.debate._simplex import Bordered, Dense

CHUNK = 2**23
"""Entries of the design held at a time."""

DENSE = 64
"""Agents up to which each problem has its own matrix; beyond, one is shared."""


@dataclass
class Stack:
    """Questions of one shape.

    Attributes:
        beliefs: `[Q, T+1, n, K]`, NaN where missing.
        heard: `[Q, n, n]`.
        bias: whether a constant column per option is fitted too.
    """

    beliefs: Tensor
    heard: Tensor
    bias: bool = False

    @property
    def unknowns(self) -> int:
        """Columns of the design: anchor, agents, constants."""
        return 1 + self.beliefs.shape[2] + (self.beliefs.shape[3] if self.bias else 0)

    def designs(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Chunks of questions: which, the design `[q, n, T K, p]`, the target `[q, n, T K]`, rows used `[q, n]`."""
        questions, times, n, options = self.beliefs.shape
        size = max(1, CHUNK // (n * (times - 1) * options * self.unknowns))
        for start in range(0, questions, size):
            part = slice(start, min(start + size, questions))
            B, used = self.beliefs[part], observed(self.beliefs[part], self.heard[part])
            q, rounds = len(B), times - 1
            anchor = B[:, 0, :, None, :, None].expand(q, n, rounds, options, 1)
            heard = B[:, :-1].permute(0, 1, 3, 2)[:, None].expand(q, n, rounds, options, n)
            columns = [anchor, heard]
            if self.bias:
                columns.append(torch.eye(options, dtype=B.dtype).expand(q, n, rounds, options, options))
            keep = used.permute(0, 2, 1)  # [q, n, rounds]
            X = torch.cat(columns, -1).where(keep[..., None, None], 0.0).nan_to_num()
            y = B[:, 1:].permute(0, 2, 1, 3).where(keep[..., None], 0.0)
            yield part, X.reshape(q, n, rounds * options, -1), y.reshape(q, n, -1), keep.sum(-1) * options

    def allowed(self, questions: slice = slice(None)) -> Tensor:
        """`[Q, n, p]`: entries of u that may be positive."""
        heard = self.heard[questions]
        first = torch.ones(*heard.shape[:2], 1, dtype=torch.bool)
        constants = torch.ones(*heard.shape[:2], self.unknowns - 1 - heard.shape[1], dtype=torch.bool)
        return torch.cat([first, heard, constants], -1)


@dataclass
class Normal:
    """G, c and row counts of every agent: 1/count of X'X and X'y."""

    G: Tensor
    c: Tensor
    count: Tensor

    @staticmethod
    def of(stack: Stack) -> "Normal":
        """Each agent of each question: `[Q, n, p, p]`, `[Q, n, p]`, `[Q, n]`."""
        parts = [(X.mT @ X, (X.mT @ y[..., None]).squeeze(-1), count) for _, X, y, count in stack.designs()]
        G, c, count = (torch.cat(x) for x in zip(*parts))
        return Normal(G, c, count)

    def mean(self) -> "Normal":
        """Divided by the counts, so that 1/2 u'Gu - c'u is half the mean squared error up to a constant."""
        by = self.count.clamp(min=1)
        return Normal(self.G / by[..., None, None], self.c / by[..., None], self.count)

    def pooled(self) -> "Normal":
        """Questions added up: `[1, n, ...]`."""
        return Normal(self.G.sum(0, True), self.c.sum(0, True), self.count.sum(0, True))


def gradient(stack: Stack, u: Tensor, count: Tensor) -> Tensor:
    """X'(Xu - y)/count from the rows themselves, free of the rounding of X'X: `[Q, n, p]`; u may be `[1, n, p]`."""
    made: list[Tensor] = []
    for part, X, y, _ in stack.designs():
        mine = u[part] if len(u) > 1 else u
        residual = (X @ mine[..., None]).squeeze(-1) - y
        made.append((X.mT @ residual[..., None]).squeeze(-1))
    return torch.cat(made) / count.clamp(min=1)[..., None]


def dense(normal: Normal) -> tuple[Dense, Tensor]:
    """All problems in one batch: the matrices, and c as `[B, p]`."""
    return Dense(normal.G.flatten(0, -3)), normal.c.flatten(0, -2)


@dataclass
class Large:
    """Agents of one large debate that use the same rows, and so share their matrix."""

    agents: Tensor
    gram: Bordered
    c: Tensor
    count: int


def large(stacks: list[Stack]) -> list[Large]:
    """The agents of one debate (or of several, pooled) with many agents, grouped by the rows they use."""
    used = torch.cat([observed(s.beliefs, s.heard).flatten(0, 1) for s in stacks])  # [rows, n]
    patterns, which = torch.unique(used.T, dim=0, return_inverse=True)
    made: list[Large] = []
    for k in range(len(patterns)):
        agents = (which == k).nonzero().squeeze(-1)
        a = len(agents)
        corner = torch.zeros(a, dtype=torch.float64)
        first = corner.clone()
        shared = cross = rest = torch.zeros((), dtype=torch.float64)
        count = 0
        for X, anchor, Y in _rows(stacks, patterns[k], agents):
            corner, first = corner + anchor.square().sum(0), first + (anchor * Y).sum(0)
            shared, cross, rest = shared + X.T @ X, cross + anchor.T @ X, rest + Y.T @ X
            count += len(X)
        by = max(count, 1)
        gram = Bordered(corner / by, cross / by, shared / by)
        made.append(Large(agents, gram, torch.cat([first[:, None], rest], 1) / by, count))
    return made


def _rows(stacks: list[Stack], used: Tensor, agents: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Chunks of rows: beliefs heard `[rows, p - 1]`, anchors and targets of the agents `[rows, a]`."""
    position = 0
    for s in stacks:
        questions, times, n, options = s.beliefs.shape
        size = max(1, CHUNK // (2 * n * (times - 1) * options))
        keep = used[position : position + questions * (times - 1)].reshape(questions, times - 1)
        position += questions * (times - 1)
        for start in range(0, questions, size):
            part = slice(start, start + size)
            B, mine = s.beliefs[part], keep[part]
            X = B[:, :-1][mine].mT.reshape(-1, n)
            anchor = B[:, :1, agents].expand(-1, times - 1, -1, -1)[mine].mT.reshape(-1, len(agents))
            Y = B[:, 1:, agents][mine].mT.reshape(-1, len(agents))
            if s.bias:
                X = torch.cat([X, torch.eye(options, dtype=X.dtype).repeat(int(mine.sum()), 1)], 1)
            yield X.nan_to_num(), anchor.nan_to_num(), Y.nan_to_num()
