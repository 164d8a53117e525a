"""What do the paper's gene networks do? Rhythms, switches, totals and time scales, found by the package's own tools.

Each network is followed from many starts as one batch, its steady states are solved for, and what is found is held to what
the paper says of it: oscillates or rests, one resting state or two, mean, deviation and time scale. Textbook systems with
known answers come first.
"""

import math
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.sbml import models
from unrolled.sbml.analysis import calibrate, conserved, steady_states
from unrolled.studies import _sbml as shared
from unrolled.studies import _sbml_exhibits as exhibits

PAPER = shared.PAPER
SOLVER: dict[str, Any] = {"method": "dopri5", "max_steps": 3_000_000}
"""Explicit and compiled: the networks are mildly stiff, and long runs of many starts are cheapest so."""
SHOWN: dict[str, dict[str, Any]] = {
    "tyson1999": {},
    "kholodenko2000": {"x": "MAPK", "y": "MAPK_PP"},
    "gardner2000": {"starts": 5},
}
"""Networks with panels of their own, and what these show."""


@dataclass(frozen=True)
class Config:
    """Which networks, how many starts."""

    preset: str = "tiny"
    seed: int = 0
    networks: tuple[str, ...] = ("tyson1999", "kholodenko2000", "gardner2000", "markevich2004", "lorenz")
    starts: int = 64


def tiny() -> Config:
    """Five systems; a minute."""
    return Config()


def small() -> Config:
    """All fifteen systems of the paper; a few minutes."""
    return Config(preset="small", networks=tuple(models.PAPER), starts=256)


def study(config: Config, run: Run) -> list[Claim]:
    """Look at each network, then judge."""
    common = {"preset": config.preset, "hardware": run.hardware}
    run.status(phase="textbook systems")
    textbook = known(run)
    rows: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(config.networks):
        run.status(phase=name)
        begin, model = time.perf_counter(), models.named(name)
        signed = name == "lorenz"
        found = steady_states(model, positive=not signed, seed=config.seed)
        what = calibrate(model, starts=config.starts, seed=config.seed, **SOLVER)
        scale, mu, std = shared.CALIBRATION[name]
        moved = [
            i
            for i, s in enumerate(model.network.states)
            if what.std[i] > 0 and str(s.rate) != "Number(value=0.0)"
        ]
        off = [abs(float(what.mu[i]) - mu[i]) / max(abs(mu[i]), std[i]) for i in moved]
        width = [math.log(max(float(what.std[i]), 1e-12) / std[i]) for i in moved if std[i] > 0]
        rows[name] = {
            "network": name, "moving": what.moving, "scale": what.time_scale, "paper_scale": scale, "stable": len(found.stable),
            "steady": len(found), "mu_off": median(off), "std_log": median(width), "laws": [str(law) for law in conserved(model)],
            "mu": what.mu.tolist(), "std": what.std.tolist(), "seconds": time.perf_counter() - begin,
        }  # fmt: skip
        run.log(**rows[name])
        if name in SHOWN:
            exhibits.show(run, model, name, 4 * what.time_scale, **SHOWN[name])
        run.progress(k + 1, len(config.networks))
    return [
        Claim("textbook", "steady states and thresholds of eight textbook systems (largest relative error)", paper=0.0, ours=max(textbook.values()),
              status="reproduced" if max(textbook.values()) < 1e-8 else "not reproduced", note=", ".join(textbook), source="closed forms", **common),
        *judged(rows, common),
    ]  # fmt: skip


def known(run: Run) -> dict[str, float]:
    """Relative errors where the answer is known; infinite where the kind of a state, or their number, is wrong."""
    made: dict[str, float] = {}

    def held(name: str, found: Any, kinds: list[str], values: list[float]) -> None:
        got = [float(v) for s in found for v in s.x.tolist()]
        right = [s.kind for s in found] == kinds and len(got) == len(values)
        made[name] = (
            max((abs(a - b) / max(1.0, abs(b)) for a, b in zip(got, values)), default=0.0)
            if right
            else math.inf
        )
        run.log(textbook=name, error=made[name], kinds=[s.kind for s in found])  # fmt: skip

    held(
        "schlogl", steady_states(models.schlogl()), ["stable node", "stable node", "unstable node"], [1, 3, 2]
    )
    held("brusselator", steady_states(models.brusselator()), ["unstable focus"], [1, 3])
    held(
        "brusselator at rest",
        steady_states(models.brusselator(), parameters={"B": 1.5}),
        ["stable focus"],
        [1, 1.5],
    )
    root = math.sqrt(8 / 3 * 27)
    held("lorenz", steady_states(models.lorenz(), positive=False), ["saddle", "unstable focus", "unstable focus"],
         [0, 0, 0, -root, -root, 27, root, root, 27])  # fmt: skip
    held("van der Pol", steady_states(models.van_der_pol(), positive=False), ["unstable focus"], [0, 0])
    held("Lotka-Volterra", steady_states(models.lotka_volterra()), ["marginal", "saddle"], [1, 1, 0, 0])
    held("enzyme", steady_states(models.enzyme()), ["stable node"], [0.1, 0, 0, 1])
    z = goodwin_rest()
    held("Goodwin", steady_states(models.goodwin()), ["unstable focus"], [z / 100, z / 10, z])
    return made


