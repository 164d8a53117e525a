import base64
import json
import re

import numpy as np
import pytest
import torch

from unrolled.core import Trajectory
from unrolled.runs import Run
from unrolled.view import bundle


def answers(folder):
    """What the scripts under data/ hand over: key -> value."""
    found = {}
    for path in (folder / "data").rglob("r*/*.js"):
        key, value = re.fullmatch(r"unrolledData\((\".*?\"), (.*)\);\n", path.read_text(), re.S).groups()
        found[json.loads(key)] = json.loads(value)
    return found


def index(folder):
    return json.loads(
        re.fullmatch(
            r"globalThis\.unrolledBundle = (.*);\n", (folder / "data" / "index.js").read_text(), re.S
        )[1]
    )


def test_a_bundle_holds_the_page_and_the_answers(run, tmp_path):
    site = tmp_path / "site"
    assert bundle.write([run], site) == site / "index.html"
    told, held = index(site), answers(site)
    files = told["files"][f"{run.study}/{run.id}"]
    assert [row["id"] for row in told["runs"]["runs"]] == [run.id]
    assert held[files["run"]]["claims"][0]["statement"] == "it <b>walks</b>"
    assert held[files["run"]]["folder"] == ""
    exhibit = held[files["exhibits"]["trajectory/x"]]
    (file,) = exhibit["arrays"]["values"]["files"]
    values = np.frombuffer(base64.b64decode(held[file]), "<f4").reshape(exhibit["arrays"]["values"]["shape"])
    np.testing.assert_array_equal(values, run.trajectory()["x"].numpy())
    assert (site / "data" / files["figures"]["one.svg"]).read_text().startswith("<svg")
    assert (site / "static" / "vendor" / "uplot" / "LICENSE").is_file()


def test_the_page_of_a_bundle_loads_nothing_from_elsewhere(run, tmp_path):
    page = bundle.write([run], tmp_path / "site").read_text()
    assert "http-equiv" in page
    assert "default-src 'none'" in page
    linked = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert linked
    for name in linked:
        assert (tmp_path / "site" / name).is_file(), name
    assert 'type="module"' not in page


def test_a_bundle_is_replaced_and_anything_else_left_alone(run, make_run, root, tmp_path):
    site = tmp_path / "site"
    bundle.write([run], site)
    bundle.write([run], site)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="holds no bundle"):
        bundle.write([run], other)
    assert (other / "thesis.tex").read_text() == "years"
    with pytest.raises(ValueError, match="at least one run"):
        bundle.write([], site)


def test_what_is_too_large_is_thinned_out_and_says_so(root, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "WHOLE", 64)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    with Run.create("toy", {"seed": 0}, root=root) as run:
        run.save_trajectory(
            Trajectory.from_records(
                torch.arange(1000), {"x": x, "wide": torch.arange(16000.0).reshape(1000, 16)}
            )
        )
    bundle.write([run], tmp_path / "site")
    held = answers(tmp_path / "site")
    files = index(tmp_path / "site")["files"][f"toy/{run.id}"]["exhibits"]
    thin = held[files["trajectory/x"]]
    assert "Thinned out in this copy" in thin["exhibit"]["caption"]
    values = np.frombuffer(base64.b64decode(held[thin["arrays"]["values"]["files"][0]]), "<f4")
    assert (values.min(), values.max()) == (x.min(), x.max())
    wide = held[files["trajectory/wide"]]["arrays"]["values"]
    rows = np.frombuffer(base64.b64decode(held[wide["index"][0]]), "<f8")
    values = np.frombuffer(base64.b64decode(held[wide["files"][0]]), "<f4").reshape(wide["shape"])
    np.testing.assert_array_equal(values[:, 0], rows * 16)


def test_what_cannot_be_read_is_left_out_and_told(run, tmp_path):
    (run.path / "readings" / "settling.json").write_text("{")
    (run.path / "readings" / "fine.json").write_text('{"name": "fine", "values": {"a": 1}}')
    lines = []
    bundle.write([run], tmp_path / "site", tell=lines.append)
    assert any("settling is left out" in line for line in lines)
    detail = answers(tmp_path / "site")["r0/run.js"]
    assert "readings/settling" not in [panel["source"] for panel in detail["panels"]]
    assert any("settling" in problem for problem in detail["problems"])


def test_every_module_of_the_app_goes_into_the_script():
    made = bundle.script(bundle.kinds())
    for kind in bundle.kinds():
        assert f"// panels/{kind}.js\n" in made
    for name in ("app", "board", "scrubber", "source", "bundled"):
        assert f"// {name}.js\n" in made
    assert not re.search(r"^(import\s|export\s)", made, re.M)
    assert made.count("// util.js\n") == 1


@pytest.fixture
def modules(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "STATIC", tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.js").write_text(text)
        return bundle.script([])

    return write


def test_modules_become_functions(modules):
    made = modules(
        app='import one from "./a.js";\nimport { two as second,\n  three } from "./a.js";\nimport * as all from "./a.js";\none(); second();\n',
        a="export default function one() {}\nexport async function two() {}\nconst four = 4;\nexport { four as three };\nexport const five = 5;\n/*\nexport function old() {}\n*/\n",
    )
    assert "const one = module0.default;" in made
    assert "const { two: second,\n  three } = module0;" in made
    assert "const all = module0;" in made
    assert "return { default: one, two, five, three: four };" in made
    assert "old" not in made


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app": 'import "./a.js";\n', "a": ""}, "cannot bundle"),
        ({"app": "export default () => 1;\n"}, "cannot bundle"),
        ({"app": "export let x = 1;\n"}, "cannot bundle"),
        ({"app": 'import x, { y } from "./a.js";\n', "a": ""}, "cannot bundle"),
        ({"app": 'import { y } from "./missing.js";\n'}, "not there"),
        ({"app": 'import { y } from "../../secret.js";\n'}, "not there"),
        (
            {
                "app": 'import { y } from "./a.js";\n',
                "a": 'import { z } from "./b.js";\n',
                "b": 'import { y } from "./a.js";\n',
            },
            "import each other",
        ),
    ],
)
def test_a_module_in_another_style_is_named(modules, files, message):
    with pytest.raises(ValueError, match=message):
        modules(**files)


def test_the_verb_writes_a_bundle(run, root, tmp_path, capsys):
    from unrolled.cli import main

    assert main(["view", run.id, "--runs", str(root), "--bundle", str(tmp_path / "site")]) == 0
    assert "bundle: " in capsys.readouterr().out
    assert index(tmp_path / "site")["files"].keys() == {f"{run.study}/{run.id}"}
