"""What the debate studies share: the paper, a generated log, the tests of influence, the figures."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.debate import FJ, DebateLog, FJFit, Question, fit
from unrolled.debate.measures import relative_confidence
from unrolled.instruments.reading import COLORS, axes

PAPER = {
    "title": "Multi-Agent Systems are Mixtures of Experts: Who Becomes an Influencer?",
    "authors": "Bause, Niederle, Burkholz, Pawelczyk",
    "arxiv": "2605.25929",
    "year": 2026,
}


def draw(weights: Tensor, rng: torch.Generator) -> Tensor:
    """One index per row of weights `[..., K]`."""
    flat = weights.reshape(-1, weights.shape[-1])
    return torch.multinomial(flat, 1, generator=rng).reshape(weights.shape[:-1])


def experts(
    questions: int, rng: torch.Generator, *, n: int = 5, K: int = 4, inside: float = 0.9, outside: float = 0.4
) -> tuple[Tensor, Tensor]:
    """Beliefs `[Q, n, K]` of experts and the right options `[Q]`.

    Agent j is right with probability `inside` on its own domain and `outside` elsewhere, and says just that probability
    of the option it picks; the rest is spread evenly (debate fact sheet, A10).
    """
    domain = torch.randint(0, n, (questions,), generator=rng)
    truth = torch.randint(0, K, (questions,), generator=rng)
    sure = torch.where(domain[:, None] == torch.arange(n), inside, outside).double()
    right = torch.rand(questions, n, generator=rng, dtype=torch.float64) < sure
    other = (truth[:, None] + torch.randint(1, K, (questions, n), generator=rng)) % K
    pick = torch.where(right, truth[:, None], other)
    return spoken(pick, sure, K), truth


def spoken(pick: Tensor, sure: Tensor, K: int) -> Tensor:
    """`sure` on the option picked, the rest spread evenly."""
    rest = ((1 - sure) / (K - 1))[..., None].expand(*pick.shape, K)
    return rest.scatter(-1, pick[..., None], sure[..., None])


def generated(questions: int, rounds: int, noise: float, rng: torch.Generator) -> tuple[DebateLog, list[FJ]]:
    """A debate among experts in which the confident are stubborn, and the systems it was made from.

    gamma_j = 0.05 + 0.6 C_j with the confidence C_j, alpha and W random: the paper's influencers, built in.
    """
    S, truth = experts(questions, rng)
    jitter = torch._standard_gamma(400 * S, generator=rng)
    S = jitter / jitter.sum(-1, keepdim=True)
    n, K = S.shape[1:]
    confidence = 1 - torch.special.entr(S).sum(-1) / math.log(K)
    made: list[Question] = []
    systems: list[FJ] = []
    for q in range(questions):
        W = torch.rand(n, n, generator=rng, dtype=torch.float64).fill_diagonal_(0)
        alpha = 0.1 + 0.4 * torch.rand(n, generator=rng, dtype=torch.float64)
        fj = FJ(0.05 + 0.6 * confidence[q], alpha, W / W.sum(-1, keepdim=True))
        B = torch.stack([fj.M_T(t) @ S[q] for t in range(rounds + 1)])
        B = (B + noise * torch.randn(B.shape, generator=rng, dtype=torch.float64)).clamp(min=0)
        systems.append(fj)
        made.append(
            Question(f"question {q}", B / B.sum(-1, keepdim=True), tuple("ABCD"[:K]),
                     tuple(f"agent {i}" for i in range(n)), int(truth[q]))
        )  # fmt: skip
    return DebateLog(made, "generated", "generated"), systems


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's rho; NaN where either is constant."""
    return _spearman(x, y)[0]


def rank_p_value(x: Tensor, y: Tensor) -> float:
    """Its two-sided p-value."""
    return _spearman(x, y)[1]


def paired_p_value(x: Tensor, y: Tensor) -> float:
    """Two-sided, of Wilcoxon's signed-rank test; 1 where no pair differs."""
    from scipy import stats

    if bool((x == y).all()):
        return 1.0
    found: Any = stats.wilcoxon(x.numpy(), y.numpy())
    return float(found.pvalue)


