"""The debate against its no-peers arm: is there weight on peers beyond what shared evidence makes?

Agents that see the same question predict one another's next belief without hearing a word, so a fit alone puts weight on
peers (debate fact sheet 2605.25929, e). With the same questions answered without peers, arm labels can be swapped within
each question: under the hypothesis of no influence both arms have the same distribution.
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.debate._estimate import of_normal
from unrolled.debate._normal import DENSE, Normal, Stack
from unrolled.debate.result import Control

EXACT = 10
"""Questions up to which all 2^Q swaps are taken."""

SAMPLED = 999


def compare(debate: list[Stack], alone: list[Stack], *, rng: Any) -> Control:
    """Mean weight on peers, (1 - gamma)(1 - alpha), pooled over questions, in both arms, and the p-value of its excess.

    Raises:
        ValueError: too many agents, or questions that do not share their agents.
    """
    n = debate[0].beliefs.shape[2]
    if n > DENSE or any(s.beliefs.shape[2] != n for s in debate):
        raise ValueError(f"the control test pools questions with the same agents, at most {DENSE}")
    arms = [_normals(stacks) for stacks in (debate, alone)]
    questions = len(arms[0].count)
    if questions <= EXACT:
        bits = torch.arange(2**questions)
        swaps = ((bits[:, None] >> torch.arange(questions)) & 1).bool()  # the first swaps nothing
    else:
        generator = seeds.generator(rng)
        drawn = torch.randint(0, 2, (SAMPLED, questions), generator=generator).bool()
        swaps = torch.cat([torch.zeros(1, questions, dtype=torch.bool), drawn])
    allowed = debate[0].allowed(slice(0, 1))
    first, second = (_peers(arms[k], arms[1 - k], swaps, allowed) for k in (0, 1))
    excess = first - second
    p = float((excess >= excess[0] - 1e-12).double().mean())
    return Control(float(first[0]), float(second[0]), p, len(swaps), questions)


def _normals(stacks: list[Stack]) -> Normal:
    parts = [Normal.of(stack) for stack in stacks]
    return Normal(
        torch.cat([x.G for x in parts]), torch.cat([x.c for x in parts]), torch.cat([x.count for x in parts])
    )


def _peers(mine: Normal, other: Normal, swaps: Tensor, allowed: Tensor) -> Tensor:
    """Mean weight on peers in an arm, `[swaps]`, when some questions come from the other arm."""
    made: list[Tensor] = []
    for part in swaps.double().split(64):
        stay = 1 - part

        def mixed(x: Tensor, y: Tensor, part: Tensor = part, stay: Tensor = stay) -> Tensor:
            return torch.tensordot(stay, x.double(), 1) + torch.tensordot(part, y.double(), 1)

        normal = Normal(mixed(mine.G, other.G), mixed(mine.c, other.c), mixed(mine.count, other.count))
        u = of_normal(normal.mean(), allowed).u
        n = u.shape[-2]
        H = u[..., 1 : n + 1]
        made.append((H.sum(-1) - H.diagonal(dim1=-2, dim2=-1)).nanmean(-1))
    return torch.cat(made)
