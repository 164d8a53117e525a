"""How fast are batched networks? Right-hand sides against NumPy, batches against libroadrunner one by one, in one process.

Rounds of all sides are interleaved and the median of the ratios is reported, so that other work on the machine weighs on
all of them. Single runs, where libroadrunner's compiled CVODE is at home, are timed as well. The benchmark
`python -m benchmarks sbml` holds the same batches to sbmltoodejax, which needs an interpreter of its own.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.sbml import models
from unrolled.studies import _sbml as shared

PAPER = shared.PAPER


@dataclass(frozen=True)
class Config:
    """What is timed."""

    preset: str = "tiny"
    seed: int = 0
    networks: tuple[str, ...] = ("tyson1999", "kholodenko2000")
    batch: int = 1024
    rounds: int = 3
    t_end: float = 48.0
    points: int = 100


def tiny() -> Config:
    """Two networks; a minute."""
    return Config()


def small() -> Config:
    """Five networks, seven rounds; a few minutes."""
    return Config(
        preset="small", networks=("tyson1999", "kholodenko2000", "gardner2000", "leloup1999", "markevich2004"), rounds=7
    )  # fmt: skip


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def kholodenko(x: np.ndarray) -> np.ndarray:
    """The same right-hand side in plain NumPy, `[8, B]`."""
    a, ap, b, bp, bpp, c, cp, cpp = x
    v1 = 2.5 * a / ((1 + cpp / 9) * (10 + a))
    v2 = 0.25 * ap / (8 + ap)
    v3, v4 = 0.025 * ap * b / (15 + b), 0.025 * ap * bp / (15 + bp)
    v5, v6 = 0.75 * bpp / (15 + bpp), 0.75 * bp / (15 + bp)
    v7, v8 = 0.025 * bpp * c / (15 + c), 0.025 * bpp * cp / (15 + cp)
    v9, v10 = 0.5 * cpp / (15 + cpp), 0.5 * cp / (15 + cp)
    return np.stack(
        [v2 - v1, v1 - v2, v6 - v3, v3 + v5 - v4 - v6, v4 - v5, v10 - v7, v7 + v9 - v8 - v10, v8 - v9]
    )


def study(config: Config, run: Run) -> list[Claim]:
    """Time, interleaved."""
    common = {"preset": config.preset, "hardware": run.hardware}
    run.status(phase="right-hand sides")
    made = right_hand_sides(config, run, common)
    run.status(phase="trajectories")
    if importlib.util.find_spec("roadrunner") is None:
        why = "libroadrunner is not installed"
        return [
            *made,
            *(
                Claim.not_attempted(k, k, why=why, command="pip install libroadrunner", **common)
                for k in ("batch", "single")
            ),
        ]
    return [*made, *trajectories(config, run, common)]


def right_hand_sides(config: Config, run: Run, common: dict[str, Any]) -> list[Claim]:
    """Evaluations per second of Kholodenko's network, 4,096 states at once."""
    model = models.kholodenko2000()
    rng = torch.Generator().manual_seed(config.seed)
    x = model.initial_state() * torch.rand(4096, 8, generator=rng, dtype=torch.float64)
    # The layout that solvers keep: each species contiguous.
    x = x.T.contiguous().T
    y = np.ascontiguousarray(x.numpy().T)
    assert np.allclose(model.rate(0.0, x).numpy().T, kholodenko(y), rtol=1e-12, atol=1e-12)
    compiled = torch.compile(model.compiled.rate)
    zero, p, fused = x.new_zeros(()), model.vector(None, x), True
    try:
        compiled(zero, x, p)
    except Exception as error:
        compiled, fused = model.compiled.rate, False
        run.log(note=f"torch.compile failed: {error}"[:300])
    sides = {
        "numpy": lambda: kholodenko(y),
        "eager": lambda: model.compiled.rate(zero, x, p),
        "compiled": lambda: compiled(zero, x, p),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(20 * config.rounds):
        for name, work in sides.items():
            times[name].append(seconds(lambda work=work: [work() for _ in range(10)]) / 10)
    speed = {name: 4096 / median(taken) for name, taken in times.items()}
    best = {name: 4096 / min(taken) for name, taken in times.items()}
    run.log(side="right-hand sides", **speed)
    ratio = median(a / b for a, b in zip(times["numpy"], times["compiled"]))
    return [
        Claim("rhs", "right-hand sides of the MAPK cascade (8 species), 4,096 states at once", paper=">= 1.5e7", ours=speed["compiled"], unit="/s",
              status="reproduced" if speed["compiled"] >= 1.5e7 else "direction only" if ratio > 1 else "not reproduced",
              note=f"{'torch.compile' if fused else 'not compiled'}, float64, {torch.get_num_threads()} threads, median; best round {best['compiled']:.3g}; not compiled {speed['eager']:.3g}; "
              f"NumPy in the same rounds {speed['numpy']:.3g}, ratio {ratio:.2g}", source="target of ours", **common)
    ]  # fmt: skip


def trajectories(config: Config, run: Run, common: dict[str, Any]) -> list[Claim]:
    """Batches and single runs beside libroadrunner, each tool at its own defaults."""
    roadrunner = importlib.import_module("roadrunner")

    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(config.networks):
        model = models.named(name)
        rng = torch.Generator().manual_seed(config.seed)
        x0 = model.initial_state(batch=config.batch) * (
            0.5 + torch.rand(config.batch, 1, generator=rng, dtype=torch.float64)
        )
        oracle = roadrunner.RoadRunner(shared.document(model))
        ids = [s for s in model.species if s in oracle.model.getFloatingSpeciesIds()]
        some = x0[:64].tolist()

        def one_by_one(oracle: Any = oracle, some: Any = some, ids: Any = ids, model: Any = model) -> None:
            for row in some:
                oracle.reset()
                for name, value in zip(model.species, row):
                    if name in ids:
                        oracle.model[f"[{name}]"] = value
                oracle.simulate(0, config.t_end, config.points)

        def batch(model: Any = model, x0: Any = x0) -> Any:
            return model.simulate(config.t_end, config.points, x0=x0)

        def single(model: Any = model, x0: Any = x0) -> Any:
            return model.simulate(config.t_end, config.points, x0=x0[:1])

        first, path = seconds(batch), batch().meta["path"]
        one_by_one()
        ours, theirs, alone = [], [], []
        for _ in range(config.rounds):
            theirs.append(seconds(one_by_one) / len(some))
            ours.append(seconds(batch) / config.batch)
            alone.append(seconds(single))
        rows.append({
            "network": name, "ours": 1 / median(ours), "roadrunner": 1 / median(theirs), "single": 1 / median(alone), "path": path, "first_call": first,
            "ratio": median(b / a for a, b in zip(ours, theirs)), "single_ratio": median(b / a for a, b in zip(alone, theirs)),
        })  # fmt: skip
        run.log(**rows[-1])
        run.progress(k + 1, len(config.networks))
    least = min(rows, key=lambda r: r["ratio"])
    told = "; ".join(f"{r['network']} {r['ours']:,.0f}/s against {r['roadrunner']:,.0f}/s" for r in rows)
    return [
        Claim("batch", f"a batch of {config.batch:,} against libroadrunner one by one, trajectories per second (least ratio)", paper=">= 10", ours=least["ratio"], unit="x",
              status="reproduced" if least["ratio"] >= 10 else "direction only" if least["ratio"] > 1 else "not reproduced",
              note=f"{told}; {config.t_end:g} time units, {config.points} points, each at its defaults, {torch.get_num_threads()} threads; the loop is compiled once per network, {max(r['first_call'] for r in rows):.1f} s at most",
              source="target of ours", **common),
        Claim("single", "a single run, where libroadrunner wins (ratio)", ours=max(r["single_ratio"] for r in rows), unit="x",
              status="reproduced" if max(r["single_ratio"] for r in rows) < 1 else "not reproduced",
              note="; ".join(f"{r['network']} {1e3 / r['single']:.1f} ms, libroadrunner {1e3 / r['roadrunner']:.2f} ms" for r in rows)
              + "; reproduced: libroadrunner is faster on each", source="said plainly", **common),
    ]  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Trajectories per second."""
    from matplotlib.figure import Figure

    rows = [r for r in run.metrics() if "network" in r]
    if not rows:
        return {}
    figure = Figure(figsize=(6.4, 1.2 + 0.6 * len(rows)), layout="constrained")
    ax = axes(figure.add_subplot())
    for k, (key, label, color) in enumerate(
        (
            ("roadrunner", "libroadrunner, one by one", COLORS[0]),
            ("single", "here, one by one", COLORS[4]),
            ("ours", "here, one batch", COLORS[1]),
        )
    ):
        ax.barh(
            [i + 0.26 * (k - 1) for i in range(len(rows))],
            [r[key] for r in rows],
            0.24,
            color=color,
            label=label,
        )
    ax.set_yticks(range(len(rows)), [r["network"] for r in rows])
    ax.set(xscale="log", xlabel="trajectories per second")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return {"speed": (figure, "Trajectories per second, 48 time units and 100 points, each tool at its default tolerances.")}  # fmt: skip
