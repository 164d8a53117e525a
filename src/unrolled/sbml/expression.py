"""The formulas of a model as a checked tree: numbers, symbols, and operations of one fixed table.

Every formula, from MathML or from infix text, becomes such a tree before anything is computed. The table `OPERATIONS`
is closed: what is not in it cannot be written down, so a file can name no function of ours, nor of Python.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, in double precision."""

    value: float


@dataclass(frozen=True, slots=True)
class Truth:
    """A literal truth value."""

    value: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """A quantity of the model, or `TIME`. The name is data: it never becomes an identifier of code."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation of `OPERATIONS` on its arguments.

    `piecewise` takes (value, condition, value, condition, ..., otherwise); without the last, no condition met is NaN.
    """

    op: str
    args: "tuple[Expression, ...]"


Expression = Number | Truth | Symbol | Apply

TIME = Symbol("<time>")
"""The model's time. Identifiers hold no angle brackets, so no quantity can bear this name."""

NAN = Number(float("nan"))

OPERATIONS: Mapping[str, tuple[int, int | None]] = {
    "add": (0, None), "mul": (0, None), "sub": (2, 2), "div": (2, 2), "neg": (1, 1), "pow": (2, 2), "root": (2, 2),
    "exp": (1, 1), "ln": (1, 1), "log": (2, 2), "abs": (1, 1), "floor": (1, 1), "ceil": (1, 1), "factorial": (1, 1),
    "sin": (1, 1), "cos": (1, 1), "tan": (1, 1), "sec": (1, 1), "csc": (1, 1), "cot": (1, 1),
    "arcsin": (1, 1), "arccos": (1, 1), "arctan": (1, 1), "arcsec": (1, 1), "arccsc": (1, 1), "arccot": (1, 1),
    "sinh": (1, 1), "cosh": (1, 1), "tanh": (1, 1), "sech": (1, 1), "csch": (1, 1), "coth": (1, 1),
    "arcsinh": (1, 1), "arccosh": (1, 1), "arctanh": (1, 1), "arcsech": (1, 1), "arccsch": (1, 1), "arccoth": (1, 1),
    "max": (1, None), "min": (1, None), "quotient": (2, 2), "rem": (2, 2), "piecewise": (1, None),
    "lt": (2, 2), "le": (2, 2), "gt": (2, 2), "ge": (2, 2), "eq": (2, 2), "ne": (2, 2),
    "and": (0, None), "or": (0, None), "xor": (0, None), "not": (1, 1), "implies": (2, 2),
    "rateof": (1, 1),
}  # fmt: skip
"""Operation -> (fewest, most) arguments. `root` is (degree, x), `log` is (base, x); `rateof` is resolved before compiling."""

RELATIONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
LOGIC = frozenset({"and", "or", "xor", "not", "implies"})


def is_logical(node: Expression) -> bool:
    """Whether a formula is a truth value rather than a number."""
    if isinstance(node, Apply) and node.op == "piecewise":
        # Without an `otherwise` it may be NaN, which is a number.
        return len(node.args) % 2 == 1 and all(is_logical(value) for value in node.args[::2])
    return isinstance(node, Truth) or (isinstance(node, Apply) and node.op in RELATIONS | LOGIC)


def apply(op: str, *args: Expression) -> Expression:
    """An operation on arguments, counted against the table.

    Raises:
        ValueError: an unknown operation, or the wrong number of arguments.

    Example:
        >>> apply("mul", Number(2.0), Symbol("k"))
        Apply(op='mul', args=(Number(value=2.0), Symbol(name='k')))
    """
    if op not in OPERATIONS:
        raise ValueError(f"there is no operation {op!r}; there are {', '.join(OPERATIONS)}")
    fewest, most = OPERATIONS[op]
    if len(args) < fewest or (most is not None and len(args) > most):
        wanted = str(fewest) if fewest == most else f"{fewest} or more"
        raise ValueError(f"{op} takes {wanted} arguments, got {len(args)}")
    return Apply(op, args)


def total(terms: Iterable[Expression]) -> Expression:
    """The sum of terms, which may be none."""
    terms = tuple(terms)
    return Number(0.0) if not terms else terms[0] if len(terms) == 1 else Apply("add", terms)


def product(*factors: Expression) -> Expression:
    """The product of factors, without literal ones."""
    if factors[:1] == (Number(-1.0),):
        return Apply("neg", (product(*factors[1:]),))
    kept = tuple(factor for factor in factors if factor != Number(1.0))
    return Number(1.0) if not kept else kept[0] if len(kept) == 1 else Apply("mul", kept)


def walk(node: Expression) -> Iterable[Expression]:
    """Every node of a tree, without recursion; shared nodes once."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        top = stack.pop()
        if id(top) in seen:
            continue
        seen.add(id(top))
        yield top
        if isinstance(top, Apply):
            stack.extend(top.args)


def symbols(node: Expression) -> set[str]:
    """The names of the quantities in a formula, without `TIME`."""
    return {found.name for found in walk(node) if isinstance(found, Symbol) and found != TIME}


def transform(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The tree with `change` applied to every node, leaves first; what does not change stays shared."""
    done: dict[int, Expression] = {}
    stack: list[tuple[Expression, bool]] = [(node, False)]
    while stack:
        top, ready = stack.pop()
        if id(top) in done:
            continue
        if not isinstance(top, Apply):
            done[id(top)] = change(top)
        elif ready:
            args = tuple(done[id(arg)] for arg in top.args)
            same = all(new is old for new, old in zip(args, top.args))
            done[id(top)] = change(top if same else Apply(top.op, args))
        else:
            stack.append((top, True))
            stack.extend((arg, False) for arg in top.args)
    return done[id(node)]


def substitute(node: Expression, values: Mapping[str, Expression]) -> Expression:
    """The formula with symbols replaced, all at once."""
    return transform(node, lambda n: values.get(n.name, n) if isinstance(n, Symbol) else n)


def ordered(formulas: Mapping[str, Expression], what: str = "rules") -> tuple[str, ...]:
    """The names of formulas in dependency order, whatever order they were given in.

    Raises:
        ValueError: formulas that depend on themselves; the message names the circle.

    Example:
        >>> ordered({"b": Symbol("a"), "a": Number(1.0)})
        ('a', 'b')
    """
    done: dict[str, bool] = {}
    out: list[str] = []
    for first in formulas:
        stack: list[tuple[str, Any]] = [(first, None)]
        while stack:
            name, rest = stack[-1]
            if rest is None:
                if done.get(name):
                    stack.pop()
                    continue
                done[name] = False
                rest = iter(sorted(symbols(formulas[name]) & formulas.keys()))
                stack[-1] = (name, rest)
            step = next(rest, None)
            if step is None:
                done[name] = True
                out.append(name)
                stack.pop()
            elif step not in done:
                stack.append((step, None))
            elif not done[step]:
                names = [n for n, _ in stack]
                circle = " -> ".join([*names[names.index(step) :], step])
                raise ValueError(f"the {what} define each other in a circle: {circle}")
    return tuple(out)
