import math

import pytest

from unrolled.runs import Claim, claims


def test_claims_come_back_with_nan_and_none(tmp_path):
    made = [
        Claim(
            "a", "x", paper=1.76, ours=1.7, spread=0.1, seeds=5, unit="x", status="reproduced", preset="small"
        ),
        Claim("b", "y", paper="half", ours=math.nan, status="not reproduced", note="diverged"),
        Claim.not_attempted("c", "z", why="needs a GPU", command="unrolled run s --preset paper", paper=2.94),
    ]
    claims.write(tmp_path / "claims.json", made)
    back = claims.read(tmp_path / "claims.json")
    assert [back[0], back[2]] == [made[0], made[2]]
    assert math.isnan(back[1].ours)
    assert back[1].paper == "half"


def test_no_file_no_claims(tmp_path):
    assert claims.read(tmp_path / "claims.json") == []


def test_fields_of_a_later_version_are_left_out(tmp_path):
    (tmp_path / "c.json").write_text('[{"id": "a", "statement": "x", "note": "n", "colour": "blue"}]')
    assert claims.read(tmp_path / "c.json")[0].id == "a"


@pytest.mark.parametrize(
    "text", ["{", "[3]", '[{"id": "a"}]', '[{"id": "a", "statement": "b", "status": "yes"}]']
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c.json does not hold claims"):
        claims.read(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"status": "confirmed", "ours": 1.0}, "there are 'reproduced'"),
        ({"status": "reproduced"}, "without a number of ours"),
        ({"status": "not reproduced"}, "without a number of ours"),
        ({"status": "reproduced", "ours": math.nan}, "can only be 'not reproduced'"),
        ({"status": "not attempted"}, "say why in note="),
    ],
)
def test_a_verdict_must_stand_on_something(fields, told):
    with pytest.raises(ValueError, match=told):
        Claim("a", "x", **fields)


def test_ids_are_distinct(tmp_path):
    twice = [Claim.not_attempted("a", "x", why="w")] * 2
    with pytest.raises(ValueError, match="distinct ids; used more than once: a"):
        claims.write(tmp_path / "c.json", twice)
