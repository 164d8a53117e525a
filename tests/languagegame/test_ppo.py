"""PPO: its parts against closed forms, the loop against kills, bad input."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from unrolled import toys
from unrolled.languagegame import Core, Decoder, Encoder, Policy, envs, ppo
from unrolled.languagegame._ppo import RewardScale, Settings, clipped_gain, gae, log_probability, score

F64 = torch.float64
SMALL = {"envs": 4, "horizon": 32, "minibatch": 32, "epochs": 2}


def weights(policy):
    return {name: value.clone() for name, value in policy.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_clipped_gain_has_the_gradient_of_the_clipped_objective():
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        shift = 0.4 * torch.randn(64, generator=rng, dtype=F64)
        advantages = torch.randn(64, generator=rng, dtype=F64) * 5 + 1
        new = shift.clone().requires_grad_()
        a = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = new.exp()
        want = torch.minimum(a * ratio, a * ratio.clamp(0.8, 1.2)).mean()
        made, cut = clipped_gain(new, shift, advantages, 0.2)
        assert torch.allclose(
            torch.autograd.grad(made, new)[0], torch.autograd.grad(want, new)[0], atol=1e-12
        )
        assert torch.equal(cut, (shift.exp() < 0.8) | (shift.exp() > 1.2))


def test_advantages_are_the_sum_over_the_rest_of_the_episode():
    rng = np.random.default_rng(0)
    T, N, gamma, lam = 9, 3, 0.9, 0.7
    r, v, last = rng.normal(size=(T, N)), rng.normal(size=(T, N)), rng.normal(size=N)
    ends = rng.random((T, N)) < 0.25
    made = gae(r, v, ends, last, gamma, lam)
    after = np.concatenate([v[1:], last[None]])
    for n in range(N):
        for t in range(T):
            total, weight = 0.0, 1.0
            for k in range(t, T):
                total += weight * (r[k, n] + gamma * after[k, n] * (not ends[k, n]) - v[k, n])
                weight *= gamma * lam
                if ends[k, n]:
                    break
            assert made[t, n] == pytest.approx(total)


def test_rewards_are_divided_by_the_spread_of_all_discounted_returns():
    rng = np.random.default_rng(0)
    scale, seen, running = RewardScale(3, 0.9), [], np.zeros(3)
    for _ in range(50):
        reward, over = rng.normal(size=3) * 7, rng.random(3) < 0.1
        running = running * 0.9 + reward
        seen.append(running.copy())
        made = scale(reward, over)
        running[over] = 0
    assert scale.var == pytest.approx(np.var(seen), rel=1e-4)
    assert np.allclose(made, np.clip(reward / np.sqrt(np.var(seen)), -10, 10), rtol=1e-4)


def test_log_probability_is_that_of_a_normal_distribution():
    mean, x, log_std = torch.randn(5, 2, dtype=F64), torch.randn(5, 2, dtype=F64), torch.randn(2, dtype=F64)
    want = torch.distributions.Normal(mean, log_std.exp()).log_prob(x).sum(-1)
    assert torch.allclose(log_probability(mean, log_std, x), want)


def test_score_is_the_mean_of_the_last_two_tenths():
    episodes = [(step, float(step), 1) for step in range(10, 1001, 10)]
    assert score(episodes, 1000) == pytest.approx(
        (np.mean(range(810, 901, 10)) + np.mean(range(910, 1001, 10))) / 2
    )
    assert math.isnan(score([], 100))


def test_the_papers_settings():
    s = Settings()
    assert (s.envs, s.horizon, s.minibatch, s.epochs, s.lr) == (16, 512, 256, 10, 5e-4)
    assert (s.gamma, s.lam, s.clip, s.entropy, s.value, s.max_grad) == (0.99, 0.95, 0.2, 0.0, 0.5, 0.5)
    assert s.norms == "batch"
    assert s.reward_scale


def test_batch_statistics_move_the_first_ratio_and_running_ones_do_not():
    for norms, still in (("batch", False), ("running", True)):
        policy = Policy.make("CartPole-v1", "tyson1999")
        policy.norms = norms
        obs = torch.randn(64, 4) + 1
        acted = policy.logits(obs)
        policy.train()
        assert torch.allclose(policy(obs)[0], acted) == still


@pytest.mark.parametrize("env_id", ["CartPole-v1", pytest.param("Pendulum-v1", marks=pytest.mark.slow)])
def test_it_learns(env_id):
    changes = {"steps": 60_000, "preset": "fast", "envs": 64, "minibatch": 256}
    system = "linear:4"
    if env_id == "Pendulum-v1":
        changes |= {"steps": 120_000, "gamma": 0.9}
        system = "mlp:32"
    training = ppo(Policy.make(env_id, system), seed=1, **changes)
    first = np.mean([r for _, r, _ in training.episodes[:50]])
    assert training.score > (5 * first if env_id == "CartPole-v1" else first + 300)
    assert training.policy.info["score"] == training.score


def test_the_same_seed_gives_the_same_policy_and_another_does_not():
    made = [
        weights(ppo(Policy.make("CartPole-v1", "tyson1999", seed=1), steps=512, seed=seed, **SMALL).policy)
        for seed in (0, 0, 1)
    ]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


@pytest.mark.parametrize(
    ("env_id", "mode", "changes"),
    [
        ("CartPole-v1", "field", {}),
        ("Pendulum-v1", "stateful", {"hold": 7, "norms": "running", "anneal": True}),
        ("MountainCarContinuous-v0", "flow", {"entropy": 0.01, "log_std": 0.5}),
    ],
)
def test_resumed_is_bit_equal_to_uninterrupted(tmp_path, env_id, mode, changes):
    def train(folder, steps, until=None):
        policy = Policy.make(env_id, "tyson1999", mode, seed=2)
        return ppo(
            policy,
            steps=1024,
            seed=5,
            checkpoint=folder,
            checkpoint_every=128,
            until=until,
            **SMALL,
            **changes,
        )

    whole = train(tmp_path / "whole", 1024)
    cut = train(tmp_path / "cut", 1024, until=lambda done: "enough" if done.step >= 384 else None)
    assert (cut.step, cut.stop.reason) == (384, "enough")
    on = train(tmp_path / "cut", 1024)
    assert (on.resumed, on.step) == (384, 1024)
    assert same(weights(whole.policy), weights(on.policy))
    assert np.array_equal(
        [list(row.values()) for row in whole.curve], [list(row.values()) for row in on.curve], equal_nan=True
    )
    assert whole.episodes == on.episodes
    assert same(
        weights(Policy.load(next(iter(sorted((tmp_path / "cut").iterdir(), reverse=True))))),
        weights(on.policy),
    )


KILLED = """
import sys, torch
torch.set_num_threads(1)
from unrolled.languagegame import Policy, ppo
ppo(Policy.make("CartPole-v1", "tyson1999", seed=2), steps=int(sys.argv[2]), seed=5, checkpoint=sys.argv[1],
    checkpoint_every=128, envs=4, horizon=32, minibatch=32, epochs=2)
