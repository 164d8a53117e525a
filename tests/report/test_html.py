import base64
import html
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from unrolled import report
from unrolled.runs import Claim, Run, RunError

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text; fails on tags that do not close each other."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_one_file_that_fetches_nothing_and_runs_nothing(finished):
    source = report.write(finished).read_text()
    page = Page(source)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "embed", "base")]
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "xlink:href") or (name == "href" and tag != "a"):
                assert value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"url\((?!#)|@import", source)
    assert "default-src 'none'" in source


def test_every_claim_number_verdict_note_and_source_is_there(finished, claims):
    words = Page(report.write(finished).read_text()).words()
    for claim in claims:
        for piece in (claim.statement, claim.note, claim.source):
            assert " ".join(piece.split()) in words
    assert "1.55 ± 0.11 (5 seeds)" in words
    for verdict in ("✓ 1 reproduced", "≈ 1 direction only", "✗ 2 not reproduced", "○ 1 not attempted"):
        assert verdict in words


def test_claims_keep_their_order_whatever_the_verdict(finished, claims):
    words = Page(report.write(finished).read_text()).words()
    places = [words.index(claim.statement) for claim in claims]
    assert places == sorted(places)


def test_it_says_how_it_was_made(finished):
    run = Run.open(finished)
    words = Page(report.write(run).read_text()).words()
    assert report.text.command(run.environment["command"]) in words
    for piece in (
        "lr.muon 0.02",
        "preset tiny",
        run.environment["torch"],
        "from start to end",
        "120",
        str(finished),
    ):
        assert piece in words


def test_the_paper_and_the_methods_are_cited(finished):
    words = Page(report.write(finished).read_text()).words()
    assert "@misc{nobody2000made," in words
    assert "@misc{jordan2024muon," in words
    assert "@inproceedings{kingma2015adam," in words


def test_figures_are_inline_with_captions_and_saved_in_the_run(finished):
    source = report.write(finished).read_text()
    page = Page(source)
    assert [tag for tag, _ in page.tags].count("svg") == 3
    assert "Muon in orange, Adam in blue." in page.words()
    assert "2,001 of 100,000 points are drawn" in page.words()
    assert sorted(path.name for path in (finished / "figures").iterdir()) == [
        "gain-penalty.svg",
        "long.svg",
        "loss.svg",
    ]
    ids = re.findall(r'\sid="([^"]+)"', source)
    assert len(set(ids)) == len(ids)


def test_what_users_wrote_is_text(tmp_path):
    evil = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    made = [
        Claim(
            "a",
            evil,
            paper=evil,
            ours=1.0,
            status="reproduced",
            note=evil,
            source=evil,
            hardware=evil,
            unit=evil,
        )
    ]
    with Run.create(
        "made-up", {"preset": evil, evil: evil}, tmp_path / "<b>runs", source=evil + ".py"
    ) as run:
        run.save_claims(made)
    source = report.write(run).read_text()
    assert "<script" not in source
    assert "<b>runs" not in source
    assert "49" not in re.sub(r"[0-9a-f-]{8,}", "", Page(source).words())
    assert Page(source).words().count(html.unescape(evil)) >= 5


def test_a_killed_run_says_so_and_how_to_go_on(killed):
    words = Page(report.write(killed).read_text()).words()
    assert (
        "This run is lost: its process ended in phase “train adam” at step 120 of 300 without a word."
        in words
    )
    assert f"unrolled resume {killed}" in words
    assert "This run has recorded no claims." in words


def test_a_failed_run_shows_its_error(tmp_path, study_file):
    with (
        pytest.raises(ZeroDivisionError),
        Run.create("made-up", {"preset": "tiny"}, tmp_path, source=str(study_file)) as run,
    ):
        raise ZeroDivisionError("<no> luck")
    words = Page(report.write(run).read_text()).words()
    assert "This run failed: ZeroDivisionError: <no> luck." in words
    assert "Traceback (most recent call last)" in words


def test_a_running_run_is_not_final(tmp_path, study_file):
    with Run.create("made-up", {"preset": "tiny"}, tmp_path, source=str(study_file)) as run:
        run.status(phase="train", step=3, steps=10)
        words = Page(report.write(run).read_text()).words()
    assert "still going on in phase “train” at step 3 of 10: what follows is not final" in words


def test_a_finished_run_without_claims_says_so(tmp_path, study_file, fill):
    with Run.create("made-up", {"preset": "tiny"}, tmp_path, source=str(study_file)) as run:
        fill(run, 20)
    assert "finished without recording any claim" in Page(report.write(run).read_text()).words()


