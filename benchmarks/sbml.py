"""SBML models in batches: right-hand sides, and trajectories beside sbmltoodejax and libroadrunner in one run.

Run with `python -m benchmarks sbml [--quick]`. The models are BioModels files of the data folder (`../shared/data`, or
`--data`). `--jax PYTHON` names a Python that has sbmltoodejax 0.4.3 and jax (by default /tmp/venv-jax/bin/python); without one
that peer is left out, and said so. Rounds are interleaved; ratios are medians over rounds, of wall-clock and of CPU seconds
(on a busy machine the second is the one to trust: tools that wait for their own threads lose more). Compile times stand apart.
"""

import argparse
import json
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp

from benchmarks import _record
from unrolled.sbml import load
from unrolled.sbml.expression import Number

NON_STIFF = {
    36: "Tyson1999",
    10: "Kholodenko2000",
    507: "Gardner2000",
    21: "Leloup1999",
    27: "Markevich2004",
    6: "Tyson1991",
}
"""Shipped models that take no stiff step over the 48 time units of the measurement."""
T_END, POINTS, BATCH = 48.0, 101, 1024
TOLERANCES = (1e-6, 1e-7, 1e-8, 1e-9)
TARGETS = {"right-hand sides per second": 1.5e7, "times sbmltoodejax": 1.5, "times libroadrunner": 10.0}


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sbml")
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--jax", default="/tmp/venv-jax/bin/python")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its default")
    options = parser.parse_args(list(argv))
    if options.threads:
        torch.set_num_threads(options.threads)
    archive = Path(options.data) / "biomodels-sbml.tar.xz"
    if not archive.is_file():
        raise SystemExit(f"{archive} is not there: the models are read from it; name its folder with --data")
    models = dict(list(NON_STIFF.items())[:2]) if options.quick else NON_STIFF
    with tempfile.TemporaryDirectory() as folder:
        files = _unpack(archive, Path(folder), models)
        found: dict[str, Any] = {"targets": TARGETS, "right-hand sides": rates(files[10])}
        peer = Peer(options.jax) if Path(options.jax).exists() else None
        if peer is None:
            print(f"no {options.jax}: sbmltoodejax is left out")
        found["single stiff runs"] = stiff_alone()
        found["trajectories"] = {}
        for number, name in models.items():
            found["trajectories"][name] = trajectories(
                name, files[number], Path(folder), peer, options.rounds, options.quick
            )
            _record.write("sbml", found)  # after each: a long run may be cut short
    if peer is not None and not options.quick:
        figure(found["trajectories"], _record.RECORDS / f"{datetime.now(UTC).date().isoformat()}-sbml.png")


# -- right-hand sides -------------------------------------------------------------------------------------------------


def kholodenko(x: np.ndarray) -> np.ndarray:
    """BIOMD 10 in plain NumPy: rows of x are species."""
    a, ap, b, bp, bpp, c, cp, cpp = x
    v1 = 2.5 * a / ((1 + (cpp / 9.0) ** 1.0) * (10.0 + a))
    v2 = 0.25 * ap / (8.0 + ap)
    v3, v4 = 0.025 * ap * b / (15.0 + b), 0.025 * ap * bp / (15.0 + bp)
    v5, v6 = 0.75 * bpp / (15.0 + bpp), 0.75 * bp / (15.0 + bp)
    v7, v8 = 0.025 * bpp * c / (15.0 + c), 0.025 * bpp * cp / (15.0 + cp)
    v9, v10 = 0.5 * cpp / (15.0 + cpp), 0.5 * cp / (15.0 + cp)
    return np.stack(
        [v2 - v1, v1 - v2, v6 - v3, v3 + v5 - v4 - v6, v4 - v5, v10 - v7, v7 + v9 - v8 - v10, v8 - v9]
    )


