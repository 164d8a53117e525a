"""Agreement of policies: identities, controls, and halves."""

import pytest
import torch

from unrolled.languagegame import Policy
from unrolled.languagegame._agreement import actions, agreement, beginnings, played


def crew(env="Acrobot-v1", cores=("tyson1999", "lorenz", "gardner2000", "liebal2012")):
    made = [Policy.make(env, core, seed=i) for i, core in enumerate(cores)]
    with torch.no_grad():
        for i, policy in enumerate(made):
            rng = torch.Generator().manual_seed(i)
            policy.decoder.linear.weight.copy_(torch.randn(policy.decoder.linear.weight.shape, generator=rng))
    return made


def test_a_policy_agrees_with_itself_and_agreement_is_symmetric():
    made = agreement(crew(), "Acrobot-v1")
    S = made["similarity"]
    assert torch.allclose(S.diagonal(), torch.ones(4, dtype=S.dtype))
    assert torch.allclose(S, S.mT)
    assert S.abs().max() <= 1 + 1e-12
    assert made["observations"].shape == (64, 6)


class Fixed:
    """A policy whose outputs are a function of the observation, in closed form."""

    observations, actions, discrete, env_id = 2, 2, True, "none"

    def __init__(self, fn):
        self.fn = fn

    def logits(self, obs):
        return self.fn(obs)


def test_closed_forms():
    seen = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    same = Fixed(lambda o: o)
    shifted = Fixed(lambda o: 3 * o + 5)  # the same choice in the same proportion
    opposite = Fixed(lambda o: -o)
    orthogonal = Fixed(lambda o: torch.stack([o.sum(-1), -o.sum(-1)], -1) - torch.tensor([4 / 3, -4 / 3]))
    made = agreement({"a": same, "b": shifted, "c": opposite, "d": orthogonal}, seen)["similarity"]
    assert made[0, 1] == pytest.approx(1)
    assert made[0, 2] == pytest.approx(-1)
    assert made[0, 3] == pytest.approx(0, abs=1e-12)


def test_one_joint_gets_a_constant_beside_it():
    class Joint(Fixed):
        actions, discrete = 1, False

    made = actions(Joint(lambda o: o[:, :1]), torch.tensor([[3.0, 0.0], [4.0, 0.0]]))
    assert torch.allclose(made, torch.tensor([3.0, 0.1, 4.0, 0.1], dtype=torch.float64) / (25 + 0.02) ** 0.5)


def test_the_shuffled_control_is_near_zero():
    """Independent outputs of two joints and more: the cosine of n = 64 situations has a deviation near 1 / sqrt(128)."""
    rng = torch.Generator().manual_seed(0)
    seen = torch.randn(64, 2, generator=rng)

    class Joints(Fixed):
        discrete = False

    made = agreement({"a": Joints(torch.sin), "b": Joints(lambda o: torch.sin(o) * 2)}, seen)
    assert made["mean"] == pytest.approx(1)
    assert abs(made["control"]) < 0.15


def test_a_policy_that_ignores_the_situation_agrees_when_shuffled_too():
    constant = Fixed(lambda o: torch.tensor([1.0, -1.0]).expand(len(o), 2))
    made = agreement(
        {"a": constant, "b": constant}, torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    )
    assert made["control"] == pytest.approx(1)


def test_halves_by_score():
    good = [Fixed(lambda o: o), Fixed(lambda o: 2 * o)]
    bad = [Fixed(lambda o: o.flip(-1) ** 2), Fixed(lambda o: -o)]
    seen = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    made = agreement([*_cores(good), *_cores(bad)], seen, scores=[9, 8, 1, 2])
    assert made["better"] == pytest.approx(1)
    assert made["worse"] < 1


def _cores(policies):
    for policy in policies:
        policy.core = type("Core", (), {"name": "x"})
    return policies


def test_situations_are_reproducible():
    assert torch.equal(beginnings("CartPole-v1", 8, 3), beginnings("CartPole-v1", 8, 3))
    policies = crew("CartPole-v1", ("tyson1999", "lorenz"))
    seen = played(policies, "CartPole-v1", 32, steps=20)
    assert torch.equal(seen, played(policies, "CartPole-v1", 32, steps=20))
    assert seen.shape == (32, 4)
    assert seen.std(0).min() > beginnings("CartPole-v1", 32, 0).std(0).max()


def test_bad_arguments():
    some = crew("CartPole-v1", ("tyson1999", "lorenz"))
    with pytest.raises(ValueError, match="two policies or more"):
        agreement(some[:1], "CartPole-v1")
    with pytest.raises(ValueError, match="scores are one per policy: 2, got 3"):
        agreement(some, "CartPole-v1", scores=[1, 2, 3])
    with pytest.raises(ValueError, match="different environments"):
        agreement([*some, *crew("Pendulum-v1", ("lorenz",))], "CartPole-v1")
    with pytest.raises(ValueError, match="4 numbers"):
        agreement(some, torch.zeros(3, 2))


def test_it_plots():
    pytest.importorskip("matplotlib", reason="the extra report brings it")
    assert agreement(crew(), "Acrobot-v1").plot().images
