"""Numbers, verdicts, times and commands as a reader wants them; the same in the terminal and in HTML."""

import math
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unrolled.runs.claims import STATUSES, Claim

NONE = "—"
"""Stands where there is no number; the reason stands beside it."""


def number(value: Any, unit: str = "", *, digits: int = 4) -> str:
    """A number, or a paper's words, with its unit.

    Args:
        value: a number, a string, or None.
        unit: `""` and `"1"` are not written; `"x"` is a factor.
        digits: significant digits.

    Example:
        >>> number(1.76), number(0.0123456, "s"), number(None), number(float("nan")), number("curves only", "s")
        ('1.76', '0.01235 s', '—', '—', 'curves only')
    """
    if value is None or isinstance(value, str):
        return value or NONE
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return _united("∞" if value > 0 else "-∞", unit)
    whole = abs(value) < 1e7 and (value == int(value) or abs(value) >= 10**digits)
    return _united(f"{value:.0f}" if whole else _plain(f"{value:.{digits}g}"), unit)


def measured(claim: Claim) -> str:
    """Our number: mean ± spread, rounded where the spread's second digit is, and how many seeds.

    Example:
        >>> measured(Claim("a", "b", ours=1.7123, spread=0.0812, seeds=5, status="reproduced"))
        '1.712 ± 0.081 (5 seeds)'
        >>> measured(Claim("a", "b", ours=1.7123, unit="%", status="reproduced"))
        '1.71 % (1 seed)'
        >>> measured(Claim("a", "b", note="needs a GPU"))
        '—'
    """
    return " ".join(filter(None, (value(claim), seeds(claim))))


def seeds(claim: Claim) -> str:
    """How many seeds a number is the mean of; empty without a number."""
    if claim.ours is None or math.isnan(claim.ours):
        return ""
    return f"({claim.seeds} seed{'s' if claim.seeds != 1 else ''})"


def value(claim: Claim) -> str:
    """`measured` without the seeds. Without a spread, nobody knows more than three digits."""
    if claim.ours is None or not math.isfinite(claim.ours):
        return number(claim.ours, claim.unit)
    text = number(claim.ours, digits=3)
    if claim.spread is not None and math.isfinite(claim.spread):
        decimals = 1 - math.floor(math.log10(claim.spread)) if claim.spread > 0 else 3
        decimals = min(max(decimals, 0), 6)
        text = f"{_fixed(claim.ours, decimals)} ± {_fixed(claim.spread, decimals) if claim.spread else 0}"
    return _united(text, claim.unit)


def why(claim: Claim) -> str:
    """The note of a claim; where a number is missing without a note, what is known about that.

    Example:
        >>> why(Claim("a", "b", ours=float("nan"), status="not reproduced"))
        'Tried, but no number came out (NaN); no reason was recorded.'
    """
    if claim.note or (claim.ours is not None and not math.isnan(claim.ours)):
        return claim.note
    return "Tried, but no number came out (NaN); no reason was recorded."


def tally(claims: Iterable[Claim]) -> list[tuple[str, int]]:
    """How many claims have each verdict, in the order of the verdicts; verdicts that nobody has are left out.

    Example:
        >>> tally([Claim("a", "b", note="later"), Claim("c", "d", ours=1.0, status="reproduced")])
        [('reproduced', 1), ('not attempted', 1)]
    """
    counts = Counter(claim.status for claim in claims)
    return [(status, counts[status]) for status in STATUSES if counts[status]]


def verdicts(claims: Sequence[Claim]) -> str:
    """`tally` as a sentence.

    Example:
        >>> verdicts([]), verdicts([Claim("a", "b", note="later")])
        ('no claims', '1 claim: 1 not attempted')
    """
    if not claims:
        return "no claims"
    counts = ", ".join(f"{count} {status}" for status, count in tally(claims))
    return f"{len(claims)} claim{'s' if len(claims) != 1 else ''}: {counts}"


def duration(seconds: float | None) -> str:
    """A time span in its two largest units.

    Example:
        >>> duration(4.21), duration(83), duration(7322), duration(200000), duration(None)
        ('4.2 s', '1 min 23 s', '2 h 2 min', '2 d 7 h', '—')
    """
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    if rest < 3600:
        return f"{rest // 60} min {rest % 60} s"
    if rest < 86400:
        return f"{rest // 3600} h {rest % 3600 // 60} min"
    return f"{rest // 86400} d {rest % 86400 // 3600} h"


def command(words: Sequence[str]) -> str:
    """The command line of a run, ready to paste: interpreter and scripts without the folders they lie in.

    Example:
        >>> command(["/home/me/.venv/bin/python3", "/home/me/.venv/bin/unrolled", "run", "a", "--note", "two words"])
        "unrolled run a --note 'two words'"
        >>> command(["/usr/bin/python3", "-m", "unrolled.tour"])
        'python3 -m unrolled.tour'
    """
    words = [str(word) for word in words]
    if not words:
        return ""
    script = next((place for place, word in enumerate(words[1:], 1) if not word.startswith("-")), 0)
    if script and os.path.basename(words[script]) == "unrolled":
        words = ["unrolled", *words[script + 1 :]]
    else:
        words[0] = os.path.basename(words[0])
    return shlex.join(words)


def flat(values: Mapping[str, Any], *, prefix: str = "", longest: int = 300) -> list[tuple[str, str]]:
    """A nested mapping as rows: dotted names and short texts.

    Example:
        >>> flat({"lr": {"adam": 3e-3, "muon": None}, "sizes": [1, 2]})
        [('lr.adam', '0.003'), ('lr.muon', '—'), ('sizes', '1, 2')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += flat(value, prefix=f"{name}.", longest=longest)
        else:
            text = _cell(value)
            rows.append(
                (name, text if len(text) <= longest else f"{text[:longest]} … ({len(text)} characters)")
            )
    return rows


def _cell(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value)) or NONE
    return str(value)


def _plain(text: str) -> str:
    """Exponents without padding: 1e-05 is 1e-5."""
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def _fixed(value: float, decimals: int) -> str:
    """As many decimals as asked for, in scientific notation where that is shorter."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return _plain(f"{value:.2e}")
    return f"{value:.{decimals}f}"


def _united(text: str, unit: str) -> str:
    if unit in ("x", "×"):
        return f"({text})×" if "±" in text else f"{text}×"
    return text if unit in ("", "1") else f"{text} {unit}"
