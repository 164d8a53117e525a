"""Does the compiler say what SBML says? Small models with known answers, the SBML Test Suite, BioModels beside libroadrunner.

`tiny` needs nothing but the package: forty models written for it, one feature of the language each, with closed forms;
files that must be refused; the shipped networks against recorded numbers. `--suite` and `--models` name the two sets of
public files, folders or archives; each can be run by itself.
"""

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import Claim, Run
from unrolled.sbml import SBMLError, conformance, load, models
from unrolled.sbml.analysis.conservation import amounts_per_column
from unrolled.sbml.expression import Number
from unrolled.studies import _sbml as shared
from unrolled.studies._sbml_cases import CASES, refusals

PAPER = shared.PAPER
RTOL, ATOL = 1e-5, 1e-7
"""Of the forty models: |y - ref| <= ATOL + RTOL |ref| at every point, tighter than the test suite's usual 1e-4."""


@dataclass(frozen=True)
class Config:
    """Which files."""

    preset: str = "tiny"
    seed: int = 0
    suite: Path | None = None
    """semantic cases of the SBML Test Suite, a folder or an archive"""
    models: Path | None = None
    """curated BioModels files, a folder or an archive"""
    states: int = 3
    """random positive states at which rates are compared, beside the initial one"""
    limit: int = 0
    """files of each set; 0: all"""


def tiny() -> Config:
    """The package's own models; half a minute."""
    return Config()


def small() -> Config:
    """And the public files, in `../shared/data`; about twenty minutes."""
    data = Path("../shared/data")
    return Config(
        preset="small", suite=data / "sbml-test-suite-odd.tar.xz", models=data / "biomodels-sbml.tar.xz"
    )


def study(config: Config, run: Run) -> list[Claim]:
    """Run every file, count, judge."""
    common = {"preset": config.preset, "hardware": run.hardware}
    made = own(config, run, common)
    made += networks(run, common)
    made += suite(config, run, common)
    made += biomodels(config, run, common)
    return made


def own(config: Config, run: Run, common: dict[str, Any]) -> list[Claim]:
    """The package's forty models, and what must be refused."""
    run.status(phase="models with known answers")
    errors: list[float] = []
    for k, case in enumerate(CASES):
        begin = time.perf_counter()
        worst, why = math.inf, ""
        try:
            simulation = load(case.text()).simulate(
                case.t_end, case.points, rtol=1e-8, atol=1e-11, **case.options
            )
            worst = 0.0
            for name, expected in case.answer().items():
                value = (
                    simulation.amount(name[7:-1]) if name.startswith("amount(") else simulation.value(name)
                )
                found = value.numpy()[-1 if case.last else 0 :]
                off = np.abs(found - expected) / (ATOL + RTOL * np.abs(expected))
                worst = max(worst, float(np.where(np.isnan(off), np.inf, off).max()))
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        errors.append(worst)
        run.log(case=case.name, error=worst, why=why, seconds=time.perf_counter() - begin)
        run.progress(k + 1, len(CASES))
    told = 0
    for refusal in refusals():
        try:
            load(refusal.document)
            why = "it was taken"
        except SBMLError as error:
            why = str(error)
            told += refusal.named in why
        run.log(refusal=refusal.name, why=why)
    passed = sum(error <= 1 for error in errors)
    return [
        Claim(
            "own", f"{len(CASES)} small models, one feature of SBML each, give their closed forms", paper=1.0, ours=passed / len(CASES),
            status="reproduced" if passed == len(CASES) else "not reproduced",
            note=f"largest error {max(errors):.2g} of the tolerance {ATOL:g} + {RTOL:g} |y| at every point", source="closed forms of ours", **common,
        ),
        Claim(
            "refused", f"{len(refusals())} files that are unsupported, broken or hostile are refused with an error that names the element", paper=1.0,
            ours=told / len(refusals()), status="reproduced" if told == len(refusals()) else "not reproduced", note=", ".join(r.name for r in refusals()),
            source="target of ours", **common,
        ),
    ]  # fmt: skip


