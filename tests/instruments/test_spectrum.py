import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import rollout
from unrolled.instruments import spectrum
from unrolled.toys import AR1, Hopfield, LinearMap, LogisticMap, MovingAverage, QuadraticDescent

F64 = torch.float64
TIGHT = {"rtol": 0, "atol": 1e-10}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def orthogonal(n, seed=0):
    return torch.linalg.qr(normal(n, n, seed=seed)).Q


def symmetric(values, seed=0):
    Q = orthogonal(len(values), seed)
    A = (Q * torch.tensor(values, dtype=F64)) @ Q.T
    return (A + A.T) / 2


def block(values):
    """A real matrix with these eigenvalues; a complex one stands for its pair."""
    parts = []
    for z in values:
        z = complex(z)
        real = torch.tensor([[z.real]], dtype=F64)
        parts.append(real if z.imag == 0 else torch.tensor([[z.real, -z.imag], [z.imag, z.real]], dtype=F64))
    return torch.block_diag(*parts)


def similar(A, skew, seed=0):
    """P A P^-1 with a well-conditioned P that is not orthogonal: not a normal matrix."""
    P = torch.eye(len(A), dtype=F64) + skew * normal(len(A), len(A), seed=seed) / len(A) ** 0.5
    return P @ A @ torch.linalg.inv(P)


def zeros(n):
    return torch.zeros(n, dtype=F64)


def by_modulus(values):
    ranked = sorted(map(complex, values), key=lambda z: (-round(abs(z), 9), -round(z.real, 9), -z.imag))
    return torch.tensor(ranked, dtype=torch.complex128)


DENSE = {"dense_below": 128}
ITERATED = {"dense_below": 0}


# --- closed forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DENSE, ITERATED], ids=["dense", "iterated"])
def test_symmetric(size):
    values = torch.linspace(-2.0, 3.0, 40, dtype=F64).tolist()
    reading = spectrum(LinearMap(symmetric(values)), zeros(40), k=5, **size)
    torch.testing.assert_close(reading["eigenvalue"], by_modulus(values)[:5].real, **TIGHT)
    assert reading.method == ("dense, symmetric" if size is DENSE else "Lanczos") + "; forward mode"
    assert float(reading["residual"].max()) < 1e-12
    assert reading["condition"].tolist() == [1.0] * 5
    assert reading["radius"] == pytest.approx(3.0, abs=1e-10)
    assert reading.status == "ok"


@pytest.mark.parametrize("size", [DENSE, ITERATED], ids=["dense", "iterated"])
@pytest.mark.parametrize("skew", [0.0, 0.4])
def test_complex_pairs(size, skew):
    known = [1.1, 0.9 + 0.3j, -0.8, 0.5j, 0.3, *torch.linspace(-0.2, 0.2, 30).tolist()]
    A = similar(block(known), skew)
    reading = spectrum(LinearMap(A), zeros(len(A)), k=6, symmetric=False, **size)
    expected = by_modulus([1.1, 0.9 + 0.3j, 0.9 - 0.3j, -0.8, 0.5j, -0.5j])
    torch.testing.assert_close(reading["eigenvalue"], expected, **TIGHT)
    assert reading.method.startswith("dense" if size is DENSE else "Arnoldi")
    assert float(reading["residual"].max()) < 1e-12


@pytest.mark.parametrize(("decay", "period"), [(0.5, 4), (0.99, 17.3), (1.2, 3)])
def test_oscillator(decay, period):
    reading = spectrum(LinearMap.oscillator(decay, period), zeros(2))
    angle = 2 * math.pi / period
    expected = decay * torch.tensor([complex(math.cos(angle), s * math.sin(angle)) for s in (1, -1)])
    torch.testing.assert_close(reading["eigenvalue"], expected.to(torch.complex128), rtol=0, atol=1e-7)
    torch.testing.assert_close(reading["eigenvalue"].abs(), torch.full((2,), decay, dtype=F64), **TIGHT)
    assert reading["radius"] == pytest.approx(decay, abs=1e-12)


