"""Who decided? Recorded debates fitted question by question: stubbornness, influence, and what the group gained.

Without `--path` it reads a generated debate in which the confident are stubborn, so every number has a known answer.
With `--path` it reads any log that `unrolled.debate.load` reads, or human groups of estimators (guess 0-100).
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled.debate import FJFits, advantage, fit, load
from unrolled.debate.log import DebateLog, Question, answers
from unrolled.debate.proxies import proxies
from unrolled.runs import Claim, Run
from unrolled.studies import _debate as debate
from unrolled.studies import _debate_exhibits as exhibits

PAPER = debate.PAPER


@dataclass(frozen=True)
class Config:
    """Which debates."""

    preset: str = "tiny"
    seed: int = 0
    path: Path | None = None
    """a debate log; by default a generated one"""
    questions: int = 60
    """of the generated log"""
    rounds: int = 5
    noise: float = 0.002
    """of the generated beliefs, standard deviation"""
    shuffles: int = 200
    """of the null that stubbornness is influence by algebra alone"""


def tiny() -> Config:
    """A generated log; seconds."""
    return Config()


def small() -> Config:
    """A generated log of the paper's size; seconds."""
    return Config(preset="small", questions=300, shuffles=1000)


def read(config: Config) -> tuple[DebateLog, Any]:
    """The log, and the systems that made it where they are known."""
    if config.path is None:
        rng = torch.Generator().manual_seed(config.seed)
        return debate.generated(config.questions, config.rounds, config.noise, rng)
    if config.path.suffix == ".csv" and "gameID" in config.path.open(encoding="utf-8-sig").readline():
        return human_groups(config.path), None
    return load(config.path), None


