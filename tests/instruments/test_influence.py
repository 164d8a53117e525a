import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import rollout
from unrolled.instruments import influence
from unrolled.toys import AR1, Hopfield, LinearMap, LogisticMap, MovingAverage, QuadraticDescent

F64 = torch.float64
TIGHT = {"rtol": 0, "atol": 1e-10}
W = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.6, 0.2], [0.0, 0.3, 0.7]], dtype=F64)
X0 = torch.tensor([0.0, 1.0, 5.0], dtype=F64)
# pi W = pi: detailed balance of a birth-death chain, (0.2 * 0.3, 0.5 * 0.3, 0.5 * 0.2) / 0.31.
STATIONARY = torch.tensor([6.0, 15.0, 10.0], dtype=F64) / 31


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class FriedkinJohnsen:
    """x <- L W x + (I - L) u: each agent keeps a share 1 - l of its first opinion u."""

    def __init__(self, W, susceptibility):
        self.W, self.l = W, susceptibility

    def init(self, input, *, rng=None):
        return input.clone()

    def step(self, state, input, *, rng=None):
        if state.ndim > 1:
            return self.l[:, None] * (self.W @ state) + (1 - self.l[:, None]) * input
        return self.l * (self.W @ state) + (1 - self.l) * input


SUSCEPTIBLE = torch.tensor([0.9, 0.5, 0.8], dtype=F64)
FJ = FriedkinJohnsen(W, SUSCEPTIBLE)


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_degroot_consensus_is_the_stationary_distribution():
    reading = influence(LinearMap(W), X0, steps=400)
    torch.testing.assert_close(reading["jacobian"], STATIONARY.expand(3, 3), **TIGHT)
    torch.testing.assert_close(reading["share"], STATIONARY, **TIGHT)
    torch.testing.assert_close(reading["effect"], 3 * STATIONARY, **TIGHT)
    assert reading["ranking"].tolist() == [1, 2, 0]
    assert (reading.method, reading.status, reading.notes) == ("exact (linear)", "ok", ())
    assert reading["verification"] < 1e-12


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_degroot_on_the_way_is_a_row_of_the_power(steps, method):
    power = torch.linalg.matrix_power(W, steps)
    reading = influence(LinearMap(W), X0, steps=steps, method=method)
    torch.testing.assert_close(reading["jacobian"], power, **TIGHT)
    assert reading.method == {"exact": "exact (linear)", "gradient": "gradient"}[method]
    one = influence(LinearMap(W), X0, steps=steps, of=lambda x: x[0], method=method)
    torch.testing.assert_close(one["jacobian"], power[0], **TIGHT)
    torch.testing.assert_close(one["share"], power[0], **TIGHT)


@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_friedkin_johnsen(method):
    """At rest V = (I - L W)^-1 (I - L); after t steps (L W)^t + sum_k (L W)^k (I - L)."""
    L, eye = torch.diag(SUSCEPTIBLE), torch.eye(3, dtype=F64)
    rest = influence(FJ, X0, steps=600, wrt="input", method=method)
    torch.testing.assert_close(rest["jacobian"], torch.linalg.inv(eye - L @ W) @ (eye - L), **TIGHT)
    torch.testing.assert_close(rest["jacobian"].sum(1), torch.ones(3, dtype=F64), **TIGHT)
    early = influence(FJ, X0, steps=3, wrt="input", method=method)
    M = L @ W
    expected = torch.linalg.matrix_power(M, 3) + (eye + M + M @ M) @ (eye - L)
    torch.testing.assert_close(early["jacobian"], expected, **TIGHT)
    # With the first opinions given apart, the input acts through stubbornness alone.
    apart = influence(FJ, X0, steps=3, state=X0, wrt="input", method=method)
    torch.testing.assert_close(apart["jacobian"], (eye + M + M @ M) @ (eye - L), **TIGHT)
    state = influence(FJ, X0, steps=3, method=method)
    torch.testing.assert_close(state["jacobian"], torch.linalg.matrix_power(M, 3), **TIGHT)