def networks(run: Run, common: dict[str, Any]) -> list[Claim]:
    """The shipped networks: rates, trajectories, and each of them written to SBML and read again."""
    run.status(phase="shipped networks")
    rates: list[float] = []
    for name, rows in shared.F1.items():
        model = models.named(name)
        for state, expected in rows:
            rate = dict(zip(model.species, model.rate(0.0, model.initial_state(**state))[0].tolist()))
            rates += [abs(rate[s] - value) / max(abs(value), 1e-3) for s, value in expected.items()]
    ends: list[float] = []
    for name, (t_end, expected) in shared.F2.items():
        simulation = models.named(name).simulate(t_end, 2, rtol=1e-8, atol=1e-11)
        for species, value in expected.items():
            error = abs(float(simulation.value(species)[-1]) - value) / abs(value)
            run.log(network=name, species=species, value=value, error=error)
            ends.append(error)
    again: list[float] = []
    for name in [*models.PAPER, *models.CLASSICS]:
        model = models.named(name)
        twin = load(shared.document(model))
        rng = torch.Generator().manual_seed(0)
        x: torch.Tensor = model.initial_state(batch=16)
        x = (x + x.mean() + 0.1) * torch.rand(x.shape, generator=rng, dtype=x.dtype)
        order = [twin.species.index(s) for s in model.species]
        theirs = torch.zeros_like(x)
        theirs[:, order] = x
        mine, other = model.rate(0.0, x), twin.rate(0.0, theirs)[:, order]
        again.append(float(((mine - other).abs() / (1e-9 + mine.abs())).max()))
    return [
        Claim(
            "f1", "right-hand sides of ten shipped networks equal libroadrunner's on the BioModels files (largest relative error)", paper=0.0, ours=max(rates),
            status="reproduced" if max(rates) <= 1e-6 else "not reproduced", note="eight digits were recorded; reproduced: 1e-6", source="language-game fact sheet, F1", **common,
        ),
        Claim(
            "f2", "and so do the ends of six trajectories (largest relative error)", paper=0.0, ours=max(ends), status="reproduced" if max(ends) <= 1e-5 else "not reproduced",
            note="rtol 1e-8; eight digits were recorded; reproduced: 1e-5", source="language-game fact sheet, F2", **common,
        ),
        Claim(
            "round-trip", f"{len(again)} shipped networks written to SBML and read again have the same rates (largest relative difference)", paper=0.0, ours=max(again),
            status="reproduced" if max(again) <= 1e-12 else "not reproduced", note="16 random states each; reproduced: 1e-12", source="target of ours", **common,
        ),
    ]  # fmt: skip


def suite(config: Config, run: Run, common: dict[str, Any]) -> list[Claim]:
    """Semantic cases of the SBML Test Suite."""
    said = {
        "suite-simple": "of the time courses without events, algebraic rules, delay() and fast reactions, the share that passes",
        "suite-events": "of those with events, the share that passes",
        "suite-wrong": "cases of the whole set, algebraic rules and delay() included, with a number outside the tolerance",
    }
    if config.suite is None:
        why = "the public files are no part of the package"
        command = "unrolled run sbml-conformance --suite sbml-test-suite-odd.tar.xz"
        return [Claim.not_attempted(k, text, why=why, command=command, **common) for k, text in said.items()]
    run.status(phase="SBML Test Suite")
    found = conformance.cases(shared.unpacked(config.suite))[: config.limit or None]
    rows: list[dict[str, Any]] = []
    for k, case in enumerate(found):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = conformance.run_case(case)
        part = "simple" if case.simple else "events" if case.core else "other"
        rows.append(
            {"suite": case.number, "part": part, "status": outcome.status, "detail": outcome.detail[:300]}
        )
        run.log(**rows[-1], seconds=outcome.seconds)
        run.progress(k + 1, len(found))
    made: list[Claim] = []
    for part, limit in (("simple", 0.98), ("events", 0.90)):
        here = [row["status"] for row in rows if row["part"] == part]
        share = here.count("passed") / max(1, len(here))
        told = ", ".join(f"{here.count(s)} {s}" for s in ("passed", "refused", "failed", "wrong", "error"))
        made.append(
            Claim(f"suite-{part}", said[f"suite-{part}"], paper=f">= {limit}", ours=share, status="reproduced" if share >= limit else "not reproduced",
                  note=f"{len(here)} cases: {told}", source="language-game fact sheet, F4", **common)
        )  # fmt: skip
    wrong = [row["suite"] for row in rows if row["status"] == "wrong"]
    crashed = [row["suite"] for row in rows if row["status"] == "error"]
    made.append(
        Claim("suite-wrong", said["suite-wrong"], paper=0, ours=len(wrong), unit="cases", status="reproduced" if not wrong else "not reproduced",
              note=f"{len(rows)} cases" + (f"; wrong: {wrong}" if wrong else "") + (f"; errors without a name: {crashed}" if crashed else ""),
              source="language-game fact sheet, F4", **common)
    )  # fmt: skip
    return made


