"""Hessian-vector products: against dense Hessians, symmetric, linear, and the two ways against each other."""

import math

import pytest
import torch
from torch import nn

from unrolled.instruments.curvature import finite_difference
from unrolled.instruments.curvature.graph import graph_facts
from unrolled.instruments.curvature.hvp import (
    NotTwiceDifferentiable,
    double_backward,
    forward_over_reverse,
    hessian_vector_product,
)
from unrolled.instruments.curvature.vectors import directions, group_inner, inner

METHODS = [double_backward, forward_over_reverse]


def dot(a, b):
    return sum(float((a[name] * b[name]).sum()) for name in a)


@pytest.mark.parametrize("method", METHODS)
def test_against_dense_hessian(method, gpt, loss_fn, tokens, random_update, dense):
    model, batches = gpt(), [tokens(2), tokens(1, seed=7)]
    names, g, h = dense(model, loss_fn, batches)
    v = random_update(model)
    flat = torch.cat([v[name].reshape(-1) for name in names])
    loss, grad, hv = hessian_vector_product(model, loss_fn, v, batches=batches, method=method)
    assert torch.allclose(torch.cat([grad[name].reshape(-1) for name in names]), g, atol=1e-9, rtol=0)
    assert torch.allclose(torch.cat([hv[name].reshape(-1) for name in names]), h @ flat, atol=1e-9, rtol=0)
    sums = [loss_fn(model, batch) for batch in batches]
    assert loss == pytest.approx(sum(s.item() for s, _ in sums) / sum(n for _, n in sums), abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_and_linear(method, gpt, loss_fn, tokens, random_update):
    model, batches = gpt(), [tokens()]
    u, v = random_update(model, seed=1), random_update(model, seed=2)

    def h(x):
        return hessian_vector_product(model, loss_fn, x, batches=batches, method=method)[2]

    hu, hv = h(u), h(v)
    assert dot(u, hv) == pytest.approx(dot(v, hu), abs=1e-13)
    mixed = h({name: 2.0 * u[name] - 3.0 * v[name] for name in u})
    for name in u:
        assert torch.allclose(mixed[name], 2.0 * hu[name] - 3.0 * hv[name], atol=1e-12, rtol=0)


def test_the_two_agree_on_part_of_the_parameters(gpt, loss_fn, tokens, random_update):
    model, batches = gpt(dropout=0.2), [tokens(), tokens(2, seed=3)]
    v = {name: z for name, z in random_update(model).items() if "blocks.1" in name}
    torch.manual_seed(5)
    a = hessian_vector_product(model, loss_fn, v, batches=batches, method=double_backward)
    torch.manual_seed(5)
    b = hessian_vector_product(model, loss_fn, v, batches=batches, method=forward_over_reverse)
    assert a[0] == b[0]
    for name in v:
        assert torch.allclose(a[1][name], b[1][name], atol=1e-13, rtol=0)
        assert torch.allclose(a[2][name], b[2][name], atol=1e-13, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_loss_linear_in_the_parameters_has_no_curvature(method):
    model = nn.Linear(3, 1, bias=False).double()
    x = torch.arange(3.0).double()
    _, grad, hv = hessian_vector_product(
        model, lambda m: m(x).sum(), {"weight": torch.ones(1, 3).double()}, method=method
    )
    assert torch.equal(grad["weight"], x[None])
    assert not hv["weight"].any()


@pytest.mark.parametrize("method", METHODS)
def test_relu_is_twice_differentiable_almost_everywhere(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    x = torch.randn(6, 3).double()
    v = {name: torch.randn_like(p) for name, p in model.named_parameters()}

    def loss(m):
        return m(x).square().sum()

    exact = hessian_vector_product(model, loss, v, method=method)[2]
    near = hessian_vector_product(model, loss, v, method=finite_difference.central(1e-6))[2]
    for name in v:
        assert torch.allclose(exact[name], near[name], atol=1e-6, rtol=1e-6)


def test_recomputed_activations_and_lstm():
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    inner_model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1)).double()
    x = torch.randn(5, 4).double()
    v = {name: torch.randn_like(p) for name, p in inner_model.named_parameters()}
    torch.manual_seed(1)
    plain = hessian_vector_product(inner_model, lambda m: m(x).square().sum(), v)[2]
    torch.manual_seed(1)
    kept = hessian_vector_product(
        inner_model, lambda m: checkpoint(m, x, use_reentrant=False).square().sum(), v
    )[2]
    for name in v:
        assert torch.allclose(plain[name], kept[name], atol=1e-13, rtol=0)

    lstm = nn.LSTM(3, 2).double()  # its weights are also held in a flat list
    y = torch.randn(4, 1, 3).double()
    w = {name: torch.randn_like(p) for name, p in lstm.named_parameters()}
    a = hessian_vector_product(lstm, lambda m: m(y)[0].square().sum(), w)[2]
    b = hessian_vector_product(lstm, lambda m: m(y)[0].square().sum(), w, method=finite_difference.central())[
        2
    ]
    for name in w:
        assert torch.allclose(a[name], b[name], atol=1e-7, rtol=0)


def test_fused_attention_is_named(gpt, loss_fn, tokens, random_update):
    model = gpt(fused=True)
    for method in METHODS:
        with pytest.raises(NotTwiceDifferentiable, match="attention"):
            hessian_vector_product(model, loss_fn, random_update(model), batches=[tokens()], method=method)
    assert torch.equal(model.embed.weight, gpt(fused=True).embed.weight)  # parameters are back in place
    assert isinstance(model.head.weight, nn.Parameter)


def test_graph_facts():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    w = torch.ones(3, requires_grad=True)
    assert graph_facts(Twice.apply(w).sum()).custom == ("Twice",)
    assert graph_facts((w * 2).sum()) == graph_facts(torch.ones(()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert graph_facts((torch.ones(2, 3) @ w).float().sum()).sixteen_bit


def test_inner_products_accumulate_in_float64():
    a = torch.full((1 << 12,), 1e-4)
    a[0] = 1e4
    b = torch.ones(1 << 12)
    assert inner(a, b).item() == pytest.approx(a.double().sum().item(), rel=1e-15)
    assert inner(a.bfloat16(), b.bfloat16()).item() == a.bfloat16().double().sum().item()
    big = torch.randn((1 << 22) + 7, generator=torch.Generator().manual_seed(0))
    assert inner(big, big).item() == pytest.approx(math.fsum((big.double() ** 2).tolist()), rel=1e-12)
    assert inner(torch.eye(2).to_sparse(), torch.ones(2, 2)).item() == 2.0


def test_group_inner_and_directions():
    z = [torch.ones(2), torch.full((3,), 2.0), torch.ones(1)]
    assert group_inner(z, [z[0], None, z[2]], [0, 1, 0], 3).tolist() == [3.0, 0.0, 0.0]
    made = list(directions(z, [0, 1, 0], torch.tensor([[1, 1], [0, -1], [-1, 0]])))
    assert made[0][0] is z[0]
    assert made[1][0] is None
    assert torch.equal(made[1][1], -z[1])
    assert torch.equal(made[2][2], -z[2])
    with pytest.raises(ValueError, match="zip"):
        group_inner(z, z[:2], [0, 1, 0], 2)
