"""debate: who becomes an influencer? Multi-agent deliberation as Friedkin-Johnsen dynamics.

A debate's trace goes in, and out comes who is stubborn, who listens to whom, and who decided:

>>> import torch
>>> from unrolled import debate, rollout
>>> truth = debate.FJ(gamma=[0.5, 0.2, 0.1], alpha=[0.25, 0.5, 0.4], W=[[0, 0.7, 0.3], [0.6, 0, 0.4], [0.9, 0.1, 0]])
>>> S = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], dtype=torch.float64)
>>> fit = debate.fit(rollout(truth, S, steps=5)["state"])
>>> fit.status, [round(x, 6) for x in fit.gamma.tolist()], [round(x, 4) for x in fit.pi.tolist()]
('identified', [0.5, 0.2, 0.1], [0.6506, 0.2439, 0.1054])
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.debate._debate import Debate as Debate
    from unrolled.debate._debate import DebateResult as DebateResult
    from unrolled.debate._fit import fit as fit
    from unrolled.debate.agents import LLM as LLM
    from unrolled.debate.agents import Recorded as Recorded
    from unrolled.debate.agents import Scripted as Scripted
    from unrolled.debate.fj import FJ as FJ
    from unrolled.debate.importers._load import load as load
    from unrolled.debate.local import Local as Local
    from unrolled.debate.log import DebateLog as DebateLog
    from unrolled.debate.log import Question as Question
    from unrolled.debate.measures import advantage as advantage
    from unrolled.debate.measures import alignment as alignment
    from unrolled.debate.measures import ambiguity as ambiguity
    from unrolled.debate.measures import confidence as confidence
    from unrolled.debate.measures import relative_confidence as relative_confidence
    from unrolled.debate.measures import route as route
    from unrolled.debate.proxies import Proxies as Proxies
    from unrolled.debate.result import FJFit as FJFit
    from unrolled.debate.result import FJFits as FJFits

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("agents", "fj", "importers", "local", "log", "measures", "naive", "proxies", "result"),
    names={
        "Debate": "_debate",
        "DebateLog": "log",
        "DebateResult": "_debate",
        "FJ": "fj",
        "FJFit": "result",
        "FJFits": "result",
        "advantage": "measures",
        "alignment": "measures",
        "ambiguity": "measures",
        "confidence": "measures",
        "LLM": "agents",
        "Local": "local",
        "Proxies": "proxies",
        "Question": "log",
        "Recorded": "agents",
        "Scripted": "agents",
        "fit": "_fit",
        "load": "importers",
        "relative_confidence": "measures",
        "route": "measures",
    },
)