def _spearman(x: Tensor, y: Tensor) -> tuple[float, float]:
    from scipy import stats

    x, y = x.flatten(), y.flatten()
    if len(x) < 3 or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return math.nan, math.nan
    found: Any = stats.spearmanr(x.numpy(), y.numpy())
    return float(found.statistic), float(found.pvalue)


def stubbornness_null(fits: Sequence[FJFit], rng: torch.Generator, draws: int = 200) -> Tensor:
    """Spearman(gamma, pi) that algebra makes by itself, `[draws]`: gamma shuffled over all agents, alpha and W as fitted."""
    gamma = torch.cat([f.gamma for f in fits])
    sizes = [f.n for f in fits]
    alpha = [f.alpha.nan_to_num(nan=0.5) for f in fits]
    W = [_filled(f.W) for f in fits]
    made: list[float] = []
    for _ in range(draws):
        shuffled = gamma[torch.randperm(len(gamma), generator=rng)].clamp(1e-6, 1)
        pis = [FJ(g, a, w).pi for g, a, w in zip(shuffled.split(sizes), alpha, W)]
        made.append(rank_correlation(shuffled, torch.cat(pis)))
    return torch.tensor(made)


def _filled(W: Tensor) -> Tensor:
    n = len(W)
    even = (1 - torch.eye(n, dtype=W.dtype)) / (n - 1)
    return torch.where(W.isnan().any(-1, keepdim=True), even, W)


def baselines(log: DebateLog) -> dict[str, float]:
    """Mean squared one-step error of staying put, and of half self, half mean of the peers."""
    stay = half = count = 0.0
    for B in log.beliefs:
        n = B.shape[1]
        known = ~B[..., 0].isnan()
        used = known[1:] & known[:-1].all(-1, keepdim=True)
        before, after = B[:-1], B[1:]
        peers = (before.sum(1, keepdim=True) - before) / (n - 1)
        stay += float((after - before)[used].square().sum())
        half += float((after - 0.5 * (before + peers))[used].square().sum())
        count += float(used.sum()) * B.shape[2]
    return (
        {"persistence": stay / count, "half": half / count}
        if count
        else {"persistence": math.nan, "half": math.nan}
    )


def held_out(log: DebateLog) -> dict[str, Tensor]:
    """Mean squared one-step error `[questions]` of each question under the fit pooled over all the others.

    Agents are taken to be the same in every question, as in a log of one crew. Beside it, on the same transitions,
    `persistence` (stay put) and `half` (half self, half mean of the peers). Empty where fewer than 3 questions can be used.
    """
    crews: dict[tuple[str, ...], list[int]] = {}
    for q, question in enumerate(log.questions):
        crews.setdefault(tuple(question.agents), []).append(q)
    rows: list[tuple[float, float, float]] = []
    for crew in crews.values():
        for q in crew if len(crew) > 2 else []:
            found = fit([log.beliefs[other] for other in crew if other != q], pool=True)
            assert isinstance(found, FJFit)
            B = log.beliefs[q]
            known = ~B[..., 0].isnan()
            used = known[1:] & known[:1] & known[:-1].all(-1, keepdim=True)
            if not bool(used.any()) or bool(found.H.isnan().any()):
                continue
            before, after = B[:-1], B[1:]
            peers = (before.sum(1, keepdim=True) - before) / (B.shape[1] - 1)
            made = (found.gamma[:, None] * B[:1] + found.H @ before, before, 0.5 * (before + peers))
            errors = [float((after - guess)[used].square().mean()) for guess in made]
            rows.append((errors[0], errors[1], errors[2]))
    if len(rows) < 3:
        return {}
    return dict(zip(("fj", "persistence", "half"), torch.tensor(rows, dtype=torch.float64).unbind(-1)))


def relative(log: DebateLog) -> list[Tensor]:
    """Relative confidence of each agent, one `[n]` per question."""
    return [relative_confidence(B[0]) for B in log.beliefs]


