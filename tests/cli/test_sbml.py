"""`unrolled sbml`: simulate, scan and report on the command line."""

import csv

import pytest
import torch

from unrolled.cli.sbml import axis
from unrolled.studies._sbml_builder import sbml


@pytest.fixture
def decay(tmp_path):
    path = tmp_path / "decay.xml"
    path.write_text(
        sbml(species={"S": 10}, parameters={"k": 0.5, "lambda": 1}, reactions=["J: S -> : k * S"])
    )
    return path


def test_simulate_a_file(unrolled, decay, tmp_path):
    told = unrolled("sbml", "simulate", decay, "--t-end", "2", "--points", "3", "--out", "s.csv")
    assert "3.6788" in told
    assert "1 trajectory" in told
    with open(tmp_path / "s.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["t", "S"]
    assert float(rows[2][1]) == pytest.approx(10 * 2.718281828 ** (-0.5), rel=1e-5)


def test_scan(unrolled, decay, tmp_path):
    told = unrolled(
        "sbml", "simulate", decay, "--t-end", "1", "--scan", "k=0.1..10:5", "S=1,2", "--set", "lambda=3",
        "--out", "scan.csv", "--plot",
    )  # fmt: skip
    assert "10 variations of" in told
    assert "picture: decay.png" in told
    with open(tmp_path / "scan.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        expected = float(row["S"]) * torch.tensor(-float(row["k"]), dtype=torch.float64).exp().item()
        assert float(row["S end"]) == pytest.approx(expected, rel=1e-4)
    assert (tmp_path / "decay.png").read_bytes()[:4] == b"\x89PNG"


def test_report(unrolled, tmp_path):
    told = unrolled("sbml", "report", "schlogl", "--plot", "s.png")
    for words in ("conserved: nothing", "unstable node: X = 2", "attractors:", "picture: s.png"):
        assert words in told
    assert (tmp_path / "s.png").is_file()


def test_list(unrolled):
    told = unrolled("sbml", "list")
    assert "kholodenko2000" in told
    assert "BIOMD0000000010" in told


@pytest.mark.parametrize("part", ["simulate", "report"])
def test_each_part_has_help_with_an_example(unrolled, part):
    told = unrolled("sbml", part, "--help")
    assert "example: unrolled sbml" in told
    assert f"usage: unrolled sbml {part}" in told


def test_mistakes(unrolled, decay, tmp_path):
    assert "there are simulate, report, list" in unrolled("sbml", "simulat", code=2)
    assert "no shipped network of that name; there are tyson1999" in unrolled(
        "sbml", "report", "nothing.xml", code=2
    )
    words = ("sbml", "simulate", decay, "--t-end", "1")
    assert "NAME=FROM..TO:COUNT" in unrolled(*words, "--scan", "k=1..2", code=2)
    assert "did you mean 'k'?" in unrolled(*words, "--scan", "kk=1,2", code=2)
    assert "as in k1=0.5; got 'k=x'" in unrolled(*words, "--set", "k=x", code=2)
    (tmp_path / "cut.xml").write_text(decay.read_text()[:300])
    assert "cut.xml" in unrolled("sbml", "report", "cut.xml", code=2)
    assert "t_end is the last time" in unrolled("sbml", "simulate", decay, "--t-end", "-1", code=2)


@pytest.mark.parametrize("word", ["k", "k=", "=1..2:3", "k=1..1:4", "k=a..b:3", "k=1..2:0", "k=1;2"])
def test_axes_that_make_no_sense(word):
    with pytest.raises(ValueError, match="NAME=FROM"):
        axis(word)


def test_axes():
    assert axis("k=5..1:5")[1].tolist() == [5, 4, 3, 2, 1]
    assert axis("k=1e-2..1e2:5")[1].tolist() == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert axis("k=3,1")[1].tolist() == [3, 1]
    assert axis("k=2..7:1")[1].tolist() == [2]
