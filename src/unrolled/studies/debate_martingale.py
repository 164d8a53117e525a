"""Debate or vote: belief in the right answer drifts nowhere when agents only learn from one another's answers.

Agents are Dirichlet-multinomial: each answers from its belief, adds its peers' answers to its counts, and answers again.
The mean belief in the truth is a martingale: debate spreads it, and moves it neither up nor down. Rules that know more
(an oracle that locks right answers) or trust the majority do move it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _debate as debate

PAPER = {
    "title": "Debate or Vote: Which Yields Better Decisions in Multi-Agent Large Language Models?",
    "arxiv": "2508.17536",
    "year": 2025,
}

PRIOR = (2.0, 1.5, 1.0, 1.0)
"""Counts that every agent begins with; option 0 is right."""

RULES = ("plain", "conformist", "oracle")


@dataclass(frozen=True)
class Config:
    """How many debates, how large."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 3
    debates: int = 20_000
    """per seed and rule"""
    agents: int = 5
    rounds: int = 5


def tiny() -> Config:
    """Seconds."""
    return Config()


def small() -> Config:
    """Twenty seeds."""
    return Config(preset="small", seeds=20)


def simulate(rule: str, config: Config, rng: torch.Generator) -> dict[str, Tensor]:
    """Mean belief in the truth, accuracy of one agent and of the majority, per round `[rounds + 1]`.

    * plain: every agent adds the answers of all others to its counts and draws its next answer.
    * conformist: an agent that is with the largest group repeats its answer; the others do as in plain.
    * oracle: an agent that is right repeats its answer; the others do as in plain.
    """
    size, n, K = config.debates, config.agents, len(PRIOR)
    counts = torch.tensor(PRIOR, dtype=torch.float64).expand(size, n, K).clone()
    belief = counts / counts.sum(-1, keepdim=True)
    answer = debate.draw(belief, rng)
    made: dict[str, list[float]] = {"belief": [], "accuracy": [], "majority": []}
    for t in range(config.rounds + 1):
        votes = torch.nn.functional.one_hot(answer, K).double()
        total = votes.sum(1, keepdim=True)
        largest = total == total.amax(-1, keepdim=True)
        made["belief"].append(float(belief[..., 0].mean()))
        made["accuracy"].append(float((answer == 0).double().mean()))
        made["majority"].append(float((largest[..., 0] / largest.sum(-1)).mean()))
        if t == config.rounds:
            break
        counts = counts + total - votes
        belief = counts / counts.sum(-1, keepdim=True)
        if rule != "plain":
            keeps = (
                answer == 0
                if rule == "oracle"
                else largest.expand_as(votes).gather(-1, answer[..., None])[..., 0]
            )
            belief = torch.where(keeps[..., None], votes, belief)
        answer = debate.draw(belief, rng)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in made.items()}


def study(config: Config, run: Run) -> list[Claim]:
    """Simulate each rule, judge the drift."""
    drift: dict[str, list[float]] = {rule: [] for rule in RULES}
    from_vote, from_debate = [], []
    for k, seed in enumerate(range(config.seed, config.seed + config.seeds)):
        for rule in RULES:
            path = simulate(rule, config, torch.Generator().manual_seed(1000 * seed + RULES.index(rule)))
            for t in range(config.rounds + 1):
                run.log(
                    step=t, rule=rule, seed=seed, **{name: float(values[t]) for name, values in path.items()}
                )
            drift[rule].append(float(path["belief"][-1] - path["belief"][0]))
            if rule == "plain":
                from_vote.append(float(path["majority"][0] - path["accuracy"][0]))
                from_debate.append(float(path["majority"][-1] - path["majority"][0]))
        run.progress(k + 1, config.seeds)
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}

    def summary(values: list[float]) -> tuple[float, float | None]:
        x = torch.tensor(values, dtype=torch.float64)
        return float(x.mean()), float(x.std()) if len(x) > 1 else None

    plain, spread = summary(drift["plain"])
    worst = max(map(abs, drift["plain"]))
    claims = [Claim(
        "martingale", "mean belief in the right answer does not move (last round minus first)", paper=0.0, ours=plain,
        spread=spread, status="reproduced" if worst < 0.005 else "not reproduced",
        note=f"{config.debates} debates of {config.agents} agents per seed; reproduced: below 0.005 in every seed "
        f"(largest {worst:.4f})", source="2508.17536, theorem on the martingale", **common,
    )]  # fmt: skip
    for rule in RULES[1:]:
        ours, spread = summary(drift[rule])
        claims.append(Claim(
            rule, f"with the {rule} rule it moves up (last round minus first)", paper="up", ours=ours, spread=spread,
            status="reproduced" if min(drift[rule]) > 0.005 else "not reproduced", source="2508.17536, interventions",
            note="reproduced: above 0.005 in every seed", **common,
        ))  # fmt: skip
    vote, spread = summary(from_vote)
    talk, _ = summary(from_debate)
    claims.append(Claim(
        "vote", "a majority vote gives most of the gain (accuracy of the vote over one agent, before any talk)",
        paper="most of the gain", ours=vote, spread=spread, status="reproduced" if vote > talk else "not reproduced",
        note=f"talking adds {talk:+.4f} to the majority's accuracy", source="2508.17536", **common,
    ))  # fmt: skip
    return claims


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Belief and majority accuracy over rounds, for each rule."""
    from matplotlib.figure import Figure

    rows = run.metrics()
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    for ax, (field, label) in zip(map(axes, figure.subplots(1, 2)), (("belief", "mean belief in the right answer"), ("majority", "accuracy of the majority"))):  # fmt: skip
        for rule, color in zip(RULES, COLORS):
            steps = sorted({r["step"] for r in rows})
            mean = [[r[field] for r in rows if r["rule"] == rule and r["step"] == t] for t in steps]
            ax.plot(steps, [sum(v) / len(v) for v in mean], color=color, marker="o", markersize=3, label=rule)
        ax.set(xlabel="round", ylabel=label, ylim=(0.3, None), xticks=steps)
    figure.axes[0].legend(frameon=False)
    caption = (
        "Answers alone move belief neither up nor down (plain); an oracle that locks right answers, or agents that stay "
        "with the largest group, do. Option 0 of four is right, and every agent begins with counts 2, 1.5, 1, 1."
    )
    return {"martingale": (figure, caption)}
