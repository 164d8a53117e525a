"""The SBML Test Suite as the judge: run its semantic cases and count passed, refused, and wrong.

A case is a model, settings, and a table of results. It passes when |y - ref| <= absolute + relative |ref| at every point of
every variable (the suite's own rule; fact sheet, B4). What is refused with a named error is counted as refused; a number
outside the tolerance is wrong, and there must be none.
"""

import csv
import os
import re
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unrolled.sbml.errors import SBMLError

NOT_SIMPLE = frozenset({"AlgebraicRule", "CSymbolDelay", "FastReaction"})
EVENTS = frozenset(
    {"EventNoDelay", "EventWithDelay", "EventPriority", "RandomEventExecution", "EventIsNotPersistent"}
)
"""Tags of the suite that tell the subsets apart; a model with any event carries one that begins with `Event`."""


@dataclass(frozen=True)
class Case:
    """One semantic case.

    Attributes:
        number: of the case.
        folder: where it lies.
        tags: component and test tags.
        packages: Level 3 packages it needs, such as comp and fbc.
        kind: `TimeCourse` or another type of test.
        settings: key -> text.
    """

    number: int
    folder: Path
    tags: frozenset[str]
    packages: frozenset[str]
    kind: str
    settings: dict[str, str] = field(repr=False)

    @property
    def simple(self) -> bool:
        """A time course without events, algebraic rules, delay(), fast reactions and packages."""
        return self.core and not self.events

    @property
    def core(self) -> bool:
        """A time course without algebraic rules, delay(), fast reactions and packages."""
        return self.kind == "TimeCourse" and not self.packages and not self.tags & NOT_SIMPLE

    @property
    def events(self) -> bool:
        """With events."""
        return any(tag.startswith("Event") for tag in self.tags)

    def model(self) -> Path:
        """The SBML file of the highest level and version."""
        return sorted(self.folder.glob("*-sbml-l*v*.xml"))[-1]

    def models(self) -> list[Path]:
        """Every SBML file of the case, one per level."""
        return sorted(self.folder.glob("*-sbml-l*v*.xml"))

    def names(self, key: str) -> list[str]:
        """A list among the settings: `variables`, `amount`, `concentration`."""
        return [name.strip() for name in self.settings.get(key, "").split(",") if name.strip()]


@dataclass(frozen=True)
class Outcome:
    """How a case went.

    `status` is `"passed"`; `"refused"`: a named error of `load`; `"failed"`: the solver gave up and says so; `"error"`: any other
    error; `"wrong"`: a number outside the tolerance; `"skipped"`: no time course.
    """

    number: int
    status: str
    detail: str = ""
    seconds: float = 0.0


def cases(folder: "str | os.PathLike[str]") -> list[Case]:
    """The cases of a folder that holds one folder per case, by number.

    Raises:
        FileNotFoundError: there are none.
    """
    found: list[Case] = []
    for description in sorted(Path(folder).glob("[0-9]*/[0-9]*-model.m")):
        text = description.read_text(encoding="utf-8", errors="replace")
        tags = {key: _listed(text, key) for key in ("componentTags", "testTags", "packagesPresent")}
        kind = re.search(r"^testType:\s*(\w+)", text, re.MULTILINE)
        settings = description.with_name(description.name.replace("-model.m", "-settings.txt"))
        pairs = (line.split(":", 1) for line in settings.read_text().splitlines() if ":" in line)
        found.append(
            Case(
                int(description.parent.name),
                description.parent,
                frozenset(tags["componentTags"] | tags["testTags"]),
                frozenset(tags["packagesPresent"]),
                kind[1] if kind else "TimeCourse",
                {key.strip(): value.strip() for key, value in pairs},
            )
        )
    if not found:
        raise FileNotFoundError(
            f"no cases of the SBML Test Suite in {os.fspath(folder)}: expected NNNNN/NNNNN-model.m"
        )
    return found


def _listed(text: str, key: str) -> set[str]:
    found = re.search(rf"^{key}:(.*)", text, re.MULTILINE)
    return {item.split(":")[0].strip() for item in found[1].split(",") if item.strip()} if found else set()


def run_case(case: Case, file: Path | None = None, **options: Any) -> Outcome:
    """Simulate one case and judge it.

    Args:
        case: which.
        file: the SBML file; the one of the highest level when None.
        options: of `Model.simulate`; by default tolerances a hundred times finer than the case asks for.
    """
    from unrolled.sbml._load import load

    begin = time.perf_counter()

    def outcome(status: str, detail: str = "") -> Outcome:
        return Outcome(case.number, status, detail, time.perf_counter() - begin)

    settings = case.settings
    if case.kind != "TimeCourse":
        return outcome("skipped", f"a {case.kind} test, no time course")
    absolute, relative = float(settings["absolute"]), float(settings["relative"])
    with open(next(case.folder.glob("*-results.csv")), newline="") as opened:
        rows = [row for row in csv.reader(opened) if row]
    header = [name.strip() for name in rows[0]]
    table = np.array([[_number(cell) for cell in row] for row in rows[1:]])
    t_end = float(settings["start"] or 0) + float(settings["duration"])
    options = {"rtol": min(1e-7, relative / 100), "atol": min(1e-10, absolute / 100)} | options
    try:
        model = load(file or case.model())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            run = model.simulate(t_end, int(settings["steps"]) + 1, **options)
        amounts = set(case.names("amount"))
        columns = {name: _read(run, name, name in amounts) for name in header[1:]}
    except SBMLError as error:
        return outcome("refused", str(error))
    except Exception as error:
        return outcome("error", f"{type(error).__name__}: {error}")
    if not bool(run.ok.all()):
        return outcome("failed", str(run.stop))
    if not np.allclose(table[:, 0], run.t.numpy(), rtol=1e-6, atol=1e-9):
        return outcome("error", f"the table has times {table[:3, 0]}..., the run {run.t[:3].numpy()}...")
    worst, where = 0.0, ""
    for k, name in enumerate(header[1:], 1):
        ours, theirs = columns[name].to(torch.float64).numpy(), table[:, k]
        with np.errstate(invalid="ignore"):
            off = np.abs(ours - theirs) / (absolute + relative * np.abs(theirs))
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        off = np.where(same, 0.0, np.where(np.isnan(off), np.inf, off))
        if off.max() > worst:
            i = int(off.argmax())
            worst, where = (
                float(off.max()),
                f"{name} at t = {table[i, 0]:g}: {ours[i]:.8g}, expected {theirs[i]:.8g}",
            )
    return outcome(
        "passed" if worst <= 1 else "wrong", where if worst > 1 else f"{worst:.2g} of the tolerance"
    )


def _number(cell: str) -> float:
    text = cell.strip().lower()
    return {"inf": np.inf, "infinity": np.inf, "-inf": -np.inf, "-infinity": -np.inf, "nan": np.nan}.get(
        text
    ) or float(text)


def _read(run: Any, name: str, amount: bool) -> torch.Tensor:
    quantity = run.model.network.quantities.get(name)
    return (
        run.amount(name)
        if amount and quantity is not None and quantity.amount is not None
        else run.value(name)
    )