def test_a_report_survives_a_lost_study_and_keeps_the_figures(finished, study_file):
    report.write(finished)
    study_file.unlink()
    (finished / "figures" / "photo.png").write_bytes(b"\x89PNG\r\n")
    page = Page(report.write(finished).read_text())
    assert "The study could not be loaded" in page.words()
    assert "Muon in orange, Adam in blue." in page.words()
    data = base64.b64encode(b"\x89PNG\r\n").decode()
    assert ("img", {"src": f"data:image/png;base64,{data}", "alt": ""}) in page.tags


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise KeyError('no metrics')", "The figures could not be drawn: KeyError: 'no metrics'"),
        ("return None", "The figures could not be drawn: AttributeError"),
        ("return {'a': 3}", "The figures could not be drawn: AttributeError"),
    ],
)
def test_a_report_survives_figures_that_fail(finished, study_file, body, told):
    source = study_file.read_text()
    study_file.write_text(source[: source.index("def figures")] + f"def figures(run):\n    {body}\n")
    words = Page(report.write(finished).read_text()).words()
    assert told in words
    assert "1.55 ± 0.11" in words


def test_broken_and_huge_pictures_are_named_not_shown(finished):
    (finished / "figures" / "broken.svg").write_text("<svg><g></svg>")
    (finished / "figures" / "huge.png").write_bytes(b"0" * 3_000_000)
    path = report.write(finished)
    words = Page(path.read_text()).words()
    assert "broken cannot be shown: this is no SVG" in words
    assert "huge.png takes 4,000,000 bytes" in words
    assert path.stat().st_size < 3_000_000


def test_damaged_claims_and_metrics_are_reported(finished):
    (finished / "claims.json").write_text('[{"id": "a"')
    (finished / "metrics.parquet").unlink(missing_ok=True)
    (finished / "metrics.jsonl").write_text("{}\nrubbish\n{}\n")
    words = Page(report.write(finished).read_text()).words()
    assert "The claims could not be read" in words
    assert "The metrics could not be read" in words


def test_figures_share_the_room_that_a_file_has(tmp_path, monkeypatch):
    monkeypatch.setattr(report.section, "TOTAL", 450_000)
    study = tmp_path / "crowded.py"
    study.write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    preset: str = 'tiny'\n"
        "def tiny(): return Config()\ndef study(config, run): return []\n"
        "def figures(run):\n    import numpy as np\n    from matplotlib.figure import Figure\n    made = {}\n"
        "    for i in range(3):\n        f = Figure(); ax = f.subplots()\n"
        "        for j in range(12): ax.plot(np.random.default_rng(j).standard_normal(1900), lw=0.5)\n"
        "        made[f'f{i}'] = (f, 'noise')\n    return made\n"
    )
    with Run.create("crowded", {"preset": "tiny"}, tmp_path / "runs", source=str(study)) as run:
        pass
    path = report.write(run)
    assert path.stat().st_size < 500_000
    assert path.read_text().count("drawn as an image") == 3


def test_several_runs_make_one_file_with_a_section_each(finished, killed):
    path = report.write_many([finished, Run.open(killed)], title="The tour")
    assert path == finished.parent / "report.html"
    source = path.read_text()
    page = Page(source)
    sections = [attrs for tag, attrs in page.tags if tag == "section"]
    assert [section["id"] for section in sections] == ["section-1", "section-2"]
    targets = {attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs["href"].startswith("#")}
    assert targets == {"#section-1", "#section-2"}
    ids = re.findall(r'\sid="([^"]+)"', source)
    assert len(set(ids)) == len(ids)
    assert "The tour" in page.words()


def test_out_and_no_traces(finished, tmp_path):
    out = tmp_path / "elsewhere" / "mine.html"
    assert report.write(str(finished), out) == out
    assert [path.name for path in out.parent.iterdir()] == ["mine.html"]
    assert not (finished / "report.html").exists()


def test_bad_arguments(tmp_path):
    with pytest.raises(RunError, match="no run at"):
        report.write(tmp_path / "nothing")
    with pytest.raises(ValueError, match="at least one run"):
        report.write_many([])


def test_importing_report_imports_neither_matplotlib_nor_jinja2():
    code = (
        "import sys, unrolled.report as r; r.write, r.print_claims, r.bibtex, r.figures.style\n"
        "print([m for m in ('matplotlib', 'jinja2', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
