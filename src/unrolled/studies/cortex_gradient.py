"""Is the difference of two phases the gradient? A rate-coded network against exact differentiation, in half a minute.

The reference network of the fact sheet (20-30-10, logistic, symmetric): the change of the hidden weights by each
two-phase rule beside the gradient of the loss at the free fixed point, over strengths of the nudge; against feed-forward
backprop over the gain of the way down; over how long the phases settle; and layer by layer in deep networks, where the
nudge that arrives is weaker by the gain at every layer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.rate import Conv, Net, align, backprop, centered, changes, chl, generec, settle
from unrolled.cortex.rate.align import cosine, gradient
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _rate as rate

PAPER = rate.PAPER
METHODS = ("kinase", "centered_nudging", "layered_chl")

F64 = torch.float64
EXACT: dict[str, Any] = {"sweeps": 400, "nudged": 400, "tol": 1e-11}
BETAS = (0.02, 0.1, 0.3, 0.5, 1.0)
GAINS = (1.0, 0.3, 0.1)


@dataclass(frozen=True)
class Config:
    """How many networks."""

    preset: str = "tiny"
    seed: int = 0
    nets: int = 8
    """random reference networks"""
    batch: int = 16
    depth: int = 8
    """hidden layers of the deep network"""


def tiny() -> Config:
    """Eight networks; half a minute."""
    return Config()


def small() -> Config:
    """Fifty networks, and a network of twenty layers; two minutes."""
    return Config(preset="small", nets=50, depth=20)


def study(config: Config, run: Run) -> list[Claim]:
    """Cosines of the reference networks, of settling, of deep networks."""
    for i in range(config.nets):
        reference(run, config.seed + i, config.batch)
        run.progress(i + 1, config.nets + 2)
    settling(run, config)
    run.progress(config.nets + 1, config.nets + 2)
    deep(run, config)
    run.progress(config.nets + 2, config.nets + 2)
    return claims(config, run)


def net(seed: int, **options: Any) -> Net:
    """The reference network, T8."""
    return Net(20, [30, 10], activation="logistic", output="logistic", rng=seed, dtype=F64, **options)


def patterns(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    """Inputs from 0 to 1 and random binary targets."""
    rng = torch.Generator().manual_seed(10_007 * seed + 1)
    return torch.rand(batch, 20, generator=rng, dtype=F64), (torch.rand(batch, 10, generator=rng) < 0.5).to(
        F64
    )


def reference(run: Run, seed: int, batch: int) -> None:
    """One random network: every rule and strength against the settled gradient; clamped GeneRec against backprop."""
    x, target = patterns(seed, batch)
    squared, clamped = (net(seed, gain=1.0, cost=cost) for cost in ("squared", "cross_entropy"))
    exact = -gradient(squared, x, target)["hidden1.weight"]
    for rule in (centered, chl, generec):
        for beta in BETAS:
            made = changes(squared, x, target, rule=rule, beta=beta, **EXACT).changes["hidden1.weight"]
            run.log(step=seed, part="rules", rule=rule.name, beta=beta, cosine=cosine(made, exact))
    hard = changes(clamped, x, target, rule=chl, beta=1.0, **EXACT).changes["hidden1.weight"]
    run.log(step=seed, part="clamped", cosine=cosine(hard, exact))
    for gain in GAINS:
        one = net(seed, gain=gain)
        flat = backprop(one, x, target).changes["hidden1.weight"]
        for rule, beta in ((generec, 1.0), (centered, 0.1)):
            made = changes(one, x, target, rule=rule, beta=beta, **EXACT).changes["hidden1.weight"]
            run.log(step=seed, part="gain", rule=rule.name, gain=gain, cosine=cosine(made, flat))


def settling(run: Run, config: Config) -> None:
    """How many sweeps the phases need, for the gain that is used and the reference's: total cosine with the exact gradient."""
    for gain in (0.1, 0.3, 1.0):
        one = net(config.seed, gain=gain)
        batch = patterns(config.seed, config.batch)
        for free in range(5):
            for nudged in range(3):
                reading = align(one, batch, sweeps=free, nudged=nudged)
                run.log(step=free, part="settling", gain=gain, nudged=nudged, cosine=reading["total"])


