"""States in which a wanted action is rational: valid, finite, reproducible, and never made up."""

import numpy as np
import pytest
import torch

from unrolled.languagegame import envs
from unrolled.languagegame._design import NoStateError, design, margins
from unrolled.languagegame.game import Goal
from unrolled.languagegame.games import GAMES, named
from unrolled.languagegame.ground import _CLASSIC, Ahead, ground, probes

TABLE = [(game.name, goal.name) for game in GAMES.values() if not game.extra for goal in game.goals]


@pytest.mark.parametrize(("game", "goal"), TABLE)
def test_a_designed_state_can_occur_and_wants_the_action(game, goal):
    for seed in range(3):
        made = design(game, goal, seed=seed)
        env = envs.make(named(game).env_id)
        assert env.valid(np.asarray(made.state)[None]).all()
        assert torch.isfinite(made.observation).all()
        assert made.margin > 0
        assert made.goal.fulfilled(named(game).moves, made.best)
        assert 0 < made.rational <= made.considered
        again = design(game, goal, seed=seed)
        assert np.array_equal(again.state, made.state)
        assert torch.equal(again.observation, made.observation)


def test_seeds_give_other_states():
    assert not np.array_equal(design("pendulum", seed=0).state, design("pendulum", seed=1).state)


def test_the_direction_is_the_physically_right_one():
    """Closed forms: catch a pole on the side to which it tips; a spring and a brake hold a pendulum."""
    for goal, side in (("push right", 1), ("push left", -1)):
        made = design("cartpole", goal)
        assert side * (made.state[2] + 0.3 * made.state[3]) > 0
    made = design("pendulum", "hold still")
    assert abs(made.state[0]) < 0.16
    assert abs(made.state[1]) < 0.16
    assert design("mountaincar", "drive forwards").state[1] >= 0
    assert design("mountaincar", "drive backwards").state[1] <= 0


@pytest.mark.parametrize(
    ("name", "least"), [("cartpole", 495), ("acrobot", -120), ("mountaincar", 85), ("pendulum", -220)]
)
def test_the_good_players_are_good(name, least):
    env = envs.make(named(name).env_id, 32)
    env.reset()
    total, over = np.zeros(32), np.zeros(32, dtype=bool)
    for _ in range(env.spec.limit):
        made = env.step(_CLASSIC[name].player(env.state))
        total += np.where(over, 0, made.reward)
        over |= made.terminated | made.truncated
    assert total.mean() >= least


def test_what_follows_is_the_environments_own_step():
    world = ground(named("cartpole"))
    state = [0.0, 0.0, 0.0, 0.0]
    after, reward, over = world.step(state, 1)
    env = envs.make("CartPole-v1")
    env.state[:] = [state]
    made = env.step([1])
    assert np.array_equal(np.float32(after), made.final[0])
    assert (reward, over) == (1.0, False)
    assert world.step([2.399, 5.0, 0.0, 0.0], 1)[2]


def test_a_state_that_cannot_occur_is_refused():
    world = ground(named("cartpole"))
    for wrong in ([0.0, 0.0, float("nan"), 0.0], [9.0, 0.0, 0.0, 0.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="has no state .* cart position"):
            world.observe(wrong)


def test_where_nothing_is_rational_it_says_so(monkeypatch):
    game = named("cartpole")
    world = ground(game)
    monkeypatch.setattr(
        world, "ahead", lambda states, actions, outcome="": Ahead(torch.zeros(len(states), len(actions)))
    )
    with pytest.raises(NoStateError, match=r"none in which to push right is the best thing"):
        design(game, "push right", where=world)


def test_broken_simulations_are_left_out():
    game = named("cartpole")
    merit = torch.tensor([[0.0, 1.0], [0.0, float("nan")], [0.0, float("inf")], [2.0, 1.0]])
    margin, _, best = margins(Ahead(merit), game.goal("push right"), game, [0, 1])
    assert margin[0] == 1
    assert margin[1:3].isnan().all()
    assert margin[3] == -1
    assert best[0] == 1


def test_a_goal_that_everything_fulfils_asks_for_nothing():
    game = named("cartpole")
    margin, _, _ = margins(Ahead(torch.zeros(2, 2)), Goal("any", actions=(0, 1)), game, [0, 1])
    assert margin.isnan().all()


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_the_actions_tried_are_within_bounds_and_rest_comes_first(game):
    made = probes(game)
    if isinstance(made[0], int):
        assert made == list(range(len(game.moves.names)))
    else:
        assert not made[0].any()
        assert all(action.shape == (len(game.moves.names),) for action in made)
        assert max(np.abs(action).max() for action in made) <= game.moves.bound + 1e-12


def test_bad_arguments():
    with pytest.raises(ValueError, match="no game 'chess'"):
        design("chess")
    with pytest.raises(ValueError, match="no goal 'fly'"):
        design("cartpole", "fly")
    with pytest.raises(ValueError, match="no goal 'swim forwards'"):
        design("cartpole", named("swimmer").goals[0])
