import sys
from pathlib import Path

import pytest

from unrolled.runs import study as studies
from unrolled.runs.study import StudyError

WHOLE = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Config:
    preset: str = "tiny"
    seed: int = 0
def tiny():
    return Config()
def study(config, run):
    return []
"""


@pytest.fixture
def file(tmp_path):
    def make(text, name="my_study.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    before = dict(sys.modules)
    yield make
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def test_a_study_by_its_path(file):
    study = studies.load(file(WHOLE))
    assert (study.name, study.own, study.presets) == ("my-study", False, ["tiny"])
    assert study.reference == str(study.source)
    assert study.config().preset == "tiny"
    assert studies.load(study.reference).name == study.name


def test_helpers_beside_the_file_are_found(file, tmp_path):
    (tmp_path / "beside_it.py").write_text("SEED = 5")
    study = studies.load(
        file(
            WHOLE.replace("seed: int = 0", "seed: int = SEED").replace(
                "\nfrom", "\nfrom beside_it import SEED\nfrom", 1
            )
        )
    )
    assert study.config().seed == 5


BROKEN = {
    "def f(:": r"my_study.py, line 1: invalid syntax",
    "import not_there_at_all": "cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'",
    "1 / 0": "cannot be imported: ZeroDivisionError",
    "x = 1": "needs a frozen dataclass `Config`",
    WHOLE.replace("(frozen=True)", ""): "Config must be frozen",
    WHOLE.replace("preset: str", "kind: str"): "needs a field `preset: str`",
    WHOLE.replace("def study", "def stud"): "needs `def study",
    WHOLE.replace("def tiny", "def huge"): "at least one preset",
}


@pytest.mark.parametrize(("text", "told"), BROKEN.items(), ids=list(BROKEN.values()))
def test_a_broken_study_says_how_to_mend_it(file, text, told):
    with pytest.raises(StudyError, match=told):
        studies.load(file(text))


def test_a_preset_that_makes_no_config(file):
    with pytest.raises(StudyError, match=r"tiny\(\) returned 3, which is not a Config"):
        studies.load(file(WHOLE.replace("return Config()", "return 3"))).config()


def test_presets_and_names_are_suggested(file, monkeypatch, tmp_path):
    with pytest.raises(StudyError, match=r"no preset 'tyni'; did you mean 'tiny'\? It has tiny"):
        studies.load(file(WHOLE)).config("tyni")
    with pytest.raises(StudyError, match="no file ./no_study.py"):
        studies.load("./no_study.py")
    (tmp_path / "studies").mkdir()
    for name in ("curvature_text", "_shared", "__init__"):
        (tmp_path / "studies" / f"{name}.py").write_text(WHOLE)
    monkeypatch.setattr(studies, "FOLDER", tmp_path / "studies")
    assert studies.names() == ["curvature-text"]
    with pytest.raises(StudyError, match=r"no study 'curvature-txt'; did you mean 'curvature-text'\?"):
        studies.load("curvature-txt")


def test_a_list_needs_no_import(monkeypatch, tmp_path):
    (tmp_path / "one.py").write_text(
        '"""What is it?\n\nMore."""\nimport nothing_here\nPAPER = {"arxiv": "2606.04662"}\n' + WHOLE
    )
    (tmp_path / "two.py").write_text("from unrolled.studies import _b as b\nPAPER = b.PAPER\n")
    (tmp_path / "_b.py").write_text('PAPER = {"title": "A title"}')
    (tmp_path / "bad.py").write_text("def f(:")
    monkeypatch.setattr(studies, "FOLDER", tmp_path)
    one = studies.summary("one")
    assert (one.title, one.paper, one.presets) == ("What is it?", "arXiv 2606.04662", ["tiny"])
    assert studies.summary("two").paper == "A title"
    assert "cannot be read" in studies.summary("bad").title


def test_every_study_of_the_package_loads():
    for name in studies.names():
        study = studies.load(name)
        assert "tiny" in study.presets
        for preset in study.presets:
            assert study.config(preset).preset == preset
        assert Path(study.source).stem.replace("_", "-") == name
