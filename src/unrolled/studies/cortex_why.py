"""Why a difference of two phases learns, and what breaks it: alignment with the gradient, the settling map, curvature, four lesions.

One small network on real images. *Alignment* of every layer's change with the exact gradient, over training, for three
kinds of feedback. *Settling*: the leading eigenvalue of one sweep against the gain of the way down, and the rate at
which the network really settles. *Curvature*: gain and penalty of the update each rule would make, at the same weights
and of the same length. *Lesions*: the way down too strong, or not the transpose; the phases in reverse; a slow
integral that is too slow.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.cortex import td
from unrolled.cortex.rate import (
    Momentum,
    Net,
    NotSettling,
    Phases,
    Rule,
    Step,
    align,
    backprop,
    centered,
    changes,
    feedback_alignment,
    generec,
    hebb,
    settle,
)
from unrolled.cortex.rate.align import cosine
from unrolled.cortex.rate.paths import Path
from unrolled.instruments import spectrum
from unrolled.instruments.curvature import decompose
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _rate as rate
from unrolled.studies import _rate_data as data
from unrolled.training.images import Images, Shuffled

PAPER = rate.PAPER
METHODS = ("centered_nudging", "kolen_pollack", "feedback_alignment")


@dataclass(frozen=True)
class Config:
    """Which network, for how long."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights and order of images"""
    seeds: int = 2
    data: str = ""
    """folder of Fashion-MNIST's idx files; where Debian's dataset-fashion-mnist puts them when empty; "digits" for small ones"""
    images: int = 10_000
    """training images; all when 0"""
    test: int = 2000
    """test images; all when 0"""
    hidden: int = 48
    """units of each of two hidden layers"""
    steps: int = 200
    batch: int = 64
    lr: float = 0.02
    gain: float = 0.1
    beta: float = 0.1
    probes: int = 4
    """times that a network is looked at in training, the start included"""
    gains: tuple[float, ...] = (0.03, 0.1, 0.3, 0.6, 1.0, 2.0)
    """of the way down, for the settling map and as a lesion"""
    angles: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0, 120.0)
    """between the way down and the transpose of the way up, degrees"""
    slow: tuple[float, ...] = (0.0, 22.0, 30.0, 40.0, 70.0)
    """time constants of the slow integral, ms; the fast one's is 20; 0 for the difference itself"""
    slow_gain: float = 0.3
    """gain of the way down in that lesion: what comes down has to be more than what the integrals leave"""


def tiny() -> Config:
    """Two seeds of 200 batches: about a minute."""
    return Config()


def small() -> Config:
    """Three seeds of 2,000 batches of all images: about fifteen minutes of one core."""
    return Config(preset="small", seeds=3, images=0, test=0, hidden=96, steps=2000, probes=6)


FEEDBACK = ("symmetric", "learned", "random")
RULES = ("local rule", "clamped", "backprop", "feedback alignment", "Hebb")
"""Whose updates the curvature instrument takes apart; clamped is GeneRec from a clamped output, beta = 1."""
COLOR = dict(zip(RULES, (rate.PLUS, COLORS[5], rate.MINUS, COLORS[2], COLORS[3])))
WANTED = {
    "alignment": "lowest cosine of any layer with the gradient over training, symmetric feedback",
    "learned": "the same with learned feedback, at the end",
    "random": "control: the same with random feedback, at the end",
    "settling": "rate of settling over the spectral radius of one sweep (1 when the instrument tells it right)",
    "curvature": "curvature tax: penalty over gain of the local rule's update, in units of backprop's",
    "gain": "lesion: the way down at the highest gain (points below the usual gain, or chance)",
    "asymmetric": "lesion: the way down at 90 degrees to the transpose of the way up (points below symmetric)",
    "reversed": "lesion: outcome before prediction (test accuracy)",
    "dapk1": "lesion: the slow integral at its slowest (points below the difference itself)",
}


