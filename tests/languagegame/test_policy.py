"""The seven steps, number by number; what is frozen stays so; bad input."""

import copy
import math

import pytest
import torch
from torch import nn

from unrolled import toys
from unrolled.languagegame import Core, Decoder, Encoder, Policy, baselines
from unrolled.languagegame.policy import straight_through
from unrolled.sbml import Model, models

F64 = torch.float64


def scrambled(name, env_id="CartPole-v1", seed=0, **options):
    """A policy in float64 whose every number, running statistics included, is random."""
    rng = torch.Generator().manual_seed(seed)
    policy = Policy.make(env_id, name, seed=seed, **options).double()
    for tensor in [*policy.parameters(), *(b for n, b in policy.named_buffers() if "running" in n)]:
        with torch.no_grad():
            tensor.copy_(torch.rand(tensor.shape, generator=rng, dtype=F64) + 0.1)
    return policy


def by_hand(policy, obs, train):
    """The formula of the fact sheet, A2, with nothing shared but the vector field."""

    def norm(x, layer):
        mean, var = (x.mean(0), x.var(0, correction=0)) if train else (layer.running_mean, layer.running_var)
        return (x - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias

    core = policy.core
    e, d = policy.encoder, policy.decoder
    z = norm(obs @ e.linear.weight.T + e.linear.bias, e.norm)
    x = core.std * z + core.mu
    low = -1e8 if core.name == "lorenz" else 1e-5
    x = x + (x.clamp(low, 1e8) - x)
    if core.name == "kholodenko2000":
        parts = [x[:, :2], x[:, 2:5], x[:, 5:]]
        x = torch.cat([p * t / p.sum(1, keepdim=True) for p, t in zip(parts, (100, 300, 300))], 1)
    elif core.name == "markevich2004":
        x = torch.cat([x[:, :3] * 500 / x[:, :3].sum(1, keepdim=True), x[:, 3:]], 1)
    elif core.name == "tyson1991":
        x = torch.cat([x[:, :3], x[:, 1:2] + x[:, 2:3]], 1)
    g = torch.nan_to_num(core.system.rate(0.0, x), nan=0.0, posinf=1e6, neginf=-1e6)
    return norm((g - core.mu) / core.std, d.norm) @ d.linear.weight.T + d.linear.bias


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", list(models.PAPER))
def test_forward_is_the_formula_of_seven_steps(name, train):
    policy = scrambled(name)
    obs = torch.randn(32, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    want = by_hand(policy, obs, train)
    policy.train(train)
    logits, value, state = policy(obs)
    assert state is None
    assert value.shape == (32,)
    assert torch.allclose(logits, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "env_id", "count"),
    [("tyson1999", "CartPole-v1", 35), ("kholodenko2000", "CartPole-v1", 90), ("lorenz", "Pendulum-v1", 29)],
)
def test_count_of_actor_parameters(name, env_id, count):
    policy = Policy.make(env_id, name)
    m, d, A = policy.observations, policy.core.width, policy.actions
    assert policy.actor_parameters == count == m * d + d + 4 * d + d * A + A + (0 if policy.discrete else A)


@pytest.mark.parametrize("x", [-1e6, -1.0, 0.0, 9e-6, 0.5, 3e8])
def test_the_clamp_is_exact_and_its_gradient_is_one(x):
    for dtype in (torch.float32, F64):
        leaf = torch.tensor([x], dtype=dtype, requires_grad=True)
        made = straight_through(leaf, 1e-5, 1e8)
        assert made.item() == leaf.detach().clamp(1e-5, 1e8).item()
        assert torch.autograd.grad(made.sum(), leaf)[0].item() == 1.0


def test_the_gradient_reaches_the_encoder_through_a_clamped_species():
    policy = scrambled("tyson1999")
    policy.encoder.norm.bias.data.fill_(-50.0)
    made = policy.steps(torch.randn(8, 4, dtype=F64))
    assert bool((made["clamped"][:, 1:] == 1e-5).all())
    made["logits"].sum().backward()
    assert float(policy.encoder.linear.weight.grad.abs().max()) > 0


class Hostile:
    """Rates that are not finite, by species: NaN, +inf, -inf, 1."""

    def init(self, input, *, rng=None):
        return input

    def rate(self, t, x):
        one = torch.ones_like(x[:, 0])
        return torch.stack([one * math.nan, one * math.inf, -one * math.inf, one], -1)

    def step(self, state, input, *, rng=None):
        return state + self.rate(0.0, state)


def test_rates_that_are_not_finite_become_numbers_and_are_named():
    policy = Policy(Encoder(2, 4), Core(Hostile(), names=("A", "B", "C", "D")), Decoder(4, 2))
    made = policy.trace(torch.randn(5, 2))
    assert made["g"][0].tolist() == [0.0, 1e6, -1e6, 1.0]
    assert bool(made["rate"][0, :3].isfinite().logical_not().all())
    assert bool(made["logits"].isfinite().all())
    assert policy.exploded(torch.randn(5, 2)) == {"A": 1.0, "B": 1.0, "C": 1.0}


def test_conserved_totals_hold_wherever_the_encoder_aims():
    far = 100 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    at = Policy.make("CartPole-v1", "kholodenko2000").trace(far)["projected"]
    assert torch.allclose(at[:, :2].sum(1), torch.tensor(100.0), atol=1e-4)
    assert torch.allclose(at[:, 2:5].sum(1), torch.tensor(300.0), atol=1e-4)
    assert torch.allclose(at[:, 5:].sum(1), torch.tensor(300.0), atol=1e-4)
    at = Policy.make("CartPole-v1", "markevich2004").trace(far)["projected"]
    assert torch.allclose(at[:, :3].sum(1), torch.tensor(500.0), atol=1e-4)
    at = Policy.make("CartPole-v1", "tyson1991").trace(far)["projected"]
    assert torch.allclose(at[:, 3], at[:, 1] + at[:, 2])


def test_the_projection_passes_gradients_and_leaves_others_alone():
    core = Core.named("kholodenko2000")
    x = (torch.rand(3, 8, dtype=F64) * 100 + 1).requires_grad_()
    assert torch.autograd.gradcheck(core.project, (x,))
    same = torch.rand(2, 3)
    assert Core.named("lorenz").project(same) is same


def test_frozen_bitwise_over_a_hundred_updates():
    class Learnable(nn.Module):
        width = 3

        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

        def init(self, input, *, rng=None):
            return input

        def step(self, state, input, *, rng=None):
            return state + self.net(state).tanh()

    torch.manual_seed(0)
    for system in (models.tyson1999(), Learnable()):
        core = Core(system, width=3) if isinstance(system, nn.Module) else Core.named("tyson1999")
        inside = system if isinstance(system, nn.Module) else core.system
        module = isinstance(inside, nn.Module)
        before = copy.deepcopy(inside.state_dict() if module else inside.vector(None, torch.zeros(1)))
        policy = Policy(Encoder(4, 3), core, Decoder(3, 2))
        kept = {name: p.clone() for name, p in policy.named_parameters()}
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
        policy.train()
        for _ in range(100):
            logits, value, _ = policy(torch.randn(16, 4))
            optimizer.zero_grad()
            (logits.square().mean() + value.mean()).backward()
            optimizer.step()
        if module:
            after = inside.state_dict()
            assert all(torch.equal(before[name], after[name]) for name in before)
            assert all(p.grad is None and not p.requires_grad for p in inside.parameters())
            assert not inside.training
            assert not any("net" in name for name in policy.state_dict())
        else:
            assert torch.equal(before, inside.vector(None, torch.zeros(1)))
        assert all(
            not torch.equal(kept[name], p) for name, p in policy.named_parameters() if "weight" in name
        )


def test_flow_is_the_solution_of_the_differential_equation():
    decay = Model.from_equations({"A": 1.0}, {"k": 2.0}, {"A": "-k * A"})
    core = Core(decay, mu=[1.0], std=[0.5], time_scale=10.0)
    policy = Policy(Encoder(1, 1), core, Decoder(1, 2), mode="flow", tau=0.05, substeps=16).double()
    made = policy.trace(torch.tensor([[0.3], [-0.2]], dtype=F64))
    assert torch.allclose(made["rate"], made["projected"] * math.exp(-2.0 * 0.5), rtol=1e-5)
    assert torch.allclose(made["h"], (made["g"] - 1.0) / 0.5)


def test_a_carried_state_remembers_and_starts_at_the_mean():
    policy = scrambled("tyson1999", mode="stateful")
    a, b = torch.randn(2, 5, 4, dtype=F64)
    first = policy.trace(a)
    mu = policy.core.mu
    assert torch.allclose(policy.trace(a, policy.start(5))["logits"], first["logits"])
    after = policy.trace(b, first["state"])
    assert not torch.allclose(after["logits"], policy.trace(b)["logits"])
    pulled = first["state"] + policy.coupling * (after["x"] - first["state"])
    assert torch.allclose(after["clamped"], pulled.clamp(1e-5, 1e8))
    assert torch.allclose(policy.start(2), mu.expand(2, -1))
    whole = Policy.make("CartPole-v1", "tyson1999", mode="stateful", coupling=1.0)
    flow = Policy.make("CartPole-v1", "tyson1999", mode="flow")
    assert torch.allclose(whole.logits(a.float(), whole.start(5) + 1), flow.logits(a.float()))


@pytest.mark.parametrize("name", ["tyson1999", "lorenz", "random:5", "linear:4", "mlp:3", "kholodenko2000"])
@pytest.mark.parametrize("mode", ["field", "flow", "stateful"])
def test_every_core_runs_in_every_mode(name, mode):
    policy = Policy.make("Pendulum-v1", name, mode)
    made = policy.trace(torch.randn(6, 3))
    assert all(bool(value.isfinite().all()) for value in made.values())


@pytest.mark.parametrize(
    ("system", "out"),
    [
        (Core(toys.LogisticMap(3.7), width=4), 4),
        (Core(toys.LogisticMap(3.7), width=4, of=lambda state: state[:, :2]), 2),
    ],
)
def test_any_core_system_can_be_the_core(system, out):
    policy = Policy(Encoder(4, 4), system, Decoder(out, 2))
    made = policy.trace(torch.randn(3, 4))
    x = made["projected"]
    after = 3.7 * x * (1 - x)
    assert torch.allclose(made["rate"], after - x if out == 4 else after[:, :2])
    assert policy.act(torch.zeros(4)).ndim == 0


def test_saved_and_loaded_is_the_same(tmp_path):
    for env_id, name, mode in (
        ("CartPole-v1", "gardner2000-paper", "field"),
        ("Pendulum-v1", "mlp:5", "stateful"),
    ):
        policy = Policy.make(env_id, name, mode, seed=3, tau=0.2)
        policy.info = {"score": 12.5, "curve": [[1, 2.0]]}
        policy.save(tmp_path / "p.safetensors")
        back = Policy.load(tmp_path / "p.safetensors")
        obs = torch.randn(4, policy.observations)
        assert torch.equal(policy.logits(obs), back.logits(obs))
        assert torch.equal(policy.value(obs), back.value(obs))
        assert (back.env_id, back.mode, back.tau, back.info) == (env_id, mode, 0.2, policy.info)


def test_a_users_own_system_is_asked_for_when_loading(tmp_path):
    mine = Core(toys.LogisticMap(3.7), name="mine", names=("a", "b"))
    Policy(Encoder(4, 2), mine, Decoder(2, 2), env_id="CartPole-v1").save(tmp_path / "p")
    with pytest.raises(ValueError, match=r"'mine', which does not ship.*system="):
        Policy.load(tmp_path / "p")
    assert Policy.load(tmp_path / "p", mine).species == ("a", "b")
    with pytest.raises(ValueError, match="with a, b; lorenz has x, y, z"):
        Policy.load(tmp_path / "p", "lorenz")


def test_a_file_that_is_no_policy(tmp_path):
    with pytest.raises(FileNotFoundError):
        Policy.load(tmp_path / "none")
    from unrolled.training import checkpoint

    checkpoint.save(tmp_path / "other", {"w": torch.ones(1)})
    with pytest.raises(ValueError, match="holds no policy"):
        Policy.load(tmp_path / "other")


def test_the_paper_toggle_differs_from_sbml():
    x = torch.tensor([[20.0, 3.0, 0.0]], dtype=F64)
    assert Core.named("gardner2000").field(x)[0, 1].item() == pytest.approx(-2.2571429, abs=1e-6)
    assert Core.named("gardner2000-paper").field(x)[0, 1].item() == pytest.approx(-2.9612712, abs=1e-6)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        ([0.0, math.nan, 0.0, 0.0], "observation 0 has nan at place 1 of 4"),
        ([[0.0] * 4, [0.0, 0.0, math.inf, 0.0]], "observation 1 has inf at place 2 of 4"),
        ([0.0, 1.0, 2.0], r"has 4 numbers, got shape \(3,\)"),
        (torch.zeros(2, 2, 4), r"has 4 numbers, got shape \(2, 2, 4\)"),
    ],
)
def test_observations_that_make_no_sense(obs, message):
    with pytest.raises(ValueError, match=message):
        Policy.make("CartPole-v1", "tyson1999").act(obs)


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="encoder gives 4 numbers, tyson1999 has 3"):
        Policy(Encoder(4, 4), "tyson1999", Decoder(3, 2))
    with pytest.raises(ValueError, match="decoder takes 4 numbers, tyson1999 gives 3"):
        Policy(Encoder(4, 3), "tyson1999", Decoder(4, 2))
    with pytest.raises(ValueError, match="mode is field, flow, stateful; got 'integrate'"):
        Policy(Encoder(4, 3), "tyson1999", Decoder(3, 2), mode="integrate")
    with pytest.raises(ValueError, match=r"no core 'tyson'; there are tyson1999.*linear:3"):
        Policy.make("CartPole-v1", "tyson")
    with pytest.raises(TypeError, match="system with init and step"):
        Core(lambda x: x)
    with pytest.raises(ValueError, match="say how wide"):
        Core(toys.LogisticMap(3.7))
    with pytest.raises(ValueError, match="mu has 2 numbers, Lorenz has 3"):
        Core(models.lorenz(), mu=[0, 0], std=[1, 1, 1], time_scale=1)
    events = Model.from_equations(
        {"A": 1.0}, {}, {"A": "-A"}, events={"e": {"trigger": "A < 0.5", "assign": {"A": "1"}}}
    )
    with pytest.raises(ValueError, match="has events"):
        Core(events, mu=[1], std=[1], time_scale=1)


def test_draws_follow_the_distribution():
    policy = Policy.make("CartPole-v1", "tyson1999")
    rng = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.0, math.log(3.0)]).expand(20_000, 2)
    assert policy.choose(logits, rng).double().mean().item() == pytest.approx(0.75, abs=0.012)
    smooth = Policy.make("Pendulum-v1", "tyson1999")
    with torch.no_grad():
        smooth.decoder.log_std.fill_(math.log(0.5))
    drawn = smooth.choose(torch.full((20_000, 1), 0.3), rng)
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.015)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.015)
    assert smooth.choose(torch.tensor([[9.0]])).item() == 2.0


def test_a_random_field_is_not_linear_and_not_the_same_for_two_seeds():
    x = torch.randn(4, 3, dtype=F64)
    field = baselines.random_field(3, seed=0).field
    assert not torch.allclose(field(2 * x) - field(0 * x), 2 * (field(x) - field(0 * x)))
    assert not torch.allclose(field(x), baselines.random_field(3, seed=1).field(x))
    assert torch.equal(baselines.linear(3).field(x), x)
