"""The studies of talk, agreement and properties at toy sizes: what they log, what they claim, what they draw."""

import dataclasses

import pytest
import torch

from unrolled.languagegame import _properties as tables
from unrolled.runs.run import Run
from unrolled.studies import _game_table, game_agreement, game_properties, game_talk

TOY = {"steps": 8192, "training": "fast"}


def perform(study, tmp_path, **changes):
    config = dataclasses.replace(study.tiny(), **changes)
    with Run.create(study.__name__.rpartition(".")[2].replace("_", "-"), config, root=tmp_path) as made:
        claims = study.study(config, made)
        made.save_claims(claims)
    return Run.open(made.path), {claim.id: claim for claim in claims}


def draws(study, run):
    pytest.importorskip("matplotlib", reason="the extra report brings it")
    made = study.figures(run)
    assert all(figure.axes and caption for figure, caption in made.values())
    for figure, _ in made.values():
        figure.canvas.draw()
    return made


def test_talk(tmp_path):
    run, claims = perform(game_talk, tmp_path, networks=("tyson1999",), games=("cartpole",), moments=3, **TOY)
    assert claims["lexical-paper"].status == "reproduced"
    assert 0 <= claims["lexical-held-out"].ours <= 1
    assert "64 of 80" in claims["lexical-held-out"].note
    assert claims["same"].status == "reproduced"
    asked = [r for r in run.metrics() if r.get("asked")]
    assert [r["goal"] for r in asked] == ["push right", "push left"]
    assert claims["rational"].ours == pytest.approx(sum(r["trained"] for r in asked) / 2)
    assert (run.path / "policy-cartpole.safetensors").is_file()
    assert run.exhibits()
    assert set(draws(game_talk, run)) == {"rational", "routing"}


def test_agreement(tmp_path):
    run, claims = perform(
        game_agreement, tmp_path, networks=("tyson1999", "lorenz"), envs=("CartPole-v1",), **TOY
    )
    rows = [r for r in run.metrics() if r.get("where")]
    assert [r["where"] for r in rows] == ["beginnings", "played"]
    assert len(rows[0]["names"]) == 4
    assert claims["converge-cartpole-played"].ours == pytest.approx(rows[1]["better"] - rows[1]["worse"])
    assert "kin" in claims
    assert set(draws(game_agreement, run)) == {"matrices", "halves"}


def test_kinds_of_pairs():
    S = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]])
    made = game_agreement.by_kind(S, ["a 0", "b 0", "random:3 0"])
    assert made == {"network": pytest.approx(0.5), "random": pytest.approx(0.3)}


@pytest.fixture
def matrix(tmp_path):
    """A run that looks like game-matrix, with made-up scores: phosphorylating networks are better."""
    config = game_properties.tiny()
    with Run.create("game-matrix", config, root=tmp_path / "matrix") as made:
        rng = torch.Generator().manual_seed(0)
        systems = [*tables.NETWORKS, *(f"{kind}:{d}" for d in range(3, 13) for kind in ("random", "linear"))]
        for system in systems:
            score = float(torch.rand(1, generator=rng)) + 5 * (system in tables.PROPERTIES["phosphorylation"])
            made.log(step=1, env="CartPole-v1", network=system, seed=0, done=True, score=score, steps=1000)
    return made.path


def test_properties(tmp_path, matrix):
    run, claims = perform(game_properties, tmp_path, matrix=str(matrix), looked=("gardner2000",), draws=20)
    rows = {r["property"]: r for r in run.metrics() if r.get("property")}
    assert set(rows) == set(tables.PROPERTIES)
    assert rows["phosphorylation"]["difference"] == pytest.approx(-7)
    assert claims["found"].note.startswith("phosphorylation")
    assert claims["reach-contingency"].ours < 13
    assert claims["reach-contingency"].status == "not reproduced"
    pairs = [r for r in run.metrics() if r.get("compared")]
    assert len(pairs) == 14
    wins = sum(r["network"] > r["random"] for r in pairs)
    assert claims["biology-random"].ours == pytest.approx(wins / 14)
    assert set(draws(game_properties, run)) == {"power", "properties", "biology"}


def test_a_matrix_that_lacks_cells_says_which(tmp_path, matrix):
    with pytest.raises(
        ValueError, match="lacks 14 of 28 cells, the first tyson1999 on CartPole-v1 with seed 1"
    ):
        _game_table.source(
            Run.open(matrix), str(matrix), tables.NETWORKS, ("CartPole-v1",), (0, 1), steps=1, training="fast", optional=("linear:99",)
        )  # fmt: skip


def test_presets():
    for study in (game_talk, game_agreement, game_properties):
        assert study.tiny().preset == "tiny"
        assert study.small().preset == "small"
        assert study.__doc__
