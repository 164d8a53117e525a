"""Networks x tasks x seeds: does biology help, or just nonlinearity?

Every network of the paper is trained on classic control, and for every width that a network has, nothing (linear) and a random
vector field of that width are trained alike. A network that is more than a nonlinearity of its size should beat the random
field of its width; one that is more than a bottleneck should beat the linear policy of its width.

Each cell is trained once and saved under `policies/`: a run that is killed goes on with the next, and the agreement of
policies and the properties of networks are read from this run by other studies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.sbml.models import PAPER as NETWORKS
from unrolled.studies import _game as shared

PAPER = shared.PAPER
METHODS = ("ppo", "gae")


@dataclass(frozen=True)
class Config:
    """Which cells, how long each."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed"""
    seeds: int = 1
    networks: tuple[str, ...] = ("tyson1999", "gardner2000", "lorenz")
    envs: tuple[str, ...] = ("CartPole-v1",)
    steps: int = 200_000
    """per cell; 0: the paper's budget of each task"""
    training: str = "fast"
    """preset of `ppo`"""
    wide: tuple[str, ...] = ()
    """baselines at the paper's width"""


def tiny() -> Config:
    """Three networks of three species, one task, one seed."""
    return Config()


def small() -> Config:
    """All fifteen systems and controls of every width on one task, our fast settings; five minutes on an idle core."""
    return Config(preset="small", networks=tuple(NETWORKS), steps=100_000)


def paper() -> Config:
    """The paper's settings, budgets and seeds for four tasks: 320 million steps, half a day on one core."""
    return Config(
        preset="paper", seeds=4, networks=tuple(NETWORKS), envs=tuple(shared.MLP), steps=0, training="paper", wide=("linear", "mlp"),
    )  # fmt: skip


def systems(config: Config) -> list[str]:
    """The networks, and linear and random policies of each width among them."""
    widths = sorted({shared.width(name) for name in config.networks})
    return [*config.networks, *(f"{kind}:{d}" for d in widths for kind in ("linear", "random")), *config.wide]


def study(config: Config, run: Run) -> list[Claim]:
    """Train every cell, then judge. Seeds are outermost: a run cut short has whole comparisons."""
    cells = [
        (seed, env_id, system)
        for seed in range(config.seed, config.seed + config.seeds)
        for env_id in config.envs
        for system in systems(config)
    ]
    for seed, env_id, system in cells:
        shared.learn(
            run, env_id, system, seed, steps=config.steps or shared.MLP[env_id][0], preset=config.training
        )
    made = [claim for env_id in config.envs for claim in judged(config, run, env_id)]
    return [*made, *overall(config, run)]


def scores(config: Config, run: Run, env_id: str) -> dict[str, list[dict[str, Any]]]:
    """System -> its rows, one a seed."""
    seeds = range(config.seed, config.seed + config.seeds)
    return {
        system: [row for row in shared.rows(run, "done", env=env_id, network=system) if row["seed"] in seeds]
        for system in systems(config)
    }


def measure(config: Config) -> str:
    """What is compared: with the paper's 16 environments its score, the training return. Our settings have 256, in which the
    episodes of a policy that stands last longer than the training: what is left in the score are those that fell.
    """
    return "score" if config.training == "paper" else "greedy"


def against(config: Config, run: Run, env_id: str, kind: str) -> dict[str, float]:
    """Network -> its result less that of the control of its own width, means over seeds; Lorenz is no gene network."""
    found, by = scores(config, run, env_id), measure(config)
    return {
        name: shared.mean(found[name], by) - shared.mean(found[f"{kind}:{shared.width(name)}"], by)
        for name in config.networks
        if name != "lorenz"
    }