def biomodels(config: Config, run: Run, common: dict[str, Any]) -> list[Claim]:
    """Curated models: what compiles, and whether its rates are libroadrunner's."""
    said = {
        "coverage": "of the dynamic BioModels files, the share that compiles and has finite rates at its initial state",
        "rates": "of those, the share whose rates equal libroadrunner's within 1e-6 at the initial state and at random positive ones",
    }
    if config.models is None:
        why = "the public files are no part of the package"
        command = "unrolled run sbml-conformance --models biomodels-sbml.tar.xz"
        return [Claim.not_attempted(k, text, why=why, command=command, **common) for k, text in said.items()]
    run.status(phase="BioModels")
    roadrunner = require("roadrunner", extra="sbml")
    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    files = sorted(shared.unpacked(config.models).glob("*.xml"))[: config.limit or None]
    rows: list[dict[str, Any]] = []
    for k, file in enumerate(files):
        status, error, detail = compare(file, roadrunner, config.states, config.seed)
        rows.append({"file": file.stem, "status": status, "error": error, "detail": detail[:300]})
        run.log(**rows[-1])
        run.progress(k + 1, len(files))
    dynamic = [row for row in rows if row["status"] != "static"]
    compiled = [row for row in dynamic if row["status"] in ("equal", "different", "no oracle")]
    judged = [row for row in compiled if row["status"] != "no oracle"]
    equal = [row for row in judged if row["status"] == "equal"]
    count = {s: sum(row["status"] == s for row in rows) for s in sorted({row["status"] for row in rows})}
    told = ", ".join(f"{n} {s}" for s, n in count.items())
    different = ", ".join(
        row["file"].removeprefix("BIOMD000000") for row in judged if row["status"] == "different"
    )
    coverage, share = len(compiled) / max(1, len(dynamic)), len(equal) / max(1, len(judged))
    return [
        Claim("coverage", said["coverage"], paper=">= 0.97", ours=coverage, status="reproduced" if coverage >= 0.97 else "not reproduced",
              note=f"{len(rows)} files: {told}", source="language-game fact sheet, F3", **common),
        Claim("rates", said["rates"], paper=">= 0.95", ours=share, status="reproduced" if share >= 0.95 else "not reproduced",
              note=f"{len(judged)} files with an oracle, {config.states + 1} states each" + (f"; different: {different}" if different else ""),
              source="language-game fact sheet, F3", **common),
    ]  # fmt: skip


def compare(file: Path, roadrunner: Any, states: int, seed: int) -> tuple[str, float, str]:
    """One file: `"static"`, `"refused"`, `"failed"`, `"no oracle"`, `"equal"` or `"different"`; the largest error; why.

    Rates are compared as amounts per time. The error is |ours - theirs| / (1e-3 + |theirs|) where a tolerance of 1e-6
    relative and 1e-9 absolute is meant.
    """
    try:
        model = load(file)
    except SBMLError as error:
        return "refused", math.nan, str(error)
    except Exception as error:
        return "failed", math.nan, f"{type(error).__name__}: {error}"
    moving = [(i, s) for i, s in enumerate(model.network.states) if s.rate != Number(0.0)]
    if not moving:
        return (
            "static",
            math.nan,
            "nothing changes but by events" if model.network.events else "nothing changes",
        )
    try:
        x0 = model.initial_state()
        if not bool(model.rate(0.0, x0).isfinite().all()):
            return "failed", math.nan, "rates are not finite at the initial state"
    except Exception as error:
        return "failed", math.nan, f"{type(error).__name__}: {error}"
    try:
        oracle = roadrunner.RoadRunner(str(file))
        if states < 0 or not len(moving):
            return "no oracle", math.nan, ""
        return _held_to(model, oracle.model, moving, x0[0], states, seed)
    except (RuntimeError, KeyError, IndexError) as error:
        return "no oracle", math.nan, f"{type(error).__name__}: {error}"


