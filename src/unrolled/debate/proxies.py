"""Which proxies tell who is influential? A random forest on what agents show before the debate (extra `proxies`).

The paper reads importances from a random forest and gives neither its features' formulas nor its settings. Here questions
are never split between training and test, because agents of one question share a sum of pi and the same evidence, and the
same forest on influence shuffled within questions says what the score is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import require
from unrolled.debate.log import DebateLog
from unrolled.debate.measures import alignment, confidence, relative_confidence
from unrolled.debate.result import FJFit

NAMES: tuple[str, ...] = ("confidence", "relative confidence", "alignment")


@dataclass(frozen=True)
class Proxies:
    """What the forest found.

    Attributes:
        score: R^2 of predicted pi on questions held out (cross-validation grouped by question).
        shuffled: the same with pi shuffled among the agents of each question, `[shuffles]`: the permutation baseline.
        p_value: share of shuffles (and the data itself) that score as much.
        top: share of held-out questions whose most influential agent is the one predicted.
        chance: the same for a guess, the mean of 1 / n.
        importance: by how much the score falls on held-out questions when one proxy is shuffled, by name. Proxies that go
            together share it in no particular way: in a log made with confidence alone, alignment can come out first.
        questions: how many were used.
        agents: rows, in all.
    """

    score: float
    shuffled: Tensor
    p_value: float
    top: float
    chance: float
    importance: dict[str, float]
    questions: int
    agents: int

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value:+.3f}" for name, value in self.importance.items())
        return (
            f"influence from proxies, {self.agents} agents in {self.questions} questions, split by question: R^2 "
            f"{self.score:.3f}, with influence shuffled within questions {float(self.shuffled.mean()):.3f} (p = "
            f"{self.p_value:.3g}); most influential agent right in {100 * self.top:.0f} % (guess {100 * self.chance:.0f} %); "
            f"loss of R^2 when shuffled: {told}"
        )


def proxies(
    log: DebateLog,
    fits: Sequence[FJFit],
    *,
    folds: int = 5,
    trees: int = 100,
    shuffles: int = 20,
    seed: int = 0,
) -> Proxies:
    """Predict each agent's pi from its confidence, relative confidence and alignment in round 0.

    Args:
        log: the debates.
        fits: one fit per question; those that are not identified, or whose first beliefs are incomplete, are left out.
        folds: of the cross-validation, grouped by question.
        trees: of the forest.
        shuffles: of the permutation baseline; p cannot be below 1 / (shuffles + 1).
        seed: of forest and shuffles.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: fewer usable questions than folds.

    Example:
        >>> from unrolled.debate import DebateLog, Question
        >>> proxies(DebateLog([]), [])
        Traceback (most recent call last):
        ValueError: no question is identified with complete first beliefs: there is nothing to explain
    """
    ensemble = require("sklearn.ensemble", extra="proxies")
    selection = require("sklearn.model_selection", extra="proxies")
    rows, targets, groups = _table(log, fits)
    questions = len(groups.unique())
    if questions < folds:
        raise ValueError(
            f"{questions} of {len(fits)} questions are identified with complete first beliefs; {folds} folds need {folds}"
        )
    splits = list(selection.GroupKFold(n_splits=folds).split(rows, targets, groups))
    rng = torch.Generator().manual_seed(seed)
    X, y = rows.numpy(), targets.numpy()
    lost = dict.fromkeys(NAMES, 0.0)

    def predicted(y: Any, weigh: bool = False) -> Tensor:
        made = torch.empty(len(y), dtype=torch.float64)
        for train, test in splits:
            forest = ensemble.RandomForestRegressor(trees, min_samples_leaf=3, random_state=seed)
            forest.fit(X[train], y[train])
            made[test] = torch.from_numpy(forest.predict(X[test]))
            for k, name in enumerate(NAMES if weigh else ()):
                other = X[test].copy()
                other[:, k] = other[torch.randperm(len(test), generator=rng).numpy(), k]
                worse = ((y[test] - forest.predict(other)) ** 2).sum() - (
                    (y[test] - made[test].numpy()) ** 2
                ).sum()
                lost[name] += float(worse / ((y - y.mean()) ** 2).sum())
        return made

    guess = predicted(y, weigh=True)
    score = _r2(targets, guess)
    shuffled = []
    for _ in range(shuffles):
        other = _within(targets, groups, rng)
        shuffled.append(_r2(other, predicted(other.numpy())))
    null = torch.tensor(shuffled, dtype=torch.float64)
    hits, chance = [], []
    for q in groups.unique():
        mine = groups == q
        hits.append(float(guess[mine].argmax() == targets[mine].argmax()))
        chance.append(1 / int(mine.sum()))
    p = (1 + int((null >= score).sum())) / (1 + shuffles)
    return Proxies(score, null, p, sum(hits) / len(hits), sum(chance) / len(chance), lost, questions, len(y))


def _table(log: DebateLog, fits: Sequence[FJFit]) -> tuple[Tensor, Tensor, Tensor]:
    """Proxies `[rows, 3]`, pi `[rows]`, question of each row."""
    rows, targets, groups = [], [], []
    for q, (question, fit) in enumerate(zip(log.questions, fits, strict=True)):
        S = question.beliefs[0]
        if fit.status != "identified" or bool(S.isnan().any()) or bool(fit.pi.isnan().any()):
            continue
        relative = relative_confidence(S).nan_to_num(
            nan=1.0, posinf=1e3
        )  # nobody but one is confident at all
        rows.append(torch.stack([confidence(S), relative, alignment(S)], -1))
        targets.append(fit.pi)
        groups.append(torch.full((len(S),), q))
    if not rows:
        raise ValueError("no question is identified with complete first beliefs: there is nothing to explain")
    return torch.cat(rows), torch.cat(targets), torch.cat(groups)


def _within(values: Tensor, groups: Tensor, rng: torch.Generator) -> Tensor:
    """Values shuffled within each group."""
    made = values.clone()
    for q in groups.unique():
        mine = (groups == q).nonzero().flatten()
        made[mine] = values[mine[torch.randperm(len(mine), generator=rng)]]
    return made


def _r2(truth: Tensor, guess: Tensor) -> float:
    return 1 - float((truth - guess).square().sum() / (truth - truth.mean()).square().sum())
