"""How `auto` chooses, what it falls back to, and that it says so."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unrolled.instruments.curvature import decompose
from unrolled.instruments.curvature.hvp import NotTwiceDifferentiable
from unrolled.instruments.curvature.measure import Sums


class Cube(torch.autograd.Function):
    """x^3 with a backward that `once_differentiable` seals off."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class KernelCube(torch.autograd.Function):
    """x^3 with a backward like that of a hand-written kernel: nothing records it, and nothing complains."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * x.detach().numpy() ** 2) * g.detach()


class HonestCube(torch.autograd.Function):
    """x^3 with a backward made of operators: a custom function that can be differentiated twice."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


@pytest.fixture
def custom():
    """custom(function) -> model, loss, update, and <Z,HZ> / 2 from plain operators."""

    def make(function):
        torch.manual_seed(0)
        model = nn.Linear(3, 2).double()
        x = torch.randn(4, 3).double()
        z = {name: 0.1 * torch.randn_like(p) for name, p in model.named_parameters()}
        truth = decompose(model, lambda m: (m(x) ** 3).tanh().sum(), z, method="double_backward").penalty
        return model, lambda m: function(m(x)).tanh().sum(), z, truth

    return make


def test_auto_prefers_the_jet_for_totals(gpt, loss_fn, tokens, random_update):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        r = decompose(gpt(), loss_fn, random_update(gpt()), batches=[tokens()])
        rows = decompose(gpt(), loss_fn, random_update(gpt()), batches=[tokens()], rows=True)
        split = decompose(gpt(), loss_fn, random_update(gpt()), batches=[tokens()], split="exact")
    assert r.method == "jet"
    assert r.rows is None
    assert any("totals only" in note for note in r.notes)
    assert rows.method == split.method == "double_backward"
    assert rows.rows is not None
    assert r.penalty == pytest.approx(rows.penalty, abs=1e-12)


@pytest.mark.parametrize("method", ["auto", "double_backward", "forward_over_reverse"])
def test_fused_attention_becomes_math_attention(method, gpt, loss_fn, tokens, random_update):
    z = random_update(gpt())
    truth = decompose(gpt(), loss_fn, z, batches=[tokens()], method="double_backward", split="exact")
    with pytest.warns(UserWarning, match="math attention.*no second derivative"):
        r = decompose(gpt(fused=True), loss_fn, z, batches=[tokens()], method=method, split="exact")
    assert r.method == ("double_backward" if method == "auto" else method)
    assert any("math attention" in note for note in r.notes)
    assert r.penalty == pytest.approx(truth.penalty, abs=1e-12)
    assert r.within == pytest.approx(truth.within, abs=1e-10)
    q = torch.zeros(1, 1, 2, 4, requires_grad=True)  # the choice of kernel is the user's again
    assert "Flash" in F.scaled_dot_product_attention(q, q, q).grad_fn.name()


@pytest.mark.parametrize("function", [Cube, KernelCube])
def test_once_differentiable_functions_fall_back(function, custom):
    model, loss, z, truth = custom(function.apply)
    with pytest.warns(UserWarning, match="falls back to finite_difference"):
        r = decompose(model, loss, z)
    assert r.method == "finite_difference"
    assert r.penalty == pytest.approx(truth, rel=1e-6)
    assert any("jet:" in note and "double_backward:" in note for note in r.notes)


def test_the_warning_points_at_the_caller(custom):
    model, loss, z, _ = custom(Cube.apply)
    with pytest.warns(UserWarning, match="falls back") as caught:
        decompose(model, loss, z)
    assert caught[0].filename == __file__


def test_backward_that_silently_loses_terms_is_caught(custom):
    """Differentiated as it stands it gives a wrong number without any error; only the comparison notices."""
    model, loss, z, truth = custom(KernelCube.apply)
    blind = decompose(model, loss, z, method="double_backward")
    assert any("on trust: KernelCube" in note for note in blind.notes)
    assert abs(blind.penalty / truth - 1) > 0.1
    with pytest.warns(UserWarning, match="KernelCube loses second derivatives"):
        decompose(model, loss, z, rows=True)


def test_custom_functions_that_work_are_kept(custom):
    model, loss, z, truth = custom(HonestCube.apply)
    r = decompose(model, loss, z, rows=True)
    assert r.method == "double_backward"
    assert r.penalty == pytest.approx(truth, abs=1e-12)


def test_a_named_method_does_not_fall_back(custom):
    model, loss, z, _ = custom(lambda x: Cube.apply(x) * x)
    with pytest.raises(NotTwiceDifferentiable, match="once_differentiable"):
        decompose(model, loss, z, method="double_backward")
    with pytest.raises(NotImplementedError):
        decompose(model, loss, z, method="jet")
    assert all(p.grad is None for p in model.parameters())


def test_reentrant_checkpointing_is_refused(random_update):
    """torch.autograd.grad does not see the parameters inside: their gradient would pass for zero."""
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x = torch.randn(4, 3).double().requires_grad_()

    def loss(m):
        return m[2](checkpoint(m[:2], x, use_reentrant=True)).square().sum()

    for method in ("double_backward", "finite_difference"):
        with pytest.raises(ValueError, match="use_reentrant=False"):
            decompose(model, loss, random_update(model), method=method)


def test_errors_of_the_loss_pass_through(gpt, tokens, random_update):
    def broken(model, batch):
        raise RuntimeError("size mismatch in my own code")

    with pytest.raises(RuntimeError, match="my own code") as caught:
        decompose(gpt(), broken, random_update(gpt()), batches=[tokens()])
    assert not isinstance(caught.value, NotTwiceDifferentiable)


def test_sums_pack_and_unpack():
    sums = Sums(
        1.0, 2.0, 3.0, torch.tensor([4.0, 5.0]), torch.tensor([6.0]), torch.tensor([[7.0, 8.0]]), (9.0, 10.0)
    )
    sums = Sums(**{**vars(sums), **{k: getattr(sums, k).double() for k in ("slopes", "quads", "rows")}})
    assert sums.pack().tolist() == [1, 2, 3, 9, 10, 4, 5, 6, 7, 8]
    twice = sums.unpack(2 * sums.pack())
    assert twice.pack().tolist() == (2 * sums.pack()).tolist()
    assert twice.rows.shape == (1, 2)
