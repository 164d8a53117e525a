"""Did thinking help? Accuracy beside its controls, on the same problems, with McNemar's test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

from unrolled.core import require
from unrolled.instruments.reading import COLORS, Reading
from unrolled.latent.protocol import Reply
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Text
from unrolled.latent.thinker import Thinker

CONTROLS = ("none", "removed", "permuted", "transplanted", "noise")
"""What is done to the thoughts of a trained model: nothing, left out, in another order, another problem's, noise of the same norm."""


@dataclass(frozen=True)
class Score:
    """How one arm did.

    Attributes:
        name: of the arm.
        correct: one bool a problem.
        said: mean tokens said.
        thoughts: mean thoughts.
    """

    name: str
    correct: tuple[bool, ...]
    said: float
    thoughts: float

    @property
    def accuracy(self) -> float:
        """Share of problems answered correctly."""
        return sum(self.correct) / len(self.correct)


def score(
    thinker: Thinker,
    problems: Sequence[Problem],
    thoughts: int | None = None,
    *,
    name: str | None = None,
    control: str = "none",
    batch: int = 64,
    max_new_tokens: int = 64,
    seed: int = 0,
) -> Score:
    """Greedy answers to problems, right where what follows "###" is the answer, token for token.

    Args:
        thinker: trained.
        problems: to answer.
        thoughts: for all; None for what the method's curriculum ends with, problem by problem.
        name: of the arm; the method's if not given.
        control: one of `CONTROLS`.
        batch: problems a pass.
        max_new_tokens: tokens to say at most.
        seed: of the noise and the order.

    Raises:
        ValueError: an unknown control, no problems, or a control of thoughts that are not made one by one.
    """
    if control not in CONTROLS:
        raise ValueError(f"control is one of {', '.join(CONTROLS)}; got {control!r}")
    if not problems:
        raise ValueError("no problems to score")
    rng = torch.Generator().manual_seed(seed)
    correct: list[bool] = []
    said = thought = 0
    training = thinker.training
    thinker.eval()
    for start in range(0, len(problems), batch):
        part = problems[start : start + batch]
        prompts = [problem.question for problem in part]
        edit: Callable[[Tensor, int], Tensor] | None = None
        count: int | list[int] = (
            [thinker.method.plan(problem, None)[0] for problem in part] if thoughts is None else thoughts
        )
        if control == "removed":
            count = 0
        elif control != "none":
            edit = _edit(thinker, prompts, count, control, rng)
        for problem, reply in zip(
            part, thinker.generate(prompts, count, max_new_tokens=max_new_tokens, edit=edit), strict=True
        ):
            correct.append(answered(thinker.text, problem, reply))
            said += len(reply.tokens)
            thought += reply.thoughts
    thinker.train(training)
    label = name or (
        thinker.method.name if control == "none" else f"{thinker.method.name}, thoughts {control}"
    )
    return Score(label, tuple(correct), said / len(problems), thought / len(problems))


def answered(text: Text, problem: Problem, reply: Reply) -> bool:
    """Whether a reply ends by itself, and what follows its "###" is the answer, token for token.

    Example:
        >>> from unrolled.latent import Words
        >>> words = Words(["### 1 2"])
        >>> said = [Reply("", tuple(words.encode(t)), 0, "eos") for t in ("2 ### 1", "### 2", "1")]
        >>> [answered(Text(words, markers=False), Problem("", (), "1"), reply) for reply in said]
        [True, False, False]
    """
    at = _find(reply.tokens, text.encode("###"))
    expected = tuple(text.encode(f"### {problem.answer}"))
    return at is not None and reply.stop == "eos" and reply.tokens[at:] == expected


def _find(tokens: Sequence[int], mark: Sequence[int]) -> int | None:
    return next((k for k in range(len(tokens)) if tuple(tokens[k : k + len(mark)]) == tuple(mark)), None)


