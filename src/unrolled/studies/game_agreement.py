"""Do good players of different origin play alike? Similarity of what policies do in the same situations.

The paper says that well-trained agents converge on similar behaviour whatever is inside. Here: mean similarity of the better half
of all policies against that of the worse half, at the beginnings of episodes (the paper's situations) and in situations that
policies come to, with a shuffled control; and whether two networks agree more than a network and a random field of its width.
"""

from dataclasses import dataclass
from typing import Any

import torch

from unrolled.instruments.reading import COLORS, axes
from unrolled.languagegame import agreement
from unrolled.languagegame._agreement import played
from unrolled.runs import Claim, Run
from unrolled.sbml.models import PAPER as NETWORKS
from unrolled.studies import _game as shared
from unrolled.studies import _game_table as table

PAPER = shared.PAPER
METHODS = ("ppo",)


@dataclass(frozen=True)
class Config:
    """Which policies, of which games."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed"""
    seeds: int = 1
    networks: tuple[str, ...] = ("tyson1999", "gardner2000", "zatorsky2006", "lorenz")
    envs: tuple[str, ...] = ("CartPole-v1", "Pendulum-v1")
    steps: int = 60_000
    training: str = "fast"
    matrix: str = ""
    """a run of game-matrix to read instead of training"""
    situations: int = 64


def tiny() -> Config:
    """Four networks and their controls on two tasks; a minute and a half."""
    return Config()


def small() -> Config:
    """Fifteen systems; half an hour, or no time at all with --matrix RUN."""
    return Config(preset="small", networks=tuple(NETWORKS), steps=150_000)


def systems(config: Config) -> list[str]:
    """Networks, and linear and random policies of their widths."""
    widths = sorted({shared.width(name) for name in config.networks})
    return [*config.networks, *(f"{kind}:{d}" for d in widths for kind in ("linear", "random"))]


def study(config: Config, run: Run) -> list[Claim]:
    """Gather the policies, compare them, judge."""
    names, seeds = systems(config), range(config.seed, config.seed + config.seeds)
    there = table.source(
        run, config.matrix, names, config.envs, seeds, steps=config.steps, training=config.training
    )
    for env_id in config.envs:
        found = table.policies(there, names, env_id, seeds)
        crew, scores = {n: p for n, (p, _) in found.items()}, [s for _, s in found.values()]
        situations = {
            "beginnings": env_id,
            "played": played(list(crew.values()), env_id, config.situations, seed=config.seed),
        }
        for where, seen in situations.items():
            made = agreement(crew, seen, n=config.situations, seed=config.seed, scores=scores)
            S = made["similarity"]
            rank = torch.tensor(scores).argsort().argsort().double()
            apart = ~torch.eye(len(S), dtype=torch.bool)
            pair = (rank[:, None] + rank[None, :])[apart]
            follows = float(torch.corrcoef(torch.stack([pair, S[apart]]))[0, 1])
            run.log(env=env_id, where=where, better=made["better"], worse=made["worse"], mean=made["mean"], control=made["control"],
                    follows=follows, kinds=by_kind(S, list(crew)), names=made["names"], scores=scores, similarity=S.tolist())  # fmt: skip
            run.save_reading(made, f"agreement-{env_id}-{where}".lower())
    return judged(config, run)


def by_kind(S: Any, names: list[str]) -> dict[str, float]:
    """Mean similarity of pairs: two networks, a network and a random field, a network and a linear policy."""
    kind = [n.split(":")[0].split(" ")[0] if ":" in n else "network" for n in names]
    made: dict[str, float] = {}
    for other in ("network", "random", "linear"):
        values = [
            float(S[i, j])
            for i in range(len(names))
            for j in range(len(names))
            if i != j and kind[i] == "network" and kind[j] == other
        ]
        if values:
            made[other] = sum(values) / len(values)
    return made


def judged(config: Config, run: Run) -> list[Claim]:
    """The claims."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    made: list[Claim] = []
    rows = [r for r in run.metrics() if r.get("where")]
    for r in rows:
        gap = r["better"] - r["worse"]
        name, where = (
            r["env"].split("-")[0],
            "at the beginnings of episodes" if r["where"] == "beginnings" else "in situations they come to",
        )
        made.append(
            Claim(f"converge-{name.lower()}-{r['where']}", f"good policies of {name} agree more than bad ones {where} (mean cosine, better half minus worse half)",
                  paper="well-trained agents converge", ours=gap, status="direction only" if gap > 0 else "not reproduced",
                  note=f"better {r['better']:.2f}, worse {r['worse']:.2f}, shuffled control {r['control']:.2f}; correlation of a pair's similarity with its ranks {r['follows']:.2f}; "
                  f"{len(r['names'])} policies", source="2605.16321, abstract; fact sheet F7", **common)
        )  # fmt: skip
    kinds = [r["kinds"] for r in rows if "random" in r["kinds"] and "network" in r["kinds"]]
    if kinds:
        gap = sum(k["network"] - k["random"] for k in kinds) / len(kinds)
        made.append(
            Claim("kin", "two networks agree more than a network and a random field of such widths (difference of mean cosines)", paper="no comparison", ours=gap,
                  status="direction only" if gap > 0.02 else "not reproduced",
                  note="; ".join(f"{r['env'].split('-')[0]} {r['where']}: networks {r['kinds']['network']:.2f}, with random fields {r['kinds']['random']:.2f}, with linear {r['kinds'].get('linear', float('nan')):.2f}" for r in rows)
                  + "; below 0.02 it is called no difference", source="asked by us", **common)
        )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """The matrices, sorted by score; similarity against rank."""
    from matplotlib.figure import Figure

    rows = [r for r in run.metrics() if r.get("where")]
    figure = Figure(figsize=(8.4, 3.9 * ((len(rows) + 1) // 2)), layout="constrained")
    image = None
    for ax, r in zip(map(axes, figure.subplots((len(rows) + 1) // 2, 2).ravel()), rows):
        order = sorted(range(len(r["scores"])), key=lambda i: -r["scores"][i])
        image = ax.imshow(torch.tensor(r["similarity"])[order][:, order], cmap="cividis", vmin=-1, vmax=1)
        small = 6 if len(order) < 20 else 4
        ax.set_xticks([])
        ax.set_yticks(range(len(order)), [r["names"][i] for i in order], fontsize=small)
        ax.set_title(
            f"{r['env'].split('-')[0]}, {r['where']}: better {r['better']:.2f}, worse {r['worse']:.2f}",
            fontsize=9,
        )
    if image is not None:
        figure.colorbar(image, ax=figure.axes, label="cosine", shrink=0.6)
    made = {
        "matrices": (
            figure,
            "Similarity of what policies do in the same situations; the best policies first. If good ones converge, the upper left is bright.",
        )
    }
    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    ax = axes(figure.add_subplot())
    for k, r in enumerate(rows):
        for j, (name, value) in enumerate(
            (("better", r["better"]), ("worse", r["worse"]), ("shuffled", r["control"]))
        ):
            ax.plot(
                value,
                k + 0.15 * (j - 1),
                "o",
                color=(COLORS[1], COLORS[0], "#9aa0a6")[j],
                label=name if not k else None,
            )
    ax.set_yticks(range(len(rows)), [f"{r['env'].split('-')[0]}, {r['where']}" for r in rows])
    ax.set(xlabel="mean cosine of pairs", xlim=(-1.05, 1.05))
    ax.invert_yaxis()
    ax.legend()
    made["halves"] = (figure, "Better half, worse half, and the same with situations shuffled.")
    return made
