import json
import re
import subprocess
import sys

import pytest

from unrolled.report import claims_page
from unrolled.runs import Claim, Run, RunError


@pytest.fixture
def docs(tmp_path, finished):
    folder = tmp_path / "docs"
    claims_page.record(finished, folder / "claims")
    return folder


def test_a_record_holds_what_made_the_numbers_and_nothing_about_whose_machine_it_was(docs, claims, finished):
    (path,) = (docs / "claims").iterdir()
    assert path.name == "made-up-curvature-tiny.json"
    value = json.loads(path.read_text())
    assert [row["id"] for row in value["claims"]] == [claim.id for claim in claims]
    assert value["config"]["lr"]["muon"] == 0.02
    assert set(value["environment"]) <= set(claims_page.KEPT)
    assert value["environment"]["torch"]
    assert str(finished) not in path.read_text()
    assert str(finished.parent) not in path.read_text()


def test_the_page_shows_every_claim_and_is_the_same_each_time(docs, claims):
    made = claims_page.page(docs / "claims")
    assert made == claims_page.page(docs / "claims")
    rows = [line for line in made.splitlines() if line.startswith("| ") and "** | " in line]
    assert len(rows) == len(claims)
    for claim, row in zip(claims, rows):
        assert f"**{claim.status}**" in row
    assert "1.55&nbsp;±&nbsp;0.11 (5&nbsp;seeds)" in made
    assert "5 claims: 1 reproduced, 1 direction only, 2 not reproduced, 1 not attempted" in made
    assert "The cross-layer part falls &lt;fastest&gt; for Muon" in made


def test_anchors_are_those_of_mkdocs(docs):
    markdown = pytest.importorskip("markdown")
    made = markdown.markdown(claims_page.page(docs / "claims"), extensions=["toc", "tables", "fenced_code"])
    ids, links = set(re.findall(r'id="([^"]+)"', made)), set(re.findall(r'href="#([^"]+)"', made))
    assert links
    assert links <= ids


def test_markdown_in_a_claim_is_only_text(tmp_path, study_file):
    markdown = pytest.importorskip("markdown")
    nasty = "a | b `c` *d* _e_ [f](g) <script> \\ \n\n# h"
    with Run.create("nasty", {"preset": "tiny"}, tmp_path / "runs", source=str(study_file)) as run:
        run.save_claims([Claim("a", nasty, paper=nasty, ours=1.0, status="reproduced", note=nasty)])
    claims_page.record(run, tmp_path / "claims")
    made = markdown.markdown(claims_page.page(tmp_path / "claims"), extensions=["tables", "fenced_code"])
    row = re.findall(r"<tr>(.*?)</tr>", made, re.DOTALL)[-1]
    cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
    assert len(cells) == 4
    assert cells[3] == "a | b `c` *d* _e_ [f](g) &lt;script&gt; \\ # h"


def test_presets_come_from_small_to_large(tmp_path, study_file):
    for preset in ("paper", "tiny", "small", "own"):
        with Run.create("s", {"preset": preset}, tmp_path / "runs", source=str(study_file)) as run:
            run.save_claims([Claim("a", "b", note="later")])
        claims_page.record(run, tmp_path / "claims")
    headings = re.findall(r"^### s, preset (\w+)", claims_page.page(tmp_path / "claims"), re.MULTILINE)
    assert headings == ["tiny", "small", "paper", "own"]


def test_only_finished_runs_with_claims_are_recorded(killed, tmp_path):
    with pytest.raises(RunError, match="is lost: only the claims of a finished run"):
        claims_page.record(killed, tmp_path / "claims")
    with Run.create("s", {"preset": "tiny"}, tmp_path / "runs") as run:
        pass
    with pytest.raises(RunError, match="has no claims"):
        claims_page.record(run, tmp_path / "claims")
    assert not (tmp_path / "claims").exists()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"claims": [{"id": "a"}]}'])
def test_a_damaged_record_is_named(tmp_path, damage):
    (tmp_path / "bad.json").write_text(damage)
    with pytest.raises(ValueError, match=r"bad\.json is no record of claims"):
        claims_page.page(tmp_path)


def test_command_line(docs, finished, capsys):
    main = claims_page.main
    assert main(["--docs", str(docs), "--check"]) == 1
    assert main(["--docs", str(docs), str(finished)]) == 0
    assert main(["--docs", str(docs), "--check"]) == 0
    (docs / "claims.md").write_text("edited by hand")
    assert main(["--docs", str(docs), "--check"]) == 1
    assert main(["--docs", str(docs), str(docs / "nothing")]) == 2
    assert "no run at" in capsys.readouterr().err


def test_runs_as_a_module_without_a_warning(docs):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unrolled.report.claims_page", "--docs", str(docs)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"wrote {docs / 'claims.md'}"
