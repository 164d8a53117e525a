import pytest
from sbml_text import DECAY, sbml

from unrolled.sbml import conformance

pytest.importorskip("libsbml")

MODEL_M = """(*
category:      Test
componentTags: Compartment, Species, Reaction, Parameter
testTags:      Amount
testType:      TimeCourse
levels:        3.2
packagesPresent:
*)"""
SETTINGS = """start: 0
duration: 2
steps: 2
variables: S
absolute: 1e-6
relative: 1e-4
amount: S
concentration:
"""


@pytest.fixture
def case(tmp_path):
    """6 exp(-t / 2), written down as the suite would."""
    folder = tmp_path / "00001"
    folder.mkdir()
    (folder / "00001-model.m").write_text(MODEL_M)
    (folder / "00001-settings.txt").write_text(SETTINGS)
    (folder / "00001-sbml-l3v2.xml").write_text(sbml(DECAY))
    (folder / "00001-results.csv").write_text("time,S\n0,6\n1,3.639183958\n2,2.207276647\n")
    (found,) = conformance.cases(tmp_path)
    return found


def rewrite(case, name, old, new):
    path = case.folder / f"00001-{name}"
    path.write_text(path.read_text().replace(old, new))
    return conformance.cases(case.folder.parent)[0]


def test_a_case_passes(case):
    assert (case.number, case.simple, case.events, case.kind) == (1, True, False, "TimeCourse")
    assert conformance.run_case(case).status == "passed"


def test_a_wrong_number_is_wrong(case):
    made = conformance.run_case(rewrite(case, "results.csv", "2.207276647", "2.2076"))
    assert made.status == "wrong"
    assert made.detail.startswith("S at t = 2: 2.20727")
    rewrite(case, "results.csv", "2.2076", "nan")
    assert conformance.run_case(case).status == "wrong"


def test_an_amount_is_no_concentration(case):
    rewrite(case, "sbml-l3v2.xml", 'size="1"', 'size="2"')
    assert conformance.run_case(case).status == "passed"
    case = rewrite(case, "settings.txt", "amount: S", "amount:")
    assert conformance.run_case(case).status == "wrong"


def test_refusals_and_failures_are_told_apart(case):
    rewrite(case, "sbml-l3v2.xml", "<ci>k</ci>", "<ci>q</ci>")
    made = conformance.run_case(case)
    assert made.status == "refused"
    assert "'q'" in made.detail
    rewrite(case, "sbml-l3v2.xml", "<ci>q</ci>", "<apply><ln/><cn>-1</cn></apply>")
    assert conformance.run_case(case).status == "failed"
    other = rewrite(case, "model.m", "TimeCourse", "FluxBalanceSteadyState")
    assert conformance.run_case(other).status == "skipped"


def test_subsets(case):
    for tag, simple, core in (
        ("EventNoDelay", False, True),
        ("AlgebraicRule", False, False),
        ("FastReaction", False, False),
    ):
        other = rewrite(case, "model.m", "testTags:      Amount", f"testTags:      Amount, {tag}")
        assert (other.simple, other.core) == (simple, core)
        rewrite(case, "model.m", f", {tag}", "")


def test_no_cases(tmp_path):
    with pytest.raises(FileNotFoundError, match="no cases of the SBML Test Suite"):
        conformance.cases(tmp_path)


# One of every sixteen simple cases and some with events; the study runs all of them.
EVENTS = (27, 71, 73, 349, 353, 401, 407, 419, 425, 613, 661, 673, 931)


@pytest.mark.data
def test_a_sample_of_the_suite(suite):
    found = conformance.cases(suite)
    chosen = [case for case in found if case.simple][::16] + [
        c for c in found if c.core and c.number in EVENTS
    ]
    made = [conformance.run_case(case) for case in chosen]
    assert [(o.number, o.status, o.detail) for o in made if o.status != "passed"] == []


@pytest.mark.data
def test_unsupported_cases_are_refused_not_wrong(suite):
    left = [case for case in conformance.cases(suite) if case.kind == "TimeCourse" and not case.core]
    made = [conformance.run_case(case) for case in left[::6]]
    assert {o.status for o in made} <= {"refused", "passed"}, [(o.number, o.status, o.detail) for o in made]
