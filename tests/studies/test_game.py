"""The training studies of the language game: what is done is not done again, verdicts follow from numbers, figures draw."""

import dataclasses

import numpy as np
import pytest
import torch

from unrolled.languagegame import Policy
from unrolled.runs import Run
from unrolled.studies import _game, game_cartpole, game_matrix

QUICK = {"steps": 9000}


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    config = dataclasses.replace(game_cartpole.tiny(), wide=("linear",), **QUICK)
    with Run.create("game-cartpole", config, root=tmp_path_factory.mktemp("runs")) as run:
        claims = game_cartpole.study(config, run)
        run.save_claims(claims)
    return Run.open(run.path), {claim.id: claim for claim in claims}


def test_cartpole_leaves_policies_curves_and_exhibits(cartpole):
    run, claims = cartpole
    assert {"balance", "seconds", "over-linear-3", "over-random-3", "over-mlp-3", "over-linear"} == set(
        claims
    )
    assert claims["balance"].status == "not reproduced"  # 9,000 steps are too few, and it says so
    assert "bit for bit: True" in claims["balance"].note
    assert {"learning", "talk", "concentrations"} <= set(run.exhibits())
    saved = Policy.load(run.path / "policy.safetensors")
    assert torch.equal(
        saved.logits(torch.ones(4)),
        Policy.load(_game.policy_file(run, "CartPole-v1", "tyson1999", 0)).logits(torch.ones(4)),
    )
    done = _game.rows(run, "done", network="tyson1999")
    assert [(row["width"], row["parameters"]) for row in done] == [(3, 35)]


def test_cartpole_figures(cartpole, tmp_path):
    run, _ = cartpole
    made = game_cartpole.figures(run)
    assert "learning" in made
    for name, (figure, caption) in made.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert caption


def test_a_trained_cell_is_not_trained_again(cartpole, monkeypatch):
    run, _ = cartpole
    monkeypatch.setattr(_game, "ppo", lambda *_, **__: pytest.fail("trained again"))
    row = _game.learn(run, "CartPole-v1", "linear:3", 0, steps=9000, preset="fast")
    assert row["width"] == 3


@pytest.fixture
def matrix(tmp_path):
    """A run with made-up scores: Tyson's network beats its controls, the toggle does not, on both tasks."""
    config = dataclasses.replace(
        game_matrix.tiny(),
        networks=("tyson1999", "gardner2000", "lorenz"),
        envs=("CartPole-v1", "Pendulum-v1"),
        seeds=2,
    )
    with Run.create("game-matrix", config, root=tmp_path) as run:
        for env_id, base in (("CartPole-v1", 100.0), ("Pendulum-v1", -900.0)):
            for k, network in enumerate(("tyson1999", "gardner2000", "lorenz", "random:3", "linear:3")):
                for seed in (0, 1):
                    score = base + {0: 80.0, 1: -60.0, 2: 20.0, 3: 0.0, 4: 50.0}[k] + 10 * seed
                    run.log(
                        env=env_id,
                        network=network,
                        seed=seed,
                        step=1,
                        done=True,
                        score=score,
                        greedy=score,
                        width=3,
                        steps=1,
                    )
    return config, Run.open(run.path)


def test_matrix_verdicts_follow_from_the_scores(matrix):
    config, run = matrix
    assert game_matrix.systems(config) == ["tyson1999", "gardner2000", "lorenz", "linear:3", "random:3"]
    assert game_matrix.against(config, run, "CartPole-v1", "random") == {
        "tyson1999": 80.0,
        "gardner2000": -60.0,
    }
    assert game_matrix.against(config, run, "Pendulum-v1", "linear") == {
        "tyson1999": 30.0,
        "gardner2000": -110.0,
    }
    judged = {claim.id: claim for claim in game_matrix.judged(config, run, "CartPole-v1")}
    assert judged["cartpole-learn"].ours == pytest.approx(2 / 3)
    assert "not: gardner2000" in judged["cartpole-learn"].note
    assert judged["cartpole-over-random"].ours == 10.0
    assert judged["cartpole-over-random"].status == "not reproduced"  # 1 higher, 1 lower
    [overall] = game_matrix.overall(config, run)
    assert (overall.ours, overall.status) == (0.5, "not reproduced")
    for figure, _ in game_matrix.figures(run).values():
        figure.canvas.draw()


def test_sign_test_is_the_binomial_of_the_fact_sheet():
    for wins, p in ((13, 0.0212708), (14, 0.00418091), (15, 0.000518799), (16, 3.0518e-5)):
        assert _game.sign_test(wins, 16 - wins) == pytest.approx(p, rel=5e-5)
        assert _game.sign_test(16 - wins, wins) == pytest.approx(p, rel=5e-5)
    assert _game.sign_test(0, 0) == 1.0


def test_random_play():
    average, deviation = _game.at_random("CartPole-v1")
    assert 20 < average < 25
    assert 8 < deviation < 16
    assert np.isfinite(_game.at_random("Pendulum-v1", 8)).all()


def test_presets_name_what_exists():
    for study in (game_cartpole, game_matrix):
        for preset in (study.tiny, study.small, study.paper):
            config = preset()
            assert config.preset == preset.__name__
            assert study.systems(config)
