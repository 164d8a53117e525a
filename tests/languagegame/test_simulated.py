"""Moments of play in MuJoCo and Atari: they can be returned to, and what follows is the environment's own."""

import importlib.util

import numpy as np
import pytest
import torch

from unrolled.languagegame._design import NoStateError, design
from unrolled.languagegame.games import GAMES, named
from unrolled.languagegame.ground import ground
from unrolled.languagegame.simulated import OTHERS, Simulated


def world(name):
    pytest.importorskip("gymnasium", reason="the extra rl brings it")
    game = named(name)
    pytest.importorskip(
        "ale_py" if game.extra == "atari" else "mujoco", reason=f"the extra {game.extra} brings it"
    )
    try:
        return Simulated(game)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["swimmer", "reacher", "crazyclimber"])
def test_a_moment_can_be_returned_to(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = world(name)
    moments = here.sample(3, torch.Generator().manual_seed(0))
    action = 1 if name == "crazyclimber" else np.full(len(here.game.moves.names), 0.3)
    first = [here.step(moment, action) for moment in moments]
    again = [here.step(moment, action) for moment in moments]
    for (a, reward, _), (b, same, _) in zip(first, again):
        assert np.array_equal(a.observation, b.observation)
        assert reward == same
    assert all(
        here.valid(moment) and here.observe(moment).shape == (here.game.observations,) for moment in moments
    )
    assert not np.array_equal(moments[0].observation, moments[1].observation)


def test_forward_means_forward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = world("swimmer")
    made = design("swimmer", "swim forwards", candidates=4, where=here)
    assert made.margin > 0
    still = here._env
    here._return(made.state)
    start = float(still.data.qpos[0])
    travelled = []
    for action in (made.best, np.zeros(2)):
        here._return(made.state)
        here._branch(action)
        travelled.append(float(still.data.qpos[0]) - start)
    assert travelled[0] > travelled[1]


def test_what_is_never_rational_is_not_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoStateError, match="none in which to slow down is the best thing"):
        design("halfcheetah", "slow down", candidates=3, where=world("halfcheetah"))


def test_states_that_were_not_played_are_refused():
    here = world("crazyclimber")
    with pytest.raises(ValueError, match="can only be put into moments of play, got ndarray"):
        here.observe(np.zeros(128))
    assert here.screen(here.sample(1, torch.Generator().manual_seed(0))[0]).shape[-1] == 3


@pytest.mark.parametrize("name", OTHERS)
def test_a_world_that_is_not_installed_says_how_to_get_it(name):
    pytest.importorskip("gymnasium", reason="the extra rl brings it")
    if importlib.util.find_spec({"pointmaze": "gymnasium_robotics", "fingerspin": "shimmy"}[name]):
        pytest.skip("it is installed")
    with pytest.raises(ImportError, match=OTHERS[name]):
        ground(named(name))


def test_every_outcome_is_measured():
    for game in GAMES.values():
        goals = [goal for goal in game.goals if goal.outcome]
        if not goals or game.name in OTHERS:
            continue
        here = world(game.name)
        for goal in goals:
            assert np.isfinite(here._quantity(goal.outcome.removeprefix("-"))())
    with pytest.raises(ValueError, match="measures no 'joy'"):
        world("swimmer")._quantity("joy")