# ---------------------------------------------------------------- figures


def influence_graph(M_by_round: Tensor, names: Sequence[str]) -> Any:
    """Who has moved whom after each round: arrows as wide as M_t[i, j], nodes as large as what an agent has kept."""
    from matplotlib.figure import Figure

    rounds, n, _ = M_by_round.shape
    figure = Figure(figsize=(2.1 * rounds, 2.3), layout="constrained")
    angle = torch.linspace(0, 2 * math.pi, n + 1)[:-1] + math.pi / 2
    place = torch.stack([angle.cos(), angle.sin()], -1)
    for ax, M, t in zip(figure.subplots(1, rounds, squeeze=False)[0], M_by_round, range(1, rounds + 1)):
        for i in range(n):
            for j in range(n):
                weight = float(M[i, j])
                if i != j and weight > 0.03:
                    ax.annotate(
                        "", xy=tuple(0.80 * place[i] + 0.1 * place[j]), xytext=tuple(0.80 * place[j] + 0.1 * place[i]),
                        arrowprops={"arrowstyle": "-|>", "lw": 7 * weight, "color": COLORS[0], "alpha": 0.25 + 0.6 * weight,
                                    "connectionstyle": "arc3,rad=0.12", "shrinkA": 0, "shrinkB": 0},
                    )  # fmt: skip
        total = M.mean(0)
        ax.scatter(place[:, 0], place[:, 1], s=(60 + 900 * total).tolist(), color=COLORS[1], zorder=3)
        for i in range(n):
            ax.text(
                *(place[i]).tolist(),
                names[i],
                ha="center",
                va="center",
                fontsize=8,
                zorder=4,
            )
        ax.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal", title=f"round {t}")
        ax.axis("off")
    return figure


def belief_bars(beliefs: Tensor, options: Sequence[str], agents: Sequence[str]) -> Any:
    """Each agent's belief in every round, as stacked bars."""
    from matplotlib.figure import Figure

    times, n, K = beliefs.shape
    figure = Figure(figsize=(1.8 * n, 2.5), layout="constrained")
    rows = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    for i, (ax, name) in enumerate(zip(map(axes, rows), agents)):
        bottom = torch.zeros(times, dtype=beliefs.dtype)
        for k in range(K):
            ax.bar(range(times), beliefs[:, i, k].tolist(), bottom=bottom.tolist(), width=0.85,
                   color=COLORS[k % len(COLORS)], label=options[k])  # fmt: skip
            bottom = bottom + beliefs[:, i, k].nan_to_num()
        ax.set(title=f"agent {name}", xlabel="round", xticks=range(times), ylim=(0, 1))
    rows[0].set_ylabel("belief")
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def advantage_figure(terms: dict[str, list[float]]) -> Any:
    """Left: mean terms of theorem 2.4. Right: what it predicts per question against what the final beliefs realised."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.1), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    mean = {name: sum(terms[name]) / len(terms[name]) for name in ("specialisation", "diversity", "regret")}
    values = [mean["specialisation"], mean["diversity"], -mean["regret"]]
    values.append(sum(values))
    names = ["specialisation", "diversity", "-regret", "balance"]
    left.barh(names, values, color=[COLORS[1] if v >= 0 else COLORS[0] for v in values])
    left.invert_yaxis()
    left.axvline(0, color="0.5", lw=0.8)
    left.set(xlabel="Brier, mean over questions", title="theorem 2.4")
    x, y = terms["over_best"], terms["realised"]
    right.scatter(x, y, s=14, color=COLORS[0], alpha=0.7)
    ends = [min([*x, *y]), max([*x, *y])]
    right.plot(ends, ends, color="0.5", lw=0.8)
    right.axhline(0, color="0.5", lw=0.8, ls=":")
    right.axvline(0, color="0.5", lw=0.8, ls=":")
    right.set(xlabel="predicted: specialisation + diversity - regret", ylabel="realised: best agent - debate",
              title="per question (Brier)")  # fmt: skip
    return figure