@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_topics_do_not_mix(method):
    """Opinions on d topics: J = V kron I, so agents share as with one topic."""
    reading = influence(FJ, normal(3, 4), steps=500, wrt="input", method=method)
    V = torch.linalg.inv(torch.eye(3, dtype=F64) - torch.diag(SUSCEPTIBLE) @ W) @ torch.diag(1 - SUSCEPTIBLE)
    expected = torch.einsum("ij,ab->iajb", V, torch.eye(4, dtype=F64))
    torch.testing.assert_close(reading["jacobian"], expected, **TIGHT)
    torch.testing.assert_close(reading["share"], V.sum(0) / V.sum(), **TIGHT)
    torch.testing.assert_close(reading["rows"], 2 * V, **TIGHT)  # Frobenius norm of v I_4
    topics = influence(FJ, normal(3, 4), steps=500, wrt="input", axis=1, method=method)
    torch.testing.assert_close(topics["share"], torch.full((4,), 0.25, dtype=F64), **TIGHT)


@pytest.mark.parametrize("r", [2.5, 3.2, 3.9])
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_logistic_gradient(r, steps):
    """The chain rule: the product of r (1 - 2 x_t)."""
    x = torch.tensor([0.3], dtype=F64)
    path = rollout(LogisticMap(r), x, steps=steps)["state"][:-1, 0]
    reading = influence(LogisticMap(r), x, steps=steps)
    expected = float((r * (1 - 2 * path)).prod())
    assert float(reading["jacobian"]) == pytest.approx(expected, rel=1e-10)
    assert (reading.method, reading.status) == ("gradient", "ok")
    assert reading.notes == ("not exact: the step is not affine; true for small changes",)
    assert reading["verification"] < 1e-3


def test_a_nonlinear_readout_of_a_linear_system():
    A, b = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=F64), torch.ones(2, dtype=F64)
    system, x = QuadraticDescent(A, b, lr=0.1), torch.tensor([4.0, -1.0], dtype=F64)
    power = torch.linalg.matrix_power(torch.eye(2, dtype=F64) - 0.1 * A, 6)
    end = rollout(system, x, steps=6).final
    reading = influence(system, x, steps=6, of=system.loss)
    torch.testing.assert_close(reading["jacobian"], (A @ end - b) @ power, **TIGHT)
    assert reading.method == "exact (linear)"
    assert reading.notes == ("the read-out is not linear: J holds its derivative at the end",)


def signal(n=5):
    return [normal(3, seed=i) for i in range(n)]


def test_inputs_that_change_from_step_to_step():
    """Rows are the steps: the input of step k reaches the end through (L W)^(T-1-k) (I - L), and step 0 also through init."""
    reading = influence(FJ, signal(), steps=5, wrt="input", of=lambda x: x.sum())
    M, S = torch.diag(SUSCEPTIBLE) @ W, torch.diag(1 - SUSCEPTIBLE)
    rows = [torch.ones(3, dtype=F64) @ torch.linalg.matrix_power(M, 4 - k) @ S for k in range(5)]
    rows[0] = rows[0] + torch.ones(3, dtype=F64) @ torch.linalg.matrix_power(M, 5)
    torch.testing.assert_close(reading["jacobian"], torch.stack(rows), **TIGHT)
    assert len(reading["share"]) == 5
    assert reading.method == "gradient"


class Switching:
    """x <- A_u x: another matrix at every step."""

    def init(self, input, *, rng=None):
        return torch.ones(2, dtype=F64)

    def step(self, state, input, *, rng=None):
        return input @ state


def test_a_product_of_different_matrices_is_exact():
    matrices = [normal(2, 2, seed=i) for i in range(4)]
    expected = matrices[3] @ matrices[2] @ matrices[1] @ matrices[0]
    for input in (matrices, lambda step: matrices[step]):
        reading = influence(Switching(), input, steps=4)
        torch.testing.assert_close(reading["jacobian"], expected, **TIGHT)
        assert reading.method == "exact (linear)"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 1000))