"""


def test_killed_in_the_middle_it_goes_on_bit_for_bit(tmp_path):
    folder, steps = tmp_path / "run", 6400
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(steps)])
    until = time.monotonic() + 120
    while time.monotonic() < until and len(list(folder.glob("step-*"))) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before the kill"
    on = ppo(
        Policy.make("CartPole-v1", "tyson1999", seed=2),
        steps=steps,
        seed=5,
        checkpoint=folder,
        checkpoint_every=10_000,
        **SMALL,
    )
    assert 0 < on.resumed < steps
    whole = ppo(Policy.make("CartPole-v1", "tyson1999", seed=2), steps=steps, seed=5, **SMALL)
    assert same(weights(whole.policy), weights(on.policy))
    assert whole.episodes == on.episodes


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    def train(**changes):
        return ppo(
            Policy.make("CartPole-v1", "tyson1999"),
            **{"steps": 256, "checkpoint": tmp_path, **SMALL, **changes},
        )

    train()
    with pytest.raises(ValueError, match=r"another run: seed was 0, is 1"):
        train(seed=1)
    with pytest.raises(ValueError, match="another run: settings"):
        train(lr=1.0)
    with pytest.raises(ValueError, match=r"another run.*core was"):
        ppo(Policy.make("CartPole-v1", "lorenz"), steps=256, checkpoint=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="holds checkpoints"):
        train(resume=False)


def test_progress_and_log():
    told, rows = [], []
    ppo(
        Policy.make("CartPole-v1", "tyson1999"),
        steps=300,
        progress=lambda *a: told.append(a),
        log=lambda **r: rows.append(r),
        **SMALL,
    )
    assert told == [(0, 300), (128, 300), (256, 300), (300, 300)]
    assert [row["step"] for row in rows] == [128, 256, 384]


class Exploding:
    """Fine at first glance, and not a number in one species."""

    def init(self, input, *, rng=None):
        return input

    def rate(self, t, x):
        return torch.stack([-x[:, 0], 1 / (x[:, 1] - x[:, 1])], -1)

    def step(self, state, input, *, rng=None):
        return state + self.rate(0.0, state)


def test_a_system_that_explodes_is_named_with_its_species():
    core = Core(Exploding(), name="bomb", names=("calm", "wild"))
    policy = Policy(Encoder(4, 2), core, Decoder(2, 2), env_id="CartPole-v1")
    with pytest.raises(ValueError, match=r"wild of bomb is not finite for 100 %"):
        ppo(policy, steps=128, **SMALL)


def test_a_training_that_blows_up_says_where_and_keeps_the_checkpoint(tmp_path):
    policy = Policy.make("CartPole-v1", "tyson1999")
    ppo(policy, steps=128, checkpoint=tmp_path, **SMALL)
    kept = sorted(path.name for path in tmp_path.iterdir())
    other = Policy.make("CartPole-v1", "tyson1999")

    def poison(**row):
        if row["step"] == 256:
            with torch.no_grad():
                other.critic.layers[0].weight[0, 0] = math.nan

    done = ppo(other, steps=1024, checkpoint=tmp_path, checkpoint_every=10_000, log=poison, **SMALL)
    assert done.stop.reason == "nonfinite"
    assert done.stop.where
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_an_environment_that_gives_nan_is_named(monkeypatch):
    original = envs.cartpole.CartPole.observe

    def broken(self, state):
        made = original(self, state)
        if (self.elapsed > 3).any():
            made[0, 2] = np.nan
        return made

    monkeypatch.setattr(envs.cartpole.CartPole, "observe", broken)
    with pytest.raises(ValueError, match="CartPole-v1 gave nan at place 2 of what environment 0 observed"):
        ppo(Policy.make("CartPole-v1", "tyson1999"), steps=128, **SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "best"}, "presets are paper, tuned, fast"),
        ({"learning_rate": 1.0}, "no setting 'learning_rate'; it has envs"),
        (
            {"env_id": "Pendulum-v1"},
            "Pendulum-v1 has 3 observations and 1 joints; the policy has 4 and 2 choices",
        ),
        ({"env_id": "Cartpole"}, "no environment 'Cartpole'"),
        ({"lr": -1.0}, "lr is positive"),
        ({"norms": "layer"}, "norms is batch or running"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        ppo(Policy.make("CartPole-v1", "tyson1999"), steps=10, **changes)


def test_any_system_is_trained_around():
    core = Core(toys.LogisticMap(3.7), name="logistic", width=4, std=[0.2] * 4, mu=[0.5] * 4)
    policy = Policy(Encoder(4, 4), core, Decoder(4, 2))
    assert ppo(policy, "CartPole-v1", 256, **SMALL).step == 256
