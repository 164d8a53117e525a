import itertools
import math

import pytest
import torch

from unrolled.sbml.solvers.rk4 import positive_rk4, positive_step, rk4

F64 = torch.float64


def test_order_four():
    errors = []
    for n in (8, 16, 32):
        x = torch.tensor([[1.0]], dtype=F64)
        for i in range(n):
            x = rk4(lambda t, x, p: math.cos(t) * x, i * 2 / n, x, 2 / n)
        errors.append(abs(x.item() - math.exp(math.sin(2.0))))
    assert all(abs(math.log2(a / b) - 4) < 0.3 for a, b in itertools.pairwise(errors))


def test_without_trouble_a_positive_step_is_the_classical_one():
    x = torch.rand(5, 3, dtype=F64) + 0.5
    field = lambda t, x, p: -p * x  # noqa: E731
    p = torch.tensor([0.1, 1.0, 3.0], dtype=F64)
    assert torch.equal(positive_step(field, 0.0, x, 0.1, p), rk4(field, 0.0, x, 0.1, p))


def test_it_halves_as_often_as_needed_then_clamps():
    # The fourth stage's argument 1 - z + z^2/2 - z^3/4 of z = h k stays positive up to z = 1.2956.
    field = lambda t, x, p: -p * x  # noqa: E731
    x = torch.ones(1, 1, dtype=F64)
    for k in (3.0, 20.0):
        halvings = math.ceil(math.log2(k / 1.2956))
        expected = x
        for _ in range(2**halvings):
            expected = rk4(field, 0.0, expected, 1.0 / 2**halvings, k)
        assert abs(positive_step(field, 0.0, x, 1.0, k).item() - expected.item()) < 1e-15
    assert positive_step(field, 0.0, x, 1.0, 1e3, lower=1e-5).item() == 1e-5


def test_a_rate_that_is_not_finite_stays_visible():
    x = torch.ones(1, 1, dtype=F64)
    assert positive_step(lambda t, x, p: x * math.nan, 0.0, x, 1.0).isnan().all()


def test_times_are_hit_and_values_right():
    times = torch.tensor([0.0, 0.05, 1.0, 1.5], dtype=F64)
    k = torch.tensor([[1.0], [2.0]], dtype=F64)
    path = positive_rk4(lambda t, x, p: -p * x, torch.ones(2, 1, dtype=F64), times, k, dt=0.01)
    assert (path[:, :, 0] - torch.exp(-times[:, None] * k[:, 0])).abs().max() < 1e-9


def test_gradients_pass():
    k = torch.tensor([1.5], dtype=F64, requires_grad=True)
    path = positive_rk4(
        lambda t, x, p: -p * x, torch.ones(1, 1, dtype=F64), torch.tensor([0.0, 1.0]), k, dt=0.01
    )
    (slope,) = torch.autograd.grad(path[1, 0, 0], k)
    assert abs(slope.item() + math.exp(-1.5)) < 1e-8


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="dt"):
        positive_rk4(lambda t, x, p: -x, torch.ones(1, 1), torch.tensor([0.0, 1.0]), dt=0.0)
    with pytest.raises(ValueError, match="below the lower bound"):
        positive_rk4(lambda t, x, p: -x, -torch.ones(1, 1), torch.tensor([0.0, 1.0]))
