"""What 8 bits cost a local rule: int8 weights and 8-bit traces while it learns, on the same images in the same order as float32.

Nothing is kept beside the integers. Every arm tries the same learning rates on held-out training images. Three controls: the
same rounded to the nearest, where small changes vanish; the two phases rounded before they are subtracted; and
float32 weights rounded once, after training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unrolled.cortex.rate import Momentum, Net, Rule, centered, changes
from unrolled.cortex.rate.fixed_point import Weights, traces
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _rate as rate
from unrolled.studies import _rate_data as data
from unrolled.training.images import Images, Shuffled

PAPER = rate.PAPER
METHODS = ("centered_nudging",)
Memory = Momentum | Weights


@dataclass(frozen=True)
class Config:
    """Which network, how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights, order of images, rounding"""
    seeds: int = 1
    data: str = ""
    """folder of Fashion-MNIST's idx files; where Debian's dataset-fashion-mnist puts them when empty; "digits" for small ones"""
    images: int = 20_000
    """training images; all when 0"""
    test: int = 2000
    """test images; all when 0"""
    epochs: float = 1
    batch: int = 32
    hidden: int = 64
    beta: float = 0.1
    rates: tuple[float, ...] = (0.1, 0.3)
    """learning rates tried, without momentum"""
    tuning_steps: int = 100
    """of each"""


def tiny() -> Config:
    """One epoch of a third of the images, one seed: a minute or two."""
    return Config()


def small() -> Config:
    """Three seeds of two epochs of all images: about twenty minutes of one core."""
    return Config(preset="small", seeds=3, images=0, test=0, epochs=2, hidden=128, tuning_steps=300)


def _float(net: Net, lr: float, seed: int) -> Memory:
    return Momentum(net, lr, 0.0)


def _whole(bits: int, **options: Any) -> Callable[[Net, float, int], Memory]:
    return lambda net, lr, seed: Weights(net, lr, bits, **{"rng": seed, **options})


def _traced(bits: int, **options: Any) -> Callable[[int], Rule]:
    return lambda seed: traces(centered, bits, **{"rng": seed, **options})


ARMS: dict[str, tuple[Callable[[Net, float, int], Memory], Callable[[int], Rule]]] = {
    "float32": (_float, lambda seed: centered),
    "8-bit traces": (_float, _traced(8)),
    "int8 weights": (_whole(8), lambda seed: centered),
    "int8 weights, 8-bit traces": (_whole(8), _traced(8)),
    "16 bits kept, 8 heard": (_whole(8, extra=8), _traced(8)),
    "6 bits, both": (_whole(6), _traced(6)),
    "4 bits, both": (_whole(4), _traced(4)),
    "rounded to the nearest": (_whole(8, rng=None), _traced(8, rng=None)),
    "phases rounded, then subtracted": (_whole(8), _traced(8, subtract=True)),
}
"""Arm -> how it keeps weights, and what its rule hears. The last two are controls."""
MAIN = "int8 weights, 8-bit traces"

WANTED = {
    "int8": ("accuracy that int8 weights and 8-bit traces cost the local rule (points below float32)", MAIN, 1.0),
    "kept": ("the same with 16 bits kept at the synapse and 8 heard (points below float32)", "16 bits kept, 8 heard", 1.0),
    "traces": ("8-bit traces alone (points below float32)", "8-bit traces", 0.5),
}  # fmt: skip
CONTROLS = {
    "nearest": ("control: rounded to the nearest, small changes vanish (points below rounding by chance)", "rounded to the nearest"),
    "subtract": ("control: phases rounded to 8 bits, then subtracted, at a nudge of 0.1 (points below rounding the difference)", "phases rounded, then subtracted"),
}  # fmt: skip


def study(config: Config, run: Run) -> list[Claim]:
    """Tune and train every arm; judge."""
    sets = data.load(config.data)
    if sets is None:
        what = {id: said[0] for id, said in {**WANTED, **CONTROLS}.items()}
        return rate.no_data(what, data.WHY, f"unrolled run cortex-fixed-point --preset {config.preset} --data FOLDER", rate.common(config, run))  # fmt: skip
    whole, test = data.some(sets[0], config.images), data.some(sets[1], config.test)
    for seed in range(config.seed, config.seed + config.seeds):
        for arm in ARMS:
            run.status(phase=f"{arm}, seed {seed}")
            if not rate.rows(run, {"arm": arm, "seed": seed}):
                one(config, run, arm, seed, whole, test)
                run.commit()
    return claims(config, run)


def one(config: Config, run: Run, arm: str, seed: int, whole: Images, test: Images) -> None:
    """One arm of one seed: the learning rates on held-out images, then training; a row. Killed, it begins anew, the same."""
    moments = whole.moments()
    less, kept = rate.held_out(whole, len(whole) // 6, seed)
    held = kept.scaled(moments)[:2000], kept.labels[:2000]
    batches = Shuffled(less, config.batch, seed, moments=moments)
    tried: dict[float, float] = {}
    for lr in config.rates:
        net, _ = train(config, arm, seed, lr, batches, config.tuning_steps)
        tried[lr] = missed(net, *held)
    lr = min(tried, key=tried.__getitem__)
    batches = Shuffled(whole, config.batch, seed, moments=moments)
    net, memory = train(config, arm, seed, lr, batches, max(1, round(config.epochs * len(batches))))
    tested = test.scaled(moments), test.labels
    row: dict[str, Any] = {"test": missed(net, *tested)}
    if isinstance(memory, Weights):
        row |= {"saturated": memory.saturated, "bytes": memory.bytes}
    else:
        row["bytes"] = 4 * sum(value.numel() for value in net.tensors().values())
        Weights(net, lr)  # rounds the weights, once
        row["rounded_after"] = missed(net, *tested)
    run.log(arm=arm, seed=seed, lr=lr, **row, **{f"tried_{k:g}": error for k, error in tried.items()})


def missed(net: Net, images: Tensor, labels: Tensor) -> float:
    """Share of images named wrongly; a network that does not settle names by chance."""
    try:
        return rate.wrong(net, images, labels, settled=True)
    except (ValueError, rate.NotSettling):
        return 1 - 1 / net.outputs


def train(
    config: Config, arm: str, seed: int, lr: float, batches: Shuffled, steps: int
) -> tuple[Net, Memory]:
    """A fresh network after so many batches, the rate falling linearly to 0."""
    net = Net(
        batches.images.shape, [config.hidden, config.hidden, len(batches.images.names)], gain=0.1, rng=seed
    )
    keep, hear = ARMS[arm]
    memory, rule = keep(net, lr, seed), hear(seed + 1)
    for step in range(steps):
        try:
            made = changes(net, *batches(step), rule=rule, beta=config.beta)
            memory.apply(net, made.changes, 1 - step / steps)
        except (ValueError, rate.NotSettling):  # it has run away: what it knows by now is what is tested
            break
    return net, memory


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    shared = {**rate.common(config, run), "seeds": config.seeds, "unit": "points"}
    score = {arm: [100 * (1 - e) for e in rate.last(run, {"arm": arm}, "test")] for arm in ARMS}

    def lost(arm: str, beside: str) -> tuple[float, float | None]:
        return rate.mean([b - a for a, b in zip(score[arm], score[beside])])

    exact = rate.mean(score["float32"])[0]
    made: list[Claim] = []
    for id, (said, arm, most) in WANTED.items():
        cost, spread = lost(arm, "float32")
        made.append(
            Claim(
                id, said, paper=f"<= {most:g} (our aim; none is published)", ours=cost, spread=spread, status="reproduced" if cost <= most else "direction only" if cost <= 3 else "not reproduced",
                note=f"{rate.mean(score[arm])[0]:.2f} %, float32 {exact:.2f} %; no momentum, the same learning rates tried; reproduced: {most:g} or less; direction only: 3",
                source="cortex fact sheet, section 9", **shared,
            )
        )  # fmt: skip
    for id, (said, arm) in CONTROLS.items():
        cost, spread = lost(arm, MAIN)
        made.append(
            Claim(
                id, said, paper="fails", ours=cost, spread=spread, status="reproduced" if cost > 5 else "direction only" if cost > 0 else "not reproduced",
                note=f"{rate.mean(score[arm])[0]:.2f} % beside {rate.mean(score[MAIN])[0]:.2f} %; reproduced: more than 5 points", **shared,
            )
        )  # fmt: skip
    after = [100 * (1 - e) for e in rate.last(run, {"arm": "float32"}, "rounded_after")]
    cost, spread = rate.mean([b - a for a, b in zip(after, score["float32"])])
    made.append(
        Claim(
            "after", "float32 weights rounded to int8 once, after training (points lost)", paper="<= 0.5 (our aim)", ours=cost, spread=spread,
            status="reproduced" if cost <= 0.5 else "direction only" if cost <= 3 else "not reproduced", note="the usual deployment, which does not learn", **shared,
        )
    )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Test accuracy of every arm."""
    from matplotlib.figure import Figure

    shown = [arm for arm in ARMS if rate.rows(run, {"arm": arm})]
    if not shown:
        return {}
    figure = Figure(figsize=(6.8, 3.1), layout="constrained")
    ax = axes(figure.add_subplot())
    for i, arm in enumerate(reversed(shown)):
        values = [100 * (1 - e) for e in rate.last(run, {"arm": arm}, "test")]
        color = rate.MINUS if arm == "float32" else COLORS[3] if arm in list(ARMS)[-2:] else rate.PLUS
        ax.barh(i, rate.mean(values)[0], color=color, height=0.65)
        ax.plot(values, [i] * len(values), "o", color="#1c1e21", ms=3)
        ax.annotate(f"{rate.mean(values)[0]:.1f}", (max(values), i), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    ax.set(yticks=range(len(shown)), xlabel="test accuracy (%)", xlim=(0, 108))
    ax.set_yticklabels(list(reversed(shown)))
    sizes = {r["arm"]: r["bytes"] for r in rate.rows(run, {}) if "bytes" in r}
    caption = (
        f"The local rule in float32 (blue), in few bits (orange), and controls (other). Weights and biases take {sizes[shown[0]] / 1e3:.0f} kB in float32"
        + (f", {sizes[MAIN] / 1e3:.0f} kB in int8." if MAIN in sizes else ".")
    )
    return {"accuracy": (figure, caption)}
