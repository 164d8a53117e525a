"""What a debate leaves to be looked at: who has influence after each round, what is believed, who said what."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.debate import FJFit
from unrolled.debate.log import Question
from unrolled.runs import Run


def show(run: Run, question: Question, fit: FJFit) -> None:
    """Leave the panels of one question; the graph alone needs a fit whose parameters are determined.

    Args:
        run: where they go.
        question: with its beliefs `[T+1, n, K]`.
        fit: of this question.
    """
    agents, options = list(question.agents), list(question.options)
    beliefs = question.beliefs.double()
    times = len(beliefs)
    timed: dict[str, Any] = {"unit": "round", "t": range(times)}
    asked = question.id if len(question.id) <= 200 else f"{question.id[:200]}..."
    influence = torch.stack([fit.model.M_T(t) for t in range(times)]) if _determined(fit) else None
    if influence is not None:
        run.save_exhibit(
            "1-influence", "graph", title="Who has moved whom", **timed,
            data={"nodes": agents, "edge": "share of whose first belief is in whose belief by now", "size": "stubbornness", "ring": "confidence"},
            arrays={"edges": influence, "size": fit.gamma, "ring": confidence(beliefs)},
            caption=f"Arrows point to the agent that was moved (M_t of the fitted dynamics). {asked}",
        )  # fmt: skip
    shown = {} if question.truth is None else {"mark": question.truth}
    run.save_exhibit(
        "2-beliefs", "bars", title="Beliefs", **timed,
        data={"labels": options, "groups": agents, "stacked": True, "range": [0, 1], "ylabel": "belief", **shown},
        arrays={"values": beliefs}, caption=f"{'The right answer is outlined. ' if shown else ''}{asked}",
    )  # fmt: skip
    run.save_exhibit(
        "3-transcript", "transcript", title="Who said what, and who moved whom", **timed, caption=asked,
        data={"entries": _entries(question, beliefs, fit if influence is not None else None), "speakers": agents},
    )  # fmt: skip


def confidence(beliefs: Tensor) -> Tensor:
    """1 - entropy / log K of beliefs over the last axis.

    Example:
        >>> confidence(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist()
        [1.0, 0.0]
    """
    return 1 - torch.special.entr(beliefs).sum(-1) / math.log(beliefs.shape[-1])


def _determined(fit: FJFit) -> bool:
    return fit.status == "identified" and not bool(fit.pi.isnan().any())


def _entries(question: Question, beliefs: Tensor, fit: FJFit | None) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for t, round in enumerate(beliefs):
        for i, name in enumerate(question.agents):
            told = _answer(question, round[i])
            entry: dict[str, Any] = {"index": t, "speaker": name, "text": told, "note": ""}
            if question.texts is not None and t < len(question.texts):
                entry |= {"text": str(question.texts[t][i])[:100_000], "note": told}
            if t and _choice(beliefs[t - 1, i]) != _choice(round[i]):
                entry["note"] = f"{entry['note']} (was {_answer(question, beliefs[t - 1, i])})".strip()
            if t and fit is not None:
                entry["moved_by"] = {
                    other: float(fit.H[i, j])
                    for j, other in enumerate(question.agents)
                    if j != i and float(fit.H[i, j]) > 0
                }
            made.append(entry)
    return made


def _choice(belief: Tensor) -> int:
    return -1 if bool(belief.isnan().any()) else int(belief.argmax())


def _answer(question: Question, belief: Tensor) -> str:
    k = _choice(belief)
    return "no answer" if k < 0 else f"{question.options[k]} {float(belief[k]):.2f}"