def judged(config: Config, run: Run, env_id: str) -> list[Claim]:
    """What one task shows."""
    found, by, task = scores(config, run, env_id), measure(config), env_id.split("-")[0].lower()
    what_is = "training return of the last fifth" if by == "score" else "return of 32 greedy episodes"
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    average, deviation = shared.at_random(env_id)
    bar = average + 5 * deviation if env_id == "CartPole-v1" else average + deviation
    learned = [name for name in config.networks if shared.mean(found[name], by) > bar]
    share = len(learned) / len(config.networks)
    rest = [name for name in config.networks if name not in learned]
    made = [Claim(
        f"{task}-learn", f"networks that learn {env_id} (share whose mean {what_is} is above random play by {5 if env_id == 'CartPole-v1' else 1} standard deviations)",
        paper=1.0, ours=share, status="reproduced" if share == 1 else "direction only" if share >= 10 / 14 else "not reproduced",
        note=f"random play {average:.0f} +- {deviation:.0f}; " + (f"not: {', '.join(rest)}; " if rest else "") + "results: "
        + ", ".join(f"{name} {shared.mean(found[name], by):.0f}" for name in config.networks),
        source="2605.16321, abstract; fact sheet F6", **common,
    )]  # fmt: skip
    for kind, what in (("random", "a random vector field"), ("linear", "a linear policy")):
        gaps = {name: gap for name, gap in against(config, run, env_id, kind).items() if gap == gap}
        wins, losses = sum(g > 0 for g in gaps.values()), sum(g < 0 for g in gaps.values())
        p = shared.sign_test(wins, losses)
        middle = float(np.median(list(gaps.values()))) if gaps else float("nan")
        made.append(Claim(
            f"{task}-over-{kind}", f"{env_id}: gene networks score higher than {what} of their own width (median difference)",
            paper="a biological network is more than a nonlinearity", ours=middle, unit=what_is,
            status="reproduced" if middle > 0 and p < 0.05 else "direction only" if middle > 0 and wins > losses else "not reproduced",
            note=f"{wins} higher, {losses} lower, sign test p {p:.3g}; fewer than 6 networks cannot reach p < .05; a width has one random field a run; "
            + ", ".join(f"{name} {gap:+.0f}" for name, gap in gaps.items()),
            source="asked by us; 2605.16321 has no such comparison", **common,
        ))  # fmt: skip
    if "mlp" in config.wide:
        theirs = shared.MLP.get(env_id, (0, float("nan")))[1]
        ours = shared.mean(found["mlp"])
        made.append(Claim(
            f"{task}-mlp", f"{env_id}: the MLP baseline at the end of training", paper=theirs, ours=ours, spread=shared.spread(found["mlp"]),
            status="reproduced" if (ours >= 0.92 * theirs and theirs > 0) or theirs <= 0 <= ours - 1.25 * theirs else "not reproduced",
            note="" if config.training == "paper" else f"other settings ({config.training}) and {config.steps:,} steps", unit="training reward",
            source="2605.16321, code; fact sheet A6", **common,
        ))  # fmt: skip
    return made


def overall(config: Config, run: Run) -> list[Claim]:
    """Biology or nonlinearity, over all tasks."""
    gaps = [
        gap for env_id in config.envs for gap in against(config, run, env_id, "random").values() if gap == gap
    ]
    wins, losses = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    share, p = wins / max(1, wins + losses), shared.sign_test(wins, losses)
    return [Claim(
        "biology", "over all tasks, a gene network beats a random vector field of its width (share of network x task)",
        paper="bio-inspired inductive bias", ours=share, status="reproduced" if share > 0.5 and p < 0.05 else "not reproduced",
        note=f"{wins} of {wins + losses}, sign test p {p:.3g} (tasks share networks, so p is too small if anything)",
        source="2605.16321, abstract; asked of random fields by us", preset=config.preset, hardware=run.hardware, seeds=config.seeds,
    )]  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Scores of all systems, one picture a task."""
    config = run.config_as(Config)
    made: dict[str, tuple[Any, str]] = {}
    for env_id in config.envs:
        made[env_id.lower()] = (
            _picture(config, run, env_id),
            f"{env_id}: result of each network (blue), of a random vector field of its "
            "width (orange) and of a linear policy of its width (green); dots are seeds, bars their mean. Dashed: random play.",
        )
    return made


def _picture(config: Config, run: Run, env_id: str) -> Any:
    from matplotlib.figure import Figure

    found, by = scores(config, run, env_id), measure(config)
    names = sorted(config.networks, key=lambda name: -shared.mean(found[name], by) if found[name] else 0.0)
    figure = Figure(figsize=(8.0, 0.9 + 0.34 * len(names)), layout="constrained")
    ax = axes(figure.add_subplot())
    for k, name in enumerate(names):
        d = shared.width(name)
        lanes = ((name, COLORS[0]), (f"random:{d}", COLORS[1]), (f"linear:{d}", COLORS[2]))
        for lane, (system, color) in enumerate(lanes):
            y = k + 0.26 * (lane - 1)
            points = [row[by] for row in found[system] if row[by] == row[by]]
            if points:
                label = ("network", "random field", "linear")[lane] if k == 0 else None
                ax.plot(np.mean(points), y, "|", color=color, ms=9, mew=2, label=label)
                ax.plot(points, [y] * len(points), "o", color=color, ms=3)
    average, _ = shared.at_random(env_id, 64)
    ax.axvline(average, color="gray", ls="--", lw=0.8)
    ax.set_yticks(range(len(names)), [f"{name} ({shared.width(name)})" for name in names])
    ax.invert_yaxis()
    ax.set(
        xlabel="mean training return of the last fifth"
        if by == "score"
        else "mean return of 32 greedy episodes",
        title=env_id,
    )
    ax.legend(frameon=False, fontsize=8, loc="best")
    return figure
