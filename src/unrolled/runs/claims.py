"""A claim: what a paper says, what we measured, and how the two compare. Negative results are claims too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from unrolled.runs import atomic, plain

Status = Literal["reproduced", "direction only", "not reproduced", "not attempted"]
"""*direction only*: the sign or the order agrees, the size does not."""

STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Claim:
    """One claim of a paper beside our number.

    Attributes:
        id: short and stable, e.g. `"nds-ratio"`; unique within a study.
        statement: the claim in one sentence.
        paper: the paper's number, or its words.
        ours: our number, the mean over seeds; None when there is none, NaN when it was tried and came to nothing.
        spread: standard deviation over seeds; None with a single seed.
        seeds: how many seeds.
        unit: of both numbers.
        status: the verdict.
        preset: the configuration's preset.
        hardware: where it was measured, see `environment.hardware`.
        note: why the verdict is what it is; for *not attempted*, what it would take.
        source: where the paper says it, e.g. `"2606.04662, table 3"`.

    Raises:
        ValueError: the status is unknown, a verdict comes without a number, or *not attempted* without a reason.

    Example:
        >>> claim = Claim("ratio", "Muon's penalty is lower", paper=1.76, ours=1.7, status="reproduced")
        >>> claim.ours
        1.7
        >>> Claim("ratio", "Muon's penalty is lower", paper=1.76, status="reproduced")
        Traceback (most recent call last):
        ValueError: claim 'ratio' says 'reproduced' without a number of ours: give ours=, or say 'not attempted' ...
    """

    id: str
    statement: str
    paper: float | str | None = None
    ours: float | None = None
    spread: float | None = None
    seeds: int = 1
    unit: str = ""
    status: Status = "not attempted"
    preset: str = ""
    hardware: str = ""
    note: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(
                f"claim {self.id!r} has status {self.status!r}; there are {', '.join(map(repr, STATUSES))}"
            )
        tried = self.status != "not attempted"
        if tried and self.ours is None:
            raise ValueError(
                f"claim {self.id!r} says {self.status!r} without a number of ours: give ours=, "
                "or say 'not attempted' and why"
            )
        if self.ours is not None and math.isnan(self.ours) and self.status != "not reproduced":
            raise ValueError(f"claim {self.id!r}: ours is NaN, which can only be 'not reproduced'")
        if not tried and not self.note:
            raise ValueError(f"claim {self.id!r} was not attempted: say why in note=")

    @staticmethod
    def not_attempted(id: str, statement: str, *, why: str, command: str = "", **rest: Any) -> "Claim":
        """A claim left open, with the reason and the command that would settle it.

        Example:
            >>> Claim.not_attempted("a", "b", why="needs a GPU", command="unrolled run c --preset paper").note
            'needs a GPU; to settle it: unrolled run c --preset paper'
        """
        note = f"{why}; to settle it: {command}" if command else why
        return Claim(id, statement, status="not attempted", note=note, **rest)


def write(path: Path, claims: Sequence[Claim]) -> None:
    """Write claims.json atomically.

    Raises:
        ValueError: two claims share an id.
    """
    ids = [claim.id for claim in claims]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise ValueError(f"claims need distinct ids; used more than once: {', '.join(twice)}")
    atomic.write_json(path, list(claims))


def read(path: Path) -> list[Claim]:
    """Read claims.json; no file, no claims. Fields of a later version are left out.

    Raises:
        ValueError: the file is not what `write` writes.
    """
    if not path.is_file():
        return []
    known = {field.name for field in fields(Claim)}
    try:
        rows = plain.loads(path.read_text(encoding="utf-8"))
        return [Claim(**{key: value for key, value in row.items() if key in known}) for row in rows]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold claims: {error}") from error
