import io
import urllib.error
import urllib.request

import pytest
from sbml_text import DECAY, sbml

from unrolled.sbml import SBMLError, fetch

pytest.importorskip("libsbml")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Addresses that were asked for; the answer is in `asked.answer`."""
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path))

    class Asked(list):
        answer: bytes | Exception = b""

    asked = Asked()

    def urlopen(address, timeout):
        asked.append(address)
        if isinstance(asked.answer, Exception):
            raise asked.answer
        return io.BytesIO(asked.answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_it_is_downloaded_once(asked, tmp_path):
    asked.answer = sbml(DECAY).encode()
    for name in ("BIOMD0000000012", "12", "biomd0000000012"):
        assert fetch(name).species == ("S",)
    assert len(asked) == 1
    assert asked[0].startswith("https://")
    assert "BIOMD0000000012" in asked[0]
    assert [p.name for p in (tmp_path / "biomodels").iterdir()] == ["BIOMD0000000012.xml"]


def test_without_a_network_it_says_how_to_go_on(asked):
    asked.answer = urllib.error.URLError("Name or service not known")
    with pytest.raises(
        ConnectionError, match=r"cannot be reached \(Name or service not known\); download .* sbml\.load"
    ):
        fetch("BIOMD0000000012")
    asked.answer = urllib.error.HTTPError("u", 404, "Not Found", None, None)
    with pytest.raises(ConnectionError, match="has no file of BIOMD0000099999 \\(HTTP 404\\)"):
        fetch("99999")


def test_an_error_page_is_not_kept(asked, tmp_path):
    asked.answer = b"<html><body>busy</body></html>"
    with pytest.raises(SBMLError, match="first element is <html>"):
        fetch("12")
    assert not list(tmp_path.rglob("*.xml"))


@pytest.mark.parametrize("name", ["", "BIOMD", "../../etc/passwd", "12; rm", "MODEL123", "http://x"])
def test_names(name):
    with pytest.raises(ValueError, match="no identifier of BioModels"):
        fetch(name)
