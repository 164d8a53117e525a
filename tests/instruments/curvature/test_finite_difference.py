"""Finite differences against exact products, and against the error table of the fact sheet, section 8."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unrolled.instruments.curvature import decompose
from unrolled.instruments.curvature.finite_difference import (
    CENTRAL_EPS,
    ONE_SIDED_EPS,
    central,
    one_sided,
)
from unrolled.instruments.curvature.hvp import hessian_vector_product


@pytest.fixture
def adam_step(tokens):
    """A GPT after some Adam steps, the batch, and the update of the next one: the setting of the table."""

    def make(gpt, loss_fn, dtype):
        model = gpt(width=16, vocab=32, depth=2).to(dtype)
        batch = tokens(8, 16, vocab=32)
        adam = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
        for k in range(12):
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            total, count = loss_fn(model, tokens(8, 16, seed=k, vocab=32))
            adam.zero_grad()
            (total / count).backward()
            adam.step()
        z = {name: before[name] - p.detach() for name, p in model.named_parameters()}
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(before[name])
        return model, batch, z

    return make


@pytest.mark.parametrize(("method", "tolerance"), [("finite_difference", 1e-8), ("one_sided", 1e-6)])
def test_float64_default_step(method, tolerance, gpt, loss_fn, tokens, random_update):
    model, batches = gpt(), [tokens(2), tokens(1, seed=2)]
    z = random_update(model)
    exact = decompose(model, loss_fn, z, batches=batches, method="double_backward", split="exact")
    r = decompose(model, loss_fn, z, batches=batches, method=method, split="exact")
    assert r.gain == pytest.approx(exact.gain, abs=1e-14)  # the gradient at W itself
    assert r.penalty == pytest.approx(exact.penalty, rel=tolerance)
    assert torch.allclose(
        r.coupling, exact.coupling, rtol=0, atol=tolerance * float(exact.coupling.abs().max())
    )
    assert r.method == method


def test_error_table_in_float32(gpt, loss_fn, adam_step):
    """Relative errors of <Z,HZ> for eps Z; bands a factor of a few around the published pattern.

    Truncation dominates from .3 up and falls 100-fold per decade (central) or 10-fold (one-sided); float32 rounding
    sets a floor at .01.
    """
    model, batch, z = adam_step(gpt, loss_fn, torch.float32)
    wide = {name: v.double() for name, v in z.items()}
    copy = gpt(width=16, vocab=32)
    copy.load_state_dict(model.state_dict())
    reference = decompose(copy.double(), loss_fn, wide, batches=[batch], method="double_backward")

    def error(method, eps):
        r = decompose(model, loss_fn, z, batches=[batch], method=method, eps=eps)
        return abs(r.penalty / reference.penalty - 1)

    assert error("double_backward", None) < 5e-5
    centrals = {eps: error("finite_difference", eps) for eps in (1.0, 0.3, 0.1, 0.01)}
    sided = {eps: error("one_sided", eps) for eps in (1.0, 0.1, 0.01)}
    assert centrals[1.0] / centrals[0.3] == pytest.approx(1 / 0.09, rel=0.5)
    assert centrals[0.3] / centrals[0.1] == pytest.approx(9, rel=0.5)
    assert centrals[0.01] < 3e-4
    assert sided[1.0] / sided[0.1] == pytest.approx(10, rel=0.5)
    assert sided[0.1] / sided[0.01] == pytest.approx(10, rel=0.5)
    assert centrals[0.1] < sided[0.1] / 10


def test_defaults_by_dtype():
    assert CENTRAL_EPS[torch.float32] == 1e-2
    assert ONE_SIDED_EPS[torch.float32] < CENTRAL_EPS[torch.float32]
    for eps in (0.0, -1.0):
        with pytest.raises(ValueError, match="positive"):
            central(eps)


def test_sixteen_bit_computation_takes_a_large_step():
    """Under bfloat16 autocast a small eps drowns in rounding."""
    errors, small = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8))
        x, y = torch.randn(256, 64), torch.randint(8, (256,))
        z = {name: 0.02 * torch.randn_like(p) for name, p in model.named_parameters()}

        def loss(m, x=x, y=y):
            return F.cross_entropy(m(x).float(), y)

        def cast(m, loss=loss):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return loss(m)

        exact = decompose(model, loss, z, method="double_backward").penalty
        errors.append(abs(decompose(model, cast, z, method="finite_difference").penalty / exact - 1))
        fixed = decompose(model, cast, z, method="finite_difference", eps=1e-2).penalty
        small.append(abs(fixed / exact - 1))
    assert max(errors) < 0.03
    assert max(small) > 3 * max(errors)


def test_sixteen_bit_parameters_move_by_the_whole_update():
    model = nn.Linear(4, 1, bias=False).bfloat16()
    nn.init.ones_(model.weight)
    z = {"weight": torch.full((1, 4), 2.0**-7)}  # one unit in the last place of 1

    def loss(m):
        return m.weight.float().pow(2).sum()

    assert decompose(model, loss, z, method="finite_difference").nds == pytest.approx(2.0)
    assert decompose(model, loss, z, method="finite_difference", eps=0.1).nds == 0.0


def test_sparse_gradients():
    model = nn.Embedding(6, 2, sparse=True).double()
    index = torch.tensor([0, 3, 3])
    z = {"weight": torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double()}
    same = nn.Embedding(6, 2).double()
    same.load_state_dict(model.state_dict())

    def loss(m):
        return m(index).pow(4).sum()

    expected = decompose(same, loss, z, method="double_backward")
    for method in ("finite_difference", "one_sided"):
        r = decompose(model, loss, z, method=method)
        assert r.gain == pytest.approx(expected.gain, abs=1e-12)
        assert r.penalty == pytest.approx(expected.penalty, rel=1e-6)


def test_fused_attention_needs_no_second_derivative(gpt, loss_fn, tokens, random_update):
    fused, plain = gpt(fused=True), gpt()
    z = random_update(plain)
    exact = hessian_vector_product(plain, loss_fn, z, batches=[tokens()])[2]
    for method, tolerance in ((central(), 1e-8), (one_sided(), 1e-5)):
        found = hessian_vector_product(fused, loss_fn, z, batches=[tokens()], method=method)[2]
        for name in z:
            assert torch.allclose(found[name], exact[name], atol=tolerance, rtol=0)
