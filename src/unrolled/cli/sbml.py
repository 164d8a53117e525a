"""`unrolled sbml simulate MODEL | report MODEL | list`: biological models, thousands of variations at a time."""

import importlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import flow, out, read, say, short

HELP = """Simulate biological models written in SBML, by themselves or in thousands of variations, and see what they do. MODEL is
an SBML file, or the name of a network that ships with the package.

  simulate MODEL  its course in time; --scan varies parameters, all variations as one batch
  report MODEL    what it contains, what it conserves, where it ends, and a picture
  list            the networks that ship with the package

example:
  unrolled sbml simulate tyson1999 --t-end 48 --plot tyson.png
  unrolled sbml simulate model.xml --t-end 48 --scan k1=0.1..10:64 --plot scan.png
  unrolled sbml report kholodenko2000"""

SIMULATE = """Integrate a model from t = 0. Species, parameters and initial values keep the names of the file.

--set changes values: --set k1=0.5 MAPK=200. --scan takes NAME=FROM..TO:COUNT, spread by ratios where both ends are
positive and a factor of ten apart, else evenly, or NAME=1,2,5; several give every combination. A species is scanned
over its initial value. Without a scan the course is printed; with one, the end and the extremes of every variation.

--out writes all numbers as CSV. --plot draws; without a file it draws into MODEL.png.

example:
  unrolled sbml simulate tyson1999 --t-end 48
  unrolled sbml simulate tyson1999 --t-end 96 --scan Keq=1..1000:64 --of M --plot keq.png
  unrolled sbml simulate gardner2000 --t-end 30 --scan LacI=0.1..100:32 TetR=0.1..20:32 --plot"""

REPORT = """Print what a model contains, which totals it conserves, its steady states with their stability, its attractors with
the share of starts that each draws, and its time scale; and draw them.

A model that is not supported is refused with the name of the element: algebraic rules, delay(), fast reactions.

example:
  unrolled sbml report gardner2000
  unrolled sbml report model.xml --plot model.png"""

ROWS = 12
"""Times or variations printed; --out has them all."""


@dataclass(frozen=True)
class SimulateOptions:
    """Options of `sbml simulate`."""

    model: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL", help="an SBML file, or a shipped name")
    ]
    t_end: Annotated[float, tyro.conf.arg(help="the last time, in the model's unit")]
    points: Annotated[int, tyro.conf.arg(help="times recorded, both ends counted")] = 101
    set: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE", help="values other than the model's")
    ] = ()
    scan: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=FROM..TO:COUNT", help="vary, as one batch")
    ] = ()
    of: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME", help="what is shown; what moves most by default")
    ] = ()
    method: Annotated[str, tyro.conf.arg(help="auto, dopri5 (not stiff) or rodas5p (stiff)")] = "auto"
    rtol: Annotated[float, tyro.conf.arg(help="relative tolerance")] = 1e-6
    atol: Annotated[float, tyro.conf.arg(help="absolute tolerance")] = 1e-9
    out: Annotated[Path | None, tyro.conf.arg(help="write all numbers there, as CSV")] = None
    plot: Annotated[Path | None, tyro.conf.arg(help="draw there; alone, into MODEL.png")] = None


@dataclass(frozen=True)
class ReportOptions:
    """Options of `sbml report`."""

    model: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL", help="an SBML file, or a shipped name")
    ]
    t_end: Annotated[float | None, tyro.conf.arg(help="length of the course drawn")] = None
    plot: Annotated[Path | None, tyro.conf.arg(help="draw there instead of into MODEL.png")] = None
    no_plot: Annotated[bool, tyro.conf.arg(help="draw nothing")] = False