def test_exact_and_gradient_agree_on_any_linear_map(n, steps, seed):
    system, x = (
        LinearMap(normal(n, n, seed=seed) / n**0.5, normal(n, seed=seed + 1)),
        normal(n, seed=seed + 2),
    )
    exact, gradient = (influence(system, x, steps=steps, method=m) for m in ("exact", "gradient"))
    scale = float(exact["jacobian"].abs().max())
    torch.testing.assert_close(exact["jacobian"], gradient["jacobian"], rtol=0, atol=1e-11 * max(scale, 1))
    assert float(exact["share"].sum()) == pytest.approx(1, abs=1e-12)
    assert gradient.status == "ok"


# --- what is exact is found out, not assumed ------------------------------------------------------------------------


class Annealed:
    """Linear at every step, but the map changes with a counter in the state: the power of the first is wrong."""

    def init(self, input, *, rng=None):
        return {"x": input.clone(), "t": torch.zeros((), dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        return {"x": state["x"] / (2 + state["t"]), "t": state["t"] + 1}


def test_a_map_that_changes_with_a_counter_is_not_taken_for_a_power():
    reading = influence(Annealed(), X0, steps=4, of="x")
    assert reading.method == "gradient"
    assert "the product misses a finite change of the start" in reading.notes[0]
    torch.testing.assert_close(reading["jacobian"], torch.eye(3, dtype=F64) / (2 * 3 * 4 * 5), **TIGHT)
    with pytest.raises(ValueError, match="the influence is not exact here: the product misses"):
        influence(Annealed(), X0, steps=4, of="x", method="exact")


class Threshold:
    """Linear up to 10, then not: the start lies in the linear part."""

    def init(self, input, *, rng=None):
        return input.clone()

    def step(self, state, input, *, rng=None):
        return torch.where(state.abs() < 0.5, 0.5 * state, 0.5 * state**2)


def test_a_map_that_is_linear_only_nearby_is_not_called_linear():
    reading = influence(Threshold(), torch.tensor([0.1, 0.2], dtype=F64), steps=3)
    assert reading.method == "gradient"
    torch.testing.assert_close(reading["jacobian"], torch.eye(2, dtype=F64) / 8, **TIGHT)


def test_nonlinear_init_is_not_called_linear():
    class Squared(FriedkinJohnsen):
        def init(self, input, *, rng=None):
            return input**2

    reading = influence(Squared(W, SUSCEPTIBLE), X0, steps=2, wrt="input")
    assert reading.notes[0].startswith("not exact: the initial state is not affine in the input")
    M = torch.diag(SUSCEPTIBLE) @ W
    expected = M @ M @ torch.diag(2 * X0) + (torch.eye(3, dtype=F64) + M) @ torch.diag(1 - SUSCEPTIBLE)
    torch.testing.assert_close(reading["jacobian"], expected, **TIGHT)


def test_large_systems_are_not_built():
    reading = influence(
        LinearMap(0.5 * torch.eye(20, dtype=F64)), torch.ones(20, dtype=F64), steps=3, max_dense=10
    )
    assert reading.method == "gradient"
    assert "more than max_dense=10" in reading.notes[0]
    torch.testing.assert_close(reading["jacobian"], torch.eye(20, dtype=F64) / 8, **TIGHT)


def test_a_strong_contraction_is_verified_up_to_rounding():
    """After 200 halvings the change is smaller than the rounding of the fixed point it ends at."""
    system = LinearMap(torch.tensor([[0.5]], dtype=F64), torch.ones(1, dtype=F64))
    reading = influence(system, torch.ones(1, dtype=F64), steps=200)
    assert reading.method == "exact (linear)"
    assert float(reading["jacobian"]) == pytest.approx(0.5**200, rel=1e-12)


def test_noise_is_held_fixed():
    for noise in (3, torch.Generator().manual_seed(3)):
        reading = influence(AR1(0.7), X0, steps=4, rng=noise)
        torch.testing.assert_close(reading["jacobian"], 0.7**4 * torch.eye(3, dtype=F64), **TIGHT)
        assert reading.method == "exact (linear)"

    class Multiplied:
        def init(self, input, *, rng=None):
            return input * torch.rand(3, generator=rng, dtype=F64)

        def step(self, state, input, *, rng=None):
            return torch.tanh(state) * torch.rand(3, generator=rng, dtype=F64)

    one, two = (influence(Multiplied(), X0, steps=3, rng=5)["jacobian"] for _ in range(2))
    assert torch.equal(one, two)
    rng = torch.Generator().manual_seed(5)
    x = X0.clone().requires_grad_()
    end = rollout(Multiplied(), x, steps=3, grad="full", rng=rng).final
    whole = influence(Multiplied(), X0, steps=3, rng=5, wrt="input")
    (expected,) = torch.autograd.grad(end.sum(), x)
    torch.testing.assert_close(whole["effect"], expected, **TIGHT)
    assert whole.status == "ok"


def test_a_detached_step_is_unverified():
    class Detached:
        def init(self, input, *, rng=None):
            return input.clone()

        def step(self, x, input, *, rng=None):
            return x - 0.1 * x.detach() ** 3

    reading = influence(Detached(), torch.tensor([1.0, 2.0], dtype=F64), steps=3)
    assert reading.status == "unverified"
    assert "something in the step is detached" in reading.reason
    assert reading["verification"] > 0.01


def test_nothing_flows_through_a_sign():
    net, cue = Hopfield(torch.tensor([[1.0, 1, 1, -1, -1]])), torch.tensor([-1.0, 1, 1, -1, -1])
    reading = influence(net, cue, steps=2, of="x")
    assert reading.status == "unidentified"
    assert "the gradient is zero from x to the read-out: a sign" in reading.reason
    assert bool(reading["share"].isnan().all())
    assert "nothing flows" in reading.plot().texts[0].get_text()


def test_nothing_flows_through_a_detach():
    class Cut:
        def init(self, input, *, rng=None):
            return input.clone()

        def step(self, x, input, *, rng=None):
            return torch.tanh(x.detach())

    reading = influence(Cut(), X0, steps=1)
    assert reading.status == "unidentified"
    assert "no gradient flows from state" in reading.reason
    assert bool(reading["jacobian"].isnan().all())


# --- options --------------------------------------------------------------------------------------------------------


def test_normalise():
    plain = influence(LinearMap(W), X0, steps=2)["jacobian"]
    value = influence(LinearMap(W), X0, steps=2, normalise="value")
    torch.testing.assert_close(value["jacobian"], plain * X0)
    # For a linear map without offset, what the entries contributed adds up to the outcome.
    torch.testing.assert_close(value["jacobian"].sum(1), rollout(LinearMap(W), X0, steps=2).final, **TIGHT)
    scale = torch.tensor([1.0, 0.0, 2.0], dtype=F64)
    scaled = influence(LinearMap(W), X0, steps=2, normalise=scale)
    torch.testing.assert_close(scaled["jacobian"], plain * scale)
    assert float(scaled["share"][1]) == 0.0
    assert "times the scale given" in scaled.definition


def test_state_and_leaf():
    class Two:
        def init(self, input, *, rng=None):
            return {"x": X0.clone(), "y": torch.ones(2, dtype=F64)}

        def step(self, state, input, *, rng=None):
            return {"x": W @ state["x"] + state["y"].sum(), "y": 0.5 * state["y"]}

    with pytest.raises(ValueError, match="the initial state has the leaves x, y: say which with leaf="):
        influence(Two(), steps=2, of="x")
    x = influence(Two(), steps=2, of="x", leaf="x")
    torch.testing.assert_close(x["jacobian"], W @ W, **TIGHT)
    y = influence(Two(), steps=2, of="x", leaf="y")
    torch.testing.assert_close(y["jacobian"], torch.full((3, 2), 1.5, dtype=F64), **TIGHT)
    assert y.index[1].tolist() == [0, 1]
    other = influence(LogisticMap(3.0), X0, steps=1, state=torch.tensor([0.25], dtype=F64))
    assert float(other["jacobian"]) == pytest.approx(1.5, abs=1e-12)


def test_scalars():
    system = LogisticMap(2.0)
    reading = influence(system, torch.tensor(0.2, dtype=F64), steps=1)
    assert reading["share"].tolist() == [1.0]
    assert float(reading["jacobian"]) == pytest.approx(1.2, abs=1e-12)


def test_float32():
    reading = influence(LinearMap(W.float()), X0.float(), steps=50)
    assert reading.method == "exact (linear)"
    torch.testing.assert_close(reading["share"], STATIONARY, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"wrt": "weights"}, ValueError, 'wrt= is "state" or "input", got \'weights\''),
        ({"method": "magic"}, ValueError, 'method= is "auto", "exact" or "gradient"'),
        ({"steps": 0}, ValueError, "at least one step, got 0"),
        ({"axis": 1}, ValueError, r"axis=1 is no axis of state, which has shape \(3,\)"),
        ({"leaf": "y"}, KeyError, "no tensor 'y' in the initial state; it has state"),
        ({"leaf": "state", "wrt": "input"}, ValueError, "leaf= names a leaf of the initial state"),
        ({"of": "y"}, KeyError, "no tensor 'y'"),
        ({"of": lambda x: x > 0}, TypeError, "of= reads a torch.bool; the read-out must be a floating-point"),
        ({"of": lambda x: 3.0}, TypeError, "of= reads a float"),
        ({"normalise": "sum"}, ValueError, 'normalise= is None, "value" or a tensor'),
        ({"normalise": torch.ones(2)}, ValueError, r"shape \(2,\), which does not broadcast to \(3,\)"),
        ({"state": torch.arange(3)}, TypeError, "the initial state has no floating-point tensor"),
        (
            {"state": torch.tensor([math.nan, 1, 2], dtype=F64)},
            ValueError,
            "'state' in the initial state is not finite",
        ),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        influence(LinearMap(W), X0, **{"steps": 2, **options})


@pytest.mark.parametrize(
    ("input", "error", "message"),
    [
        (None, ValueError, 'wrt="input" needs a tensor or a list of tensors, got NoneType'),
        (torch.arange(3), TypeError, "the input is torch.int64"),
        (torch.tensor([1.0, math.inf, 0]), ValueError, "the input is not finite"),
        ([torch.ones(3), torch.ones(2)], ValueError, "tensors of one shape"),
        ([torch.ones(3), 2.0], ValueError, "tensors of one shape"),
    ],
)
def test_bad_inputs_as_a_source(input, error, message):
    class Takes:
        def init(self, input, *, rng=None):
            return torch.ones(3)

        def step(self, state, input, *, rng=None):
            return state + input

    with pytest.raises(error, match=message):
        influence(Takes(), input, steps=2, wrt="input")


def test_donating_systems_have_none():
    with pytest.raises(ValueError, match="MovingAverage overwrites its state"):
        influence(MovingAverage(2), torch.ones(2), steps=2, of="ring")


def test_a_rollout_without_an_end():
    class Root:
        def init(self, input, *, rng=None):
            return input.clone()

        def step(self, state, input, *, rng=None):
            return torch.sqrt(state) - 0.7

    with (
        pytest.warns(RuntimeWarning, match="Root: nonfinite at step"),
        pytest.raises(ValueError, match="the rollout has no end to read: nonfinite at step 2 in state"),
    ):
        influence(Root(), torch.tensor([0.3], dtype=F64), steps=100)
    with pytest.raises(ValueError, match="the read-out is not finite after 100 steps: it runs away"):
        influence(LogisticMap(5.0), torch.tensor([0.3], dtype=F64), steps=100)


def test_frame_and_plots():
    reading = influence(LinearMap(W), X0, steps=2)
    frame = reading.to_frame()
    assert list(frame.columns) == ["row", "share", "strength", "effect"]
    assert reading.plot().get_ylabel() == "to row"
    single = influence(LinearMap(W), X0, steps=2, of=lambda x: x[0])
    ax = single.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "0", "2"]
    ax.figure.canvas.draw()
    wide = influence(LinearMap(torch.eye(70)), torch.ones(70), steps=1).plot()
    wide.figure.canvas.draw()
    assert len(wide.get_yticklabels()) == 20