def test_non_normal_matrices_show_their_condition():
    """[[a, c], [0, b]]: the condition number of both eigenvalues is sqrt(1 + (c / (a - b))^2)."""
    a, b, c = 0.9, 0.5, 30.0
    reading = spectrum(LinearMap(torch.tensor([[a, c], [0, b]], dtype=F64)), zeros(2))
    torch.testing.assert_close(reading["eigenvalue"].real, torch.tensor([a, b], dtype=F64), **TIGHT)
    expected = math.sqrt(1 + (c / (a - b)) ** 2)
    torch.testing.assert_close(
        reading["condition"], torch.full((2,), expected, dtype=F64), rtol=1e-10, atol=0
    )


def test_a_jordan_block():
    """Triangular: the eigenvalues are exact, but the note says that they are fragile."""
    jordan = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [0, 0, 0.5]], dtype=F64)
    reading = spectrum(LinearMap(jordan), zeros(3))
    torch.testing.assert_close(reading["eigenvalue"].real, torch.full((3,), 0.5, dtype=F64), **TIGHT)
    assert "nearly defective" in reading.notes[0] or "defective" in reading.notes[0]
    assert float(reading["residual"].max()) < 1e-14


def test_a_hidden_jordan_block_is_as_fragile_as_theory_says():
    """After a rotation a defective eigenvalue of order m is known to eps^(1/m) alone, and the reading says so."""
    jordan = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [0, 0, 0.5]], dtype=F64)
    Q = orthogonal(3)
    reading = spectrum(LinearMap(Q @ jordan @ Q.T), zeros(3))
    off = (reading["eigenvalue"] - 0.5).abs().max()
    assert float(off) < 10 * 2.2e-16 ** (1 / 3)
    assert float(reading["condition"].max()) > 1e6
    assert "nearly defective" in reading.notes[0]
    # Their mean is well conditioned, and the residuals are tiny: a small residual alone proves little here.
    assert abs(complex(reading["eigenvalue"].mean()) - 0.5) < 1e-10
    assert float(reading["residual"].max()) < 1e-14


def test_kronecker_products():
    """X -> A X B^T has the products of the eigenvalues of A and B."""
    A, B = (
        similar(block([1.0, 0.7, -0.5, *torch.linspace(-0.3, 0.3, 25)]), 0.3),
        symmetric([2.0, 1.5, *[0.1] * 18]),
    )
    reading = spectrum(lambda X: A @ X @ B.T, shape=(28, 20), k=4)
    torch.testing.assert_close(
        reading["eigenvalue"], torch.tensor([2.0, 1.5, 1.4, 1.05], dtype=torch.complex128), **TIGHT
    )
    assert reading.method == "Arnoldi; products"
    S, T = symmetric([3.0, -1.0, *[0.2] * 18]), symmetric([2.0, 1.0, *[0.1] * 18])
    reading = spectrum(lambda X: S @ X @ T, shape=(20, 20), k=4)
    torch.testing.assert_close(
        reading["eigenvalue"], torch.tensor([6.0, 3.0, -2.0, -1.0], dtype=F64), **TIGHT
    )
    assert reading.method == "Lanczos; products"


@pytest.mark.parametrize("size", [DENSE, ITERATED], ids=["dense", "iterated"])
@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("LM", [-2.0, 1.5, -1.0]),
        ("LR", [1.5, 0.9, 0.8]),
        ("SR", [-2.0, -1.0, 0.1]),
    ],
)
@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_which(size, which, expected, skew):
    values = [-2.0, -1.0, *[0.1 + 0.01 * i for i in range(15)], 0.8, 0.9, 1.5]
    A = symmetric(values) if skew == 0 else similar(block(values), skew)
    found = spectrum(LinearMap(A), zeros(20), k=3, which=which, **size)["eigenvalue"]
    torch.testing.assert_close(found.to(torch.complex128).real, torch.tensor(expected, dtype=F64), **TIGHT)