def study(config: Config, run: Run) -> list[Claim]:
    """All four questions for every seed; judge."""
    sets = data.load(config.data)
    if sets is None:
        return rate.no_data(WANTED, data.WHY, f"unrolled run cortex-why --preset {config.preset} --data FOLDER", rate.common(config, run))  # fmt: skip
    whole, test = data.some(sets[0], config.images), data.some(sets[1], config.test)
    moments = whole.moments()
    tested = test.scaled(moments), test.labels
    for seed in range(config.seed, config.seed + config.seeds):
        batches = Shuffled(whole, config.batch, seed, moments=moments)
        for feedback in FEEDBACK:
            if not rate.rows(run, {"part": "alignment", "feedback": feedback, "seed": seed}):
                run.status(phase=f"alignment, {feedback} feedback, seed {seed}")
                alignment(config, run, feedback, seed, batches)
                run.commit()
        if not rate.rows(run, {"part": "curvature", "seed": seed}):
            run.status(phase=f"curvature and settling, seed {seed}")
            taken_apart(config, run, seed, batches)
            run.commit()
        for lesion, level in lesions(config):
            if not rate.rows(run, {"part": "lesion", "lesion": lesion, "level": level, "seed": seed}):
                run.status(phase=f"{lesion} {level:g}, seed {seed}")
                broken(config, run, lesion, level, seed, batches, tested)
                run.commit()
    return claims(config, run)


def network(config: Config, images: Images, seed: int, **options: Any) -> Net:
    """The network of the study."""
    sizes = [config.hidden, config.hidden, len(images.names)]
    return Net(images.shape, sizes, **{"gain": config.gain, "rng": seed, **options})


def factor(config: Config, step: int) -> float:
    """The learning rate falls linearly to 0."""
    return 1 - step / config.steps


# -- alignment


