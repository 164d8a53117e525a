"""Routing by confidence beats every fixed ensemble of experts, until one of them lies about its confidence.

Five experts, each right 9 times of 10 in its own domain and 4 of 10 elsewhere, say how sure they are. A router that
follows confidence is a mixture of experts; one agent that always claims 97 % turns it from the best rule to the worst.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.debate import _simplex, advantage, route
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _debate as debate

PAPER = debate.PAPER

RULES = {"softmax beta=1": 1.0, "softmax beta=3": 3.0, "softmax beta=10": 10.0, "hard": math.inf}

REFERENCE = {
    "honest": {"best single": 0.6126, "uniform": 0.5122, "best static": 0.5122, "softmax beta=1": 0.418,
               "softmax beta=3": 0.252, "softmax beta=10": 0.188, "hard": 0.189},
    "overconfident": {"uniform": 0.4995, "best static": 0.4989, "softmax beta=1": 0.4505, "softmax beta=3": 0.471,
                      "softmax beta=10": 0.771, "hard": 0.962},
}  # fmt: skip
"""Brier risks of an independent simulation of the same setting (debate fact sheet, A10); the paper prints none."""

TOLERANCE = {"honest": 0.004, "overconfident": 0.01}


@dataclass(frozen=True)
class Config:
    """How many questions, and how often."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 2
    questions: int = 200_000
    """per seed"""


def tiny() -> Config:
    """Seconds."""
    return Config()


def small() -> Config:
    """Ten seeds."""
    return Config(preset="small", seeds=10)


def best_static(S: Tensor, truth: Tensor) -> Tensor:
    """The fixed weights of least Brier risk: a quadratic program on the simplex."""
    n, K = S.shape[1:]
    flat = S.mT.reshape(-1, n)
    target = torch.nn.functional.one_hot(truth, K).to(S.dtype).reshape(-1)
    gram = _simplex.Dense((flat.T @ flat)[None] / len(S))
    return _simplex.solve(gram, (flat.T @ target)[None] / len(S), torch.ones(1, n, dtype=torch.bool))[0]


def risks(S: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """Brier risk of every rule, and the balance of theorems 2.4 and 2.5 with the differences they predict."""
    static = best_static(S, truth)
    n = S.shape[1]
    weights = {"uniform": torch.full((n,), 1 / n, dtype=S.dtype), "best static": static}
    weights |= {name: route(S, beta) for name, beta in RULES.items()}
    made: dict[str, dict[str, float]] = {}
    e = torch.nn.functional.one_hot(truth, S.shape[2]).to(S.dtype)
    single = (S - e[:, None]).square().sum(-1).mean(0)
    made["best single"] = {"brier": float(single.min())}
    for name, pi in weights.items():
        terms = advantage(pi, S, truth, static=static)
        mix = torch.einsum("qn,qnk->qk", pi.expand(len(S), n), S)
        made[name] = {"brier": float((mix - e).square().sum(-1).mean())}
        made[name] |= {k: terms[f"mean_{k}"] for k in ("specialisation", "diversity", "regret", "over_best",
                                                       "routing_gain", "diversity_lost", "over_static")}  # fmt: skip
    return made


def study(config: Config, run: Run) -> list[Claim]:
    """Simulate both worlds, judge every rule."""
    found: dict[str, dict[str, list[float]]] = {world: {} for world in REFERENCE}
    signs, cells = 0, 0
    for k, seed in enumerate(range(config.seed, config.seed + config.seeds)):
        S, truth = debate.experts(config.questions, rng := torch.Generator().manual_seed(seed))
        liar = S.clone()
        liar[:, 0] = debate.spoken(S[:, 0].argmax(-1), torch.full((len(S),), 0.97, dtype=S.dtype), S.shape[2])
        del rng
        for world, beliefs in (("honest", S), ("overconfident", liar)):
            table = risks(beliefs, truth)
            for rule, row in table.items():
                run.log(world=world, rule=rule, seed=seed, **row)
                found[world].setdefault(rule, []).append(row["brier"])
                for side, base in (("over_best", "best single"), ("over_static", "best static")):
                    if side in row and abs(row[side]) > 1e-12:
                        cells += 1
                        signs += (row[side] > 0) == (table[base]["brier"] - row["brier"] > 0)
        run.progress(k + 1, config.seeds)
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    claims: list[Claim] = []
    for world, rules in REFERENCE.items():
        for rule, expected in rules.items():
            values = torch.tensor(found[world][rule], dtype=torch.float64)
            ours, near = float(values.mean()), TOLERANCE[world]
            claims.append(Claim(
                f"{world}-{rule.replace(' ', '-').replace('=', '')}", f"Brier risk of {rule}, {world} experts",
                ours=ours, spread=float(values.std()) if len(values) > 1 else None,
                status="reproduced" if abs(ours - expected) <= near else "not reproduced",
                note=f"the paper prints none; an independent simulation gives {expected}; reproduced: within {near}",
                source="fact sheet A10", **common,
            ))  # fmt: skip
    share = 100 * signs / cells
    flips = found["honest"]["hard"][0] < found["honest"]["best static"][0] and (
        found["overconfident"]["hard"][0] > found["overconfident"]["best static"][0]
    )
    change = found["overconfident"]["hard"][0] - found["honest"]["hard"][0]
    claims.append(Claim(
        "signs", "the sign of the balance of theorems 2.4 and 2.5 is the sign of the measured difference (share of cells)",
        paper=100.0, ours=share, unit="%", status="reproduced" if share == 100 else "not reproduced",
        note=f"{cells} cells: rules x worlds x seeds x two theorems", source="theorems 2.4, 2.5", **common,
    ))  # fmt: skip
    claims.append(Claim(
        "overconfidence", "an overconfident agent can erase the advantage of routing (rise of the hard router's risk)",
        paper="the advantage can vanish", ours=change, status="reproduced" if flips else "not reproduced",
        note="reproduced: ahead of the best static ensemble with honest experts, behind it with one overconfident",
        source="propositions 2.6, 2.7", **common,
    ))  # fmt: skip
    return claims


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Risk of every rule in both worlds."""
    from matplotlib.figure import Figure

    rows = run.metrics()
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    ax = axes(figure.subplots())
    names = ["best single", "uniform", "best static", *RULES]
    for k, (world, label) in enumerate(
        (("honest", "honest experts"), ("overconfident", "one overconfident"))
    ):
        values = [[r["brier"] for r in rows if r["world"] == world and r["rule"] == name] for name in names]
        height = [sum(v) / len(v) for v in values]
        ax.bar(
            [i + 0.4 * k - 0.2 for i in range(len(names))], height, width=0.38, color=COLORS[k], label=label
        )
    ax.set_xticks(
        range(len(names)), [name.replace(" beta=", "\nβ = ").replace(" s", "\ns") for name in names]
    )
    ax.set(ylabel="Brier risk (lower is better)")
    ax.legend(loc="upper left", bbox_to_anchor=(0.3, 1.0))
    caption = (
        "Confidence routing is the best rule when experts know what they know, and the worst when one claims 97 % on "
        "everything: the harder the routing, the larger the fall."
    )
    return {"routing": (figure, caption)}
