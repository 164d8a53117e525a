"""Native environments against Gymnasium's, number by number."""

import math

import numpy as np
import pytest

from unrolled.languagegame import envs

gymnasium = pytest.importorskip("gymnasium", reason="the reference: extra rl")


def actions(spec, batch, rng):
    if spec.discrete:
        return rng.integers(spec.actions, size=batch)
    return rng.uniform(1.5 * spec.low, 1.5 * spec.high, size=(batch, spec.actions)).astype(np.float32)


@pytest.mark.parametrize("env_id", sorted(envs.NATIVE))
def test_equal_to_gymnasium_step_for_step_through_many_episodes(env_id):
    B, rng = 3, np.random.default_rng(1)
    ours, theirs = envs.make(env_id, B, seed=7), envs.make(env_id, B, seed=7, native=False)
    assert np.array_equal(ours.reset(), theirs.reset())
    ended = 0
    for _ in range(1200):
        chosen = actions(ours.spec, B, rng)
        a, b = ours.step(chosen), theirs.step(chosen)
        for name in envs.Step._fields:
            # Pendulum: Gymnasium's powf(torque, 2) is off by a last bit of float32 now and then.
            off = 1e-9 if (env_id, name) == ("Pendulum-v1", "reward") else 0.0
            assert np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=off), name
        ended += int((a.terminated | a.truncated).sum())
    assert ended >= 3


@pytest.mark.parametrize("env_id", sorted(envs.NATIVE))
def test_equal_from_any_valid_state(env_id):
    rng, B = np.random.default_rng(0), 64
    env, one = envs.make(env_id, B), gymnasium.make(env_id).unwrapped
    env.reset()
    one.reset(seed=0)
    bounds = np.clip(np.array(env.bounds), -3, 3)
    start = rng.uniform(bounds[:, 0], bounds[:, 1], size=(B, len(bounds)))
    kept = start.astype(np.float32).astype(np.float64) if "Continuous" in env_id else start
    chosen = actions(env.spec, B, rng)
    env.state[:], env.elapsed[:] = kept, 1
    made = env.step(chosen)
    for i in range(B):
        one.state = kept[i].astype(np.float32) if "Continuous" in env_id else kept[i].copy()
        one.steps_beyond_terminated = None
        obs, reward, terminated, _, _ = one.step(int(chosen[i]) if env.spec.discrete else chosen[i])
        assert np.array_equal(made.final[i], obs)
        assert abs(made.reward[i] - reward) <= (1e-9 if env_id == "Pendulum-v1" else 0.0)
        assert made.terminated[i] == terminated


@pytest.mark.parametrize("env_id", sorted(envs.NATIVE))
def test_sizes_are_gymnasiums(env_id):
    env = gymnasium.make(env_id)
    theirs = envs.outside.spec(env, env_id)
    ours = envs.spec(env_id)
    assert (ours.observations, ours.actions, ours.discrete, ours.limit) == (
        theirs.observations, theirs.actions, theirs.discrete, theirs.limit,
    )  # fmt: skip
    assert ours.discrete or (np.array_equal(ours.low, theirs.low) and np.array_equal(ours.high, theirs.high))


@pytest.mark.parametrize("env_id", sorted(envs.NATIVE))
def test_saved_and_restored_goes_on_bit_for_bit(env_id):
    rng = np.random.default_rng(2)
    env = envs.make(env_id, 4, seed=3)
    env.reset()
    plan = [actions(env.spec, 4, rng) for _ in range(400)]
    for chosen in plan[:200]:
        env.step(chosen)
    saved = env.save()
    first = [env.step(chosen) for chosen in plan[200:]]
    other = envs.make(env_id, 4, seed=99)
    other.restore(saved)
    second = [other.step(chosen) for chosen in plan[200:]]
    assert all(np.array_equal(x, y) for a, b in zip(first, second) for x, y in zip(a, b))


def test_truncation_is_not_termination_and_final_is_before_the_reset():
    env = envs.make("Pendulum-v1", 1, seed=0)
    env.reset()
    for _ in range(199):
        assert not env.step([[0.0]]).truncated.any()
    last = env.step([[0.0]])
    assert last.truncated.all()
    assert not last.terminated.any()
    assert not np.array_equal(last.obs, last.final)


def test_states_that_can_occur():
    env = envs.make("CartPole-v1")
    assert env.valid([[0, 0, 0, 0], [3, 0, 0, 0], [0, 0, math.nan, 0]]).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("env_id", "chosen", "message"),
    [
        ("CartPole-v1", [2], "actions 0 to 1"),
        ("CartPole-v1", [0.5], "whole numbers"),
        ("CartPole-v1", [0, 1], "takes 1 whole numbers"),
        ("Pendulum-v1", [[math.nan]], "not finite"),
        ("Pendulum-v1", [0.0], r"takes actions \[1, 1\]"),
    ],
)
def test_actions_that_make_no_sense(env_id, chosen, message):
    env = envs.make(env_id)
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(chosen)


def test_an_unknown_environment_is_named_with_those_there_are():
    for ask in (envs.make, envs.spec):
        with pytest.raises(ValueError, match=r"no environment 'CartPoles-v1'.*CartPole-v1"):
            ask("CartPoles-v1")
    with pytest.raises(ValueError, match="at least one environment"):
        envs.make("CartPole-v1", 0)


@pytest.mark.parametrize(
    ("module", "env_id", "observations", "actions", "discrete"),
    [
        ("mujoco", "Reacher-v5", 10, 2, False),
        ("mujoco", "Hopper-v5", 11, 3, False),
        ("ale_py", "ALE/BankHeist-v5", 128, 18, True),
    ],
)
def test_environments_of_gymnasium(module, env_id, observations, actions, discrete):
    pytest.importorskip(module, reason="an extra of its own")
    about = envs.spec(env_id)
    assert (about.observations, about.actions, about.discrete) == (observations, actions, discrete)
    env = envs.make(env_id, 2, seed=0)
    assert env.reset().shape == (2, observations)
    chosen = [0, 1] if discrete else np.zeros((2, actions), dtype=np.float32)
    made = env.step(chosen)
    assert made.obs.dtype == np.float32
    assert np.isfinite(made.obs).all()
    with pytest.raises(ValueError, match="keeps its state outside"):
        env.save()
    env.close()


def test_a_missing_environment_of_an_extra_says_which(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ImportError, match="atari"):
        envs.make("ALE/KungFuMaster-v5")


@pytest.mark.parametrize(
    ("env_id", "package"),
    [("PointMaze_UMaze-v3", "gymnasium-robotics"), ("dm_control/finger-spin-v0", "shimmy")],
)
def test_mazes_and_the_like_say_whose_they_are(monkeypatch, env_id, package):
    import sys

    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ImportError, match=f"is an environment of {package}: pip install {package}"):
        envs.make(env_id)