def test_largest_imaginary_part():
    A = similar(block([2.0, 0.1 + 1j, 0.3 + 0.5j, *torch.linspace(-0.3, 0.3, 20)]), 0.2)
    found = spectrum(LinearMap(A), zeros(len(A)), k=2, which="LI")["eigenvalue"]
    torch.testing.assert_close(found, torch.tensor([0.1 + 1j, 0.1 - 1j], dtype=torch.complex128), **TIGHT)


def test_gradient_descent():
    """Eigenvalues 1 - lr lambda: unstable once lr exceeds 2 / lambda_max."""
    sharp = QuadraticDescent(symmetric([1.0, 2.0, 10.0]), lr=0.25)
    reading = spectrum(sharp, zeros(3))
    torch.testing.assert_close(reading["eigenvalue"], torch.tensor([-1.5, 0.75, 0.5], dtype=F64), **TIGHT)
    assert reading["radius"] == pytest.approx(1.5, abs=1e-10)


@pytest.mark.parametrize("r", [2.8, 3.2])
def test_logistic_multiplier(r):
    fixed = torch.tensor([1 - 1 / r], dtype=F64)
    assert float(spectrum(LogisticMap(r), fixed)["eigenvalue"]) == pytest.approx(2 - r, abs=1e-10)


def test_it_agrees_with_settling():
    from unrolled.instruments import settling

    W = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.6, 0.2], [0.0, 0.3, 0.7]], dtype=F64)
    system = LinearMap(W)
    path = rollout(system, torch.tensor([0.0, 1.0, 5.0], dtype=F64), steps=200)
    assert settling(path)["rate"] == pytest.approx(
        float(spectrum(system, path.final)["eigenvalue"][1].abs()), abs=1e-10
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10_000), st.booleans())
def test_any_matrix_has_the_eigenvalues_that_lapack_finds(n, seed, iterated):
    A = normal(n, n, seed=seed)
    k = min(3, n - 2) if iterated and n > 3 else min(3, n)
    reading = spectrum(LinearMap(A), zeros(n), k=k, dense_below=0 if iterated else 128)
    known = torch.linalg.eigvals(A)
    moduli = known.abs().sort(descending=True).values[:k]
    torch.testing.assert_close(reading["eigenvalue"].abs(), moduli, rtol=0, atol=1e-8)
    for value in reading["eigenvalue"]:
        assert float((known - value).abs().min()) < 1e-8
    assert float(reading["residual"].max()) < 1e-10 * float(A.norm())


# --- vectors, states, functions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DENSE, ITERATED], ids=["dense", "iterated"])
@pytest.mark.parametrize("kind", ["symmetric", "pairs"])
def test_vectors(size, kind):
    A = symmetric(torch.linspace(-1, 2, 20).tolist()) if kind == "symmetric" else similar(normal(20, 20), 0.1)
    reading = spectrum(LinearMap(A), zeros(20), k=4, vectors=True, **size)
    V, values = reading["vectors"], reading["eigenvalue"]
    assert V.shape == (4, 20)
    torch.testing.assert_close(V.norm(dim=1), torch.ones(4, dtype=F64), rtol=0, atol=1e-12)
    off = (V @ A.to(V).T - values.to(V)[:, None] * V).norm(dim=1)
    torch.testing.assert_close(off, reading["residual"], rtol=1e-2, atol=1e-13)
    assert float(off.max()) < 1e-11


def test_vectors_have_the_shape_of_the_leaf():
    reading = spectrum(lambda X: 2 * X + X.flip(0), shape=(3, 4), k=2, vectors=True)
    assert reading["vectors"].shape == (2, 3, 4)


