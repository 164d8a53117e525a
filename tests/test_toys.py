import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled import toys
from unrolled.core import check_system, rollout, tree

F64 = torch.float64


def signs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).sign().double()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


SYSTEMS = {
    "linear": (toys.LinearMap(normal(4, 4) / 4, normal(4, seed=1)), normal(3, 4)),
    "oscillator": (toys.LinearMap.oscillator(0.9, 7.5), normal(2, 2)),
    "logistic": (toys.LogisticMap(3.5), torch.tensor([[0.2], [0.7]], dtype=F64)),
    "hopfield": (toys.Hopfield(signs(2, 20)), signs(5, 20, seed=3)),
    "hopfield, asynchronous": (toys.Hopfield(signs(2, 20), synchronous=False), signs(5, 20, seed=3)),
    "quadratic": (
        toys.QuadraticDescent(torch.diag(torch.tensor([1.0, 3.0])), torch.ones(2)),
        torch.rand(4, 2),
    ),
    "noise": (toys.AR1(0.8), torch.zeros(3, 2)),
    "ring": (toys.MovingAverage(3), torch.rand(2, 5)),
    "ring, a signal": (toys.MovingAverage(3), [torch.rand(2, 5) for _ in range(6)]),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_toy_is_a_system(name):
    system, input = SYSTEMS[name]
    checks = {check.name: check for check in check_system(system, input, steps=6)}
    assert checks["run"].status == ("pass" if name in ("linear", "oscillator") else "skip")
    assert checks["donates"].status == ("pass" if name.startswith("ring") else "skip")


def test_every_toy_is_tested():
    assert {type(system).__name__ for system, _ in SYSTEMS.values()} == set(toys.__all__)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 33), st.integers(0, 100))
def test_linear_map_closed_form(n, steps, seed):
    A, b, x0 = normal(n, n, seed=seed) / n, normal(n, seed=seed + 1), normal(2, n, seed=seed + 2)
    system = toys.LinearMap(A, b)
    power, drift = torch.eye(n, dtype=F64), torch.zeros(n, dtype=F64)
    for _ in range(steps):
        drift = drift + power @ b
        power = A @ power
    expected = x0 @ power.T + drift
    for options in ({"record": {}}, {"record": ["x"]}, {"grad": "full"}, {}):
        end = rollout(system, x0, steps, **options).final
        torch.testing.assert_close(end, expected, rtol=1e-11, atol=1e-11)


def test_oscillator_eigenvalues():
    values = torch.linalg.eigvals(toys.LinearMap.oscillator(0.7, 9.0).A)
    expected = 0.7 * torch.exp(torch.tensor([2j, -2j], dtype=torch.complex128) * torch.pi / 9)
    assert torch.allclose(values, expected, atol=1e-14)


def test_logistic_cycle():
    """At r = 1 + sqrt(5) the 2-cycle is superstable and contains 1/2."""
    r = 1 + 5**0.5
    path = rollout(toys.LogisticMap(r), torch.tensor(0.3, dtype=F64), steps=101)["state"]
    assert float((path[-4:] - 0.5).abs().min()) < 1e-12
    assert float((path[-1] - path[-3]).abs()) < 1e-12


def test_hopfield_recalls_and_its_energy_never_rises():
    patterns = signs(3, 100)
    net = toys.Hopfield(patterns, synchronous=False)
    cue = patterns[0].clone()
    cue[:15] *= -1
    path = rollout(net, cue, steps=200, record=["energy", "overlap"])
    assert torch.equal(path.final["x"], patterns[0])
    assert float(path["energy"].diff().max()) <= 1e-12
    assert float(path["overlap"][-1, 0]) == 1.0
    # x^T W x = (1/n) sum_p ((p.x)^2 - n) for a zero diagonal.
    overlaps = 100 * path["overlap"][-1]
    assert float(path["energy"][-1]) == pytest.approx(
        -0.5 * float((overlaps**2 - 100).sum()) / 100, abs=1e-12
    )


def test_hopfield_leaves_a_unit_without_a_field():
    net = toys.Hopfield(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]))
    end = rollout(net, torch.tensor([1.0, -1.0, 1.0]), steps=3).final["x"]
    assert end.tolist() == [1.0, -1.0, 1.0]


def test_quadratic_closed_form():
    A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=F64)
    b, x0 = torch.tensor([1.0, -1.0], dtype=F64), torch.tensor([5.0, 5.0], dtype=F64)
    path = rollout(toys.QuadraticDescent(A, b, lr=0.2), x0, steps=12)
    best = torch.linalg.solve(A, b)
    power = torch.linalg.matrix_power(torch.eye(2, dtype=F64) - 0.2 * A, 12)
    torch.testing.assert_close(path.final, best + power @ (x0 - best), rtol=1e-13, atol=1e-13)


def test_quadratic_step_is_the_gradient_of_its_loss():
    A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=F64)
    system, x = toys.QuadraticDescent(A, torch.ones(2, dtype=F64), lr=0.2), normal(2).requires_grad_()
    (gradient,) = torch.autograd.grad(system.loss(x), x)
    torch.testing.assert_close(system.step(x, None), x - 0.2 * gradient)


def test_noise_has_the_stationary_variance_and_the_autocorrelation():
    phi = 0.6
    path = rollout(toys.AR1(phi, sigma=2.0), torch.zeros(200, dtype=F64), steps=2000, rng=0)["state"][200:]
    # 200 independent chains of 1800 steps: the standard errors are about 0.4 % and 0.2 %.
    assert float(path.var()) == pytest.approx(4 / (1 - phi**2), rel=0.02)
    lag = float((path[3:] * path[:-3]).mean() / path.square().mean())
    assert lag == pytest.approx(phi**3, abs=0.01)


def test_moving_average_is_one():
    signal = list(normal(20, 3))
    path = rollout(toys.MovingAverage(4), signal, steps=20, record=["mean"])["mean"]
    padded = torch.stack([signal[0]] * 4 + signal)
    expected = torch.stack([padded[i : i + 4].mean(0) for i in range(21)])
    torch.testing.assert_close(path, expected, rtol=1e-14, atol=1e-15)


def test_starting_is_no_aliasing():
    for name, (system, input) in SYSTEMS.items():
        first = input[0] if isinstance(input, list) else input
        before = first.clone()
        for _, leaf in tree.leaves(system.init(first)):
            leaf.zero_()
        assert torch.equal(first, before), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: toys.LinearMap(torch.ones(2, 3)), r"A is a square matrix, got shape \(2, 3\)"),
        (lambda: toys.LinearMap(torch.eye(2), torch.ones(3)), r"b has shape \(3,\) and A \(2, 2\)"),
        (lambda: toys.QuadraticDescent(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "A is not symmetric"),
        (lambda: toys.QuadraticDescent(torch.eye(2), torch.ones(1)), "b has shape"),
        (lambda: toys.Hopfield(torch.ones(3)), r"rows of \+-1, \[p, n\]; got shape \(3,\)"),
        (lambda: toys.Hopfield(torch.zeros(1, 3)), r"rows of \+-1"),
        (lambda: toys.Hopfield(torch.ones(1, 3, dtype=torch.long)), "floating point, got torch.int64"),
        (lambda: toys.MovingAverage(0), "at least 1, got 0"),
        (lambda: rollout(toys.LinearMap(torch.eye(2)), torch.ones(3)), r"length 2; got \(3,\)"),
        (lambda: rollout(toys.LinearMap(torch.eye(2))), "length 2; got NoneType"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
