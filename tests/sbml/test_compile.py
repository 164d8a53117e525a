import math

import pytest
import torch
from torch.func import jacrev, vmap

from unrolled.sbml import Model
from unrolled.sbml.compile import edges
from unrolled.sbml.infix import parse
from unrolled.sbml.naive import evaluate

F64 = torch.float64
INF = math.inf

FORMULAS = [
    "a * b / (c + a)", "a^b", "a^2 + b^3 - c^0.5", "exp(-a) * log(b)", "log10(a) + log(2, b)", "sqrt(a) + root(3, b - 2)",
    "sin(a) + cos(b) * tan(c)", "sec(a) + csc(b) + cot(c)", "arcsin(a / 9) + arccos(b / 9) + arctan(c)", "sech(a) + csch(b) + coth(c)",
    "arcsinh(a) + arccosh(b + 1) + arctanh(c / 9)", "arcsec(a + 9) + arccsc(b + 9) + arccot(c)", "arcsech(a / 9) + arccsch(b) + arccoth(c + 9)",
    "floor(a) + ceil(b) + abs(c - 2)", "max(a, b, c) - min(a, b, 1)", "quotient(a, b) + rem(a, b)", "factorial(floor(a))",
    "piecewise(a, b > c, c, a > c, b)", "piecewise(a, b > c)", "piecewise(1, a > b, 2)", "piecewise(a > 1, b > 1, c > 1) + 1",
    "(a > b) + (b > c) * 2", "time * a + sin(time)", "(a < b && b < c || a == 1) + xor(a > 1, b > 1)", "implies(a > b, c > b) * a",
    "a - a", "a / a", "2 * 3 + a", "0 * a", "1 / 0 * a", "-a^2", "pi * a", "(a > 1) != (b > 1)", "not(a > 1) + 0", "piecewise(a, true, b)",
    "piecewise(a, false, b)", "a && b", "or(a > 3, false) + and(b > 1, true)", "add() + mul() * a", "max(2, 3) * a", "a + b + c + a + b + c",
]  # fmt: skip


def same(x, y):
    return torch.allclose(x, y, rtol=1e-13, atol=1e-13, equal_nan=True)


def model(formula, **options):
    return Model.from_equations(
        {"a": 1.0, "b": 1.0, "c": 1.0}, {}, {"a": formula, "b": "0", "c": "0"}, **options
    )


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_generated_code_equals_its_twin(text, seed):
    """Values and gradients, where formulas are ordinary and at zero and negative states."""
    system = model(text)
    x = torch.rand(64, 3, dtype=F64, generator=torch.Generator().manual_seed(seed)) * 4
    x[:8] = torch.tensor([0.0, 1.0, 2.0], dtype=F64)
    x[8:16] *= -1
    x.requires_grad_()
    t = torch.full((64,), 0.7, dtype=F64)
    ours = system.rate(t, x)[:, 0]
    twin = evaluate(parse(text), dict(zip("abc", x.unbind(-1))), t)
    twin = twin.to(F64).expand(64)
    assert same(ours, twin)
    assert ours.dtype == F64
    if twin.requires_grad:
        (g,) = torch.autograd.grad(ours[16:].sum(), x, retain_graph=True)
        (h,) = torch.autograd.grad(twin[16:].sum(), x)
        keep = h.isfinite()
        assert same(g[keep], h[keep])


@pytest.mark.parametrize("text", FORMULAS)
def test_float32_stays_float32(text):
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    made = model(text).rate(0.5, x)
    assert made.dtype == torch.float32
    assert torch.allclose(
        made.double(), model(text).rate(0.5, x.double()), rtol=1e-4, atol=1e-4, equal_nan=True
    )


def test_shared_parts_are_computed_once():
    system = Model.from_equations(
        {"a": 1.0, "b": 1.0},
        {"k": 2.0, "K": 3.0},
        {"a": "-exp(k * a) / (K + a)", "b": "exp(k * a) / (K + a)"},
    )
    assert system.source().count("torch.exp") == 1


def test_a_condition_keeps_gradients_clean():
    """0 * infinity is not the gradient of a branch that was not taken."""
    system = model("piecewise(1 / (a - 1), a > 2, piecewise(log(b), b > 0, sqrt(-c)))")
    x = torch.tensor([[1.0, 0.0, -4.0], [1.0, 1.0, 4.0], [3.0, 0.0, 4.0]], dtype=F64, requires_grad=True)
    y = system.rate(0.0, x)[:, 0]
    assert y.tolist() == [2.0, 0.0, 0.5]
    (g,) = torch.autograd.grad(y.sum(), x)
    assert g.tolist() == [[0, 0, -0.25], [0, 1, 0], [-0.25, 0, 0]]


def test_parameters_are_batched_too():
    system = Model.from_equations({"a": 2.0}, {"k": 1.0, "n": 2.0}, {"a": "-k * a^n"})
    k = torch.tensor([1.0, 2.0, 3.0], dtype=F64, requires_grad=True)
    rate = system.rate(0.0, torch.full((3, 1), 2.0, dtype=F64), {"k": k})
    assert rate[:, 0].tolist() == [-4, -8, -12]
    assert torch.autograd.grad(rate.sum(), k)[0].tolist() == [-4, -4, -4]
    p = torch.tensor([[1.0, 3.0], [1.0, 1.0]], dtype=F64)
    assert system.rate(0.0, torch.full((2, 1), 2.0, dtype=F64), p)[:, 0].tolist() == [-8, -2]
    assert system.rate(0.0, torch.tensor([2.0], dtype=F64)).tolist() == [-4]