def main(argv: Sequence[str]) -> int:
    """The verb."""
    verbs = {"simulate": (SimulateOptions, SIMULATE, _simulate), "report": (ReportOptions, REPORT, _report)}
    if not argv or argv[0] in ("-h", "--help"):
        out().print(Text("usage: unrolled sbml simulate|report|list ...\n", style="bold"))
        print(flow(HELP))
        return 0
    if argv[0] == "list":
        return _list()
    if argv[0] not in verbs:
        raise ValueError(f"unrolled sbml has no {argv[0]!r}; there are {', '.join(verbs)}, list")
    options, text, act = verbs[argv[0]]
    words = list(argv[1:])
    # A lone --plot takes the model's name.
    for k, word in enumerate(words):
        if word == "--plot" and (k + 1 == len(words) or words[k + 1].startswith("--")):
            model = next((w for w in words if not w.startswith("-")), "model")
            words.insert(k + 1, f"{Path(model).stem}.png")
            break
    return act(read(options, f"sbml {argv[0]}", text, words))  # pyright: ignore[reportArgumentType]


def _list() -> int:
    from unrolled.sbml import models

    table = Table.grid(padding=(0, 3))
    for name in [*models.PAPER, *models.CLASSICS]:
        build = getattr(models, name)
        about = importlib.import_module(build.__module__).__doc__ or ""
        number = models.PAPER.get(name)
        table.add_row(
            Text(name, style="bold cyan"), f"BIOMD{number:010d}" if number else "", about.strip().rstrip(".")
        )
    out().print(table)
    return 0


def _load(name: str) -> Any:
    from unrolled.sbml import load, models

    if name in models.PAPER or name in models.CLASSICS:
        return models.named(name)
    if not Path(name).is_file():
        raise ValueError(
            f"no file {name}, and no shipped network of that name; there are {', '.join([*models.PAPER, *models.CLASSICS])}"
        )
    return load(Path(name))


def _simulate(options: SimulateOptions) -> int:
    import torch

    from unrolled.sbml import analysis

    model = _load(options.model)
    values = dict(_value(word) for word in options.set)
    over = dict(axis(word) for word in options.scan)
    _check(model, [*values, *over, *options.of])
    solver: dict[str, Any] = {"method": options.method, "rtol": options.rtol, "atol": options.atol}
    if not over:
        run = model.simulate(options.t_end, options.points, parameters=values or None, **solver)
        shown = list(options.of) or _leading(run, model)
        _rows(["t", *shown], torch.stack([run.t, *(run.value(name) for name in shown)], -1))
        columns = {"t": run.t, **{name: run.value(name) for name in (options.of or model.species)}}
        _write(options.out, columns)
        _told(run)
        if options.plot is not None:
            figure, ax = _figure()
            for name in shown:
                ax.plot(run.t, run.value(name), label=name)
            ax.set(xlabel="time", title=model.name)
            ax.legend(frameon=False)
            _save(figure, options.plot)
        return 0 if bool(run.ok.all()) else 1
    size = math.prod(len(column) for column in over.values())
    say(f"{size:,} variations of {model.name} as one batch")
    found = analysis.scan(model, over, options.t_end, options.points, parameters=values or None, **solver)
    shown = list(options.of) or _leading(found.simulation, model)[:3]
    frame = found.to_frame(shown)
    _rows(list(frame.columns), torch.tensor(frame.to_numpy()))
    if options.out is not None:
        frame.to_csv(options.out, index=False)
        out().print(Text(f"table: {short(options.out)}"))
    _told(found.simulation)
    if options.plot is not None:
        _draw_scan(found, shown[0], options.plot)
    return 0 if bool(found.simulation.ok.all()) else 1


def _report(options: ReportOptions) -> int:
    from unrolled.sbml import analysis

    model = _load(options.model)
    say(f"looking at {model.name}: steady states, attractors, time scale; half a minute for a small network")
    made = analysis.report(model, t_end=options.t_end)
    out().print(Text(str(made)), soft_wrap=True)
    if not options.no_plot:
        from unrolled.report.figures import style

        with style():
            figure = made.plot()
        figure.set_facecolor("white")
        _save(figure, options.plot or Path(f"{Path(options.model).stem}.png"))
    return 0


