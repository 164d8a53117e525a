import re
from types import SimpleNamespace

import pytest

from unrolled.report import bibtex
from unrolled.report.citations import METHODS, Paper, paper


def test_every_entry_is_one_balanced_bibtex_entry_with_its_own_key():
    keys = [re.match(r"@(\w+)\{([\w]+),\n", entry)[2] for entry in METHODS.values()]
    assert len(set(keys)) == len(keys)
    for entry in METHODS.values():
        assert entry.count("{") == entry.count("}")
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+) = ", entry, re.MULTILINE))


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_paper_is_read_from_a_mapping_or_an_object(kind):
    found = paper(kind(title="T", arXiv="arXiv:2606.04662", bibtex="\n@misc{a,\n}\n"))
    assert found == Paper("T", "2606.04662", "@misc{a,\n}")
    assert found.url == "https://arxiv.org/abs/2606.04662"


def test_a_paper_without_arxiv_or_with_a_strange_number_has_no_link():
    assert Paper("T").url == ""
    assert Paper("T", '"><script>').url == ""


def test_paper_comes_first_and_nothing_twice():
    mine = {"title": "T", "bibtex": "@misc{mine,\n}"}
    keys = re.findall(r"^@\w+\{(\w+)", bibtex(mine, "adam", "muon", "adam"), re.MULTILINE)
    assert keys == ["mine", "kingma2015adam", "jordan2024muon"]


def test_unknown_method_suggests_the_nearest():
    with pytest.raises(ValueError, match="no method 'adamm'; did you mean 'adam'"):
        bibtex("adamm")


def test_paper_without_bibtex_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="give its PAPER authors and a year, or a `bibtex`"):
        bibtex({"title": "T"})


def test_bibtex_is_made_from_authors_title_and_year():
    found = paper(
        {"title": "Why X? A View", "authors": "Ann B. Lee, Ö. Ek", "year": 2026, "arxiv": "2606.04662"}
    )
    assert (
        found.bibtex
        == """@misc{lee2026why,
  author = {Ann B. Lee and Ö. Ek},
  title = {{Why X? A View}},
  year = {2026},
  eprint = {2606.04662},
  archivePrefix = {arXiv}
}"""
    )
