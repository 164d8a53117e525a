"""Can a frozen gene network balance a pole? One network learns to, and what stands in its place beside it.

Between a linear encoder and a linear decoder stands the vector field of the fruit fly's circadian clock (Tyson 1999), whose
constants nobody changes. Beside it, trained alike: nothing (linear), a random vector field, a perceptron that learns, each at
the network's own width, and the linear and MLP baselines of the paper, 256 wide.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch

from unrolled.languagegame import Core, Policy, envs, film
from unrolled.runs import Claim, Run
from unrolled.studies import _game as shared

PAPER = shared.PAPER
METHODS = ("ppo", "gae")
ENV = "CartPole-v1"
SOLVED = 475.0
"""Gymnasium's mark for CartPole-v1."""


@dataclass(frozen=True)
class Config:
    """Which network, how long, which settings."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed"""
    seeds: int = 1
    network: str = "tyson1999"
    steps: int = 230_000
    training: str = "fast"
    """preset of `ppo`"""
    wide: tuple[str, ...] = ()
    """baselines at the paper's width"""


def tiny() -> Config:
    """One seed, our fast settings; less than a minute on an idle core."""
    return Config()


def small() -> Config:
    """Four seeds, a little longer; some ten minutes."""
    return Config(preset="small", seeds=4, steps=300_000, wide=("linear", "mlp"))


def paper() -> Config:
    """The paper's settings and budget: 16 million steps, some 40 minutes on one core."""
    return Config(preset="paper", seeds=4, steps=650_000, training="paper", wide=("linear", "mlp"))


def systems(config: Config) -> tuple[str, ...]:
    """The network and what it is compared with."""
    d = shared.width(config.network)
    return (config.network, f"linear:{d}", f"random:{d}", f"mlp:{d}", *config.wide)


def study(config: Config, run: Run) -> list[Claim]:
    """Train each, then judge."""
    before = constants(config.network)
    for seed in range(config.seed, config.seed + config.seeds):
        for system in systems(config):
            shared.learn(run, ENV, system, seed, steps=config.steps, preset=config.training)
    untouched = torch.equal(before, constants(config.network))
    run.log(untouched=untouched)
    show(config, run)
    return judged(config, run, untouched)


def show(config: Config, run: Run) -> None:
    """Exhibits: learning curves, an episode in pictures and in concentrations, and the network to talk to."""
    curves = {
        system: shared.rows(run, "reward", env=ENV, network=system, seed=config.seed)
        for system in systems(config)
    }
    steps = sorted(set.intersection(*({row["step"] for row in rows} for rows in curves.values())))
    if len(steps) > 1:
        by_step = {name: {row["step"]: row["reward"] for row in rows} for name, rows in curves.items()}
        run.save_exhibit(
            "learning", "lines", title="Learning to balance", caption="Mean return of the episodes that ended in a round.", t=steps,
            arrays={name.replace(":", "_"): torch.tensor([rewards[at] for at in steps]) for name, rewards in by_step.items()},
        )  # fmt: skip
    policy = Policy.load(shared.policy_file(run, ENV, config.network, config.seed))
    policy.save(run.path / "policy.safetensors")
    run.save_exhibit(
        "talk", "talk", title=f"Talk to {config.network}", unit="", data={
            "about": f"{config.network}, frozen, between two linear interfaces that have learned to balance a pole: what you say "
            "becomes a moment of that game, and its own dynamics answer.",
            "examples": ["stay balanced", "lean to the left", "do not let the pole fall"], "model": "policy.safetensors", "wide": True, "order": -1,
        },
    )  # fmt: skip
    env = envs.make(ENV, 1, seed=config.seed)
    obs, seen = env.reset(), list[torch.Tensor]()
    for _ in range(200):
        made = policy.trace(obs)
        seen.append(policy.core.normalised(made["projected"][0]))
        obs = env.step(policy.choose(made["logits"]).numpy()).obs
    moving = [i for i, name in enumerate(policy.species) if float(torch.stack(seen)[:, i].std()) > 0]
    run.save_exhibit(
        "concentrations", "lines", title=f"{config.network} at the pole", unit="moment", t=list(range(200)), caption="What the encoder makes of each moment "
        "of an episode: concentrations in standard deviations from the network's own mean.",
        arrays={policy.species[i]: torch.stack(seen)[:, i] for i in moving},
    )  # fmt: skip
    if len(moving) > 1:
        x, y = moving[-2:]
        run.save_exhibit(
            "phase", "phase", title="Where the moments take it", unit="moment", t=list(range(200)), arrays={"x": torch.stack(seen)[:, x], "y": torch.stack(seen)[:, y]},
            data={"xlabel": policy.species[x], "ylabel": policy.species[y]}, caption="The same episode in the plane of two species.",
        )  # fmt: skip
    with contextlib.suppress(ImportError):
        made = film(policy, steps=200, every=8)
        run.save_exhibit(
            "film", "frames", title="The pole", caption="An episode of the trained network.", unit="moment", t=[8 * k for k in range(len(made.frames))],
            arrays={"pole": torch.from_numpy(made.frames[:, 100:340:3, ::3].copy())},
        )  # fmt: skip