def test_batch_free_and_vmapped():
    system = model("a * b - c * time")
    x = torch.rand(7, 3, dtype=F64)
    t, p = torch.tensor(2.0, dtype=F64), system.vector(None, x)
    rows = torch.stack([system.compiled.rate(t, row, p) for row in x])
    assert torch.equal(rows, system.rate(2.0, x))
    jacobian = vmap(jacrev(system.compiled.rate, argnums=1), in_dims=(None, 0, None))(t, x, p)
    assert same(jacobian, system.jacobian(x, t=2.0))
    assert same(jacobian[:, 0, 0], x[:, 1])


@pytest.mark.slow
def test_torch_compile_takes_it_whole():
    system = model("piecewise(a^b, a > b, factorial(floor(c)), c > 1, rem(a, b)) + max(a, 1) * floor(b)")
    x = torch.rand(33, 3, dtype=F64) + 0.1
    fast = torch.compile(system.compiled.rate, fullgraph=True)
    t, p = torch.tensor(0.0, dtype=F64), system.vector(None, x)
    assert torch.allclose(fast(t, x, p), system.compiled.rate(t, x, p), rtol=1e-12)
    x.requires_grad_()
    made = [torch.autograd.grad(s.rate(0.0, x).sum(), x)[0] for s in (system, system.fused())]
    assert torch.allclose(*made, rtol=1e-10)


# --- events ---------------------------------------------------------------------------------------------------------

EVENTS = {
    "one": {
        "trigger": "a > 2 && time > 3",
        "assign": {"a": "a / 2", "k": "b + a"},
        "delay": "k",
        "priority": "10 * a",
    },
    "two": {"trigger": "b <= 1 || !(c >= 2)", "assign": {"b": "9"}},
}


def eventful():
    return Model.from_equations(
        {"a": 1.0, "b": 2.0, "c": 3.0},
        {"k": 0.5},
        {"a": "piecewise(k, a < 5, 0)", "b": "floor(a)", "c": "0"},
        events=EVENTS,
    )


def test_events_as_functions_of_a_batch():
    system, c = eventful(), eventful().compiled
    assert system.species == ("a", "b", "c", "k")
    x = torch.tensor([[3.0, 1.0, 3.0, 0.5], [1.0, 2.0, 1.0, 0.5], [4.0, 2.0, 3.0, 0.25]], dtype=F64)
    t, p = torch.tensor([4.0, 4.0, 2.0], dtype=F64), system.vector(None, x)
    assert c.trigger(t, x, p).tolist() == [[True, True], [False, True], [False, False]]
    assert c.trigger_root(t, x, p).tolist() == [[1, 0], [-1, 1], [-1, -1]]
    assert c.delay(t, x, p).tolist() == [[0.5, 0], [0.5, 0], [0.25, 0]]
    priority = c.priority(t, x, p)
    assert priority[:, 0].tolist() == [30, 10, 40]
    assert priority[:, 1].isnan().all()
    assert c.values(0, t, x, p).tolist() == [[1.5, 4], [0.5, 3], [2, 6]]
    assert c.assign(0, t, x, p).tolist() == [[1.5, 1, 3, 4], [0.5, 2, 1, 3], [2, 2, 3, 6]]
    assert c.assign(1, t, x, p)[:, 1].tolist() == [9, 9, 9]
    assert x[0].tolist() == [3, 1, 3, 0.5]


def test_every_place_where_rates_may_jump_is_a_switch():
    system = eventful()
    x = system.initial_state()
    made = system.compiled.switches(torch.tensor(0.0, dtype=F64), x, system.vector(None, x))
    # a < 5, floor(a), a > 2, time > 3, b <= 1, c >= 2
    assert made.shape == (1, 6)
    assert sorted(round(v, 9) for v in made[0].tolist()) == [-3, -1, -1, 0, 1, 4]


@pytest.mark.parametrize(
    "text",
    ["a > b", "a >= b", "a < b", "a <= b", "a > b && b > c", "a > b || b > c", "!(a > b)", "xor(a > b, b > c)", "implies(a > b, b > c)",
     "xor(a > b, b > c, c > a)", "piecewise(a > b, c > 0, b > a)", "true", "false", "a != b", "a > b && time > 1"],
)  # fmt: skip
def test_edges_have_the_sign_of_their_condition(text):
    x = torch.randn(200, 3, dtype=F64, generator=torch.Generator().manual_seed(3))
    t = torch.full((200,), 2.0, dtype=F64)
    env = dict(zip("abc", x.unbind(-1)))
    condition, edge = evaluate(parse(text), env, t), evaluate(edges(parse(text)), env, t)
    assert torch.equal(condition.expand(200), (edge > 0).expand(200))


def test_a_long_sum_compiles():
    """800 species, each driven by all the others' sum: one line of 800 terms."""
    names = [f"s{i}" for i in range(800)]
    system = Model.from_equations(
        dict.fromkeys(names, 1.0),
        {"k": 2.0},
        {n: f"k * total - {n}" for n in names},
        rules={"total": " + ".join(names)},
    )
    assert system.rate(0.0, system.initial_state(batch=2)).unique().tolist() == [1599]


def test_comments_hold_no_code():
    system = Model.from_equations({"a": 1.0}, {}, {"a": "r"}, rules={"r": "a * 2 + 1"})
    assert "# a" in system.source()
    from unrolled.sbml.compile import _comment

    assert "\n" not in _comment("a\nimport os")