def human_groups(path: Path, least: int = 9, last: int = 12) -> DebateLog:
    """Games of four people, as beliefs [x, 1 - x], with at least `least` consecutive rounds that all four answered,
    ending at round `last` (debate fact sheet, set 2).
    """
    games: dict[str, dict[int, dict[str, float]]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["guess"]:
                games.setdefault(row["gameID"], {}).setdefault(int(row["idx"]), {})[row["playerID"]] = float(
                    row["guess"]
                )
    made: list[Question] = []
    for id, rounds in games.items():
        players = sorted({p for seen in rounds.values() for p in seen})
        first = last
        while len(rounds.get(first, {})) == len(players) == 4:
            first -= 1
        if last - first < least:
            continue
        x = torch.tensor(
            [[rounds[t][p] / 100 for p in players] for t in range(first + 1, last + 1)], dtype=torch.float64
        )
        made.append(Question(id, torch.stack([x, 1 - x], -1), ("yes", "no"), tuple(players)))
    return DebateLog(made, str(path), "human groups")


def study(config: Config, run: Run) -> list[Claim]:
    """Fit every question, then ask who had influence and whether it paid."""
    log, systems = read(config)
    run.status(phase=f"fitting {len(log)} questions")
    fits = fit(log.beliefs)
    assert isinstance(fits, FJFits)
    good = [q for q, f in enumerate(fits) if f.status == "identified" and not bool(f.pi.isnan().any())]
    for q, f in enumerate(fits):
        run.log(step=q, kind="fit", gamma=f.gamma.tolist(), pi=f.pi.tolist(), mse=f.mse, kl=f.kl, status=f.status,
                rank=int(f.rank.min()), unknowns=int(f.unknowns.max()), condition=float(f.condition.max()),
                missing=f.missing)  # fmt: skip
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    told = f"{log!r}; {fits.counts()}"
    claims = [fit_claim(log, fits, good, told, common), held_out_claim(log, run, common)]
    if systems is not None:
        error = torch.tensor([float((fits[q].gamma - systems[q].gamma).abs().median()) for q in good])
        claims.append(Claim(
            "recovered", "stubbornness is recovered from a generated log (median error)", paper=0.0,
            ours=float(error.median()), status="reproduced" if error.median() < 0.05 else "not reproduced",
            note=f"noise {config.noise}; reproduced: below 0.05", source="control of ours", **common,
        ))  # fmt: skip
    claims += influence_claims(log, fits, good, config, common)
    claims += proxy_claims(log, fits, config, common)
    claims += gain_claims(log, fits, good, run, common)
    example(log, fits, good, run)
    return claims


def fit_claim(log: DebateLog, fits: FJFits, good: list[int], told: str, common: dict[str, Any]) -> Claim:
    """How well the dynamics fit, where a fit could fail: on questions that determine their parameters."""
    statement = "FJ dynamics describe the next round (one-step mean squared error, identified questions)"
    source: dict[str, Any] = {"paper": 0.00198, "source": "table 1"}
    simple = debate.baselines(log)
    everywhere = _mean_error([f for f in fits if f.transitions and not math.isnan(f.mse)])
    if log.kind == "generated":
        why = f"the generated log is FJ by construction (here {everywhere:.2g}, persistence {simple['persistence']:.2g})"
        command = "unrolled run debate-recorded --path LOG"
        return Claim.not_attempted("fit", statement, why=why, command=command, **source, **common)
    if len(good) < 3:
        why = (
            f"{len(good)} questions determine their parameters; elsewhere the fit can be exact whatever the dynamics "
            f"(all questions: {everywhere:.2g}, persistence {simple['persistence']:.5f}); see the held-out error; {told}"
        )
        return Claim.not_attempted("fit", statement, why=why, **source, **common)
    mse = _mean_error([fits[q] for q in good])
    return Claim(
        "fit", statement, ours=mse, status="reproduced" if mse <= 0.00198 + 0.00026 else "not reproduced",
        note=f"all questions: persistence {simple['persistence']:.5f}, half self half peers {simple['half']:.5f} (FJ contains "
        f"both, so beating them is no evidence); the paper's models and questions are others; {told}", **source, **common,
    )  # fmt: skip


def _mean_error(fits: list[Any]) -> float:
    return sum(f.mse * f.transitions for f in fits) / max(1, sum(f.transitions for f in fits))


def held_out_claim(log: DebateLog, run: Run, common: dict[str, Any]) -> Claim:
    """Does the fit to all other questions foretell this one?"""
    statement = "FJ fitted to the other questions foretells the next round (mean squared error, each question held out)"
    generated = log.kind == "generated"
    made = {} if generated else debate.held_out(log)
    if not made:
        why = "fewer than 3 questions are answered by the same agents"
        why = "each generated question has a system of its own" if generated else why
        return Claim.not_attempted("held-out", statement, why=why, **common)
    for q, row in enumerate(zip(*(x.tolist() for x in made.values()))):
        run.log(step=q, kind="held out", **dict(zip(made, row)))
    ours, stay, half = (float(made[name].mean()) for name in ("fj", "persistence", "half"))
    best = "persistence" if stay <= half else "half"
    p = debate.paired_p_value(made["fj"], made[best])
    return Claim(
        "held-out", statement, ours=ours, spread=float(made["fj"].std()),
        status="direction only" if ours < min(stay, half) and p < 0.05 else "not reproduced",
        note=f"{len(made['fj'])} questions; persistence {stay:.5f}, half self half peers {half:.5f}; against the better of the "
        f"two p = {p:.2g} (Wilcoxon, questions paired); spread over questions; direction only: lower with p < 0.05",
        source="control of ours", **common,
    )  # fmt: skip


def proxy_claims(log: DebateLog, fits: FJFits, config: Config, common: dict[str, Any]) -> list[Claim]:
    """Does a random forest on first beliefs tell who is influential, on questions that it has not seen?"""
    made = log.kind == "generated"
    statements = {
        "forest": ("a random forest on proxies predicts influence (R^2 on held-out questions)", 0.7),
        "forest-top": ("the same names the most influential agent (share of held-out questions)", 0.9),
    }
    try:
        found = proxies(log, fits, trees=50, seed=config.seed)
    except (ImportError, ValueError) as error:
        return [
            Claim.not_attempted(id, told, why=str(error), paper=None if made else paper, source="random forests", **common)
            for id, (told, paper) in statements.items()
        ]  # fmt: skip
    real = found.p_value <= 0.05
    numbers = {"forest": found.score, "forest-top": found.top}
    return [
        Claim(id, told, paper=None if made else paper, ours=numbers[id],
              status="not reproduced" if not real else "reproduced" if numbers[id] >= paper and not made else "direction only",
              note=f"{found}; reproduced: the paper's number or more; direction only: above all shuffles; settings and features "
              "are ours, the paper's are not given" + ("; built into the generated log" if made else ""),
              source="control of ours" if made else "random forests", **common)
        for id, (told, paper) in statements.items()
    ]  # fmt: skip


def example(log: DebateLog, fits: FJFits, good: list[int], run: Run) -> None:
    """Log and show the identified question whose beliefs moved most; show the first where none is identified."""
    if not good:
        exhibits.show(run, log.questions[0], fits[0])
        return
    q = max(good, key=lambda i: float((log.beliefs[i][-1] - log.beliefs[i][0]).abs().nan_to_num().sum()))
    M = torch.stack([fits[q].model.M_T(t) for t in range(1, min(fits[q].rounds, 5) + 1)])
    run.log(kind="example", question=q, beliefs=log.beliefs[q].tolist(), options=list(log.questions[q].options),
            agents=list(log.questions[q].agents), influence=M.tolist(), total=fits[q].M.tolist())  # fmt: skip
    exhibits.show(run, log.questions[q], fits[q])


def influence_claims(
    log: DebateLog, fits: FJFits, good: list[int], config: Any, common: dict[str, Any]
) -> list[Claim]:
    """Is influence with the confident, and with the stubborn? `config` has seed and shuffles."""
    statements = {
        "confidence": "relatively confident agents are the influential ones (Spearman of R and pi)",
        "stubborn": "stubborn agents are the influential ones (Spearman of gamma and pi)",
    }
    if len(good) < 3:
        why = f"{len(good)} questions are identified"
        return [
            Claim.not_attempted(id, told, why=why, paper="positive", **common)
            for id, told in statements.items()
        ]
    chosen = [fits[q] for q in good]
    pi, gamma = torch.cat([f.pi for f in chosen]), torch.cat([f.gamma for f in chosen])
    relative = debate.relative(log)
    R = torch.cat([relative[q] for q in good])
    finite = R.isfinite()
    rho = debate.rank_correlation(R[finite], pi[finite])
    p = debate.rank_p_value(R[finite], pi[finite])
    made = log.kind == "generated"  # then it is no evidence for the paper: the numbers check the fit
    source, paper = ("control of ours: built into the generated log", None) if made else ("", "positive")
    stubborn = debate.rank_correlation(gamma, pi)
    null = debate.stubbornness_null(chosen, torch.Generator().manual_seed(config.seed), config.shuffles)
    above = float((null >= stubborn).double().mean())
    return [
        Claim("confidence", statements["confidence"], paper=paper, ours=rho,
              status="direction only" if rho > 0 and p < 0.05 else "not reproduced",
              note=f"p = {p:.2g}; {int(finite.sum())} agents in {len(good)} questions; the paper gives importances of a "
              "random forest, no such number; direction only: positive with p < 0.05",
              source=source or "figures 5 and 16", **common),
        Claim("stubborn", statements["stubborn"], paper=paper, ours=stubborn,
              status="not reproduced" if math.isnan(stubborn) or above > 0.05 else "direction only",
              note=f"with gamma shuffled over agents algebra alone gives {float(null.mean()):.2f} on average, and as much "
              f"as here in {100 * above:.0f} % of {len(null)} shuffles; direction only: in at most 5 %",
              source=source or "figure 17b", **common),
    ]  # fmt: skip


def vote_claim(log: DebateLog, common: dict[str, Any]) -> Claim:
    """The vote that would have cost as much, next to the debate."""
    statement = (
        "debate beats a majority vote of as many samples (accuracy, final majority minus estimated vote)"
    )
    if all(q.truth is None for q in log.questions):
        return Claim.not_attempted(
            "vote", statement, why="no question of the log has a known answer", **common
        )
    vote, end = log.vote(), float(log.majority()[-1])
    return Claim(
        "vote", statement, ours=end - vote, status="direction only" if end > vote else "not reproduced",
        note=f"majority {float(log.majority()[0]):.3f} -> {end:.3f}; a log holds n answers before the debate, so the vote of "
        f"n (T + 1) samples is estimated by drawing them from the first beliefs: {vote:.3f} (with certain beliefs, the first "
        "majority); `unrolled debate run` takes it for real", source="control of ours", **common,
    )  # fmt: skip


def gain_claims(
    log: DebateLog, fits: FJFits, good: list[int], run: Run, common: dict[str, Any]
) -> list[Claim]:
    """What the group gained, and whether theorem 2.4 says when."""
    statement = (
        "theorem 2.4 says in which questions the debate beats the best agent (share of signs that agree)"
    )
    matched = vote_claim(log, common)
    known = [q for q in good if log.questions[q].truth is not None and not bool(log.beliefs[q][0].isnan().any())
             and not bool(log.beliefs[q][-1].isnan().any())]  # fmt: skip
    shapes = {log.beliefs[q].shape[1:] for q in known}
    if len(known) < 3 or len(shapes) > 1:
        return [
            Claim.not_attempted(
                "advantage",
                statement,
                why="too few identified questions with a known answer and equal options",
                **common,
            ),
            matched,
        ]
    S = torch.stack([log.beliefs[q][0] for q in known])
    end = torch.stack([log.beliefs[q][-1] for q in known]).mean(1)
    y = torch.tensor([log.questions[q].truth for q in known])
    terms = advantage(torch.stack([fits[q].pi for q in known]), S, y)
    e = torch.nn.functional.one_hot(y, S.shape[2]).double()
    best = (S[:, int(terms["best_agent"])] - e).square().sum(-1)
    realised = best - (end - e).square().sum(-1)
    for i, q in enumerate(known):
        run.log(step=q, kind="advantage", specialisation=float(terms["specialisation"][i]),
                diversity=float(terms["diversity"][i]), regret=float(terms["regret"][i]),
                over_best=float(terms["over_best"][i]), realised=float(realised[i]))  # fmt: skip
    agree = 100 * float(((terms["over_best"] > 0) == (realised > 0)).double().mean())
    base = 100 * max(float((realised > 0).double().mean()), float((realised <= 0).double().mean()))
    votes = answers(S).sum(1)
    top = votes == votes.amax(-1, keepdim=True)
    before = float((top.double() / top.sum(-1, keepdim=True)).gather(-1, y[:, None]).mean())
    after = float((end.argmax(-1) == y).double().mean())
    return [
        Claim("advantage", statement, paper=None if log.kind == "generated" else "mostly", ours=agree, unit="%",
              status="direction only" if agree > max(base, 50.0) else "not reproduced",
              note=f"{len(known)} questions; always guessing the commoner sign gives {base:.0f} %. Accuracy: majority before "
              f"{100 * before:.1f} %, mean final belief {100 * after:.1f} %", source="control of ours" if log.kind == "generated" else "figures 20 and 21", **common),
        matched,
    ]  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """The influence graph by round, beliefs over rounds, who moved whom, and the terms of theorem 2.4."""
    from matplotlib.figure import Figure

    from unrolled.instruments.reading import axes

    rows = run.metrics()
    made: dict[str, tuple[Any, str]] = {}
    example = next((row for row in rows if row.get("kind") == "example"), None)
    if example is not None:
        agents, options = example["agents"], example["options"]
        names = [str(name).removeprefix("agent ") for name in agents]
        short = [name if len(name) <= 5 else str(i) for i, name in enumerate(names)]
        where = f"question {example['question']}, the one whose beliefs moved most"
        made["graph"] = (
            debate.influence_graph(torch.tensor(example["influence"]), short),
            f"Whose initial belief is in whose belief after each round (M_t of the fit; {where}). Arrows point to the "
            "agent that was moved; nodes are as large as the share of their initial belief in the group.",
        )
        beliefs = torch.tensor(example["beliefs"], dtype=torch.float64)
        made["beliefs"] = debate.belief_bars(beliefs, options, short), f"Beliefs over rounds, {where}."
        figure = Figure(figsize=(4.2, 3.4), layout="constrained")
        ax = axes(figure.subplots())
        M = torch.tensor(example["total"])
        image = ax.imshow(M.numpy(), cmap="cividis", vmin=0, vmax=1)
        figure.colorbar(image, ax=ax, label="share of the final belief")
        for i in range(len(M)):
            for j in range(len(M)):
                color = "black" if M[i, j] > 0.55 else "white"
                ax.text(j, i, f"{float(M[i, j]):.2f}", ha="center", va="center", fontsize=8, color=color)
        ax.set(xlabel="initial belief of agent", ylabel="final belief of agent")
        ax.set_xticks(range(len(M)), short)
        ax.set_yticks(range(len(M)), short)
        made["moved"] = figure, f"Who moved whom in the end: M of the fit, {where}."
    terms = [row for row in rows if row.get("kind") == "advantage"]
    if terms:
        names = ("specialisation", "diversity", "regret", "over_best", "realised")
        made["advantage"] = (
            debate.advantage_figure({name: [row[name] for row in terms] for name in names}),
            "Left: what the group gains over its best agent, by theorem 2.4. Right: the balance predicted from initial "
            "beliefs and fitted influence against what the final beliefs realised, one dot per question.",
        )
    return made