def _held_to(
    model: Any, oracle: Any, moving: list[tuple[int, Any]], x0: torch.Tensor, states: int, seed: int
) -> tuple[str, float, str]:
    factor = amounts_per_column(model)
    rng = torch.Generator().manual_seed(seed)
    usual = x0.abs()[x0 != 0].median() if bool((x0 != 0).any()) else torch.tensor(1.0, dtype=x0.dtype)
    worst, where = 0.0, ""
    for k in range(states + 1):
        x = x0.clone()
        if k:
            spread = 10 ** (torch.rand(len(x), generator=rng, dtype=x.dtype) - 0.5)
            for i, state in moving:
                base = x0[i].abs() if x0[i] != 0 else usual
                x[i] = base * spread[i]
                oracle[state.name] = float(x[i]) * factor.get(state.name, 1.0)
        ours = model.rate(0.0, x[None])[0]
        for i, state in moving:
            mine, theirs = float(ours[i]) * factor.get(state.name, 1.0), float(oracle[f"{state.name}'"])
            if mine == theirs or (math.isnan(mine) and math.isnan(theirs)):
                continue
            off = abs(mine - theirs) / (1e-3 + abs(theirs))
            off = math.inf if math.isnan(off) else off
            if off > worst:
                worst, where = off, f"{state.name} at state {k}: {mine:.8g}, libroadrunner {theirs:.8g}"
    return ("equal" if worst <= 1e-6 else "different"), worst, where


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Errors of the forty models under the tolerance; where files ended."""
    from matplotlib.figure import Figure

    rows = run.metrics()
    cases = [r for r in rows if "case" in r]
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    ax = axes(figure.add_subplot())
    shown = [max(r["error"], 1e-8) for r in cases]
    ax.plot(shown, range(len(cases)), "o", color=COLORS[0])
    ax.axvline(1, color=COLORS[1], lw=1.2)
    ax.set(xscale="log", xlabel="largest error, in tolerances")
    ax.set_yticks(range(len(cases)), [r["case"] for r in cases], fontsize=7)
    ax.invert_yaxis()
    made = {
        "own": (
            figure,
            "Small models with closed forms: the largest error over all points, in units of 1e-7 + 1e-5 |y|. Left of the line it passes.",
        )
    }
    parts = [
        (name, [r for r in rows if key in r and (not part or r["part"] == part)])
        for name, key, part in (
            ("suite, simple", "suite", "simple"),
            ("suite, events", "suite", "events"),
            ("suite, other", "suite", "other"),
            ("BioModels", "file", ""),
        )
    ]
    parts = [(name, here) for name, here in parts if here]
    if parts:
        figure = Figure(figsize=(7.2, 0.8 + 0.5 * len(parts)), layout="constrained")
        ax = axes(figure.add_subplot())
        kinds = {
            "passed": COLORS[0],
            "equal": COLORS[0],
            "static": "#c9ccd1",
            "no oracle": "#c9ccd1",
            "refused": "#9aa0a6",
            "failed": COLORS[4],
            "error": COLORS[3],
            "wrong": COLORS[1],
            "different": COLORS[1],
        }
        for k, (_, here) in enumerate(parts):
            left = 0.0
            for status, color in kinds.items():
                share = sum(r["status"] == status for r in here) / len(here)
                ax.barh(k, share, left=left, color=color, label=status if share else None)
                left += share
        ax.set_yticks(range(len(parts)), [f"{name} ({len(here)})" for name, here in parts])
        ax.set(xlabel="share of files", xlim=(0, 1))
        handles = dict(zip(*reversed(ax.get_legend_handles_labels())))
        ax.legend(handles.values(), handles, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        made["files"] = (figure, "Public files: what passes, what is refused by name, what differs.")
    return made  # fmt: skip
