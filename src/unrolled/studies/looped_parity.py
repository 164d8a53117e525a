"""Can a linear recurrence count? Parity needs eigenvalues below zero: beta in [0, 2] learns it, beta in [0, 1] does not.

One delta-rule layer without decay, convolution or positions, trained on 40 random bits to give the parity so far, tested on
more. A product of steps with beta <= 1 has no negative determinant, so no state of it can flip; looping alone does not
change that, unless what stands between the loops does. The words of other groups ask for more than one reflection per token:
whether T loops with beta <= 2 give them is reported as found.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from unrolled.instruments.reading import axes
from unrolled.looped import LT2, LT2Config, tasks
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped

PAPER = looped.PAPER


@dataclass(frozen=True)
class Config:
    """What is trained, and how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights and bits"""
    seeds: int = 1
    steps: int = 600
    batch: int = 64
    length: int = 40
    """of training words"""
    tests: tuple[int, ...] = (40, 128, 256)
    """lengths of test words; the first two are judged"""
    test_batches: int = 4
    """of `batch` words, per length"""
    width: int = 32
    heads: int = 2
    """of 16 channels each"""
    lr: float = 3e-3
    loops: tuple[int, ...] = ()
    """T of looped models with beta <= 1, beside the two main arms"""
    groups: tuple[str, ...] = ()
    """other groups, with T = 1 and each of `group_loops`, and beta <= 2"""
    group_loops: tuple[int, ...] = (1, 2, 4)
    group_steps: int = 1500


def tiny() -> Config:
    """The tour: one seed of each arm, a minute."""
    return Config()


def small() -> Config:
    """Three seeds, and two loops with beta <= 1."""
    return Config(preset="small", seeds=3, loops=(2,))


def paper() -> Config:
    """Three seeds of 20,000 steps, as those who found the effect trained (their models are larger)."""
    return Config(preset="paper", seeds=3, steps=20_000, loops=(2, 4), groups=("S3", "S4", "A5", "S5"), group_steps=20_000)  # fmt: skip


def shape(config: Config, *, vocab: int, loops: int, reflect: bool) -> LT2Config:
    """One delta-rule layer, T loops."""
    return LT2Config(
        vocab_size=vocab, width=config.width, layers=1, heads=config.heads, loops=loops, pattern="deltanet",
        linear_head_dim=config.width // config.heads, expand_v=1.0, conv=0, hidden=2 * config.width, neg_eigval=reflect,
    )  # fmt: skip


def arms(config: Config) -> list[dict[str, Any]]:
    """Group, beta's bound and loops of every model."""
    made = [{"group": "Z2", "beta": 2, "loops": 1}, {"group": "Z2", "beta": 1, "loops": 1}]
    made += [{"group": "Z2", "beta": 1, "loops": T} for T in config.loops]
    return made + [{"group": g, "beta": 2, "loops": T} for g in config.groups for T in config.group_loops]


