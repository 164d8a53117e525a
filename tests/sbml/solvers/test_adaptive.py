import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from unrolled.sbml.solvers import naive
from unrolled.sbml.solvers.adaptive import REASONS, integrate

F64 = torch.float64


def decay(t, x, p):
    return -p * x


def oscillator(t, x, p):
    return torch.stack([x[:, 1], -x[:, 0]], -1)


def robertson(t, x, p):
    a, b, c = x.unbind(-1)
    slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
    return torch.stack([-slow + back, slow - back - fast, fast], -1)


def van_der_pol(t, x, p):
    y, v = x.unbind(-1)
    return torch.stack([v, p[:, 0] * (1 - y * y) * v - y], -1)


def lorenz(t, x, p):
    a, b, c = x.unbind(-1)
    return torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], -1)


def grid(end, n):
    return torch.linspace(0, end, n, dtype=F64)


@pytest.mark.parametrize("method", ["dopri5", "rodas5p", "auto"])
def test_linear_decay_and_the_oscillator(method):
    k = torch.tensor([[0.1], [1.0], [5.0]], dtype=F64)
    times = grid(3.0, 31)
    found = integrate(decay, torch.ones(3, 1, dtype=F64), times, p=k, method=method, rtol=1e-9, atol=1e-12)
    assert (found.x[:, :, 0] - torch.exp(-times[:, None] * k[:, 0])).abs().max() < 2e-9
    times = grid(20.0, 51)
    found = integrate(
        oscillator, torch.tensor([[1.0, 0.0]], dtype=F64), times, method=method, rtol=1e-9, atol=1e-9
    )
    exact = torch.stack([times.cos(), -times.sin()], -1)
    assert (found.x[:, 0] - exact).abs().max() < 5e-8
    assert found.ok.all()


@pytest.mark.parametrize(("method", "slope"), [("dopri5", 5), ("rodas5p", 5)])
def test_the_error_per_step_has_the_order_of_the_method(method, slope):
    # Fixed steps: tolerances so wide that the first step size is kept.
    errors = []
    for n in (8, 16, 32):
        x, t = torch.tensor([[1.0, 0.0]], dtype=F64), 0.0
        for _ in range(n):
            h = 2.0 / n
            found = integrate(
                oscillator_in_time,
                x,
                torch.tensor([t, t + h], dtype=F64),
                method=method,
                rtol=0.5,
                atol=1e9,
                first_step=h,
            )
            assert found.steps.tolist() == [1]
            x, t = found.x[1], t + h
        exact = torch.tensor([math.cos(2.0), -math.sin(2.0)], dtype=F64) * math.exp(math.sin(2.0))
        errors.append(float((x[0] - exact).abs().max()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(rate - slope) < 0.7 for rate in rates), (errors, rates)


def oscillator_in_time(t, x, p):
    # u = rotation * exp(sin t): depends on time explicitly, so df/dt matters in the Rosenbrock method
    return torch.stack([x[:, 1], -x[:, 0]], -1) + t.cos()[:, None] * x


@pytest.mark.parametrize("method", ["dopri5", "rodas5p"])
def test_dense_output_has_order_four_everywhere_in_the_step(method):
    errors = []
    for h in (0.4, 0.2, 0.1):
        times = torch.linspace(0, h, 33, dtype=F64)
        found = integrate(
            oscillator_in_time,
            torch.tensor([[1.0, 0.0]], dtype=F64),
            times,
            method=method,
            rtol=0.5,
            atol=1e9,
            first_step=h,
        )
        assert found.steps.tolist() == [1]
        exact = torch.stack([times.cos(), -times.sin()], -1) * times.sin().exp()[:, None]
        errors.append(float((found.x[:, 0] - exact).abs().max()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(rate > 4.4 for rate in rates), (errors, rates)  # local error h^5


def test_steps_are_those_of_the_naive_twin():
    x0 = torch.tensor([[1.0, 2.0, 20.0], [-5.0, 3.0, 15.0], [0.1, 0.0, 30.0]], dtype=F64)
    times = grid(2.0, 21)
    for rtol, atol in ((1e-4, 1e-6), (1e-7, 1e-9)):
        found = integrate(lorenz, x0, times, method="dopri5", rtol=rtol, atol=atol)
        for i in range(3):
            path, accepted, rejected = naive.dopri5(
                lambda t, x: lorenz(None, torch.tensor(x)[None], None)[0].numpy(),
                x0[i].tolist(), times.tolist(), rtol=rtol, atol=atol,
            )  # fmt: skip
            assert (int(found.steps[i]), int(found.rejected[i])) == (accepted, rejected)
            assert np.abs(path - found.x[:, i].numpy()).max() < 1e-8


def test_robertson_over_eleven_decades():
    times = torch.tensor([0.0, 0.4, 4e1, 4e3, 1e11], dtype=F64)
    start = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)
    found = integrate(robertson, start, times, method="rodas5p", rtol=1e-6, atol=1e-16)
    assert found.ok.all()
    x = found.x[:, 0]
    assert (x.sum(-1) - 1).abs().max() < 1e-10
    oracle = solve_ivp(
        lambda t, y: robertson(None, torch.tensor(y)[None], None)[0].numpy(),
        (0, 4e3), [1.0, 0.0, 0.0], "Radau", t_eval=[0.4, 4e1, 4e3], rtol=1e-10, atol=1e-17,
    )  # fmt: skip
    assert torch.allclose(x[1:4], torch.tensor(oracle.y.T.copy()), rtol=1e-5, atol=0)
    # The reference of the Test Set for IVP Solvers (ROBER) at t = 1e11.
    reference = torch.tensor([0.2083340149701255e-07, 0.8333360770334713e-13, 0.9999999791665050], dtype=F64)
    assert torch.allclose(x[4], reference, rtol=1e-4, atol=0)


def test_van_der_pol_at_mu_1000_turns_stiff_and_back():
    mu = torch.tensor([[1000.0]], dtype=F64)
    times = torch.tensor([0.0, 500.0, 2000.0], dtype=F64)
    found = integrate(van_der_pol, torch.tensor([[2.0, 0.0]], dtype=F64), times, p=mu, rtol=1e-6, atol=1e-8)
    assert found.ok.all()
    assert found.stiff_from.isfinite().all()
    # Hairer & Wanner's reference at t = 2000 for y(0) = 2, y'(0) = 0.
    assert abs(float(found.x[2, 0, 0]) - 1.706167732170469) < 1e-4
    assert abs(float(found.x[2, 0, 1]) + 0.8928097010248257e-3) < 1e-6


def test_a_batch_of_stiff_and_calm_samples_equals_each_alone():
    mu = torch.tensor([[300.0], [1.0], [0.0]], dtype=F64)
    x0 = torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.3, 0.0]], dtype=F64)
    times = grid(20.0, 11)
    together = integrate(van_der_pol, x0, times, p=mu, rtol=1e-7, atol=1e-9)
    assert together.stiff_from.isfinite().tolist() == [True, False, False]
    for i in range(3):
        alone = integrate(van_der_pol, x0[i : i + 1], times, p=mu[i : i + 1], rtol=1e-7, atol=1e-9)
        assert (
            torch.equal(alone.x[:, 0], together.x[:, i])
            or (alone.x[:, 0] - together.x[:, i]).abs().max() < 1e-12
        )
        assert (int(alone.steps), int(alone.rejected)) == (int(together.steps[i]), int(together.rejected[i]))