def _edit(
    thinker: Thinker, prompts: Sequence[str], thoughts: int | list[int], control: str, rng: torch.Generator
) -> Callable[[Tensor, int], Tensor]:
    """Replaces thoughts, which are first made as they would have been."""
    made: list[Tensor] = []

    def keep(thought: Tensor, step: int) -> Tensor:
        made.append(thought)
        return thought

    thinker.generate(prompts, thoughts, max_new_tokens=1, edit=keep)
    if control == "permuted":
        # a shift has no fixed point, so every thought is out of place
        shift = int(torch.randint(1, max(2, len(made)), (), generator=rng))
        return lambda thought, step: made[(step + shift) % len(made)]
    if control == "transplanted":
        return lambda thought, step: made[step].roll(1, 0)

    def noise(thought: Tensor, step: int) -> Tensor:
        drawn = torch.randn(thought.shape, generator=rng).to(thought)
        return drawn * (made[step].norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True))

    return noise


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided McNemar test: of the problems only one of the two got right, did either get more?

    Example:
        >>> round(mcnemar([True] * 8 + [False] * 2, [False] * 8 + [False] * 2), 6)  # 2 * 2^-8
        0.007812
        >>> mcnemar([True, False], [False, True])
        1.0
    """
    if len(a) != len(b):
        raise ValueError(f"both answer the same problems, got {len(a)} and {len(b)} answers")
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


@dataclass
class Comparison(Reading):
    """Arms side by side; `to_frame` and `plot` name them."""

    arms: tuple[str, ...] = ()

    def to_frame(self) -> Any:
        """One row an arm."""
        frame = super().to_frame()
        frame.insert(0, "arm", list(self.arms))
        return frame.drop(
            columns=[self.index[0]] if self.index is not None and self.index[0] in frame else []
        )

    def plot(self, ax: Any = None) -> Any:
        """Accuracy of each arm with its 95 % Wilson interval."""
        plt = require("matplotlib.pyplot", extra="report")
        ax = plt.subplots()[1] if ax is None else ax
        accuracy, n = self.values["accuracy"].tolist(), self.values["problems"]
        low, high = zip(*(wilson(round(share * n), n) for share in accuracy), strict=True)
        error = [
            [a - b for a, b in zip(accuracy, low, strict=True)],
            [b - a for a, b in zip(accuracy, high, strict=True)],
        ]
        ax.barh(self.arms, accuracy, xerr=error, color=COLORS[0], ecolor="#444444", capsize=3)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel="share answered correctly", title=f"{n} problems, 95 % Wilson intervals")
        return ax


def wilson(right: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's interval of a proportion.

    Example:
        >>> [round(x, 5) for x in wilson(14, 16)]
        [0.63977, 0.96502]
    """
    p, spread = right / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = z * (p * (1 - p) / n + spread / (4 * n)) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def compare(scores: Sequence[Score], against: str | None = None) -> Comparison:
    """Arms side by side, each tested against one of them.

    Args:
        scores: of the same problems.
        against: the arm that others are tested against; the first if not given.

    Returns:
        `accuracy`, `said`, `thoughts` and McNemar's `p` for every arm.

    Raises:
        ValueError: no such arm.

    Example:
        >>> arms = [Score("coconut", (True,) * 12, 3.0, 6.0), Score("pause", (False,) * 10 + (True,) * 2, 3.0, 6.0)]
        >>> [round(p, 4) for p in compare(arms)["p"].tolist()]  # 2 * 2^-10
        [1.0, 0.002]
    """
    base = next((score for score in scores if score.name == against), None) if against else scores[0]
    if base is None:
        raise ValueError(
            f"no arm is called {against!r}; there are {', '.join(score.name for score in scores)}"
        )
    n = len(base.correct)
    return Comparison(
        "thinking",
        {
            "accuracy": torch.tensor([score.accuracy for score in scores], dtype=torch.float64),
            "said": torch.tensor([score.said for score in scores], dtype=torch.float64),
            "thoughts": torch.tensor([score.thoughts for score in scores], dtype=torch.float64),
            "p": torch.tensor(
                [mcnemar(score.correct, base.correct) for score in scores], dtype=torch.float64
            ),
            "problems": n,
        },
        f"share of {n} problems answered correctly; p of McNemar's exact test against {base.name}",
        "share",
        index=("row", torch.arange(len(scores))),
        notes=("a claim that latent beats pause needs p < 0.01",),
        arms=tuple(score.name for score in scores),
    )
