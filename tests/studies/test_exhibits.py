"""What studies leave to be looked at, held to what they measured."""

import math

import pytest
import torch

from unrolled.core import Trajectory
from unrolled.debate import FJFits, fit
from unrolled.latent.tasks import prosqa
from unrolled.runs import Run, exhibits
from unrolled.sbml import models
from unrolled.studies import (
    _curvature_exhibits,
    _debate,
    _debate_exhibits,
    _latent_exhibits,
    _looped_exhibits,
    _sbml_exhibits,
)


@pytest.fixture
def run(tmp_path):
    with Run.create("demo", {"preset": "none", "seed": 0}, root=tmp_path) as made:
        yield made


def body(run, name):
    return exhibits.load(run.path, name)


def generated(seed):
    log, _ = _debate.generated(1, 5, 0.002, torch.Generator().manual_seed(seed))
    return log.questions[0]


def fitted(question):
    fits = fit([question.beliefs])
    assert isinstance(fits, FJFits)
    return fits[0]


def test_a_debate_shows_its_fit(run):
    question = generated(3)
    found = fitted(question)
    _debate_exhibits.show(run, question, found)
    assert run.exhibits() == ["1-influence", "2-beliefs", "3-transcript"]
    shown = exhibits.arrays(run.path, "1-influence")
    assert torch.equal(shown["edges"][0], torch.eye(5)), "before the first round each holds its own belief"
    assert torch.allclose(shown["edges"].sum(-1), torch.ones(6, 5), atol=1e-5)
    assert torch.allclose(shown["size"].double(), found.gamma, atol=1e-6)
    entries = body(run, "3-transcript")["data"]["entries"]
    assert len(entries) == 6 * 5
    assert "moved_by" not in entries[0]
    assert entries[-1]["moved_by"]["agent 0"] == pytest.approx(float(found.H[4, 0]))
    assert all(abs(sum(e["moved_by"].values()) - 1) < 1 for e in entries[5:]), (
        "what an agent keeps is its own"
    )


def test_a_debate_with_gaps_and_without_a_fit_shows_the_rest(run):
    question = generated(3)
    question.beliefs[2, 1] = math.nan
    question.texts = [[f"<b>round {t}, {name}</b>" for name in question.agents] for t in range(6)]
    question.beliefs = question.beliefs[:2]  # one transition determines nothing
    found = fitted(question)
    assert found.status != "identified"
    _debate_exhibits.show(run, question, found)
    assert run.exhibits() == ["2-beliefs", "3-transcript"]
    entries = body(run, "3-transcript")["data"]["entries"]
    assert entries[0]["text"] == "<b>round 0, agent 0</b>"
    assert not any("moved_by" in entry for entry in entries)


def test_an_answer_that_is_missing_is_said_to_be(run):
    question = generated(3)
    question.beliefs[2, 1] = math.nan
    _debate_exhibits.show(run, question, fitted(question))
    entries = body(run, "3-transcript")["data"]["entries"]
    assert entries[2 * 5 + 1]["text"] == "no answer"
    assert entries[3 * 5 + 1]["note"] == "(was no answer)"
    assert exhibits.arrays(run.path, "2-beliefs")["values"][2, 1].isnan().all()


def path(steps, nds):
    columns = ("val_loss", "gain", "penalty", "predicted", "actual", "nds")
    return Trajectory.from_records(steps, {name: torch.full((len(steps),), nds) for name in columns})


def test_curvature_shows_the_steps_that_all_optimizers_were_probed_at(run):
    paths = {"adam": path([0, 10, 20], 2.0), "muon": path([0, 20, 30], 1.0)}
    layers = {"adam": Trajectory.from_records([0, 10], {"nds": torch.tensor([[1.0, math.nan], [3.0, -2.0]])}, meta={"groups": ["a", "b"]})}  # fmt: skip
    _curvature_exhibits.show(run, paths, {"adam": "Adam", "muon": "Muon"}, layers)
    assert body(run, "4-nds")["t"] == [0, 20]
    assert body(run, "4-nds")["data"]["roles"] == {"adam": "minus", "muon": "plus"}
    assert exhibits.arrays(run.path, "3-predicted")["group"].tolist() == [0, 0, 1, 1]
    low, high = body(run, "5-layers-adam")["data"]["range"]
    assert low == -high
    assert high in (2.0, 3.0), "the sharpest twentieth may lie beyond the scale"


def test_curvature_without_a_common_step_shows_nothing(run):
    _curvature_exhibits.show(
        run, {"adam": path([0], 1.0), "muon": path([5], 1.0)}, {"adam": "a", "muon": "m"}, {}
    )
    assert run.exhibits() == []


def test_the_whole_orbit_lies_in_the_window(run):
    _sbml_exhibits.show(run, models.named("tyson1999"), "tyson1999", 48)
    shown = exhibits.arrays(run.path, "tyson1999-2-phase")
    told = body(run, "tyson1999-2-phase")["data"]
    assert (told["xlabel"], told["ylabel"]) == ("M", "P"), "what cannot move is no axis"
    for axis, span in (("x", told["xrange"]), ("y", told["yrange"])):
        assert span[0] <= float(shown[axis].min())
        assert float(shown[axis].max()) <= span[1]
    assert [point["stable"] for point in told["points"]] == [False], "the clock turns about an unstable focus"
    assert set(exhibits.arrays(run.path, "tyson1999-1-traces")) == {"M", "P"}
    ends = (
        exhibits.arrays(run.path, "tyson1999-1-traces")["M"][-1],
        exhibits.arrays(run.path, "tyson1999-1-traces")["P"][-1],
    )
    assert [float(v) for v in ends] == pytest.approx([0.55942872, 1.7246705], rel=1e-4), (
        "libroadrunner's at t = 48"
    )


def test_thoughts_are_told_by_their_shares(run):
    graph = prosqa(1, seed=0)[0].graph
    assert graph is not None
    thoughts = torch.zeros(2, graph.nodes)
    thoughts[0, graph.root] = 1.0
    thoughts[1, :4] = 0.5
    _latent_exhibits.show(run, graph, thoughts, [{graph.root}, {0, 1, 2, 3}])
    p = exhibits.arrays(run.path, "2-lens")["probability"]
    assert p[0, 0, 0] == 1
    assert torch.allclose(p[1, 0, :4], torch.full((4,), 0.25))
    assert body(run, "2-lens")["data"]["text"][0][0][0] == graph.names[graph.root]
    assert exhibits.arrays(run.path, "3-norms")["nodes held"].tolist() == [1, 4]
    assert exhibits.arrays(run.path, "1-frontier")["truth"].sum(1).tolist() == [1, 4]


def test_cost_of_length_leaves_gaps_where_nothing_was_timed(run):
    rows = [{"form": "fast", "length": n, "seconds": n / 10, "backward": False} for n in (8, 16)]
    rows += [
        {"form": "slow", "length": 8, "seconds": 9.0, "backward": False},
        {"form": "fast", "length": 8, "seconds": 99.0, "backward": True},
    ]
    _looped_exhibits.cost(run, rows)
    assert run.exhibits() == ["3-operators"]
    shown = exhibits.arrays(run.path, "3-operators")
    assert shown["x"].tolist() == [8, 16]
    assert shown["fast"].tolist() == pytest.approx([0.8, 1.6])
    assert shown["slow"][0] == 9
    assert shown["slow"][1].isnan()