def alignment(config: Config, run: Run, feedback: str, seed: int, batches: Shuffled) -> None:
    """Train, and compare with the gradient on the way: a row a look."""
    net = network(config, batches.images, seed, feedback=feedback)
    memory = Momentum(net, config.lr, 0.9, 1e-3)
    every = max(1, config.steps // max(1, config.probes - 1))
    held = batches(10**6)  # of another epoch
    for step in range(config.steps + 1):
        try:
            if (step % every == 0 and config.steps - step >= every) or step == config.steps:
                one = align(net, held, beta=config.beta, sweeps=100, nudged=100, tol=1e-6)
                layers = {f"cosine_{k}": float(v) for k, v in enumerate(one["cosine"])}
                short = align(net, held, beta=config.beta)["cosine"]
                run.log(
                    part="alignment", feedback=feedback, seed=seed, step=step, lowest=min(layers.values()), few=float(short.min()),
                    feedforward=float(one["feedforward"].min()), **layers,
                )  # fmt: skip
            if step < config.steps:
                memory.apply(
                    net, changes(net, *batches(step), beta=config.beta).changes, factor(config, step)
                )
        except (ValueError, NotSettling) as reason:
            run.log(part="ran away", feedback=feedback, seed=seed, step=step, why=type(reason).__name__)
            break


# -- settling and curvature


def taken_apart(config: Config, run: Run, seed: int, batches: Shuffled) -> None:
    """Before training and after it: spectrum of a sweep at every gain, and the update of each rule."""
    net = network(config, batches.images, seed)
    memory, x = Momentum(net, config.lr, 0.9), batches(10**6)
    for step in range(config.steps + 1):
        if step in (0, config.steps):
            for gain in config.gains:
                run.log(part="settling", seed=seed, step=step, gain=gain, **settling(net, x[0][:1], gain))
            for name, row in updates(net, x, seed).items():
                run.log(part="curvature", seed=seed, step=step, rule=name, **row)
        if step < config.steps:
            memory.apply(net, changes(net, *batches(step), beta=config.beta).changes, factor(config, step))


def settling(net: Net, image: Tensor, gain: float) -> dict[str, float]:
    """Spectral radius of one sweep at the fixed point, and the rate at which the network came to it."""
    twin = copy.deepcopy(net).to(dtype=torch.float64)
    twin.gain, image = gain, image.double()
    try:
        base = settle(twin, image, sweeps=400, tol=1e-13)
    except NotSettling as reason:
        return {"radius": reason.radius, "rate": math.nan, "sweeps": math.nan}
    radius = float(spectrum(twin, base.state(twin), image, of=twin.names, k=1)["radius"])
    left = [r for r in base.residuals if r > 1e-11]  # below it is rounding
    measured = (left[-1] / left[-4]) ** (1 / 3) if len(left) > 4 else math.nan
    return {"radius": radius, "rate": measured, "sweeps": float(base.sweeps)}


class Forward(nn.Module):
    """The same weights without a way down, for an instrument that differentiates a module twice."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {name.replace(".", "_"): nn.Parameter(value.double()) for name, value in net.tensors().items()}
        )
        self.names = net.names

    def forward(self, x: Tensor) -> Tensor:
        """Net input of the output layer."""
        y = x.flatten(1)
        for k, name in enumerate(self.names):
            y = nn.functional.linear(y, self.weights[f"{name}_weight"], self.weights[f"{name}_bias"])
            y = y.relu() if k < len(self.names) - 1 else y
        return y


def updates(net: Net, batch: tuple[Tensor, Tensor], seed: int) -> dict[str, dict[str, float]]:
    """Gain, penalty and directional sharpness of each rule's change at these weights, all as long as backprop's.

    The loss is that of the feed-forward network, which every rule is taken to descend; a settled one's at gain 0.1 is near it.
    """
    x, labels = batch
    model = Forward(net)

    def loss(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(x.double()), labels)

    other = copy.deepcopy(net)
    rng = torch.Generator().manual_seed(seed + 1)
    for path in other.paths[1:]:
        path.back = torch.randn(path.weight.shape, generator=rng) * path.weight.std()
    other.feedback = "random"
    made: dict[str, Step] = {
        "local rule": changes(net, x, labels),
        "clamped": changes(net, x, labels, rule=generec, beta=1.0),
        "backprop": backprop(net, x, labels),
        "feedback alignment": feedback_alignment(other, x, labels),
        "Hebb": hebb(net, x, labels),
    }
    weights = [f"{name}.weight" for name in net.names]
    exact = torch.cat([made["backprop"].changes[name].flatten() for name in weights])
    found: dict[str, dict[str, float]] = {}
    for name, step in made.items():
        row = torch.cat([step.changes[w].flatten() for w in weights])
        long = float(exact.norm() / row.norm())
        # W -> W - Z, and a change is added
        z = {f"weights.{w.replace('.', '_')}": -0.02 * long * step.changes[w].double() for w in weights}
        reading = decompose(
            model,
            loss,
            z,
            method="double_backward",
            split="exact",
            groups=lambda key: key.rsplit(".", 1)[1].rsplit("_", 1)[0],
        )
        found[name] = {
            "gain_part": reading.gain, "penalty": reading.penalty, "nds": reading["nds"], "actual": reading.actual, "within": reading.rho_within,
            "tax": reading.penalty / reading.gain if reading.gain else math.nan, "cosine": cosine(row, exact),
        }  # fmt: skip
    return found


# -- lesions


def lesions(config: Config) -> list[tuple[str, float]]:
    """Every lesion and level; angle 0 is the network whole."""
    return [
        *(("angle", a) for a in config.angles), *(("gain", g) for g in config.gains), ("reversed", 1.0), *(("slow", s) for s in config.slow),
    ]  # fmt: skip


def slowed(rule: Rule, tau: float) -> Rule:
    """A rule whose cells read fast minus slow integral of what they did, rather than the difference itself.

    After 150 ms of minus and 50 ms of plus phase the integrals (`td.fast_slow`, 20 ms and tau) differ by a x- + b x+ - (a + b) p,
    where p is what the cell did in the trial before (another image of the batch). With tau of 40 ms a = -b within 3 %; a slower
    one has not caught up with the minus phase, and reads activity above that of the trial before as an increase. The change
    here is that over b.

    Example:
        >>> [round(1 + td.fast_slow(1, 0, tau_slow=t) / td.fast_slow(0, 1, tau_slow=t), 3) for t in (40, 70)]
        [0.031, 0.137]
    """
    left = 1 + td.fast_slow(1, 0, tau_slow=tau) / td.fast_slow(0, 1, tau_slow=tau)

    def made(y: Phases) -> Phases:
        change = y.change
        return y if change is None else Phases(y.minus, None, change + left * (y.minus - y.plus.roll(1, 0)))

    def weight(path: Path, x: Phases, y: Phases, winners: Tensor | None) -> Tensor:
        return rule.weight(path, Phases(x.minus, None, None), made(y), winners)

    return replace(rule, name=f"{rule.name}, slow {tau:g} ms", weight=weight)


def broken(
    config: Config,
    run: Run,
    lesion: str,
    level: float,
    seed: int,
    batches: Shuffled,
    tested: tuple[Tensor, Tensor],
) -> None:
    """Train a network with one thing wrong; a row with its test accuracy, its change's cosine with the gradient, or what stopped it."""
    net = network(
        config, batches.images, seed, gain=level if lesion == "gain" else config.slow_gain if lesion == "slow" else config.gain,
        feedback="random" if lesion == "angle" else "symmetric", activation="hard" if lesion == "slow" else "relu",
    )  # fmt: skip
    memory, stopped = Momentum(net, config.lr, 0.9), ""
    options: dict[str, Any] = {"rule": centered, "beta": config.beta}
    if (
        lesion == "slow"
    ):  # an integral of whole phases needs whole phases: the outcome clamped, from the free phase
        options = {"rule": slowed(generec, level) if level else generec, "beta": 1.0}
    rng = torch.Generator().manual_seed(seed + 99)
    noise = [torch.randn(p.weight.shape, generator=rng) for p in net.paths]
    for step in range(config.steps):
        if lesion == "angle":
            turn(net, level, noise)
        try:
            made = changes(net, *batches(step), **options).changes
            if lesion == "reversed":
                made = {name: -value for name, value in made.items()}
            memory.apply(net, made, factor(config, step))
        except (ValueError, NotSettling) as reason:
            stopped = type(reason).__name__ if isinstance(reason, NotSettling) else "diverged"
            break
    try:
        right = 1 - rate.wrong(net, *tested, settled=True)
    except (ValueError, NotSettling):
        right, stopped = math.nan, stopped or "NotSettling"
    if stopped == "diverged":
        right = math.nan
    run.log(part="lesion", lesion=lesion, level=level, seed=seed, right=right, stopped=stopped)


def turn(net: Net, degrees: float, noise: list[Tensor]) -> None:
    """Set every way down at an angle to the transpose of the way up, of its length: the angle is kept as the way up learns."""
    angle = math.radians(degrees)
    for path, odd in zip(net.paths, noise):
        if path.back is None:
            continue
        w = path.weight
        across = odd - (odd * w).sum() / w.square().sum() * w
        path.back = math.cos(angle) * w + math.sin(angle) * across * (w.norm() / across.norm())


# -- judge and draw


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    shared = {**rate.common(config, run), "seeds": config.seeds}
    made: list[Claim] = []

    def judged(id: str, paper: str, values: list[float], status: str, unit: str = "", note: str = "") -> None:
        ours, spread = rate.mean(values)
        verdict: Any = "not reproduced" if math.isnan(ours) else status
        made.append(Claim(id, WANTED[id], paper=paper, ours=ours, spread=spread, unit=unit, status=verdict, note=note, **shared))  # fmt: skip

    def looks(feedback: str) -> list[list[dict[str, Any]]]:
        found = rate.rows(run, {"part": "alignment", "feedback": feedback})
        return [[r for r in found if r["seed"] == s] for s in sorted({r["seed"] for r in found})]

    lowest = [min(r["lowest"] for r in mine) for mine in looks("symmetric")]
    few = min(r["few"] for mine in looks("symmetric") for r in mine)
    judged("alignment", ">= 0.999", lowest, "reproduced" if min(lowest) >= 0.999 else "direction only" if min(lowest) > 0.9 else "not reproduced",
           note=f"settled to 1e-6, centered, beta {config.beta:g}, gain {config.gain:g}; with the few sweeps it learns by, at least {few:.4f}; every seed at 0.999 or more: reproduced")  # fmt: skip
    for id, feedback in (("learned", "learned"), ("random", "random")):
        cosines = [mine[-1]["lowest"] for mine in looks(feedback)]
        gone = [r["step"] for r in rate.rows(run, {"part": "ran away", "feedback": feedback})]
        ours = rate.mean(cosines)[0]
        good = ours < 0.9 if id == "random" else ours >= 0.9
        judged(id, "below symmetric" if id == "random" else "near 1", cosines, "reproduced" if good else "direction only" if ours > 0 else "not reproduced",
               note=f"reproduced: {'below' if id == 'random' else 'at least'} 0.9; after {config.steps} batches" + (f"; at the last look before it ran away at batch {', '.join(map(str, gone))}" if gone else ""))  # fmt: skip
    near = [r for r in rate.rows(run, {"part": "settling"}) if r["rate"] == r["rate"] and r["radius"] > 1e-3]
    apart = [r["rate"] / r["radius"] for r in near]
    judged("settling", "1", apart, "reproduced" if all(abs(a - 1) < 0.15 for a in apart) else "direction only",
           note=f"{len(apart)} networks and gains; every one within 15 %: reproduced; from {min(apart, default=math.nan):.2f} to {max(apart, default=math.nan):.2f}")  # fmt: skip
    taxes = [
        r["tax"] / b["tax"]
        for r, b in zip(
            *(
                rate.rows(run, {"part": "curvature", "rule": n, "step": config.steps})
                for n in ("local rule", "backprop")
            )
        )
    ]
    ours = rate.mean(taxes)[0]
    detail = ", ".join(
        f"{n} {rate.mean([r['tax'] for r in rate.rows(run, {'part': 'curvature', 'rule': n, 'step': config.steps})])[0]:.3g}"
        for n in RULES
    )
    judged("curvature", "unknown (an open question): 1 would be the same tax", taxes, "reproduced" if all(abs(t - 1) <= 0.1 for t in taxes) else "direction only" if 0.5 < ours < 2 else "not reproduced",
           note=f"penalty / gain at the trained weights, all updates of backprop's length x 0.02: {detail}; feed-forward loss; every seed within 10 % of 1: reproduced; half to twice: direction only")  # fmt: skip

    def right(lesion: str, level: float) -> list[float]:
        rows = rate.rows(run, {"part": "lesion", "lesion": lesion, "level": level})
        return [100 * r["right"] if r["right"] == r["right"] else 10.0 for r in rows]  # run away: chance

    def told(lesion: str, levels: tuple[float, ...], unit: str) -> str:
        parts: list[str] = []
        for v in levels:
            why = {r["stopped"] for r in rate.rows(run, {"part": "lesion", "lesion": lesion, "level": v})} - {
                ""
            }
            parts.append(
                f"{v:g}{unit} {rate.mean(right(lesion, v))[0]:.1f} %"
                + (f" ({', '.join(sorted(why))})" if why else "")
            )
        return ", ".join(parts)

    usual = min(config.gains, key=lambda g: abs(g - config.gain))
    steepest = [a for a in config.angles if a >= 90] or [max(config.angles)]
    for id, lesion, levels, before, after, unit in (
        ("gain", "gain", config.gains, right("gain", usual), right("gain", max(config.gains)), ""),
        ("asymmetric", "angle", config.angles, right("angle", min(config.angles)), right("angle", min(steepest)), " degrees"),
        ("dapk1", "slow", config.slow, right("slow", min(config.slow)), right("slow", max(config.slow)), " ms"),
    ):  # fmt: skip
        lost = [b - a for a, b in zip(after, before)]
        ours = rate.mean(lost)[0]
        judged(id, "breaks it", lost, "reproduced" if ours > 10 else "direction only" if ours > 1 else "not reproduced", "points",
               f"test accuracy: {told(lesion, levels, unit)}; reproduced: more than 10 points lost; a network that ran away counts as chance")  # fmt: skip
    wrong = right("reversed", 1.0)
    judged("reversed", "at or below chance (10)", wrong, "reproduced" if rate.mean(wrong)[0] <= 15 else "not reproduced", "%",
           "the sign of every change turned; reproduced: 15 % or less")  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Alignment over training; settling against gain; the tax of each rule; what breaks it."""
    from matplotlib.figure import Figure

    if not rate.rows(run, {"part": "lesion"}):
        return {}
    made: dict[str, tuple[Any, str]] = {}
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    for ax, feedback in zip(map(axes, figure.subplots(1, 3, sharey=True)), FEEDBACK):
        found = rate.rows(run, {"part": "alignment", "feedback": feedback})
        steps = sorted({r["step"] for r in found})
        layers = sorted(key for key in found[0] if key.startswith("cosine_"))
        for k, layer in enumerate(layers):
            level = [rate.mean([r[layer] for r in found if r["step"] == s])[0] for s in steps]
            name = "output" if k == len(layers) - 1 else f"hidden {k + 1}"
            ax.plot(steps, level, "o-", ms=3, color=(rate.MINUS, COLORS[2], rate.PLUS)[k], label=name)
        ax.axhline(0, color="#1c1e21", lw=0.6)
        ax.set(title=f"{feedback} feedback", xlabel="batches", ylim=(-0.25, 1.05))
    axes(figure.axes[0]).set_ylabel("cosine with the gradient")
    axes(figure.axes[0]).legend(frameon=False, fontsize=8, loc="lower left")
    made["alignment"] = figure, "How each layer's change points down the loss, over training; the settled network's exact gradient, mean over seeds."  # fmt: skip

    figure = Figure(figsize=(8.4, 3.0), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2, width_ratios=(1, 1.25)))
    rows = rate.rows(run, {"part": "settling"})
    for step, color in zip(sorted({r["step"] for r in rows}), (rate.MINUS, rate.PLUS)):
        mine = [r for r in rows if r["step"] == step]
        gains = sorted({r["gain"] for r in mine})
        radius = [rate.mean([r["radius"] for r in mine if r["gain"] == g])[0] for g in gains]
        left.plot(gains, radius, "-", color=color, label="at the start" if not step else "trained")
        settled = [r for r in mine if r["rate"] == r["rate"]]
        left.plot(
            [r["gain"] for r in settled], [r["rate"] for r in settled], "o", color=color, ms=4, mfc="white"
        )
    left.axhline(1, color="#1c1e21", lw=0.8, ls=":")
    left.set(xscale="log", yscale="log", xlabel="gain of the way down", ylabel="per sweep")
    left.legend(frameon=False, fontsize=8)
    last = max(r["step"] for r in rate.rows(run, {"part": "curvature"}))
    for k, name in enumerate(reversed(RULES)):
        taxes = [r["tax"] for r in rate.rows(run, {"part": "curvature", "rule": name, "step": last})]
        right.barh(k, rate.mean(taxes)[0], color=COLOR[name], height=0.65)
        right.plot(taxes, [k] * len(taxes), "o", color="#1c1e21", ms=3)
        right.annotate(f"{rate.mean(taxes)[0]:.2g}", (max(max(taxes), 0), k), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    right.axvline(0, color="#1c1e21", lw=0.6)
    right.set(yticks=range(len(RULES)), xlabel="penalty / gain of one update")
    right.set_yticklabels(list(reversed(RULES)))
    right.margins(x=0.2)
    made["settling"] = figure, (
        "Left: spectral radius of one sweep (lines) and the rate at which the network really settled (circles); above the dotted "
        "line it would not. Right: what of each rule's gain the curvature takes back, at the trained weights, for updates of one length. "
        "A negative number is an update that climbs."
    )  # fmt: skip

    figure = Figure(figsize=(8.6, 2.8), layout="constrained")
    panels = list(map(axes, figure.subplots(1, 4, sharey=True)))
    for ax, (lesion, name) in zip(panels, (("gain", "gain of the way down"), ("angle", "angle of the way down\nto the transpose (degrees)"), ("slow", "slow integral (ms)"), ("reversed", "phases"))):  # fmt: skip
        rows = rate.rows(run, {"part": "lesion", "lesion": lesion})
        if lesion == "reversed":
            rows = [{**r, "level": 1.0} for r in rows] + [
                {**r, "level": 0.0}
                for r in rate.rows(run, {"part": "lesion", "lesion": "angle", "level": 0.0})
            ]
        levels = sorted({r["level"] for r in rows})
        shares = {v: [100 * r["right"] if r["right"] == r["right"] else 10.0 for r in rows if r["level"] == v] for v in levels}  # fmt: skip
        ax.plot(levels, [rate.mean(shares[v])[0] for v in levels], "-", color=rate.PLUS)
        for v in levels:
            gone = any(r["stopped"] for r in rows if r["level"] == v)
            ax.plot(
                [v] * len(shares[v]),
                shares[v],
                "x" if gone else "o",
                color=rate.MINUS if gone else rate.PLUS,
                ms=5,
            )
        ax.axhline(10, color="#1c1e21", lw=0.8, ls=":")
        ax.set(xlabel=name, ylim=(0, 100))
        if lesion == "gain":
            ax.set_xscale("log")
        if lesion == "reversed":
            ax.set(xticks=[0, 1], xlim=(-0.5, 1.5))
            ax.set_xticklabels(["in order", "reversed"])
    panels[0].set_ylabel("test accuracy (%)")
    made["lesions"] = figure, "One thing wrong at a time; chance is dotted. A blue cross is a network that ran away or did not settle."  # fmt: skip
    return made
