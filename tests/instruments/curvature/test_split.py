"""Within and cross: exact, unbiased from signs, complete with a Hadamard set."""

import itertools
import math
import re

import pytest
import torch

from unrolled.instruments.curvature import decompose
from unrolled.instruments.curvature.hvp import hessian_vector_product
from unrolled.instruments.curvature.split import SignDraws, exact, hadamard

KNOWN = {}


@pytest.fixture
def case(gpt, loss_fn, tokens, random_update, dense):
    model, batches = gpt(), [tokens(2), tokens(1, seed=9)]
    if not KNOWN:
        KNOWN["names"], _, KNOWN["hessian"] = dense(model, loss_fn, batches)
    return model, loss_fn, random_update(model), batches, KNOWN["names"], KNOWN["hessian"]


GROUPS = {"embed": "embed", "attention": "attention", "mlp": "up|down", "norms": "norm"}


def blocks_of(names, z, h, groups):
    """<Z_l, H_ll' Z_l'> from the dense Hessian."""
    label = [next(k for k, regex in groups.items() if re.search(regex, name)) for name in names]
    order = list(dict.fromkeys(label))
    flat = torch.cat([z[name].reshape(-1) for name in names])
    of = torch.cat([torch.full((z[name].numel(),), order.index(k)) for name, k in zip(names, label)])
    parts = torch.stack([torch.where(of == i, flat, 0.0) for i in range(len(order))])
    return order, parts @ h @ parts.T


@pytest.mark.parametrize("method", ["double_backward", "forward_over_reverse", "finite_difference", "jet"])
def test_exact_split_against_dense_blocks(method, case):
    model, loss_fn, z, batches, names, h = case
    order, coupling = blocks_of(names, z, h, GROUPS)
    r = decompose(model, loss_fn, z, batches=batches, split="exact", groups=GROUPS, method=method)
    tolerance = 1e-9
    assert r.groups == tuple(order)
    assert torch.allclose(r.blocks, coupling.diagonal(), atol=tolerance, rtol=0)
    square = r.norm**2
    assert r.within == pytest.approx(float(coupling.diagonal().sum()) / square, abs=tolerance / square)
    off = float(coupling.sum() - coupling.diagonal().sum())
    assert r.cross == pytest.approx(off / square, abs=tolerance / square)
    assert abs(r.within + r.cross - r.nds) < 1e-10
    assert r.rho_within == pytest.approx(r.within / r.nds)
    assert r.within_error == 0.0
    if method == "jet":
        assert r.rows is None
        assert r.coupling is None
    else:
        assert torch.allclose(r.coupling, coupling, atol=tolerance, rtol=0)
        assert torch.allclose(r.rows, coupling.sum(1), atol=tolerance, rtol=0)


def test_row_sum_is_not_within(case):
    model, loss_fn, z, batches, _, _ = case
    r = decompose(model, loss_fn, z, batches=batches, split="exact", groups=GROUPS)
    assert (r.rows - r.blocks).abs().max() > 1e-3 * r.blocks.abs().max()
    assert float(r.rows.sum()) == pytest.approx(2 * r.penalty, abs=1e-12)