def deep(run: Run, config: Config) -> None:
    """Layer by layer: a deep dense network, a convolutional one, and both in bfloat16."""
    rng = torch.Generator().manual_seed(config.seed)
    dense, conv = torch.randn(32, 64, generator=rng), torch.randn(8, 3, 16, 16, generator=rng)
    labels = torch.arange(32) % 10
    layers = [Conv(12, 3, pool=2), Conv(16, 3, pool=2), Conv(24, 3, pool=2), 48, 10]
    for name, x, make in (
        ("dense", dense, lambda **o: Net(64, [64] * config.depth + [10], activation="tanh", gain=0.1, rng=config.seed, **o)),
        ("convolutional", conv, lambda **o: Net((3, 16, 16), layers, gain=0.05, rng=config.seed, **o)),
    ):  # fmt: skip
        for precision, matmul in (("float32", None), ("bfloat16", torch.bfloat16)):
            one = make(matmul=matmul)
            reading = align(one, (x, labels[: len(x)]), sweeps=6, nudged=4)
            rates = settle(make(), x, sweeps=8, tol=0.0).residuals
            for k, name_of in enumerate(one.names):
                run.log(
                    step=k + 1, part="deep", network=name, precision=precision, layer=name_of, cosine=float(reading["cosine"][k]),
                    ratio=float(reading["ratio"][k]), contraction=(rates[-1] / rates[0]) ** (1 / (len(rates) - 1)) if rates[0] else 0.0,
                )  # fmt: skip


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    shared = rate.common(config, run)

    def values(**labels: Any) -> list[float]:
        return [r["cosine"] for r in rate.rows(run, labels)]

    def claim(id: str, statement: str, paper: float, found: list[float], need: float, note: str = "", *, least: bool = True, **rest: Any) -> Claim:  # fmt: skip
        worst, (average, spread) = min(found), rate.mean(found)
        shown = worst if least else average
        return Claim(
            id, statement, paper=paper, ours=shown, spread=spread if len(found) > 1 else None, seeds=len(found), status="reproduced" if shown >= need else "not reproduced",
            note=f"mean {average:.5f}, lowest {worst:.5f}; required {need}{note}", source="cortex fact sheet, T8", **{**shared, **rest},
        )  # fmt: skip

    made = [
        claim("centered", "centered nudging at beta .1: cosine of the hidden weights' change with the gradient (lowest)", 1.0, values(part="rules", rule="centered", beta=0.1), 0.999),
        claim("one-sided", "one-sided CHL at beta .1 (lowest)", 0.99994, values(part="rules", rule="chl", beta=0.1), 0.998),
        claim("clamped", "hard-clamped CHL (mean)", 0.986, values(part="clamped"), 0.98, "; against the gradient of the squared error; the sheet's weights are not stated, ours have variance 1 / fan-in", least=False),
    ]  # fmt: skip
    for gain, paper, need in ((1.0, 0.993, 0.98), (0.3, 0.9994, 0.998), (0.1, 0.9999, 0.999)):
        made.append(
            claim(f"clamped-generec-{gain:g}", f"clamped GeneRec against feed-forward backprop at gain {gain:g} (mean)", paper,
                  values(part="gain", rule="generec", gain=gain), need, least=False)
        )  # fmt: skip
    by_beta = {b: values(part="rules", rule="centered", beta=b) for b in (0.1, 1.0)}
    one = values(part="rules", rule="chl", beta=1.0)
    made.append(
        Claim(
            "order", "at beta 1 centered nudging still beats one-sided (mean cosine, centered)", paper=0.9985, ours=rate.mean(by_beta[1.0])[0], spread=rate.mean(by_beta[1.0])[1], seeds=len(one),
            status="reproduced" if rate.mean(by_beta[1.0])[0] > rate.mean(one)[0] else "not reproduced", note=f"one-sided CHL {rate.mean(one)[0]:.4f} (sheet .9970)", source="cortex fact sheet, T8", **shared,
        )
    )  # fmt: skip
    for network in ("dense", "convolutional"):
        whole, half = (values(part="deep", network=network, precision=p) for p in ("float32", "bfloat16"))
        made.append(
            Claim(
                f"deep-{network}", f"deep {network} network of {len(whole)} layers: the lowest layer's cosine with the gradient", paper=">= .999 (reference net)", ours=whole[0],
                status="reproduced" if min(whole) >= 0.999 else "direction only" if min(whole) >= 0.9 else "not reproduced",
                note=f"lowest of all layers {min(whole):.5f}, with products in bfloat16 {min(half):.5f}; six free and four nudged sweeps; reproduced: every layer .999", source="cortex fact sheet, T8", **shared,
            )
        )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Angle to the gradient over the nudge, over settling, and through the layers."""
    from matplotlib.figure import Figure

    def angles(**labels: Any) -> Tensor:
        found = torch.tensor([r["cosine"] for r in rate.rows(run, labels)], dtype=F64)
        return torch.rad2deg(torch.arccos(found.clamp(-1, 1)))

    first = Figure(figsize=(7.6, 3.2), layout="constrained")
    left, right = map(axes, first.subplots(1, 2))
    for rule, color in (("centered", COLORS[1]), ("chl", COLORS[0]), ("generec", COLORS[2])):
        spread = [angles(part="rules", rule=rule, beta=b) for b in BETAS]
        left.plot(
            BETAS,
            [float(s.mean()) for s in spread],
            "o--" if rule == "generec" else "o-",
            ms=4,
            lw=4 if rule == "chl" else 1.5,
            color=color,
            label={"chl": "CHL", "generec": "GeneRec"}.get(rule, rule),
        )
        left.fill_between(
            BETAS,
            [float(s.min()) for s in spread],
            [float(s.max()) for s in spread],
            color=color,
            alpha=0.15,
            lw=0,
        )
    left.set(
        xlabel="beta, strength of the nudge",
        ylabel="angle to the gradient (degrees)",
        xscale="log",
        yscale="log",
        title="at the settled fixed point",
    )
    left.legend(frameon=False, fontsize=8)
    for rule, color, label in (
        ("centered", COLORS[1], "centered, beta .1"),
        ("generec", COLORS[2], "GeneRec, clamped"),
    ):
        spread = [angles(part="gain", rule=rule, gain=g) for g in GAINS]
        right.errorbar(
            GAINS,
            [float(s.mean()) for s in spread],
            [float(s.std()) for s in spread],
            fmt="o-",
            ms=4,
            color=color,
            label=label,
            capsize=2,
        )
    right.set(
        xlabel="gain of the way down",
        ylabel="angle to backprop (degrees)",
        xscale="log",
        yscale="log",
        title="of the feed-forward network",
    )
    right.set_xticks(GAINS, labels=[f"{g:g}" for g in GAINS])
    right.minorticks_off()
    right.legend(frameon=False, fontsize=8)
    second = Figure(figsize=(7.6, 3.2), layout="constrained")
    left, right = map(axes, second.subplots(1, 2))
    for gain, color in ((0.1, COLORS[1]), (0.3, COLORS[5]), (1.0, COLORS[0])):
        for nudged, style in ((0, ":"), (1, "-")):
            found = rate.rows(run, {"part": "settling", "gain": gain, "nudged": nudged})
            label = f"gain {gain:g}, {'one way down' if not nudged else 'one sweep more'}"
            gaps = [max(1 - r["cosine"], 1e-9) for r in found]
            left.plot([r["step"] for r in found], gaps, "o" + style, ms=3, color=color, label=label)
    left.axhline(1e-3, color="#1c1e21", lw=0.8, ls="--")
    left.set(
        xlabel="sweeps of the free phase",
        ylabel="1 - cosine with the exact gradient",
        yscale="log",
        xticks=range(5),
        title="how long to settle",
    )
    left.legend(frameon=False, fontsize=6.5)
    for network, color in (("dense", COLORS[0]), ("convolutional", COLORS[1])):
        for precision, style in (("float32", "o-"), ("bfloat16", "s:")):
            found = rate.rows(run, {"part": "deep", "network": network, "precision": precision})
            right.plot(
                [r["step"] for r in found],
                [max(1 - r["cosine"], 1e-9) for r in found],
                style,
                ms=3,
                color=color,
                label=f"{network}, {precision}",
            )
    right.axhline(1e-3, color="#1c1e21", lw=0.8, ls="--")
    right.set(xlabel="layer, from below", ylabel="1 - cosine", yscale="log", title="through the layers")
    right.legend(frameon=False, fontsize=7)
    return {
        "angles": (first, "Left: angle between the hidden weights' change and the exact gradient of the settled network, mean and range over random "
                   "reference networks; the centered rule's error falls with the square of beta, the one-sided rules' with beta (CHL and GeneRec agree on "
                   "the lowest layer, whose input does not change). Right: angle to the backprop of the same weights without a way down."),
        "settling": (second, "Left: how far from the exact gradient a change is after few sweeps; below the dashed line the cosine exceeds .999. Right: the same "
                     "layer by layer in deep networks; the change of the lowest layer is the output's times the gain at every layer on the way, and as precise."),
    }  # fmt: skip