def study(config: Config, run: Run) -> list[Claim]:
    """Train every arm and seed, test on longer words, judge."""
    for arm in arms(config):
        for seed in range(config.seed, config.seed + config.seeds):
            words = tasks.Words(arm["group"], length=config.length, batch=config.batch, seed=seed)
            lengths = {
                n: dataclasses.replace(words, length=n, seed=seed + 1_000_000, batch=min(64, config.batch))
                for n in config.tests
            }

            def evaluate(model: LT2, lengths=lengths) -> dict[str, float]:
                return {f"at_{n}": tasks.accuracy(model, w, config.test_batches) for n, w in lengths.items()}

            steps = config.steps if arm["group"] == "Z2" else config.group_steps
            looped.train(
                run, {**arm, "seed": seed},
                shape(config, vocab=words.vocab, loops=arm["loops"], reflect=arm["beta"] == 2), words,
                steps=steps, lr=config.lr, seed=seed, evaluate=evaluate, every=max(1, steps // 6), each_step=False,
            )  # fmt: skip
    return claims(config, run)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}

    def at(length: int, **arm: Any) -> list[float]:
        return looped.last(run, f"at_{length}", **arm)

    made: list[Claim] = []
    first, second = config.tests[:2]
    for length, bar in ((first, 0.98), (second, 0.85)):
        found = at(length, group="Z2", beta=2, loops=1)
        mean, spread = looped.summarize(found)
        made.append(Claim(
            f"parity-{length}", f"beta <= 2 learns parity: accuracy at length {length} (trained at {config.length})",
            paper=1.0, ours=mean, spread=spread,
            status="reproduced" if mean >= bar else "direction only" if mean > 0.7 else "not reproduced",
            note=f"seeds: {looped.listed(found)}; mean over positions; reproduced: at least {bar}",
            source="2411.12537, figure 1; A15", **common,
        ))  # fmt: skip
    for loops in (1, *config.loops):
        found = at(second, group="Z2", beta=1, loops=loops)
        mean, spread = looped.summarize(found)
        seen = at(first, group="Z2", beta=1, loops=loops)
        many = f"{loops} loops" if loops > 1 else "one loop"
        made.append(Claim(
            f"chance-{loops}", f"beta <= 1 stays at chance with {many}: accuracy at length {second}", paper=0.5, ours=mean,
            spread=spread, status="reproduced" if mean <= 0.6 else "not reproduced",
            note=f"seeds: {looped.listed(found)}; at {first}: {looped.listed(seen)}; reproduced: at most 0.6",
            source="2411.12537, figure 1; A15" if loops == 1 else "LT2 fact sheet, 8.5: unmeasured", **common,
        ))  # fmt: skip
    for group in config.groups:
        plain = at(first, group=group, beta=2, loops=1)
        for loops in [T for T in config.group_loops if T > 1]:
            found = at(first, group=group, beta=2, loops=loops)
            if not found or not plain:
                continue
            mean, spread = looped.summarize(found)
            base = looped.summarize(plain)[0]
            made.append(Claim(
                f"{group}-{loops}", f"{loops} loops stand in for {loops} reflections per token on {group}: accuracy at length {first}",
                ours=mean, spread=spread,
                status="reproduced" if mean >= 0.98 > base else "direction only" if mean > base + 0.05 else "not reproduced",
                note=f"one loop: {base:.3f}; seeds: {looped.listed(found)}; {config.group_steps} steps; reproduced: at least 0.98 where one "
                "loop fails. Each loop has a state of its own", source="LT2 fact sheet, 8.2: open", **common,
            ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy over training, and against length."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    first = config.tests[0]
    drawn = [("beta <= 1", {"beta": 1, "loops": 1}, looped.BLUE, "-"), ("beta <= 2", {"beta": 2, "loops": 1}, looped.ORANGE, "-")]  # fmt: skip
    drawn += [(f"beta <= 1, {T} loops", {"beta": 1, "loops": T}, looped.BLUE, style) for T, style in zip(config.loops, ("--", ":", "-."))]  # fmt: skip
    for label, arm, color, style in drawn:
        arm = {"group": "Z2", **arm}
        for k, seed in enumerate(range(config.seed, config.seed + config.seeds)):
            mine = looped.rows(run, f"at_{first}", **arm, seed=seed)
            left.plot([r["step"] for r in mine], [r[f"at_{first}"] for r in mine], color=color, ls=style, lw=1.2, label=label if k == 0 else None)  # fmt: skip
        means = [looped.summarize(looped.last(run, f"at_{n}", **arm))[0] for n in config.tests]
        right.plot(config.tests, means, color=color, ls=style, marker="o", ms=4)
    left.set(xlabel="step", ylabel=f"accuracy at length {first}", ylim=(0.45, 1.02))
    right.set(xlabel="length of the word", ylabel="accuracy", ylim=(0.45, 1.02), xticks=config.tests)
    right.axvline(config.length, color="#1c1e21", lw=0.8, ls=":")
    left.legend(frameon=False)
    return {
        "parity": (
            figure,
            "Parity of random bits. Left: accuracy at the training length, a line a seed. Right: after training, against the "
            f"length of the word (mean over seeds); dotted: the training length, {config.length}. Chance is 0.5.",
        )
    }