def constants(network: str) -> torch.Tensor:
    """Everything that the network's equations are made of, and its rates at its own initial state."""
    model = Core.named(network).system
    return torch.cat(
        [torch.tensor(list(model.parameters.values())), model.rate(0.0, model.initial_state())[0]]
    )


def judged(config: Config, run: Run, untouched: bool) -> list[Claim]:
    """What the run shows."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    found = {system: shared.rows(run, "done", env=ENV, network=system) for system in systems(config)}
    mine, d = found[config.network], shared.width(config.network)
    greedy = shared.mean(mine, "greedy")
    average, deviation = shared.at_random(ENV)
    frozen = f"{config.network}: {d} species, {mine[0]['parameters']} trained scalars for actions"
    made = [
        Claim(
            "balance", "a frozen gene network between linear interfaces learns to balance a pole (mean return of 32 greedy episodes)",
            paper=SOLVED, ours=greedy, spread=shared.spread(mine, "greedy"), unit="steps of 500",
            status="reproduced" if greedy >= SOLVED and untouched else "direction only" if greedy > average + 5 * deviation else "not reproduced",
            note=f"{frozen}; nothing of the network changed, bit for bit: {untouched}; at random {average:.0f} +- {deviation:.0f}; the mark is "
            "Gymnasium's 475, the paper's score of this network is in no source", source="2605.16321, abstract", **common,
        ),
        Claim(
            "seconds", "seconds of training for that, on one core", paper=60.0, ours=shared.mean(mine, "seconds"), unit="s",
            status="reproduced" if shared.mean(mine, "seconds") <= 60 and greedy >= SOLVED else "not reproduced",
            note=f"{config.steps:,} steps, settings {config.training!r}, {shared.mean(mine, 'rate'):,.0f} steps/s; the mark of 60 s is our own",
            source="a mark of our own", **common,
        ),
    ]  # fmt: skip
    for system in systems(config)[1:]:
        theirs = found[system]
        # With 256 environments the training return is that of the episodes which ended, and the best do not end in time.
        by = "score" if config.training == "paper" else "greedy"
        gap = shared.mean(mine, by) - shared.mean(theirs, by)
        what = {"linear": "nothing in its place (a linear policy)", "random": "a random vector field", "mlp": "a perceptron that learns"}[system.split(":")[0]]  # fmt: skip
        wide = "of its own width" if ":" in system else "of the paper's width, 256"
        better = "does better" if gap > 0 else "does worse" if gap < 0 else "does as well"
        made.append(Claim(
            f"over-{system.replace(':', '-')}", f"the network does better than {what} {wide} (difference of returns)",
            paper="a biological network is more than a nonlinearity", ours=gap, unit="training return" if by == "score" else "return of greedy episodes",
            status="direction only" if gap > 0 else "not reproduced",
            note=f"greedy: {config.network} {greedy:.0f}, {system} {shared.mean(theirs, 'greedy'):.0f}; while training, of episodes that ended: "
            f"{shared.mean(mine):.0f}, {shared.mean(theirs):.0f}; it {better}; {config.seeds} seed(s) on one task", source="asked by us; 2605.16321 has no such comparison", **common,
        ))  # fmt: skip
    if "mlp" in found and config.training == "paper":
        score = shared.mean(found["mlp"])
        made.append(Claim(
            "mlp", "the paper's MLP baseline at the end of training", paper=488.0, ours=score, spread=shared.spread(found["mlp"]),
            status="reproduced" if score >= 450 else "not reproduced", source="2605.16321, code; fact sheet A6, F6", **common,
        ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Learning curves, and the pole."""
    config = run.config_as(Config)
    made = {
        "learning": (
            shared.curves(run, ENV, systems(config), network=config.network),
            f"Mean return while learning; blue: {config.network}, frozen. A number after a colon is the width; linear and mlp "
            "without one are 256 wide, as in the paper. Mean over seeds, and over three rounds.",
        )
    }
    saved = shared.policy_file(run, ENV, config.network, config.seed)
    if saved.exists():
        from matplotlib.figure import Figure

        try:
            strip = film(Policy.load(saved), steps=300, every=2).strip(4)
        except ImportError:
            return made
        figure = Figure(figsize=(8.0, 1.5), layout="constrained")
        ax = figure.add_subplot()
        ax.imshow(strip[120:360])
        ax.set_axis_off()
        made["film"] = (figure, "The trained network at work: six seconds, four pictures.")
    return made