def test_all_signs_average_to_within(case):
    """E s_l <Z_l, (H[sZ])_l> over all 2^(L-1) sign vectors is <Z_l, H_ll Z_l>, exactly."""
    model, loss_fn, z, batches, names, h = case
    order, coupling = blocks_of(names, z, h, GROUPS)
    label = {name: next(k for k, regex in GROUPS.items() if re.search(regex, name)) for name in z}
    total = torch.zeros(len(order), dtype=torch.float64)
    every = list(itertools.product([1, -1], repeat=len(order) - 1))
    for tail in every:
        sign = dict(zip(order, (1, *tail)))
        v = {name: sign[label[name]] * x for name, x in z.items()}
        _, _, hv = hessian_vector_product(model, loss_fn, v, batches=batches)
        for i, k in enumerate(order):
            total[i] += sign[k] * sum(float((z[n] * hv[n]).sum()) for n in z if label[n] == k)
    assert torch.allclose(total / len(every), coupling.diagonal(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", ["double_backward", "jet"])
def test_complete_hadamard_set_is_exact(method, case):
    model, loss_fn, z, batches, _, _ = case
    exact_ = decompose(model, loss_fn, z, batches=batches, split="exact")
    r = decompose(model, loss_fn, z, batches=batches, split="signs", draws=None, method=method)
    assert r.within == pytest.approx(exact_.within, abs=1e-10)
    assert r.within_error == 0.0
    assert abs(r.within + r.cross - r.nds) < 1e-10
    if method == "double_backward":
        assert torch.allclose(r.blocks, exact_.blocks, atol=1e-12, rtol=0)


def test_draws_are_unbiased_and_their_error_is_right():
    """Over all ways to draw: the mean is the diagonal sum, the mean squared error the mean squared standard error."""
    rng = torch.Generator().manual_seed(0)
    groups = 6
    a = torch.randn(groups, groups, generator=rng, dtype=torch.float64)
    coupling = a + a.T
    truth = float(coupling.trace())
    estimates, variances, per_group = [], [], []
    for seed in range(4000):
        draws = SignDraws.draw(groups, 3, torch.Generator().manual_seed(seed))
        s = draws.signs.double()
        rows = s @ coupling  # R[j, l] = (C s_j)_l
        found = draws.estimate((rows * s).sum(1), rows)
        estimates.append(found.within)
        variances.append(found.within_error**2)
        per_group.append(found.blocks)
    estimates = torch.tensor(estimates)
    spread = estimates.std().item()
    assert estimates.mean().item() == pytest.approx(truth, abs=4 * spread / math.sqrt(4000))
    assert math.sqrt(sum(variances) / 4000) == pytest.approx(spread, rel=0.05)
    mean = torch.stack(per_group).mean(0)
    error = torch.stack(per_group).std(0) / math.sqrt(4000)
    assert ((mean - coupling.diagonal()).abs() < 4 * error).all()


def test_constant_cross_terms_cost_no_variance():
    """The total is known, so what all pairs share is known: plain random signs would have an error of about L."""
    groups = 8
    coupling = torch.ones(groups, groups, dtype=torch.float64)
    draws = SignDraws.draw(groups, 2, torch.Generator().manual_seed(3))
    s = draws.signs.double()
    rows = s @ coupling
    found = draws.estimate((rows * s).sum(1), rows)
    assert found.within == pytest.approx(groups, abs=1e-12)
    assert found.within_error == pytest.approx(0.0, abs=1e-12)


def test_one_draw_has_no_error_and_says_so(case):
    model, loss_fn, z, batches, _, _ = case
    r = decompose(model, loss_fn, z, batches=batches, split="signs", draws=1)
    assert math.isfinite(r.within)
    assert math.isnan(r.within_error)
    assert any("no standard error" in note for note in r.notes)


def test_draws_repeat_with_the_seed(case):
    model, loss_fn, z, batches, _, _ = case
    a, b, c = (
        decompose(
            model, loss_fn, z, batches=batches, split="signs", draws=1, groups=lambda n: n, seed=seed
        ).within
        for seed in (0, 0, 1)
    )
    assert a == b
    assert a != c


def test_hadamard_rows_are_orthogonal():
    for order in (1, 2, 5, 14):
        h = hadamard(order).double()
        assert len(h) >= order
        assert torch.equal(h @ h.T, len(h) * torch.eye(len(h)).double())
        assert (h[0] == 1).all()


def test_one_group_is_all_within(case):
    model, loss_fn, z, batches, _, _ = case
    for split in ("exact", "signs"):
        r = decompose(model, loss_fn, z, batches=batches, split=split, groups={"all": "."})
        assert r.within == pytest.approx(r.nds, abs=1e-15)
        assert r.cross == pytest.approx(0.0, abs=1e-15)
        assert r.within_error == 0.0


def test_exact_reads_the_diagonal():
    found = exact(torch.tensor([[1.0, 9.0], [9.0, 2.0]]).double())
    assert found.within == 3.0
    assert found.blocks.tolist() == [1.0, 2.0]
