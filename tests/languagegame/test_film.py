"""Scores and pictures of what was learned."""

import numpy as np
import pytest
import torch

from unrolled.languagegame import Policy, envs, evaluate, film

pytest.importorskip("gymnasium", reason="it draws: extra rl")
pytest.importorskip("pygame", reason="Gymnasium draws with it: extra rl")


def balancing():
    """A linear policy set by hand: push to where the pole falls."""
    policy = Policy.make("CartPole-v1", "linear:4")
    with torch.no_grad():
        policy.encoder.linear.weight.copy_(torch.eye(4))
        policy.decoder.linear.weight.copy_(torch.tensor([[0.0, -0.2, -1.0, -0.6], [0.0, 0.2, 1.0, 0.6]]))
    return policy


def test_returns_are_those_of_episodes_played_one_by_one():
    policy = Policy.make("CartPole-v1", "kholodenko2000", seed=4)
    made = evaluate(policy, 5, seed=20)
    for i, total in enumerate(made):
        env = envs.make("CartPole-v1", 1, seed=20 + i)
        obs, alone, over = env.reset(), 0.0, False
        while not over:
            step = env.step(policy.act(obs).numpy())
            alone, obs, over = alone + step.reward[0], step.obs, bool(step.terminated[0] | step.truncated[0])
        assert total == alone
    assert min(evaluate(balancing(), 8)) == 500


@pytest.mark.parametrize(
    ("env_id", "mode"), [("CartPole-v1", "field"), ("Pendulum-v1", "stateful"), ("Acrobot-v1", "flow")]
)
def test_an_episode_in_pictures(tmp_path, env_id, mode):
    made = film(Policy.make(env_id, "tyson1999", mode), steps=12, every=4)
    assert made.frames.dtype == np.uint8
    assert len(made.frames) == 1 + -(-made.steps // 4)
    assert not np.array_equal(made.frames[0], made.frames[-1])
    for name in ("a.gif", "a.png"):
        assert made.save(tmp_path / "new" / name).stat().st_size > 500
    with pytest.raises(ValueError, match=r"written as \.gif or \.png"):
        made.save(tmp_path / "a.mp4")


def test_the_film_shows_the_whole_game_of_the_policy():
    made = film(balancing(), steps=60)
    assert (made.steps, made.reward) == (60, 60.0)