def rates(file: Path, n: int = 4096) -> dict[str, Any]:
    """Evaluations per second of BIOMD 10 at B = 4,096, float64: generated code plain and fused, and NumPy."""
    from unrolled.sbml.solvers.lanes import Lanes

    model = load(file)
    x = model.initial_state() * torch.exp(
        0.3 * torch.randn(n, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    x = x.mT.contiguous().mT  # columns contiguous, as the generated code returns them
    p, t = model.vector(None, x), torch.zeros(())
    rate = model.compiled.rate
    start = time.perf_counter()
    lanes = Lanes(rate, 8, len(p))
    seconds = {"lanes": time.perf_counter() - start}
    start = time.perf_counter()
    compiled = torch.compile(rate, fullgraph=True)
    compiled(t, x, p)
    seconds["torch.compile"] = time.perf_counter() - start
    columns = x.mT.contiguous().numpy()
    truth = kholodenko(columns)
    ways: dict[str, Callable[[], Any]] = {
        "numpy": lambda: kholodenko(columns),
        "torch, plain": lambda: rate(t, x, p),
        "torch.compile": lambda: compiled(t, x, p),
        "lanes": lambda: lanes.evaluate(t, x, p),
    }
    off = {name: float(np.abs(_columns(fn()) - truth).max()) for name, fn in ways.items()}
    with torch.no_grad():
        times = _interleaved(ways, rounds=41, repeats=10)
    out = {
        name: {"per_second": n / median(ts), "best": n / min(ts), "largest difference from numpy": off[name]}
        | ({"compile_seconds": seconds[name]} if name in seconds else {})
        for name, ts in times.items()
    }
    print(
        f"right-hand sides of BIOMD 10 at B = {n}, float64, {torch.get_num_threads()} threads; target 1.5e7 per second"
    )
    for name, row in out.items():
        ratio = median(a / b for a, b in zip(times["numpy"], times[name]))
        row["times numpy"] = ratio
        print(f"  {name:14s} {row['per_second']:.2e}/s (best {row['best']:.2e}), {ratio:.1f} x numpy")
    return out


def _columns(found: Any) -> np.ndarray:
    return found.mT.numpy() if isinstance(found, torch.Tensor) else found


# -- trajectories -----------------------------------------------------------------------------------------------------


class Peer:
    """The sbmltoodejax process."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("_sbmltoodejax.py")
        self.process = subprocess.Popen(
            [python, "-W", "ignore", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={"PATH": "/usr/bin:/bin", "HOME": tempfile.gettempdir()},
        )  # fmt: skip

    def ask(self, **job: Any) -> dict[str, Any]:
        """One job, one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the sbmltoodejax process ended")
        return json.loads(line)


def trajectories(
    name: str, file: Path, folder: Path, peer: Peer | None, rounds: int, quick: bool
) -> dict[str, Any]:
    """Trajectories per second and achieved error over tolerances, ours and the peers', on the same initial states."""
    import roadrunner

    model = load(file)
    spread = torch.randn(
        BATCH, len(model.species), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    moves = torch.tensor([state.rate != Number(0.0) for state in model.network.states])
    x0 = model.initial_state() * torch.exp(
        0.2 * spread * moves
    )  # constant species are constants to the peers
    times = np.linspace(0, T_END, POINTS)
    first = model.simulate(T_END, POINTS, x0=x0)  # compiles
    truth = model.simulate(T_END, POINTS, x0=x0, rtol=1e-12, atol=1e-13)["x"].numpy()
    scale = np.abs(truth).max((0, 1)) + 1e-300
    oracle = max(_oracle_error(model, x0[i].numpy(), times, truth[:, i], scale) for i in (0, 1))
    print(
        f"{name}: {len(model.species)} columns, B = {BATCH}, t = {T_END:g}, {POINTS} points; reference within {oracle:.0e} of SciPy's DOP853"
    )
    out: dict[str, Any] = {
        "columns": len(model.species), "stiff samples": int(first.meta["stiff_samples"]), "path": first.meta["path"],
        "compile_seconds": first.meta["compile_seconds"], "reference": oracle, "curves": {},
    }  # fmt: skip
    np.save(folder / "x0.npy", x0.numpy())
    for rtol in (1e-6, 1e-8) if quick else TOLERANCES:

        def ours(rtol: float = rtol) -> Any:
            return model.simulate(T_END, POINTS, x0=x0, rtol=rtol, atol=rtol)

        errors = {"unrolled": _error(ours()["x"].numpy(), truth, scale)}
        lost = {"unrolled": int((_worst(ours()["x"].numpy(), truth, scale) > 0.01).sum())}
        clocks: dict[str, Callable[[], tuple[float, float]]] = {"unrolled": lambda ours=ours: _clock(ours)}
        if peer is not None:
            for way in ("odeint", "rollout") if rtol == 1e-6 else ("odeint",):
                made = peer.ask(
                    do="make", file=str(file), x0=str(folder / "x0.npy"), names=list(model.species), t_end=T_END,
                    points=POINTS, rtol=rtol, atol=rtol, way=way,
                )  # fmt: skip
                if "error" in made:
                    out["sbmltoodejax"] = made["error"]
                    continue
                peer.ask(do="run", id=made["id"], out=str(folder / "out.npy"))
                theirs = np.moveaxis(np.load(folder / "out.npy"), 1, 0)[:POINTS]
                both = [n for n in made["names"] if n in model.species]
                columns = [model.species.index(n) for n in both]
                theirs = theirs[:, :, [made["names"].index(n) for n in both]]
                errors[f"sbmltoodejax, {way}"] = _error(theirs, truth[:, :, columns], scale[columns])
                lost[f"sbmltoodejax, {way}"] = int(
                    (_worst(theirs, truth[:, :, columns], scale[columns]) > 0.01).sum()
                )
                clocks[f"sbmltoodejax, {way}"] = lambda made=made: _both(peer.ask(do="run", id=made["id"]))
                out.setdefault("compile", {})[f"{way} {rtol:g}"] = made["compile_seconds"]
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in clocks}
        for _ in range(rounds if rtol in (1e-6, 1e-8) else max(3, rounds // 2)):
            for way, clock in clocks.items():
                seconds[way].append(clock())
        mine = seconds["unrolled"]
        out["curves"][f"{rtol:g}"] = {
            way: {
                "per_second": BATCH / median(a for a, _ in each), "per_cpu_second": BATCH / median(a for _, a in each),
                "error": errors[way], "samples off by more than 1 %": lost[way],
                "ours is faster": median(b[0] / a[0] for a, b in zip(mine, each)),
                "ours is faster by cpu seconds": median(b[1] / a[1] for a, b in zip(mine, each)),
            }
            for way, each in seconds.items()
        }  # fmt: skip
        line = ", ".join(f"{way} {row['per_second']:,.0f}/s (error {row['error']:.0e}, {row['samples off by more than 1 %']} lost, {row['ours is faster']:.1f} x, {row['ours is faster by cpu seconds']:.1f} x by CPU seconds)" for way, row in out["curves"][f"{rtol:g}"].items())  # fmt: skip
        print(f"  rtol = atol = {rtol:g}: {line}")
    out["at the same error"] = _same_error(out["curves"])
    for way, rows in out["at the same error"].items():
        print(
            f"  at our error, against {way}: "
            + ", ".join(f"{rtol}: {ratio:.2f} x" for rtol, ratio in rows.items())
        )
    # libroadrunner, one after another, at its defaults; ours at ours.
    runner = roadrunner.RoadRunner(str(file))
    runner.timeCourseSelections = ["time"]
    ids = set(model.species)
    some = range(64)

    starts = np.ascontiguousarray(
        x0[:, [model.species.index(n) for n in runner.model.getFloatingSpeciesIds() if n in ids]].numpy()
    )
    every = [
        list(runner.model.getFloatingSpeciesIds()).index(n)
        for n in runner.model.getFloatingSpeciesIds()
        if n in ids
    ]

    def loop() -> None:
        for i in some:
            runner.reset()
            runner.model.setFloatingSpeciesConcentrations(every, starts[i])
            runner.simulate(0, T_END, POINTS)

    loop()
    pairs = [(_clock(loop), _clock(lambda: model.simulate(T_END, POINTS, x0=x0))) for _ in range(rounds)]
    n = len(some)
    out["libroadrunner"] = {
        "per_second": n / median(a[0] for a, _ in pairs), "ours per_second": BATCH / median(b[0] for _, b in pairs),
        "ours is faster": median((a[0] / n) / (b[0] / BATCH) for a, b in pairs),
        "ours is faster by cpu seconds": median((a[1] / n) / (b[1] / BATCH) for a, b in pairs),
        "defaults": "each tool's own tolerances",
    }  # fmt: skip
    row = out["libroadrunner"]
    print(
        f"  libroadrunner in a loop, each at its defaults: {row['per_second']:,.0f}/s against ours {row['ours per_second']:,.0f}/s, {row['ours is faster']:.1f} x, {row['ours is faster by cpu seconds']:.1f} x by CPU seconds"
    )
    return out


def _error(found: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> float:
    """Median over samples of a sample's largest error, relative to the largest value of the species."""
    return float(np.median(_worst(found, truth, scale)))


def _worst(found: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.abs(found - truth) / scale, nan=np.inf).max((0, 2))


def _oracle_error(
    model: Any, x0: np.ndarray, times: np.ndarray, truth: np.ndarray, scale: np.ndarray
) -> float:
    p = model.vector(None, torch.zeros((), dtype=torch.float64))
    rate = model.compiled.rate

    def f(t: float, x: np.ndarray) -> np.ndarray:
        return rate(torch.tensor(t), torch.from_numpy(x)[None], p)[0].numpy()

    found = solve_ivp(f, (0, times[-1]), x0, "DOP853", t_eval=times, rtol=1e-11, atol=1e-13)
    return float((np.abs(found.y.T - truth) / scale).max())


def _same_error(curves: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times faster at the error that we reach at 1e-6 and 1e-8, per CPU second.

    The peer's curve, log-log, without the tolerances at which it loses samples. Where our error is larger than any of the
    curve, its loosest tolerance counts; where it is smaller, nothing is said.
    """
    out: dict[str, dict[str, float]] = {}
    for way in {way for rows in curves.values() for way in rows} - {"unrolled"}:
        rows = [r[way] for r in curves.values() if way in r and not r[way]["samples off by more than 1 %"]]
        points = sorted((row["error"], row["per_cpu_second"]) for row in rows)
        if not points:
            continue
        e, v = np.log([max(a, 1e-16) for a, _ in points]), np.log([b for _, b in points])
        for rtol in ("1e-06", "1e-08"):
            mine = curves[rtol]["unrolled"]
            target = np.log(max(mine["error"], 1e-16))
            if e[0] <= target:
                out.setdefault(way, {})[rtol] = mine["per_cpu_second"] / float(
                    np.exp(np.interp(target, e, v))
                )
    return out


def stiff_alone() -> dict[str, Any]:
    """One stiff run, no batch: where libroadrunner (CVODE, compiled) wins."""
    import roadrunner

    from unrolled.sbml import models

    out: dict[str, Any] = {}
    model = models.robertson()
    sbml = _robertson_sbml()
    runner = roadrunner.RoadRunner(sbml)

    def theirs() -> None:
        runner.resetAll()
        runner.simulate(0, 40.0, POINTS)

    theirs()
    model.simulate(40.0, POINTS)
    pairs = [(_clock(theirs), _clock(lambda: model.simulate(40.0, POINTS))) for _ in range(5)]
    out["robertson, t = 40"] = {
        "libroadrunner seconds": median(a[0] for a, _ in pairs), "ours seconds": median(b[0] for _, b in pairs),
        "libroadrunner is faster": median(b[1] / max(a[1], 1e-9) for a, b in pairs),
    }  # fmt: skip
    print(
        f"one stiff run (Robertson, t = 40): libroadrunner {out['robertson, t = 40']['libroadrunner is faster']:.0f} x faster than ours"
    )
    return out


def _robertson_sbml() -> str:
    species = "".join(
        f'<species id="{s}" compartment="c" initialConcentration="{v}"/>'
        for s, v in (("A", 1), ("B", 0), ("C", 0))
    )

    def times(*names: str) -> str:
        return (
            "<apply><times/>"
            + "".join(f"<ci>{n}</ci>" if n[0].isalpha() else f"<cn>{n}</cn>" for n in names)
            + "</apply>"
        )

    def reaction(name: str, left: str, right: str, law: str) -> str:
        return (
            f'<reaction id="{name}" reversible="false"><listOfReactants>{left}</listOfReactants>'
            f'<listOfProducts>{right}</listOfProducts><kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">{law}</math>'
            "</kineticLaw></reaction>"
        )

    def ref(name: str, n: int = 1) -> str:
        return f'<speciesReference species="{name}" stoichiometry="{n}"/>'

    reactions = (
        reaction("slow", ref("A"), ref("B"), times("c", "0.04", "A"))
        + reaction("fast", ref("B", 2), ref("B") + ref("C"), times("c", "30000000", "B", "B"))
        + reaction("back", ref("B") + ref("C"), ref("A") + ref("C"), times("c", "10000", "B", "C"))
    )
    return (
        '<?xml version="1.0"?><sbml xmlns="http://www.sbml.org/sbml/level2/version4" level="2" version="4"><model id="robertson">'
        f'<listOfCompartments><compartment id="c" size="1"/></listOfCompartments><listOfSpecies>{species}</listOfSpecies>'
        f"<listOfReactions>{reactions}</listOfReactions></model></sbml>"
    )


def _both(answer: dict[str, Any]) -> tuple[float, float]:
    return float(answer["seconds"]), float(answer["cpu"])


# -- helpers ----------------------------------------------------------------------------------------------------------


def _clock(fn: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and CPU seconds (of all threads) of one call."""
    start, busy = time.perf_counter(), time.process_time()
    fn()
    return time.perf_counter() - start, time.process_time() - busy


def _interleaved(ways: dict[str, Callable[[], Any]], rounds: int, repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, fn in ways.items():
            fn()
            start = time.perf_counter()
            for _ in range(repeats):
                fn()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def _unpack(archive: Path, folder: Path, numbers: Any) -> dict[int, Path]:
    wanted = {f"BIOMD{number:010d}.xml": number for number in {*numbers, 10}}
    files: dict[int, Path] = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            number = wanted.get(Path(member.name).name)
            stream = opened.extractfile(member) if number is not None else None
            if number is not None and stream is not None:
                files[number] = folder / Path(member.name).name
                files[number].write_bytes(stream.read())
    return files


def figure(found: dict[str, Any], path: Path) -> None:
    """Work against precision: trajectories per CPU second over achieved error, one panel per model.

    Tolerances at which a tool loses samples are left out.
    """
    import matplotlib.pyplot as plt

    colours = {"unrolled": "#0072B2", "sbmltoodejax, odeint": "#E69F00", "sbmltoodejax, rollout": "#999999"}
    fig, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    for ax, (name, row) in zip(axes.flat, found.items()):
        for way, colour in colours.items():
            kept = [
                c[way]
                for c in row["curves"].values()
                if way in c and not c[way]["samples off by more than 1 %"]
            ]
            if kept:
                points = [(each["error"], each["per_cpu_second"]) for each in kept]
                ax.loglog(*zip(*points), "o-", color=colour, label=way, markersize=4)
        note = "sbmltoodejax refuses it" if "sbmltoodejax" in row else f"{row['columns']} columns"
        ax.set_title(f"{name}: {note}", fontsize=10)
        low, high = ax.get_ylim()
        ax.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
        ax.grid(alpha=0.25)
        ax.set_xlabel("achieved error (median of samples)", fontsize=9)
        ax.set_ylabel("trajectories per CPU second", fontsize=9)
    fig.legend(
        *axes.flat[1].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    fig.savefig(path, dpi=110)
    plt.close(fig)
    print(f"wrote {path}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