class State(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor
    t: torch.Tensor


class Coupled:
    """x <- A x + C y, y <- B y, t <- t + 1: block triangular, with an integer besides."""

    def __init__(self):
        self.A, self.B = torch.tensor([[0.5, 0.2], [0.0, 0.3]], dtype=F64), torch.tensor([[0.9]], dtype=F64)

    def init(self, input, *, rng=None):
        return State(zeros(2), zeros(1), torch.zeros((), dtype=torch.long))

    def step(self, state, input, *, rng=None):
        return State(self.A @ state.x + state.y, self.B @ state.y, state.t + 1)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (None, [0.9, 0.5, 0.3]),
        ("x", [0.5, 0.3]),
        ("y", [0.9]),
        (["x", "y"], [0.9, 0.5, 0.3]),
        (lambda state: state.x, [0.5, 0.3]),
    ],
)
def test_of(of, expected):
    reading = spectrum(Coupled(), of=of)
    torch.testing.assert_close(
        reading["eigenvalue"].to(torch.complex128).real, torch.tensor(expected, dtype=F64), **TIGHT
    )


def test_momentum_needs_the_whole_state():
    """Heavy ball on one eigenvalue h: z^2 - (1 + m - lr h) z + m = 0, not 1 - lr h."""
    lr, m, h = 0.1, 0.9, 3.0

    class HeavyBall:
        def init(self, input, *, rng=None):
            return {"x": input, "v": torch.zeros_like(input)}

        def step(self, state, input, *, rng=None):
            v = m * state["v"] + h * state["x"]
            return {"x": state["x"] - lr * v, "v": v}

    start = torch.ones(1, dtype=F64)
    whole = spectrum(HeavyBall(), input=start)["eigenvalue"]
    trace = 1 + m - lr * h
    root = torch.sqrt(torch.tensor(trace**2 / 4 - m, dtype=torch.complex128))
    torch.testing.assert_close(whole, torch.stack([trace / 2 + root, trace / 2 - root]), **TIGHT)
    assert float(spectrum(HeavyBall(), input=start, of="x")["eigenvalue"]) == pytest.approx(
        1 - lr * h, abs=1e-12
    )


def test_a_tree_of_parameters_and_a_hessian():
    """The Hessian of a small network by double backward against the dense one."""
    weights = {"a": normal(3, 2, seed=1), "b": normal(3, seed=2)}
    data, target = normal(10, 2, seed=3), normal(10, 3, seed=4)

    def loss(p):
        return ((torch.tanh(data @ p["a"].T) + p["b"] - target) ** 2).mean()

    def hvp(v):
        return torch.func.jvp(torch.func.grad(loss), (weights,), (v,))[1]

    dense = torch.autograd.functional.hessian(
        lambda flat: loss({"a": flat[:6].reshape(3, 2), "b": flat[6:]}),
        torch.cat([weights["a"].flatten(), weights["b"]]),
    )
    known = torch.linalg.eigvalsh(dense).flip(0)
    reading = spectrum(hvp, weights, k=3, which="LR")
    torch.testing.assert_close(reading["eigenvalue"], known[:3], **TIGHT)
    iterated = spectrum(hvp, weights, k=3, which="LR", dense_below=0)
    torch.testing.assert_close(iterated["eigenvalue"], known[:3], **TIGHT)
    assert iterated.method == "Lanczos; products"


def test_noise_is_held_fixed():
    class Wobbly:
        def init(self, input, *, rng=None):
            return torch.ones(30, dtype=F64)

        def step(self, state, input, *, rng=None):
            return state * torch.rand(30, generator=rng, dtype=F64)

    rng = torch.Generator().manual_seed(4)
    factors = torch.rand(30, generator=torch.Generator().manual_seed(4), dtype=F64)
    for noise in (4, rng):
        for size in (DENSE, ITERATED):
            found = spectrum(Wobbly(), torch.ones(30, dtype=F64), rng=noise, k=3, **size)["eigenvalue"]
            torch.testing.assert_close(found, factors.sort(descending=True).values[:3], **TIGHT)
    assert torch.equal(rng.get_state(), torch.Generator().manual_seed(4).get_state())
    additive = spectrum(AR1(0.7), torch.ones(3, dtype=F64), rng=1)["eigenvalue"]
    torch.testing.assert_close(additive, torch.full((3,), 0.7, dtype=F64), **TIGHT)