def goodwin_rest() -> float:
    """Z at rest of the Goodwin oscillator: Z (1 + Z^10) = 1000, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * (1 + middle**10) < 1000 else (low, middle)
    return low


def judged(rows: dict[str, dict[str, Any]], common: dict[str, Any]) -> list[Claim]:
    """What the paper says of these networks, beside what was found."""
    genes = {name: row for name, row in rows.items() if name != "lorenz"}
    right = [name for name, row in genes.items() if row["moving"] == (name in shared.OSCILLATORY)]
    wrong = sorted(set(genes) - set(right))
    made = [
        Claim("rhythm", "networks that oscillate do, and the others rest (share)", paper=1.0, ours=len(right) / max(1, len(genes)),
              status="reproduced" if not wrong else "direction only" if len(right) > 0.8 * len(genes) else "not reproduced",
              note=f"{len(genes)} networks at their published parameters" + (f"; otherwise: {', '.join(wrong)}" if wrong else ""),
              source="language-game fact sheet, A8", **common)
    ]  # fmt: skip
    two = [name for name, row in genes.items() if row["stable"] > 1]
    labelled = [name for name in shared.BISTABLE if name in genes]
    if labelled:
        hit = [name for name in labelled if name in two]
        made.append(
            Claim("switch", "networks that the paper calls bistable have two stable states at the published parameters (share)", paper=1.0,
                  ours=len(hit) / len(labelled), status="reproduced" if len(hit) == len(labelled) else "direction only" if hit else "not reproduced",
                  note=f"of {', '.join(labelled)}: {', '.join(hit) or 'none'}; with two, though not so called: {', '.join(n for n in two if n not in labelled) or 'none'}",
                  source="language-game fact sheet, A8", **common)
        )  # fmt: skip
    moving = {
        n: abs(math.log(r["scale"] / r["paper_scale"]))
        for n, r in genes.items()
        if r["moving"] and n in shared.OSCILLATORY
    }
    if moving:
        worst = max(moving, key=moving.__getitem__)
        made.append(
            Claim("period", "the time scale of an oscillating network is its period (largest ratio to the paper's)", paper=1.0, ours=math.exp(moving[worst]), unit="x",
                  status="reproduced" if moving[worst] < 0.1 else "direction only" if moving[worst] < 0.7 else "not reproduced",
                  note=", ".join(f"{n} {genes[n]['scale']:.4g} ({genes[n]['paper_scale']})" for n in moving) + "; reproduced: within 10 %",
                  source="language-game fact sheet, A4", **common)
        )  # fmt: skip
    close = [
        n
        for n, r in rows.items()
        if r["mu_off"] <= 0.1 and (not r["moving"] or abs(r["std_log"]) <= math.log(1.25))
    ]
    off = [
        f"{n} (mu off {r['mu_off']:.0%}, std x{math.exp(r['std_log']):.2g})"
        for n, r in rows.items()
        if n not in close
    ]
    share = len(close) / max(1, len(rows))
    made.append(
        Claim("calibration", "mean and deviation of each species, from random starts, are the paper's (share of systems)", paper=1.0, ours=share,
              status="reproduced" if share == 1 else "direction only" if share >= 0.5 else "not reproduced",
              note="median over species: mean within 10 % of its size or deviation, deviation of what moves within 25 %" + (f"; otherwise: {'; '.join(off)}" if off else ""),
              source="language-game fact sheet, A4", **common)
    )  # fmt: skip
    totals = {"kholodenko2000": 3, "markevich2004": 1, "tyson1991": 1}
    here = [n for n in totals if n in rows]
    kept = [n for n in here if len(rows[n]["laws"]) == totals[n]]
    if here:
        made.append(
            Claim("totals", "the conserved totals of the paper are found, exactly and no others (share of networks)", paper=1.0, ours=len(kept) / len(here),
                  status="reproduced" if len(kept) == len(here) else "not reproduced", note="; ".join(law for n in here for law in rows[n]["laws"]),
                  source="language-game fact sheet, A8, F5", **common)
        )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Time scales beside the paper's; the toggle switch's basins."""
    from matplotlib.figure import Figure

    rows = [r for r in run.metrics() if "network" in r]
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    ends = [min(r["paper_scale"] for r in rows) / 2, max(r["paper_scale"] for r in rows) * 2]
    left.plot(ends, ends, ":", color="#1c1e21", lw=0.9)
    for r in rows:
        left.plot(r["paper_scale"], r["scale"], "o", color=COLORS[1 if r["moving"] else 0])
        left.annotate(
            r["network"],
            (r["paper_scale"], r["scale"]),
            fontsize=6,
            xytext=(4, -6),
            textcoords="offset points",
        )
    left.plot([], [], "o", color=COLORS[1], label="period")
    left.plot([], [], "o", color=COLORS[0], label="relaxation")
    left.set(xscale="log", yscale="log", xlabel="time scale of the paper", ylabel="ours")
    left.legend()
    for k, r in enumerate(rows):
        _, mu, std = shared.CALIBRATION[r["network"]]
        for mine, theirs, width in zip(r["mu"], mu, std):
            right.plot(
                (mine - theirs) / max(abs(theirs), width, 1e-12),
                k,
                "o",
                color=COLORS[1 if r["moving"] else 0],
                ms=3.5,
            )
    right.axvline(0, color="#1c1e21", lw=0.8)
    right.set_yticks(range(len(rows)), [r["network"] for r in rows], fontsize=7)
    right.set(xlabel="mean, difference over its size or deviation", xscale="symlog")
    right.invert_yaxis()
    return {
        "calibration": (figure, "Left: time scales; right: means of species, ours minus the paper's. Orange networks oscillate, blue ones rest.")
    }  # fmt: skip
