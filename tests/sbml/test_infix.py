import math

import pytest
import torch

from unrolled.sbml.expression import TIME, Apply, Number, Symbol, ordered, symbols
from unrolled.sbml.infix import parse, show
from unrolled.sbml.naive import evaluate

F64 = torch.float64


def value(text, t=0.0, **names):
    env = {name: torch.tensor(v, dtype=F64) for name, v in names.items()}
    return evaluate(parse(text), env, torch.tensor(t, dtype=F64)).item()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("2^3^2", 512), ("2**3", 8), ("-2^2", -4), ("2^-1", 0.5), ("-a - -a", 0),
        ("8 / 4 / 2", 1), ("8 - 4 - 2", 2), ("a * -2", -6), ("!(a > 2)", False), ("a > 2 && a < 4 || a == 9", True),
        ("log(exp(2))", 2), ("log10(1000)", 3), ("log(2, 8)", 3), ("sqrt(16)", 4), ("root(3, 27)", 3), ("root(3, -27)", -3),
        ("piecewise(1, a > 5, 2, a > 2, 3)", 2), ("max(1, a, 2)", 3), ("min(4, a)", 3), ("factorial(5)", 120),
        ("quotient(7, 2)", 3), ("rem(7, 2)", 1), ("rem(-7, 2)", -1), ("quotient(-7, 2)", -3), ("abs(-a)", 3),
        ("floor(-1.5)", -2), ("ceiling(-1.5)", -1), ("sec(0)", 1), ("arccot(1)", math.pi / 4), ("arccot(0)", math.pi / 2),
        ("arccoth(2)", math.atanh(0.5)), ("xor(true, a > 1, true)", True), ("implies(a > 1, a > 5)", False), ("1e3", 1000),
        (".5 + 1.", 1.5), ("time * 2", 6), ("pi", math.pi), ("sqr(a)", 9), ("+a", 3),
    ],
)  # fmt: skip
def test_values(text, expected):
    assert value(text, t=3.0, a=3.0) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "Vmax * S^2 / (Km^2 + S^2)", "a - (b - c)", "a / (b * c)", "-(a + b)", "(-a)^2", "-a^2", "2^(a + 1)", "a^b^c", "(a^b)^c",
        "piecewise(a, b > 2 && c <= 3, log(a))", "time + (-2)", "a - -2", "!(a == b)", "sqrt(a)", "log(10, a)",
    ],
)  # fmt: skip
def test_what_is_shown_reads_back_the_same(text):
    tree = parse(text)
    assert parse(show(tree)) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a +", "ends too early"), ("(a", "expected '\\)'"), ("a b", "unexpected 'b' at character 3"), ("a $ b", "unexpected"),
        ("system(1)", "no function 'system'"), ("__import__(1)", "no function '__import__'"), ("exp(1, 2)", "takes 1 arg"),
        ("", "too early"), ("a.b", "unexpected '.'"), ("f('x')", "unexpected"), ("(" * 5000, "nested more than"),
        ("sqrt(1, 2)", "sqrt takes 1"), ("rateof(a, b)", "takes 1"), ("\x00", "unexpected"),
    ],
)  # fmt: skip
def test_what_is_no_formula_says_where(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_names_are_data():
    """Python's keywords and built-ins are names like any other; only a parenthesis makes a function."""
    assert symbols(parse("lambda + exec + sin + None * __class__")) == {
        "lambda",
        "exec",
        "sin",
        "None",
        "__class__",
    }
    assert parse("time") == TIME
    assert value("lambda * sin(sin)", **{"lambda": 2.0, "sin": 0.5}) == pytest.approx(2 * math.sin(0.5))


def test_a_circle_is_named():
    with pytest.raises(ValueError, match="a -> b -> c -> a"):
        ordered({"a": Symbol("b"), "b": Symbol("c"), "c": Symbol("a"), "d": Number(1.0)})
    assert ordered({"b": Symbol("a"), "a": Symbol("x"), "c": parse("a + b")}) == ("a", "b", "c")


def test_trees_of_any_depth():
    tree = Symbol("a")
    for _ in range(50_000):
        tree = Apply("neg", (tree,))
    one = torch.tensor(1.0, dtype=F64)
    assert symbols(tree) == {"a"}
    assert evaluate(tree, {"a": one}, one).item() == 1
