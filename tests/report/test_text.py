import math

import pytest

from unrolled.report import text
from unrolled.runs import Claim


def claim(**fields):
    return Claim("id", "statement", **({"status": "reproduced"} | fields))


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1.76, "", "1.76"),
        (2, "", "2"),
        (0.0, "", "0"),
        (-0.00001234, "s", "-1.234e-5 s"),
        (123456.0, "", "123456"),
        (12345.6, "", "12346"),
        (123_456_789.0, "", "1.235e8"),
        (12.0, "%", "12 %"),
        (1.76, "x", "1.76×"),
        (math.inf, "s", "∞ s"),
        (-math.inf, "", "-∞"),
        (math.nan, "s", "—"),
        (None, "s", "—"),
        ("", "s", "—"),
        ("~14 % to ~44 %", "%", "~14 % to ~44 %"),
    ],
)
def test_number(value, unit, expected):
    assert text.number(value, unit) == expected


@pytest.mark.parametrize(
    ("ours", "spread", "expected"),
    [
        (1.7123, 0.0812, "1.712 ± 0.081"),
        (1.38, 0.05, "1.380 ± 0.050"),
        (134.2, 12.3, "134 ± 12"),
        (56789.0, 1234.0, "56789 ± 1234"),
        (1.7, 0.0, "1.700 ± 0"),
        (0.0, 0.5, "0.00 ± 0.50"),
        (-0.4, 0.13, "-0.40 ± 0.13"),
        (1.234e-6, 4.0e-8, "1.23e-6 ± 4.00e-8"),
        (1.7, math.nan, "1.7"),
        (1.7, None, "1.7"),
        (0.71951, None, "0.72"),
        (5625.0, None, "5625"),
    ],
)
def test_mean_and_spread_are_rounded_alike(ours, spread, expected):
    assert text.value(claim(ours=ours, spread=spread, seeds=5)) == expected


def test_a_factor_multiplies_mean_and_spread():
    assert text.value(claim(ours=0.508, spread=0.015, unit="x", seeds=5)) == "(0.508 ± 0.015)×"


def test_spread_never_claims_more_digits_than_a_double_has():
    shown = text.value(claim(ours=1.7, spread=1e-15, seeds=2))
    assert shown == "1.700000 ± 1.00e-15"


def test_a_missing_number_has_no_seeds_and_always_a_reason():
    for missing in (
        claim(ours=None, status="not attempted", note="needs a GPU"),
        claim(ours=math.nan, status="not reproduced"),
    ):
        assert text.measured(missing) == "—"
        assert text.why(missing)


def test_seeds_are_counted_in_english():
    assert text.measured(claim(ours=1.0, seeds=1)) == "1 (1 seed)"
    assert text.measured(claim(ours=1.0, spread=0.1, seeds=5)) == "1.00 ± 0.10 (5 seeds)"


def test_verdicts_count_every_claim():
    made = [claim(ours=1.0), claim(ours=1.0), claim(ours=math.nan, status="not reproduced")]
    assert text.verdicts(made) == "3 claims: 2 reproduced, 1 not reproduced"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (86399.7, "1 d 0 h"),
        (-1.0, "—"),
        (math.nan, "—"),
    ],
)
def test_duration(seconds, expected):
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ""),
        (["/v/bin/python", "/v/bin/unrolled", "run", "a", "--seed", "3"], "unrolled run a --seed 3"),
        (["/v/bin/python", "-m", "unrolled", "run", "a"], "unrolled run a"),
        (["/v/bin/python", "-X", "utf8", "-m", "unrolled.tour"], "python -X utf8 -m unrolled.tour"),
        (["/usr/bin/python3", "my study.py", "$HOME"], "python3 'my study.py' '$HOME'"),
    ],
)
def test_command_can_be_pasted(words, expected):
    assert text.command(words) == expected


def test_flat_config_keeps_names_and_bounds_values():
    rows = dict(text.flat({"a": {"b": True, "c": {}}, "long": [0.1] * 1000, "none": None}))
    assert rows["a.b"] == "yes"
    assert rows["a.c"] == rows["none"] == "—"
    assert len(rows["long"]) < 350
    assert "4998 characters" in rows["long"]
