"""The sixteen games: what they say of themselves holds together."""

import pytest

from unrolled.languagegame import envs
from unrolled.languagegame.game import Choice, Goal, Push
from unrolled.languagegame.games import GAMES, named


def test_there_are_sixteen_with_names_of_their_own():
    assert len(GAMES) == 16
    assert len({game.env_id for game in GAMES.values()}) == 16
    assert [named(game.env_id) for game in GAMES.values()] == list(GAMES.values())


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_a_game_is_described_whole(game):
    assert 200 < len(game.text) < 700
    assert len(game.said) == len(set(game.said)) == 15
    assert game.moves.names
    assert len(game.moves.did) == len(game.moves.names)
    assert len({goal.name for goal in game.goals}) == len(game.goals) >= 1
    assert not game.sensors or len(game.sensors) == game.observations
    for goal in game.goals:
        assert all(0 <= index < len(game.moves.names) for index in goal.actions)
        assert not goal.direction or len(goal.direction) == len(game.moves.names)
    said = game.moves.did if isinstance(game.moves, Choice) else [s for pair in game.moves.did for s in pair]
    assert all(phrase.startswith("I ") and phrase[-1] != "." for phrase in said)
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("game", [g for g in GAMES.values() if not g.extra], ids=lambda g: g.name)
def test_sizes_are_those_of_the_environment(game):
    spec = envs.spec(game.env_id)
    assert (spec.observations, spec.actions) == (game.observations, len(game.moves.names))
    assert spec.discrete == isinstance(game.moves, Choice)
    if not spec.discrete:
        assert spec.high.tolist() == [game.moves.bound]


@pytest.mark.parametrize("game", [g for g in GAMES.values() if g.extra == "atari"], ids=lambda g: g.name)
def test_the_joystick_is_the_emulators(game):
    gymnasium = pytest.importorskip("gymnasium")
    gymnasium.register_envs(pytest.importorskip("ale_py", reason="the extra atari brings it"))
    env = gymnasium.make(game.env_id, obs_type="ram")
    meanings = env.unwrapped.get_action_meanings()
    env.close()
    assert [m.replace("FIRE", " FIRE").strip().lower() for m in meanings] == [
        n.replace("up r", "upr").replace("up l", "upl").replace("down r", "downr").replace("down l", "downl")
        for n in game.moves.names
    ]
    assert env.observation_space.shape == (game.observations,)


def test_what_a_push_says_follows_its_sign_and_size():
    moves = Push((("I went back", "I went on"), ("I sank", "I rose")), ("a", "b"), 2.0, "I stayed")
    assert moves.say([0.1, -0.15]) == "I stayed"
    assert moves.say([1.0, -0.5]) == "I went on"
    assert moves.say([0.1, -0.5]) == "I sank gently"
    assert moves.say([-2.0, 1.0]) == moves.say([-90.0, 1.0]) == "I went back with all my force"
    for wrong in ([1.0], [float("nan"), 0.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match=r"2 finite numbers \(a, b\)"):
            moves.say(wrong)


def test_what_a_choice_says():
    moves = named("cartpole").moves
    assert moves.say(1).endswith("right")
    for wrong in (2, -1):
        with pytest.raises(ValueError, match="left, right"):
            moves.say(wrong)


def test_goals_are_fulfilled_by_what_they_name():
    still, forward = Goal("a", still=True), Goal("b", direction=(1.0,))
    moves = Push((("", ""),), ("engine",), 2.0)
    assert [still.fulfilled(moves, v) for v in (0.0, 0.5, 0.51, -2.0)] == [True, True, False, False]
    assert [forward.fulfilled(moves, v) for v in (0.2, 0.21, 5.0, -1.0)] == [False, True, True, False]
    with pytest.raises(ValueError, match="exactly one"):
        Goal("c")
    with pytest.raises(ValueError, match="exactly one"):
        Goal("d", still=True, outcome="speed")
    with pytest.raises(ValueError, match="ask the game's simulator"):
        Goal("e", outcome="speed").fulfilled(moves, 0.0)


def test_an_unknown_game_lists_those_there_are():
    with pytest.raises(ValueError, match="did you mean 'pendulum'"):
        named("pendulun")
    with pytest.raises(ValueError, match="no goal 'fly'; it has 'push right', 'push left'"):
        named("cartpole").goal("fly")