def axis(word: str) -> tuple[str, Any]:
    """`k1=0.1..10:64` or `k1=1,2,5` as a name and its values.

    Raises:
        ValueError: it is neither.

    Example:
        >>> name, values = axis("k=1..100:3")
        >>> name, [round(v, 9) for v in values.tolist()]
        ('k', [1.0, 10.0, 100.0])
        >>> axis("k=-1..1:3")[1].tolist()
        [-1.0, 0.0, 1.0]
    """
    import torch

    name, _, text = word.partition("=")
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    span = re.fullmatch(rf"({number})\.\.({number}):(\d+)", text)
    if name and span:
        low, high, count = float(span[1]), float(span[2]), int(span[3])
        if count >= 1 and (count == 1 or low != high):
            if low > 0 and high > 0 and max(high / low, low / high) >= 10:
                return name, torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64)
            return name, torch.linspace(low, high, count, dtype=torch.float64)
    elif name and re.fullmatch(rf"{number}(,{number})*", text):
        return name, torch.tensor([float(part) for part in text.split(",")], dtype=torch.float64)
    raise ValueError(f"--scan takes NAME=FROM..TO:COUNT, as in k1=0.1..10:64, or NAME=1,2,5; got {word!r}")


def _value(word: str) -> tuple[str, float]:
    name, _, text = word.partition("=")
    try:
        return name, float(text)
    except ValueError:
        raise ValueError(f"--set takes NAME=VALUE with a number, as in k1=0.5; got {word!r}") from None


def _check(model: Any, names: list[str]) -> None:
    from unrolled.runs.config import nearest

    known = [*model.parameters, *model.species, *model.network.quantities]
    for name in names:
        if name not in known:
            raise ValueError(
                f"{model.name} has no {name!r}{nearest(name, known)} It has {', '.join(dict.fromkeys(known[:30]))}"
            )


def _leading(run: Any, model: Any) -> list[str]:
    """Up to six species, those that move most."""
    x = run["x"].nan_to_num()
    x = x if x.ndim == 3 else x[:, None]
    swing = (x.amax(0) - x.amin(0)).amax(0) / x.abs().amax().clamp(min=1e-300)
    return [model.species[i] for i in swing.argsort(descending=True).tolist()[:6]]


def _rows(names: list[str], values: Any) -> None:
    """At most twelve rows, evenly chosen."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in names:
        table.add_column(name, justify="right")
    step = max(1, math.ceil((len(values) - 1) / (ROWS - 1)))
    picked = sorted({*range(0, len(values), step), len(values) - 1})
    for i in picked:
        table.add_row(*(f"{v:.5g}" for v in values[i].tolist()))
    out().print(table)
    if len(picked) < len(values):
        say(f"{len(picked)} of {len(values)} rows; --out FILE writes them all")


def _told(run: Any) -> None:
    """How it was computed, and what failed."""
    meta = run.meta
    many = len(run.status)
    stiff = f", {meta['stiff_samples']} of them stiff" if meta["stiff_samples"] else ""
    say(
        f"{many:,} {'trajectories' if many > 1 else 'trajectory'} in {meta['seconds']:.2f} s{stiff} ({meta['path']})"
    )
    if meta["failed"]:
        first = next(i for i, each in enumerate(run.status) if each != "ok")
        say(
            f"{meta['failed']} of {many} failed, and are NaN from then on; the first: {run.where[first] or 'the model'}: {run.stop.hint}"
        )


def _write(path: Path | None, columns: dict[str, Any]) -> None:
    if path is None:
        return
    import csv

    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values())))
    out().print(Text(f"table: {short(path)}"))


def _figure() -> tuple[Any, Any]:
    from unrolled.core import require
    from unrolled.instruments.reading import axes

    figure = require("matplotlib.figure", extra="report").Figure(
        figsize=(6.4, 3.8), layout="constrained", facecolor="white"
    )
    return figure, axes(figure.add_subplot())


def _draw_scan(found: Any, name: str, path: Path) -> None:
    from unrolled.core import require

    if len(found.shape) > 2:
        say("a scan of more than two axes has no picture; --out has its numbers")
        return
    figure = require("matplotlib.figure", extra="report").Figure(
        figsize=(9.6, 3.6), layout="constrained", facecolor="white"
    )
    left, right = figure.subplots(1, 2)
    found.courses(name, left)
    found.plot(name, right)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150)
    out().print(Text(f"picture: {short(path)}"))
