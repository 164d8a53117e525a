import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwd_ad
from torch import Tensor, nn

from unrolled import check_system, optim, rollout
from unrolled.core import Settled, tree
from unrolled.instruments import spectrum
from unrolled.instruments.curvature import decompose
from unrolled.optim import updates
from unrolled.training import gpt

F64 = torch.float64


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


X, Y = random(20, 5), random(20, 3, seed=1)


def network(params: Any, batch: Any) -> Tensor:
    x, y = batch
    return ((x @ params["up"]["w"] + params["up"]["b"]).tanh() @ params["down"] - y).square().mean()


def start() -> dict[str, Any]:
    return {
        "up": {"w": random(5, 6, seed=2), "b": torch.zeros(6, dtype=F64)},
        "down": random(6, 3, seed=3),
    }


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 16, 2)] * 4


MAKERS: dict[str, Any] = {
    "sgd": lambda loss, params, **o: optim.sgd(loss, params=params, lr=0.1, **o),
    "momentum": lambda loss, params, **o: optim.sgd(
        loss, params=params, lr=0.1, momentum=0.9, nesterov=True, **o
    ),
    "adam": lambda loss, params, **o: optim.adam(loss, params=params, lr=0.05, **o),
    "adamw": lambda loss, params, **o: optim.adam(loss, params=params, lr=0.05, weight_decay=0.1, **o),
    "muon": lambda loss, params, **o: optim.muon(loss, params=params, lr=0.05, adam_lr=0.05, **o),
    "muon-svd": lambda loss, params, **o: optim.muon(
        loss, params=params, lr=0.05, polar="svd", scale="none", **o
    ),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_follows_the_contract(maker: str) -> None:
    checks = check_system(MAKERS[maker](network, start()), (X, Y))
    assert [check.name for check in checks if check.status == "pass"] >= ["methods", "state"]
    assert {c.name: c.status for c in checks}["gradient"] == "pass"
    assert {c.name: c.status for c in checks}["resume"] == "pass"


@pytest.mark.parametrize("maker", MAKERS)
def test_follows_the_contract_on_one_tensor_with_entries_that_see_no_gradient(maker: str) -> None:
    def loss(w: Tensor, _: Any) -> Tensor:
        return (w[:, 0].square() * torch.arange(1.0, 4.0, dtype=F64)).sum()

    check_system(MAKERS[maker](loss, random(3, 2)))


def torch_twin(optimizers: Any, steps: list[Any]) -> dict[str, Tensor]:
    leaves = dict(tree.leaves(start()))
    parameters = {name: nn.Parameter(leaf) for name, leaf in leaves.items()}
    made = optimizers(parameters)
    for batch in steps:
        params = {"up": {"w": parameters["up.w"], "b": parameters["up.b"]}, "down": parameters["down"]}
        for optimizer in made:
            optimizer.zero_grad()
        network(params, batch).backward()
        for optimizer in made:
            optimizer.step()
    return {name: p.detach() for name, p in parameters.items()}


@pytest.mark.parametrize(
    ("system", "twin"),
    [
        (lambda p: optim.sgd(network, p, lr=0.1, momentum=0.8, weight_decay=0.01),
         lambda p: [torch.optim.SGD(p.values(), lr=0.1, momentum=0.8, weight_decay=0.01)]),
        (lambda p: optim.adam(network, p, lr=0.03, weight_decay=0.1),
         lambda p: [torch.optim.AdamW(p.values(), lr=0.03, weight_decay=0.1)]),
        (lambda p: optim.adam(network, p, lr=0.03, weight_decay=0.1, decoupled=False),
         lambda p: [torch.optim.Adam(p.values(), lr=0.03, weight_decay=0.1)]),
        (lambda p: optim.muon(network, p, lr=0.03, weight_decay=0.1, adam_lr=0.01, adam_weight_decay=0.2,
                              polar_dtype=torch.bfloat16, scale="match_rms_adamw"),
         lambda p: [torch.optim.Muon([p["up.w"], p["down"]], lr=0.03, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
                    torch.optim.AdamW([p["up.b"]], lr=0.01, betas=(0.9, 0.95), weight_decay=0.2)]),
    ],
    ids=["sgd", "adamw", "adam", "muon"],
)  # fmt: skip
def test_a_rollout_is_the_loop_over_torch_step_for_step(system: Any, twin: Any) -> None:
    path = rollout(system(start()), batches(), steps=32, record={})
    expected = torch_twin(twin, batches())
    for name, leaf in tree.leaves(path.final["params"]):
        torch.testing.assert_close(leaf, expected[name], rtol=1e-12, atol=1e-12)
    assert path.final["step"] == 32


def test_update_is_what_the_next_step_subtracts() -> None:
    system = optim.muon(network, start(), weight_decay=0.1)
    state = rollout(system, (X, Y), steps=3, record={}).final
    with torch.no_grad():
        z, after = system.update(state, (X, Y)), system.step(state, (X, Y))
    assert list(z) == ["up.w", "up.b", "down"]
    for (name, before), (_, new) in zip(tree.leaves(state["params"]), tree.leaves(after["params"])):
        assert torch.equal(before - z[name], new)


def test_readout_settling_and_record_names() -> None:
    system = optim.sgd(lambda w, _: 0.5 * (w**2).sum(), torch.ones(2, 2, dtype=F64), lr=0.5)
    path = rollout(system, steps=60, record=["params"], until=Settled(1e-6, of="params"))
    assert path.stop.reason == "settled"
    assert path.stop.step == 20
    assert path["params"].shape == (21, 4)


@pytest.mark.parametrize("lr", [0.1, 0.5])
def test_gradient_through_unrolled_descent_against_the_closed_form(lr: float) -> None:
    """W_T = (1 - lr h)^T W_0 on a quadratic: dW_T/dW_0, dW_T/dlr and dW_T/dh."""
    h = torch.tensor([0.3, 1.7], dtype=F64, requires_grad=True)
    w0 = torch.tensor([2.0, -1.0], dtype=F64, requires_grad=True)
    rate = torch.tensor(lr, dtype=F64, requires_grad=True)
    system = optim.sgd(lambda w, _: 0.5 * (h * w**2).sum(), w0, lr=rate)
    path = rollout(system, steps=5, grad="full")
    torch.testing.assert_close(path["params"][-1], (1 - rate * h) ** 5 * w0)
    ours = torch.autograd.grad(path["params"][-1].sum(), [w0, rate, h])
    closed = [(1 - lr * h) ** 5, (-5 * h * (1 - lr * h) ** 4 * w0).sum(), -5 * lr * (1 - lr * h) ** 4 * w0]
    for a, b in zip(ours, closed):
        torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-12)


def test_jacobian_of_a_step_in_plain_forward_mode() -> None:
    system = optim.sgd(lambda w, _: w.pow(4).sum() / 4, torch.tensor([1.0, 2.0], dtype=F64), lr=0.1)
    with fwd_ad.dual_level(), torch.no_grad():
        state = system.init(None)
        state["params"] = fwd_ad.make_dual(state["params"], torch.ones(2, dtype=F64))
        tangent = fwd_ad.unpack_dual(system.step(state, None)["params"]).tangent
    torch.testing.assert_close(tangent, torch.tensor([1 - 0.3, 1 - 1.2], dtype=F64))


def test_a_step_builds_a_graph_only_where_grad_mode_asks_for_one() -> None:
    w = torch.ones(2, requires_grad=True)
    system = optim.sgd(lambda w, _: w.square().sum(), w, lr=0.1)
    with torch.no_grad():
        assert not system.step(system.init(None), None)["params"].requires_grad
    assert system.step(system.init(None), None)["params"].requires_grad
    assert w.grad is None
    assert not rollout(system, steps=2).final["params"].requires_grad


def test_a_loss_that_ignores_its_parameters_moves_nothing() -> None:
    system = optim.sgd(lambda w, x: x.sum(), torch.ones(2), lr=0.1)
    assert rollout(system, torch.ones(3), steps=2).final["params"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("grad", ["full", "checkpoint"])
def test_gradient_through_unrolled_steps_against_finite_differences(maker: str, grad: str) -> None:
    direction = random(5, 6, seed=9)

    def end(shift: Tensor, grad: str = "none") -> Tensor:
        params = start()
        params["up"]["w"] = params["up"]["w"] + shift * direction
        path = rollout(MAKERS[maker](network, params), batches()[:4], steps=4, grad=grad, record={})
        return network(path.final["params"], (X, Y))

    shift = torch.zeros((), dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(end(shift, grad), shift)
    h = 1e-5
    expected = (end(torch.tensor(h, dtype=F64)) - end(torch.tensor(-h, dtype=F64))) / (2 * h)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-9)


def test_jacobian_of_a_step_is_one_minus_lr_times_the_hessian() -> None:
    a = random(4, 4)
    hessian = a @ a.mT
    system = optim.sgd(lambda w, _: 0.5 * w @ hessian @ w, random(4, seed=5), lr=0.1)
    state = system.init(None)

    def step(w: Tensor) -> Tensor:
        return system.step({**state, "params": w}, None)["params"]

    expected = torch.eye(4, dtype=F64) - 0.1 * hessian
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(step)(state["params"]), expected)


def test_an_ensemble_by_vmap_equals_its_members() -> None:
    system = optim.adam(lambda w, x: (w @ x - 1).square().mean(), random(5), lr=0.1)
    x, w = random(5, 7, seed=1), random(3, 5, seed=2)
    state = system.init(x)
    states = [{**state, "params": row} for row in w]
    stacked = tree.map(lambda *leaves: torch.stack(leaves), *states)
    with torch.no_grad():
        together = torch.vmap(system.step, in_dims=(0, None))(stacked, x)
        for i, alone in enumerate(states):
            torch.testing.assert_close(together["params"][i], system.step(alone, x)["params"])


def test_learning_rate_as_a_function_of_the_step_index() -> None:
    system = optim.sgd(lambda w, _: w.sum(), torch.zeros(1), lr=lambda t: 10.0**-t)
    assert rollout(system, steps=3)["params"].flatten().tolist() == pytest.approx([0.0, -1.0, -1.1, -1.11])


def test_initial_parameters_from_the_generator() -> None:
    system = optim.adam(lambda w, _: w.square().sum(), lambda rng: torch.randn(3, generator=rng))
    a, b, c = (rollout(system, steps=2, rng=seed)["params"] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@dataclass
class Weights:
    w: Tensor
    mask: Tensor


def test_dataclasses_lists_and_leaves_that_are_not_trained() -> None:
    weights = [Weights(torch.ones(2, dtype=F64), torch.tensor([1, 0]))]
    system = optim.sgd(lambda p, _: (p[0].w * p[0].mask).sum(), weights, lr=1.0)
    final = rollout(system, steps=2, record={}).final["params"]
    assert isinstance(final[0], Weights)
    assert final[0].w.tolist() == [-1.0, 1.0]
    assert torch.equal(final[0].mask, weights[0].mask)
    assert weights[0].w.tolist() == [1.0, 1.0]


def small_gpt(**options: Any) -> gpt.GPT:
    return gpt.GPT(gpt.GPTConfig(layers=1, heads=2, width=8, context=8, vocab=11, **options)).double()


def tokens(seed: int = 0) -> tuple[Tensor, Tensor]:
    block = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(seed))
    return block[:, :-1], block[:, 1:]


def test_a_module_is_trained_without_being_changed_and_equals_a_plain_loop() -> None:
    model = small_gpt()
    before, twin = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    path = rollout(
        optim.adam(gpt.loss, params=model, lr=0.01), [tokens(i) for i in range(4)], steps=4, record={}
    )
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for i in range(4):
        optimizer.zero_grad()
        total, count = gpt.loss(twin, tokens(i))
        (total / count).backward()
        optimizer.step()
    for name, p in twin.named_parameters():
        torch.testing.assert_close(path.final["params"][name], p.detach(), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.load_state_dict(path.final["params"], strict=False)


def test_dropout_is_drawn_from_the_generator_of_the_rollout() -> None:
    system = optim.sgd(gpt.loss, params=small_gpt(dropout=0.5, attention="eager"), lr=0.1)
    check_system(system, tokens())
    ends = [rollout(system, tokens(), 2, record=["params"], rng=seed)["params"][-1] for seed in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_batch_norm_statistics_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).double()
    before = copy.deepcopy(model.state_dict())
    system = optim.sgd(lambda m, x: m(x).square().sum() + m(x).sum(), params=model, lr=0.1)
    check_system(system, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_and_tied_parameters_of_a_module() -> None:
    model = nn.ModuleDict(
        {"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False), "c": nn.Linear(3, 3)}
    )
    model["b"].weight = model["a"].weight
    model["c"].requires_grad_(False)
    system = optim.sgd(lambda m, x: m["c"](m["b"](m["a"](x))).sum(), params=model, lr=0.1)
    x = torch.ones(1, 3)
    assert list(system.init(x)["params"]) == ["a.weight"]
    expected = torch.autograd.grad(model["c"](model["b"](model["a"](x))).sum(), model["a"].weight)[0]
    torch.testing.assert_close(system.update(system.init(x), x)["a.weight"], 0.1 * expected)


def test_muon_leaves_embedding_modules_to_adam_whatever_their_name() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(7, 4), "mix": nn.Linear(4, 4)})
    system = optim.muon(lambda m, x: m["mix"](m["table"](x)).square().sum(), params=model)
    buffers = system.init(torch.arange(3))["buffers"]
    assert {name: sorted(b) for name, b in buffers.items()} == {
        "table.weight": ["exp_avg", "exp_avg_sq"], "mix.weight": ["momentum"], "mix.bias": ["exp_avg", "exp_avg_sq"],
    }  # fmt: skip


def test_fused_projection_shared_by_muon_and_adam() -> None:
    params = {"attn": {"qkv": random(12, 4)}}
    x = random(4, seed=3)
    system = optim.muon(lambda p, _: (p["attn"]["qkv"] @ x).pow(3).sum(), params, recipe="VO", lr=0.1, adam_lr=0.01,
                        polar="svd")  # fmt: skip
    check_system(system)
    state = system.init(None)
    z = system.update(state, None)["attn.qkv"]
    g = 3 * (params["attn"]["qkv"] @ x).square()[:, None] * x
    adam_z, _ = updates.adam(
        g, g, updates.zeros(g, "exp_avg", "exp_avg_sq"), step=1, lr=0.01, betas=(0.9, 0.95)
    )
    torch.testing.assert_close(z[:8], adam_z[:8])
    u, _, vh = torch.linalg.svd(g[8:])
    torch.testing.assert_close(z[8:], 0.1 * torch.outer(u[:, 0], vh[0]))


@pytest.mark.parametrize("recipe", ["VO", "QK", "FFN", "VO+FFN", "all"])
def test_every_recipe_descends_on_a_gpt(recipe: str) -> None:
    model = small_gpt()
    system = optim.muon(gpt.loss, params=model, recipe=recipe, lr=0.02, adam_lr=0.01)
    path = rollout(
        system, tokens(), 15, record={"loss": lambda s: system.loss(s["params"], tokens())}, every=15
    )
    assert path["loss"][-1] < 0.8 * path["loss"][0]


def test_sixteen_bit_parameters_stay_sixteen_bit() -> None:
    w = random(4, 4).bfloat16()
    system = optim.muon(lambda w, _: w.float().square().sum(), w, lr=0.1)
    check_system(system)
    assert rollout(system, steps=1).final["params"].dtype == torch.bfloat16


def test_bad_input() -> None:
    w = torch.ones(2, 2)
    with pytest.raises(ValueError, match="no floating-point tensor to train, got dict"):
        optim.sgd(network, {}, lr=0.1)
    with pytest.raises(ValueError, match="no floating-point tensor to train, got NoneType"):
        optim.adam(network, None)
    with pytest.raises(TypeError, match="loss is a function"):
        optim.sgd(w, w, lr=0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="lr is a number of at least 0, got -1"):
        optim.sgd(network, w, lr=-1)
    with pytest.raises(ValueError, match="nesterov"):
        optim.sgd(network, w, lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match="unknown polar 'svdd'.*did you mean 'svd'"):
        optim.muon(network, w, polar="svdd")
    with pytest.raises(ValueError, match="unknown scale rule"):
        optim.muon(network, w, scale="rms")
    with pytest.raises(ValueError, match="unknown recipe 'OV'"):
        optim.muon(network, w, recipe="OV")
    with pytest.raises(ValueError, match=r"one number to be descended, got shape \(2, 2\)"):
        rollout(optim.sgd(lambda w, _: w**2, w, lr=0.1), steps=1)
    with pytest.raises(ValueError, match="got float"):
        rollout(optim.sgd(lambda w, _: 1.0, w, lr=0.1), steps=1)
    with pytest.raises(ValueError, match="tuple of 3"):
        rollout(optim.sgd(lambda w, _: (w.sum(), 1, 2), w, lr=0.1), steps=1)


def test_a_loss_that_turns_nan_ends_the_rollout_with_the_step_and_the_leaf() -> None:
    system = optim.sgd(lambda p, _: p["w"].sqrt().sum(), {"w": torch.tensor([9.0, 0.1])}, lr=1.0)
    with pytest.warns(RuntimeWarning, match="NaN"):
        path = rollout(system, steps=9)
    assert path.stop.reason == "nonfinite"
    assert path.stop.where.startswith(("params", "buffers"))


def test_spectrum_of_a_step_reads_the_parameters() -> None:
    a = random(6, 6)
    hessian = a @ a.mT / 6
    system = optim.sgd(lambda w, _: 0.5 * w @ hessian @ w, random(6, seed=5), lr=0.1)
    reading = spectrum(system, of="params", k=6)
    expected = (1 - 0.1 * torch.linalg.eigvalsh(hessian)).sort().values
    torch.testing.assert_close(reading["eigenvalue"].real.sort().values, expected, rtol=1e-9, atol=1e-10)


def test_momentum_has_the_eigenvalues_of_the_heavy_ball() -> None:
    """Each mode: z^2 - (1 + mu - lr h) z + mu = 0; parameters and momentum are one state."""
    h, lr, mu = 2.0, 0.3, 0.5
    system = optim.sgd(lambda w, _: 0.5 * h * w @ w, torch.ones(1, dtype=F64), lr=lr, momentum=mu)
    found = spectrum(system, k=2)["eigenvalue"]
    assert found.real.tolist() == pytest.approx([(1 + mu - lr * h) / 2] * 2, abs=1e-9)
    torch.testing.assert_close(found.abs(), torch.full((2,), mu**0.5, dtype=F64), rtol=1e-9, atol=1e-10)


def test_the_update_of_a_system_is_what_decompose_takes() -> None:
    model = small_gpt(attention="eager")
    system = optim.muon(gpt.loss, params=model, lr=0.01)
    z = system.update(system.init(tokens()), tokens())
    reading = decompose(model, gpt.loss, z, batches=[tokens()], method="double_backward")
    after = {name: p.detach() - z[name] for name, p in model.named_parameters()}
    with torch.no_grad():
        before, later = (system.loss(p, tokens()) for p in (dict(model.named_parameters()), after))
    assert reading.actual == pytest.approx((before - later).item(), rel=1e-9)
    assert abs(reading.predicted - reading.actual) < 0.1 * abs(reading.actual)