def test_the_same_seed_gives_the_same_bits():
    A = similar(normal(150, 150) / 12, 0.1)
    one, two = (spectrum(LinearMap(A), zeros(150), k=4, seed=3)["eigenvalue"] for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(
        spectrum(LinearMap(A), zeros(150), k=4, seed=4)["eigenvalue"].abs(), one.abs(), **TIGHT
    )


def test_float32_states_are_solved_in_float64_up_to_their_own_precision():
    values = torch.linspace(0.1, 2.0, 60).tolist()
    A = symmetric(values).float()
    reading = spectrum(LinearMap(A), torch.zeros(60), k=3, dense_below=0)
    assert reading["eigenvalue"].dtype == F64
    torch.testing.assert_close(reading["eigenvalue"], by_modulus(values)[:3].real, rtol=0, atol=1e-5)


# --- steps that do not make it easy ---------------------------------------------------------------------------------


def quartic(x):
    return (x**4).sum() / 4


class Descent:
    """x <- x - 0.1 x^3, the gradient taken in one of four ways."""

    def __init__(self, how):
        self.how = how

    def init(self, input, *, rng=None):
        return input.clone()

    def step(self, x, input, *, rng=None):
        if self.how == "func":
            return x - 0.1 * torch.func.grad(quartic)(x)
        with torch.enable_grad():
            y = x if x.requires_grad and self.how == "graph" else x.detach().requires_grad_()
            (g,) = torch.autograd.grad(quartic(y), y, create_graph=self.how == "graph")
        return x - 0.1 * g


@pytest.mark.parametrize("how", ["func", "graph", "detached"])
def test_gradients_inside_the_step(how):
    """d/dx (x - 0.1 x^3) = 1 - 0.3 x^2; a detached gradient would silently give 1."""
    x = torch.tensor([1.0, 2.0, 0.5], dtype=F64)
    reading = spectrum(Descent(how), x)
    expected = (1 - 0.3 * x**2).sort(descending=True).values
    tolerance = 1e-7 if how == "detached" else 1e-10
    torch.testing.assert_close(
        reading["eigenvalue"].sort(descending=True).values, expected, rtol=0, atol=tolerance
    )
    if how == "detached":
        assert reading.method == "dense, symmetric; central differences"
        assert "something is detached" in reading.notes[0]
    assert reading["derivative_check"] < 1e-6


class NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


def test_an_operator_without_forward_mode():
    class Squares:
        def init(self, input, *, rng=None):
            return input

        def step(self, x, input, *, rng=None):
            return NoForwardMode.apply(x)

    reading = spectrum(Squares(), torch.tensor([3.0, 1.0], dtype=F64))
    assert reading["eigenvalue"].tolist() == [6.0, 2.0]
    assert reading.method.endswith("twice reverse mode")


def test_steps_without_a_slope():
    reading = spectrum(
        Hopfield(torch.tensor([[1.0, 1, 1, -1, -1]])), input=torch.tensor([-1.0, 1, 1, -1, -1])
    )
    assert reading["eigenvalue"].tolist() == [0.0] * 5
    assert "every product is zero" in reading.notes[0]


def test_a_kink_or_noise_is_unverified():
    class Jitter:
        def init(self, input, *, rng=None):
            return input

        def step(self, x, input, *, rng=None):
            return x + torch.rand(3, dtype=F64)  # its own noise, new at every call

    reading = spectrum(Jitter(), zeros(3))
    assert reading.status == "unverified"
    assert "kink or noise" in reading.reason


def test_what_does_not_converge_is_nan():
    A = symmetric(torch.linspace(0.9, 1.0, 400).tolist())
    reading = spectrum(LinearMap(A), zeros(400), k=6, max_iterations=1)
    assert reading.status == "not converged"
    assert "of 6 eigenvalues converged; raise max_iterations" in reading.reason
    missing = reading["eigenvalue"].isnan()
    assert bool(missing.any())
    assert torch.equal(missing, reading["residual"].isnan())


# --- bad input ------------------------------------------------------------------------------------------------------


class Grows:
    def init(self, input, *, rng=None):
        return torch.ones(2)

    def step(self, state, input, *, rng=None):
        return torch.cat([state, state])


class Counter:
    def init(self, input, *, rng=None):
        return {"n": torch.zeros(3, dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        return {"n": state["n"] + 1}


IDENTITY = LinearMap(torch.eye(2, dtype=F64))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spectrum(3), TypeError, "a system .* or a linear function, got int"),
        (
            lambda: spectrum(rollout(IDENTITY, zeros(2))),
            TypeError,
            r"spectrum\(system, trajectory.final, input\)",
        ),
        (lambda: spectrum(IDENTITY, zeros(2), k=0), ValueError, "k counts eigenvalues .* got 0"),
        (lambda: spectrum(IDENTITY, zeros(2), which="XL"), ValueError, "which= is one of 'LM', .* got 'XL'"),
        (lambda: spectrum(IDENTITY, zeros(2), of="y"), KeyError, "no tensor 'y' in the state; it has state"),
        (lambda: spectrum(Coupled(), of="t"), TypeError, "'t' in the state is int64: only floating-point"),
        (lambda: spectrum(Coupled(), of=lambda s: s.x.sum()), TypeError, "of= computes something new"),
        (lambda: spectrum(Coupled(), of=3), TypeError, "of= is a path, a list of paths or a function"),
        (lambda: spectrum(Counter()), TypeError, r"no floating-point tensor to perturb; it has n \(int64\)"),
        (
            lambda: spectrum(IDENTITY, torch.tensor([1.0, math.nan])),
            ValueError,
            "'state' in the state is not finite",
        ),
        (
            lambda: spectrum(IDENTITY, torch.ones(2) + 1j),
            TypeError,
            "no floating-point tensor to perturb; it has state",
        ),
        (lambda: spectrum(Grows()), ValueError, r"turned 'state' from shape \(2,\) into \(4,\)"),
        (lambda: spectrum(MovingAverage(2), input=torch.ones(1)), ValueError, "overwrites its state"),
        (lambda: spectrum(lambda v: v), ValueError, r"either state= .* or shape="),
        (lambda: spectrum(lambda v: v, zeros(2), shape=(2,)), ValueError, "and not with both"),
        (lambda: spectrum(lambda v: v, shape=(2,), of="x"), ValueError, "a linear function takes all"),
        (lambda: spectrum(lambda v: v**2, shape=(2,)), ValueError, "<lambda> is not linear"),
        (lambda: spectrum(lambda v: v + 1, shape=(2,)), ValueError, "is not linear"),
        (lambda: spectrum(lambda v: v * math.inf, shape=(2,)), ValueError, "not finite"),
        (lambda: spectrum(lambda v: v[:1], shape=(2,)), ValueError, r"from shape \(2,\) into \(1,\)"),
        (
            lambda: spectrum(LinearMap.oscillator(0.5, 5), zeros(2), symmetric=True),
            ValueError,
            "symmetric=True, but u.T A v and v.T A u differ",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_more_than_there_are():
    assert len(spectrum(IDENTITY, zeros(2), k=10)["eigenvalue"]) == 2


def test_frame_and_plots():
    reading = spectrum(LinearMap.oscillator(0.5, 5), zeros(2), vectors=True)
    frame = reading.to_frame()
    assert list(frame.columns) == ["rank", "real", "imag", "modulus", "residual", "condition"]
    assert frame.attrs["radius"] == pytest.approx(0.5)
    ax = reading.plot()
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == "real part"
    assert "radius 0.5" in ax.get_title()
    assert spectrum(QuadraticDescent(torch.eye(2)), torch.zeros(2)).plot().get_ylabel() == "eigenvalue"
