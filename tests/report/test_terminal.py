from io import StringIO

import pytest
from rich.console import Console

from unrolled.report import print_claims
from unrolled.runs import Claim


def shown(made, width=80, **options) -> str:
    out = StringIO()
    print_claims(made, Console(file=out, width=width, color_system=None, **options))
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 71, 72, 80, 120])
def test_everything_fits(width, claims):
    lines = shown(claims, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert " ".join(" ".join(lines).split()).count("direction only") == 2


def test_every_part_of_every_claim_is_there_at_80_columns(claims):
    table = shown(claims)
    words = set(table.split())
    for claim in claims:
        assert set(claim.statement.split()) <= words
        assert claim.status in table
    assert "1.55 ± 0.11" in table
    assert "(5 seeds)" in table
    assert table.rstrip().endswith(
        "5 claims: 1 reproduced, 1 direction only, 2 not reproduced, 1 not attempted"
    )


def test_a_failure_is_as_loud_as_a_success(claims):
    out = StringIO()
    print_claims(claims, Console(file=out, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[1;32mreproduced" in out.getvalue()
    assert "\x1b[1;31mnot reproduced" in out.getvalue()


def test_markup_in_a_statement_is_only_text():
    made = [Claim("a", "[bold]x[/bold] in [0, 1] :smile:", ours=1.0, status="reproduced")]
    assert "[bold]x[/bold] in [0, 1] :smile:" in " ".join(shown(made, 120).split())


@pytest.mark.parametrize("width", [40, 80])
def test_long_words_are_folded_not_cut(width):
    made = [Claim("a", "w" * 100, ours=1.0, paper="q" * 40, unit="x" * 30, status="reproduced")]
    table = shown(made, width).replace("paper", "")
    assert (table.count("w"), table.count("q"), table.count("x")) == (100, 40, 30)


def test_no_claims_is_said():
    assert shown([]).strip() == "no claims"
