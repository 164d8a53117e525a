"""Nothing a measurement touches is different afterwards, bit for bit, errors included."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from unrolled.instruments.curvature import decompose
from unrolled.instruments.curvature.state import Buffers, displaced, preserved

METHODS = ["double_backward", "forward_over_reverse", "jet", "finite_difference", "one_sided"]


class Everything(nn.Module):
    """Dropout, batch norm, a tie and a frozen part."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, x):
        x = nn.functional.dropout(self.norm(self.first(x)), 0.3, self.training)
        return self.frozen(self.second(x.tanh()))


def loss_fn(model, x):
    return model(x).square().sum(), len(x)


def bits(model, optimizer):
    state = {
        "parameters": [
            (id(p), p.data_ptr(), p.detach().clone(), p.requires_grad) for p in model.parameters()
        ],
        "gradients": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "buffers": [(id(b), b.clone()) for b in model.buffers()],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "modes": [m.training for m in model.modules()],
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].copy(),
    }
    return state


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = Everything().double()
    model.frozen.eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    x = torch.randn(6, 4).double()
    for _ in range(3):
        optimizer.zero_grad()
        loss_fn(model, x)[0].backward()
        optimizer.step()
    return model, optimizer, x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("split", [None, "exact"])
def test_decompose_leaves_no_trace(method, split, trained):
    model, optimizer, x = trained
    z = {name: 0.01 * torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}

    def noisy(model, x):
        random.random()
        np.random.rand()
        return loss_fn(model, x)

    before = bits(model, optimizer)
    r = decompose(model, noisy, z, batches=[x, x[:3]], method=method, split=split)
    assert same(before, bits(model, optimizer))
    assert r.status == "ok"


@pytest.mark.parametrize("method", METHODS)
def test_errors_leave_no_trace(method, trained):
    model, optimizer, x = trained
    z = {name: 0.01 * torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for fail_at in (1, 2, 3):
        calls = 0

        def failing(model, x, fail_at=fail_at):
            nonlocal calls
            calls += 1
            model.norm.eval()
            if calls == fail_at:
                raise KeyboardInterrupt
            return loss_fn(model, x)

        before = bits(model, optimizer)
        with pytest.raises(KeyboardInterrupt):
            decompose(model, failing, z, batches=[x, x[:3]], method=method)
        assert same(before, bits(model, optimizer))


def test_hooks_on_parameters_do_not_bend_the_gradient(trained):
    model, _, x = trained
    z = {"first.weight": torch.ones(4, 4).double()}
    torch.manual_seed(1)
    raw = decompose(model, loss_fn, z, batches=[x], method="double_backward")
    fired = []
    model.first.weight.register_hook(lambda g: (fired.append(1), g.clamp(-1e-3, 1e-3))[1])
    torch.manual_seed(1)
    r = decompose(model, loss_fn, z, batches=[x], method="double_backward")
    assert r.gain == raw.gain
    assert not fired
    loss_fn(model, x)[0].backward()
    assert fired


def test_training_and_evaluation_mode_are_respected(trained):
    model, _, x = trained
    z = {"first.weight": 1e-3 * torch.ones(4, 4).double()}
    model.eval()
    r = decompose(model, loss_fn, z, batches=[x])
    assert not model.training
    assert r.loss == pytest.approx((model(x).square().sum() / 6).item(), abs=1e-12)


def test_displaced_returns_the_storage():
    w = nn.Parameter(torch.ones(3))
    storage = w.data_ptr()

    def fail():
        with displaced([w], [torch.zeros(3)]):
            assert not w.detach().any()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert w.data_ptr() == storage
    assert torch.equal(w.detach(), torch.ones(3))


def test_displaced_is_seen_through_the_autocast_cache():
    """Inside one autocast region torch keeps half-precision copies of weights: stale ones must not be used."""
    model = nn.Linear(2, 2, bias=False)
    x = torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        here = model(x)
        with displaced([model.weight], [torch.zeros(2, 2)]):
            assert not model(x).any()
        assert torch.equal(model(x), here)


def test_buffers_come_back_even_if_replaced():
    norm = nn.BatchNorm1d(2)
    mean = norm.running_mean
    kept = Buffers(norm)
    norm.running_mean = torch.full((2,), 7.0)
    kept.reset()
    assert norm.running_mean is mean
    saved = mean.clone().requires_grad_() * mean  # a graph that holds the buffer
    kept.reset()
    saved.sum().backward()


def test_preserved_restores_flags():
    model = nn.Linear(2, 2)
    with preserved(model):
        model.requires_grad_(False)
        model.eval()
    assert model.weight.requires_grad
    assert model.training
