"""What the language-game studies share: the paper and its numbers, cells that are trained once, random play, figures."""

from collections.abc import Sequence
from math import comb
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from unrolled.instruments.reading import COLORS, axes
from unrolled.languagegame import Core, Policy, envs, evaluate, ppo
from unrolled.runs import Run

PAPER = {
    "title": "Language Game: Talking to Non-Human Systems",
    "authors": "Zhang, Levin",
    "arxiv": "2605.16321",
    "year": 2026,
}

MLP: dict[str, tuple[int, float]] = {
    "CartPole-v1": (650_000, 488.0),
    "Acrobot-v1": (200_000, -80.0),
    "MountainCarContinuous-v0": (600_000, -2.0),
    "Pendulum-v1": (1_000_000, -203.0),
}
"""The paper's budget of steps, and the training reward at which its MLP baseline ends (fact sheet, A5, A6)."""

CHANGES: dict[str, dict[str, Any]] = {
    "CartPole-v1": {},
    "Acrobot-v1": {"gamma": 0.99},
    "MountainCarContinuous-v0": {"gamma": 0.999, "hold": 16},
    "Pendulum-v1": {"gamma": 0.9},
}
"""Settings by environment that go with the presets of our own; the paper uses the same for all."""


def learn(
    run: Run, env_id: str, system: str, seed: int, *, steps: int, preset: str, mode: Any = "field"
) -> dict[str, Any]:
    """Train one policy, log its curve, save it under `policies/`, score it; what the run has already is not done again.

    Returns:
        The row that says how it ended: `score` (as the paper scores), `greedy` (mean of 32 episodes), `seconds`, ...
    """
    labels = {"env": env_id, "network": system, "seed": seed}
    before = rows(run, "done", **labels)
    if before:
        return before[0]
    place = policy_file(run, env_id, system, seed)
    run.status(phase=f"{system} on {env_id}, seed {seed}", step=0)
    policy = Policy.make(env_id, system, mode, seed=seed)

    def tell(*, step: int, reward: float, length: float, episodes: float, **_: Any) -> None:
        if episodes:
            run.log(step=step, **labels, reward=reward, length=length, episodes=episodes)

    changes = {} if preset == "paper" else CHANGES.get(env_id, {})
    done = ppo(
        policy, steps=steps, preset=preset, seed=seed, checkpoint=run.checkpoints / place.stem, checkpoint_every=max(1, steps // 3),
        log=tell, progress=run.progress, **changes,
    )  # fmt: skip
    policy.save(place)
    greedy = evaluate(policy, 32)
    row = {
        "score": done.score, "greedy": fmean(greedy), "seconds": done.seconds, "rate": done.rate, "width": policy.core.width,
        "steps": done.step, "parameters": policy.actor_parameters, "stop": done.stop.reason, "exploded": sorted(done.exploded),
    }  # fmt: skip
    run.log(step=done.step, **labels, done=True, **row)
    run.commit()
    return {**labels, **row}


def rows(run: Run, field: str, **labels: Any) -> list[dict[str, Any]]:
    """The rows of a run that have a field and these labels."""
    return [r for r in run.metrics() if r.get(field) is not None and all(r.get(k) == v for k, v in labels.items())]  # fmt: skip


def policy_file(run: Run, env_id: str, system: str, seed: int) -> Path:
    """Where `learn` saves a policy."""
    name = f"{system.replace(':', '_')}-{env_id}-{seed}".replace("/", "_")
    return run.path / "policies" / f"{name}.safetensors"


def at_random(env_id: str, episodes: int = 256, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the return of episodes with random actions."""
    env, rng = envs.make(env_id, episodes, seed=seed), np.random.default_rng(seed)
    env.reset()
    total, alive = np.zeros(episodes), np.ones(episodes, dtype=bool)
    while alive.any():
        about = env.spec
        chosen = (
            rng.integers(about.actions, size=episodes)
            if about.discrete
            else rng.uniform(about.low, about.high, size=(episodes, about.actions)).astype(np.float32)
        )
        step = env.step(chosen)
        total += step.reward * alive
        alive &= ~(step.terminated | step.truncated)
    return float(total.mean()), float(total.std())


def width(system: str) -> int:
    """How many species a core has."""
    return Core.named(system).width


def mean(found: Sequence[dict[str, Any]], field: str = "score") -> float:
    """Over seeds; NaN where there is none."""
    values = [row[field] for row in found if row[field] is not None and row[field] == row[field]]
    return fmean(values) if values else float("nan")


def spread(found: Sequence[dict[str, Any]], field: str = "score") -> float | None:
    """Standard deviation over seeds; None with one."""
    values = [row[field] for row in found if row[field] is not None and row[field] == row[field]]
    return stdev(values) if len(values) > 1 else None


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of so uneven a split if both were equally likely.

    Example:
        >>> round(sign_test(14, 2), 8)  # fact sheet, F8
        0.00418091
    """
    n, k = wins + losses, max(wins, losses)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k, n + 1)) / 2**n) if n else 1.0


def curves(run: Run, env_id: str, systems: Sequence[str], *, network: str = "") -> Any:
    """Mean return against steps, one line a system, its seeds' mean; the network thick and in front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax = axes(figure.add_subplot())
    order = [*(s for s in systems if s != network), *([network] if network in systems else [])]
    palette = [COLORS[1], COLORS[2], COLORS[3], COLORS[4], COLORS[5], COLORS[7]]
    for k, system in enumerate(order):
        mine = rows(run, "reward", env=env_id, network=system)
        by_step: dict[int, list[float]] = {}
        for row in mine:
            by_step.setdefault(row["step"], []).append(row["reward"])
        steps = sorted(by_step)
        front = system == network
        color = COLORS[0] if front else palette[k % len(palette)]
        ax.plot(
            [s / 1000 for s in steps], smooth([fmean(by_step[s]) for s in steps]), color=color, lw=2.4 if front else 1.2,
            label=system, zorder=3 if front else 2,
        )  # fmt: skip
    ax.set(xlabel="steps of the environment (thousands)", ylabel="mean return of episodes", title=env_id)
    ax.legend(frameon=False, fontsize=8)
    return figure


def smooth(values: Sequence[float], window: int = 3) -> list[float]:
    """Mean of each value and those before it, `window` in all.

    Example:
        >>> smooth([1.0, 3.0, 5.0], 2)
        [1.0, 2.0, 4.0]
    """
    return [fmean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]
