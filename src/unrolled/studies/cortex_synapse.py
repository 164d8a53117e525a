"""One synapse and the slice experiment: two competing kinases compute a temporal derivative, and the data agree, with care.

Jang et al. 2026 drove synapses for 100 ms at one rate and 100 ms at another: low-high strengthened them, high-low
weakened them, flat conditions did little. The kinase rule, with one gain fitted on low-high, predicts the other three;
a Hebbian rule with the same one freedom does not. Then the shortcut that networks use, one weight per 10-ms bin, is
held to the full cascade under Poisson spikes. What the published summary can and cannot show is said with p-values.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex import kinase, td
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.studies import _cortex as cortex

PAPER = {
    "title": "Temporal-derivative learning in hippocampal slices",
    "authors": "Jang et al.",
    "doi": "10.64898/2026.06.05.730489",
    "year": 2026,
}
METHODS = ("kinase",)

DERIVATIVE = {(50, 80): 6.4657, (80, 50): -5.6483, (50, 50): 0.3144, (20, 20): 0.1258, (80, 80): 0.5030}
"""(prediction, outcome) -> fast minus slow (fact sheet, section 2.2)."""
CASCADE = {"25-25": 0.0173, "25-50": 0.2144, "50-25": -0.1235, "50-50": 0.0713}
"""Condition -> CaP - CaD under regular trains (fact sheet, section 3)."""
SWEEP = {
    (25, 25): 0.003, (25, 50): 0.177, (25, 100): 0.843, (50, 25): -0.213, (50, 50): 0.003, (50, 100): 0.726,
    (100, 25): -1.116, (100, 50): -0.846, (100, 100): -0.002,
}  # fmt: skip
"""(minus, plus) in Hz -> CaP - CaD under Poisson spikes, 150 + 50 ms, calcium carried over (section 4.2)."""


@dataclass(frozen=True)
class Config:
    """How many random spike trains."""

    preset: str = "tiny"
    seed: int = 0
    trials: int = 16_000
    """Poisson trials of each pair of rates"""
    sweep: int = 7
    """rates of each of four phases in the test of the shortcut, to the fourth power trials in all"""


def tiny() -> Config:
    """Seconds."""
    return Config()


def small() -> Config:
    """Six times the trials; a minute or two."""
    return Config(preset="small", trials=100_000, sweep=9)


def study(config: Config, run: Run) -> list[Claim]:
    """Simulate, fit one gain, compare, judge."""
    common = {"preset": config.preset, "hardware": run.hardware}
    run.status(phase="the derivative")
    derivative = max(abs(td.fast_slow(*pair) - value) for pair, value in DERIVATIVE.items())

    run.status(phase="in vitro")
    gains = {"kinase": kinase.fitted_gain(), "hebbian": kinase.fitted_gain(kinase.hebbian_protocol)}
    predicted: dict[str, dict[str, float]] = {name: {} for name in gains}
    changes = {}
    for name, data in kinase.JANG.items():
        changes[name] = kinase.jang_protocol(data.first_hz, data.second_hz)
        hebb = kinase.hebbian_protocol(data.first_hz, data.second_hz)
        predicted["kinase"][name] = kinase.epsp(changes[name], gains["kinase"])
        predicted["hebbian"][name] = kinase.epsp(hebb, gains["hebbian"])
        run.log(condition=name, data=data.mean, sem=data.sem, cells=data.n, kinase=predicted["kinase"][name],
                hebbian=predicted["hebbian"][name])  # fmt: skip
    regular = max(abs(changes[name] - value) for name, value in CASCADE.items())
    p = kinase.statistics()
    for test, value in p.items():
        run.log(test=test, p=value)

    run.status(phase="Poisson sweep")
    sweep, sems = {}, []
    for i, (rates, value) in enumerate(SWEEP.items()):
        ends = poisson_changes(*rates, config.trials, config.seed + i)
        sweep[rates] = float(ends.mean())
        sems.append(float(ends.std()) / config.trials**0.5)
        run.log(first_hz=rates[0], second_hz=rates[1], difference=sweep[rates], sem=sems[-1], reference=value)
        run.progress(i + 1, len(SWEEP))
    off = max(abs(sweep[rates] - value) for rates, value in SWEEP.items())
    signs = all((sweep[r] > 0) == (r[1] > r[0]) for r in SWEEP if r[0] != r[1])
    level = all(abs(sweep[r]) < 0.015 for r in SWEEP if r[0] == r[1])

    run.status(phase="one weight per bin")
    fit = shortcut(config.sweep, config.seed)
    run.log(**{f"r2_{name}": value for name, value in fit.items()})

    flats = max(abs(predicted["kinase"][name] - 1) for name in ("25-25", "50-50"))
    down, up = predicted["kinase"]["50-25"] - 1, kinase.JANG["25-50"].mean - 1
    errors = {
        name: (sum((predicted[name][c] - kinase.JANG[c].mean) ** 2 for c in ("50-25", "25-25", "50-50")) / 3)
        ** 0.5
        for name in gains
    }
    inside = all(abs(predicted["kinase"][c] - d.mean) <= d.sem for c, d in kinase.JANG.items())
    largest = max(predicted["hebbian"], key=predicted["hebbian"].__getitem__)
    return [
        Claim(
            "derivative", "fast minus slow gives the published changes (largest difference from five values)", paper=0.0, ours=derivative,
            status="reproduced" if derivative < 1e-3 else "not reproduced", note="(50, 80), (80, 50), (50, 50), (20, 20), (80, 80); reproduced: below 1e-3",
            source="cortex fact sheet, T1", **common,
        ),
        Claim(
            "ltd", "with one gain fitted on 25-50 Hz, the rule predicts depression at 50-25 Hz (EPSP change)", paper=kinase.JANG["50-25"].mean - 1,
            ours=down, status="reproduced" if -0.37 <= down <= -0.17 else "not reproduced",
            note="reproduced: within the data's mean +- one SEM, -0.37 to -0.17", source="Jang et al.; fact sheet, T3", **common,
        ),
        Claim(
            "flat", "and little change where the rate stays (larger EPSP change of 25-25 and 50-50 Hz)", paper=0.12, ours=flats,
            status="reproduced" if flats <= 0.15 else "not reproduced",
            note=f"25-25: {predicted['kinase']['25-25'] - 1:+.2f} (data +0.12), 50-50: {predicted['kinase']['50-50'] - 1:+.2f} (data +0.09); "
            f"reproduced: within 0.15; all four within one SEM of the data: {'yes' if inside else 'no'}", source="Jang et al.; fact sheet, T3", **common,
        ),
        Claim(
            "hebbian-fails", "a Hebbian rule with the same one gain fails (error of its three predictions over the kinase rule's)",
            ours=errors["hebbian"] / errors["kinase"], unit="x", status="reproduced" if predicted["hebbian"]["50-25"] > 1 and largest == "50-50" else "not reproduced",
            note=f"it predicts {predicted['hebbian']['50-25'] - 1:+.2f} where the data say {kinase.JANG['50-25'].mean - 1:+.2f}, and most at {largest} Hz; root mean square errors "
            f"{errors['hebbian']:.2f} and {errors['kinase']:.2f}", source="baseline of ours; fact sheet, T3", **common,
        ),
        Claim(
            "ltp-statistics", "potentiation at 25-50 Hz exceeds the flat 50-50 Hz (p of Welch's test from the published summary)", paper="no p-value",
            ours=p["25-50 = 50-50"], status="direction only" if p["25-50 = 50-50"] >= 0.05 else "reproduced",
            note=f"{100 * up:.0f} % against 9 %, a trend at 30-35 min; depression against it: p = {p['50-25 = 50-50']:.3f}; 25-50 against 50-25: p = {p['25-50 = 50-25']:.3f}; "
            f"each against no change: p = {p['25-50 = 1']:.3f} and {p['50-25 = 1']:.3f}. The paper prints no p-values", source="Jang et al.; fact sheet, section 3", **common,
        ),
        Claim(
            "cascade", "the cascade under the protocol's regular trains gives the reference changes (largest difference of four)", paper=0.0, ours=regular,
            status="reproduced" if regular < 1e-3 else "not reproduced", note="+.0173 +.2144 -.1235 +.0713; reproduced: below 1e-3", source="cortex fact sheet, T2", **common,
        ),
        Claim(
            "poisson", "under Poisson spikes, 3 x 3 rates, the change has the reference's sign and size (largest difference of nine)", paper=0.0, ours=off,
            status="reproduced" if off < 0.03 and signs and level else "not reproduced", note=f"{config.trials} trials each, SEM {max(sems):.3f} at most; flat rates: {max(abs(sweep[r]) for r in SWEEP if r[0] == r[1]):.3f} at most; reproduced: below 0.03, all signs right, flat rates below 0.015", source="cortex fact sheet, T5", **common,
        ),
        Claim(
            "shortcut", "one weight per 10-ms bin stands in for the cascade (squared correlation of CaP - CaD)", paper=0.94, ours=fit["difference"],
            status="reproduced" if fit["cap"] >= 0.965 and fit["cad"] >= 0.975 and fit["difference"] >= 0.92 else "not reproduced",
            note=f"{config.sweep**4} Poisson trials, 10 to 100 Hz; R2 of CaP {fit['cap']:.3f}, of CaD {fit['cad']:.3f}; reproduced: .965, .975 and .92", source="cortex fact sheet, T4", **common,
        ),
    ]  # fmt: skip


def poisson_changes(first_hz: float, second_hz: float, trials: int, seed: int) -> Tensor:
    """CaP - CaD of each trial, 150 ms at one rate and 50 at another, calcium carried over from a trial before."""
    rng, ends = torch.Generator().manual_seed(seed), []
    for start in range(0, trials, 4000):
        size = min(4000, trials - start)
        rates = torch.cat([torch.full((150, size), first_hz), torch.full((50, size), second_hz)]).double()
        course, state = kinase.synapse(kinase.poisson(rates, rng), kinase.poisson(rates, rng))
        course, _ = kinase.synapse(kinase.poisson(rates, rng), kinase.poisson(rates, rng), state)
        ends.append(course.difference[-1])
    return torch.cat(ends)


def shortcut(levels: int, seed: int) -> dict[str, float]:
    """How well binned calcium predicts the cascade: R2 of CaP and CaD, squared correlation of their difference.

    Pre- and postsynaptic rates of both phases run over `levels` values from 10 to 100 Hz each, one trial a combination,
    150 + 50 ms from rest.
    """
    hz = torch.linspace(10, 100, levels, dtype=torch.float64)
    grid = torch.cartesian_prod(hz, hz, hz, hz).T  # pre minus, pre plus, post minus, post plus
    rng = torch.Generator().manual_seed(seed)
    pre, post = (
        kinase.poisson(torch.cat([grid[k].expand(150, -1), grid[k + 1].expand(50, -1)]), rng) for k in (0, 2)
    )
    course, _ = kinase.synapse(pre, post)
    cap, cad = kinase.linear(kinase.bins(kinase.trace(pre)), kinase.bins(kinase.trace(post)))

    def r2(mine: Tensor, truth: Tensor) -> float:
        return float(1 - ((mine - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())

    pair = torch.stack([cap - cad, course.difference[-1]])
    return {
        "cap": r2(cap, course.p[-1]),
        "cad": r2(cad, course.d[-1]),
        "difference": float(torch.corrcoef(pair)[0, 1] ** 2),
    }


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """The in-vitro bar chart with its data; the course of both kinases in the two conditions that change."""
    from matplotlib.figure import Figure

    rows = [r for r in run.metrics() if "condition" in r]
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    ax = axes(figure.add_subplot())
    x = range(len(rows))
    ax.bar([i - 0.27 for i in x], [r["data"] for r in rows], 0.26, yerr=[r["sem"] for r in rows], color="#9aa0a6", capsize=3,
           error_kw={"lw": 1}, label="slices (mean, SEM)")  # fmt: skip
    ax.bar(list(x), [r["kinase"] for r in rows], 0.26, color=cortex.PLUS, label="kinase rule")
    ax.bar([i + 0.27 for i in x], [r["hebbian"] for r in rows], 0.26, color=COLORS[3], label="Hebbian rule")
    ax.axhline(1, color="#1c1e21", lw=0.8)
    ax.set_xticks(list(x), [f"{r['condition'].replace('-', ' → ')} Hz\n(n = {r['cells']})" for r in rows])
    ax.set(ylabel="EPSP after / before", ylim=(0, 2.0))
    ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    vitro = (
        "Each rule has one gain, fitted on 25 → 50 Hz; the other three conditions are its predictions. The kinase rule is "
        "depressed where the rate falls, as the slices are; the Hebbian rule cannot be."
    )

    course = Figure(figsize=(7.6, 3.0), layout="constrained")
    for ax, (first, second) in zip(map(axes, course.subplots(1, 2, sharey=True)), ((25, 50), (50, 25))):
        train = torch.cat([kinase.regular(first, 100), kinase.regular(second, 100)])
        made, _ = kinase.synapse(train, train)
        cortex.bands(ax, 100, 200)
        ax.plot(made.p, color=COLORS[5], label="CaP (CaMKII)")
        ax.plot(made.d, color=COLORS[2], label="CaD (DAPK1)")
        ax.set(xlabel="ms", title=f"{first} → {second} Hz: {float(made.difference[-1]):+.3f}")
    course.axes[0].set_ylabel("synaptic calcium")
    course.axes[0].legend(loc="upper left")
    return {
        "in-vitro": (figure, vitro),
        "kinases": (
            course,
            "The two kinases of one synapse, first half on blue, second on orange; the change is CaP - CaD at the end.",
        ),
    }