def test_failures_name_the_component_and_the_time_and_leave_no_number():
    def blow(t, x, p):
        return torch.stack([torch.ones_like(t), p[:, 0] * x[:, 1] ** 2], -1)

    times = grid(2.0, 9)
    k = torch.tensor([[0.1], [1.0]], dtype=F64)
    for method in ("dopri5", "rodas5p", "auto"):
        found = integrate(blow, torch.tensor([[0.0, 1.0]] * 2, dtype=F64), times, p=k, method=method)
        assert found.status.tolist()[0] == 0
        assert found.status.tolist()[1] in (1, 2)
        assert int(found.component[1]) == 1
        assert abs(float(found.failed_at[1]) - 1.0) < 1e-4  # 1 / (1 - t)
        assert found.x[4:, 1].isnan().all()
        assert (found.x[3, 1, 1] - 4).abs() < 1e-3
        assert (found.x[:, 0, 1] - 1 / (1 - 0.1 * times)).abs().max() < 1e-5


def test_starts_that_cannot_be():
    found = integrate(
        decay,
        torch.tensor([[1.0, 1.0], [1.0, math.nan]], dtype=F64),
        grid(1.0, 3),
        p=torch.ones(1, dtype=F64),
    )
    assert found.status.tolist() == [0, 6]
    assert int(found.component[1]) == 1
    found = integrate(lambda t, x, p: x / (x - 1), torch.tensor([[2.0, 1.0]], dtype=F64), grid(1.0, 3))
    assert REASONS[int(found.status)] == "the rate of change is not finite"
    assert int(found.component) == 1
    assert found.x[1:].isnan().all()


def test_the_step_limit_is_a_status():
    found = integrate(
        oscillator, torch.tensor([[1.0, 0.0]], dtype=F64), grid(1e3, 3), method="dopri5", max_steps=50
    )
    assert REASONS[int(found.status)] == "the step limit was reached"
    assert found.x[1:].isnan().all()


def test_float32_and_tolerances_it_cannot_hold():
    found = integrate(oscillator, torch.tensor([[1.0, 0.0]]), torch.linspace(0, 5, 6), rtol=1e-4, atol=1e-5)
    assert found.x.dtype == torch.float32
    assert (found.x[:, 0, 0] - torch.linspace(0, 5, 6).cos()).abs().max() < 1e-3
    with pytest.raises(ValueError, match="below what"):
        integrate(oscillator, torch.tensor([[1.0, 0.0]]), torch.linspace(0, 5, 6), rtol=1e-6)


def test_arguments_that_make_no_sense():
    x0, times = torch.ones(2, 1, dtype=F64), grid(1.0, 3)
    with pytest.raises(ValueError, match=r"\[B, d\]"):
        integrate(decay, torch.ones(2), times)
    with pytest.raises(ValueError, match="increases"):
        integrate(decay, x0, times.flip(0))
    with pytest.raises(ValueError, match="rows for 2 samples"):
        integrate(decay, x0, times, p=torch.ones(3, 1, dtype=F64))
    with pytest.raises(ValueError, match="method"):
        integrate(decay, x0, times, method="lsoda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rtol"):
        integrate(decay, x0, times, rtol=0.0)


def test_a_given_jacobian_is_used():
    calls = []

    def derivatives(t, x, p):
        calls.append(len(x))
        return -torch.diag_embed(p.expand_as(x)), torch.zeros_like(x)

    k = torch.tensor([[1e5, 1.0]], dtype=F64)
    found = integrate(
        decay,
        torch.ones(1, 2, dtype=F64),
        grid(1.0, 3),
        p=k,
        method="rodas5p",
        jacobian=derivatives,
        rtol=1e-8,
        atol=1e-10,
    )
    assert calls
    assert (found.x[:, 0] - torch.exp(-grid(1.0, 3)[:, None] * k)).abs().max() < 1e-7
