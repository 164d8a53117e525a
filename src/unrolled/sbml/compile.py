"""From a `Network` to functions on batches of states: readable torch code, generated as a syntax tree.

`Compiled(network)` has the functions. They are for solvers; all take

* `t`: a tensor, 0-dimensional or `[B]`;  `x`: `[B, d]` (or `[d]`);  `p`: `[P]` or `[B, P]`;

and are pure, differentiable where the formulas are, free of data-dependent control flow (so `torch.compile` and
`torch.func` take them whole), and of the dtype and device of `x`.

| function | gives | what it is |
|---|---|---|
| `rate(t, x, p)` | `[B, d]` | dx/dt |
| `switches(t, x, p)` | `[B, S]` | numbers whose sign changes are the only places where a rate may jump, and where a trigger may turn: one per comparison `a < b` (its b - a), one per floor, ceil, quotient, rem (zero at their jumps) |
| `trigger(t, x, p)` | bool `[B, E]` | is the condition of each event true |
| `trigger_root(t, x, p)` | `[B, E]` | positive where the condition is true, negative where false, zero at its edge (`a == b` only touches zero: use `switches`) |
| `delay(t, x, p)` | `[B, E]` | 0 for events without delay |
| `priority(t, x, p)` | `[B, E]` | NaN for events without priority |
| `values(e, t, x, p)` | `[B, k]` | what event e would assign (at trigger time if `events[e].from_trigger_time`) |
| `apply(e, values, t, x, p)` | `[B, d]` | the state with them assigned, all at once |
| `assign(e, t, x, p)` | `[B, d]` | both in one |
| `build(name, formulas)` | f(t, x, p) -> `[B, n]` | any formulas of the network's symbols |

How the code is made: formulas become a table of distinct nodes (so what they share is computed once), nodes become a
Python syntax tree made of our own names `x0`, `p3`, `v7`, and that tree is compiled. No text of a model is ever parsed
as code; names from a file appear in the comments of `.source` alone. The table, the writer and what they are asked for
change together, so they share one long file.
"""

import ast
import math
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unrolled.sbml import functions, naive
from unrolled.sbml.expression import (
    LOGIC,
    RELATIONS,
    TIME,
    Apply,
    Expression,
    Number,
    Symbol,
    Truth,
    is_logical,
    symbols,
    walk,
)
from unrolled.sbml.ir import Network

Function = Callable[[Tensor, Tensor, Tensor], Tensor]

_INFIX: dict[str, Any] = {
    "add": ast.Add, "sub": ast.Sub, "mul": ast.Mult, "div": ast.Div, "pow": ast.Pow,
    "lt": ast.Lt, "le": ast.LtE, "gt": ast.Gt, "ge": ast.GtE, "eq": ast.Eq, "ne": ast.NotEq,
    "and": ast.BitAnd, "or": ast.BitOr, "xor": ast.BitXor,
}  # fmt: skip

_CALLS = {
    "exp": "torch.exp", "ln": "torch.log", "abs": "torch.abs", "floor": "torch.floor", "ceil": "torch.ceil",
    "sin": "torch.sin", "cos": "torch.cos", "tan": "torch.tan", "arcsin": "torch.asin", "arccos": "torch.acos",
    "arctan": "torch.atan", "sinh": "torch.sinh", "cosh": "torch.cosh", "tanh": "torch.tanh",
    "arcsinh": "torch.asinh", "arccosh": "torch.acosh", "arctanh": "torch.atanh", "sqrt": "torch.sqrt",
    "log10": "torch.log10", "max": "torch.maximum", "min": "torch.minimum", "where": "torch.where",
    "factorial": "factorial", "quotient": "quotient", "rem": "rem", "root": "root", "arccot": "arccot",
    "arccoth": "arccoth",
}  # fmt: skip

_SINGULAR = frozenset(
    {"div", "pow", "root", "ln", "log", "arcsin", "arccos", "arccosh", "arctanh", "quotient", "rem"}
)
"""Operations whose derivative may be infinite where a condition kept them from being used."""

_DEEPEST = 6
"""How deep a line of generated code may nest before a value gets a name of its own."""

_NAMESPACE: dict[str, Any] = {
    "torch": torch, "inf": math.inf, "nan": math.nan, "pack": functions.pack, "pack_truth": functions.pack_truth,
    "factorial": functions.factorial, "quotient": functions.quotient, "rem": functions.rem, "root": functions.root,
    "arccot": functions.arccot, "arccoth": functions.arccoth,
}  # fmt: skip


class _Node:
    """A distinct value: an operation on earlier nodes, a literal, or a column."""

    __slots__ = ("args", "label", "logical", "op", "uses", "value")

    def __init__(self, op: str, args: tuple[int, ...], value: Any, logical: bool) -> None:
        self.op, self.args, self.value, self.logical = op, args, value, logical
        self.uses, self.label = 0, ""


class _Table:
    """Distinct nodes of some formulas of a network."""

    def __init__(self, network: Network) -> None:
        self.nodes: list[_Node] = []
        self.index: dict[Any, int] = {}
        self.columns = {state.symbol: ("x", i) for i, state in enumerate(network.states)}
        self.columns |= {parameter.name: ("p", i) for i, parameter in enumerate(network.parameters)}
        self.names = {"x": [s.name for s in network.states], "p": [q.name for q in network.parameters]}
        self.rules = {rule.name: rule.formula for rule in network.rules}
        self.order = [rule.name for rule in network.rules]
        self.done: dict[str, int] = {}

    # --- nodes -------------------------------------------------------------------------------------------------------

    def make(self, op: str, *args: int, value: Any = None, logical: bool = False) -> int:
        key = (op, args, value if value == value else "nan", math.copysign(1, value) if op == "number" else 0)
        if key not in self.index:
            self.index[key] = len(self.nodes)
            self.nodes.append(_Node(op, args, value, logical))
        return self.index[key]

    def number(self, value: float) -> int:
        return self.make("number", value=float(value))

    def literal(self, i: int) -> bool:
        return self.nodes[i].op in ("number", "truth")

    def as_number(self, i: int) -> int:
        node = self.nodes[i]
        if node.op == "truth":
            return self.number(float(node.value))
        return self.make("to_number", i) if node.logical else i

    def as_truth(self, i: int) -> int:
        node = self.nodes[i]
        if node.logical:
            return i
        if node.op == "number":
            return self.make("truth", value=node.value != 0, logical=True)
        return self.operation("ne", [i, self.number(0.0)])

    def operation(self, op: str, args: list[int]) -> int:
        """An operation, simplified where the result is the same bit for bit (or better: x * x for x^2)."""
        if op == "piecewise":
            return self.piecewise(args)
        logical = op in LOGIC
        args = [self.as_truth(i) if logical else self.as_number(i) for i in args]
        if all(self.literal(i) for i in args):
            return self.fold(op, args)
        value = [self.nodes[i].value if self.literal(i) else None for i in args]
        if op in ("add", "mul") and len(args) == 1:
            return args[0]
        if op == "add":
            args = [i for i, v in zip(args, value) if v != 0.0]
            if len(args) == 1:
                return args[0]
        elif op == "mul":
            args = [i for i, v in zip(args, value) if v != 1.0]
            if len(args) == 1:
                return args[0]
        elif (op == "div" and value[1] == 1.0) or (op == "sub" and value[1] == 0.0):
            return args[0]
        elif op == "pow" and value[1] in (1.0, 2.0):
            return args[0] if value[1] == 1.0 else self.make("mul", args[0], args[0])
        elif op == "log":
            if value[0] == 10.0:
                return self.make("log10", args[1])
            return self.make("div", self.operation("ln", [args[1]]), self.operation("ln", [args[0]]))
        elif op == "root" and value[0] == 2.0:
            return self.make("sqrt", args[1])
        elif op in ("and", "or"):
            rest = [i for i, v in zip(args, value) if v is None]
            if any(v is (op == "or") for v in value):
                return self.make("truth", value=op == "or", logical=True)
            if len(rest) == 1:
                return rest[0]
            args = rest
        elif op == "implies":
            return self.operation("or", [self.operation("not", [args[0]]), args[1]])
        elif op in ("sec", "csc", "cot", "sech", "csch", "coth"):
            inner = {
                "sec": "cos",
                "csc": "sin",
                "cot": "tan",
                "sech": "cosh",
                "csch": "sinh",
                "coth": "tanh",
            }[op]
            return self.make("div", self.number(1.0), self.make(inner, args[0]))
        elif op in ("arcsec", "arccsc", "arcsech", "arccsch"):
            inner = {"arcsec": "arccos", "arccsc": "arcsin", "arcsech": "arccosh", "arccsch": "arcsinh"}[op]
            return self.make(inner, self.make("div", self.number(1.0), args[0]))
        return self.make(op, *args, logical=logical or op in RELATIONS)

    def fold(self, op: str, args: list[int]) -> int:
        values = [
            torch.tensor(self.nodes[i].value, dtype=torch.bool if self.nodes[i].logical else torch.float64)
            for i in args
        ]
        made = naive.operate(op, values, torch.zeros((), dtype=torch.float64))
        if made.dtype == torch.bool:
            return self.make("truth", value=bool(made), logical=True)
        return self.number(float(made))

    def piecewise(self, args: list[int]) -> int:
        values, conditions = args[0:-1:2], [self.as_truth(i) for i in args[1::2]]
        logical = len(args) % 2 == 1 and all(self.nodes[i].logical for i in [*values, args[-1]])
        last = args[-1] if len(args) % 2 else self.number(math.nan)
        out = last if logical else self.as_number(last)
        for value, condition in reversed(list(zip(values, conditions))):
            value = value if logical else self.as_number(value)
            if self.nodes[condition].op == "truth":
                out = value if self.nodes[condition].value else out
            elif value != out:
                out = self.make("where", condition, value, out, logical=logical)
        return out

    # --- formulas ----------------------------------------------------------------------------------------------------

    def add(self, formula: Expression) -> int:
        """The node of a formula; rules it uses first."""
        wanted = self.uses(formula)
        for name in self.order:
            if name in wanted and name not in self.done:
                self.done[name] = made = self.tree(self.rules[name])
                if self.nodes[made].op not in ("x", "p", "number", "truth") and not self.nodes[made].label:
                    self.nodes[made].label = name
        return self.tree(formula)

    def uses(self, formula: Expression) -> set[str]:
        """The rules that a formula needs, through other rules too."""
        found: set[str] = set()
        stack = [formula]
        while stack:
            for name in symbols(stack.pop()):
                if name in self.rules and name not in found:
                    found.add(name)
                    if name not in self.done:
                        stack.append(self.rules[name])
        return found

    def symbol(self, name: str) -> int:
        if name in self.columns:
            kind, i = self.columns[name]
            return self.make(kind, value=i)
        if name in self.done:
            return self.done[name]
        raise ValueError(f"the formula names {name!r}, which the model does not have")

    def tree(self, formula: Expression, reach: int | None = None) -> int:
        """The node of a formula whose rules are done. `reach` is the condition under which its value is used at all."""
        done: dict[int, int] = {}
        stack: list[tuple[Expression, bool]] = [(formula, False)]
        while stack:
            node, ready = stack.pop()
            if id(node) in done:
                continue
            if isinstance(node, Number):
                made = self.number(node.value)
            elif isinstance(node, Truth):
                made = self.make("truth", value=node.value, logical=True)
            elif isinstance(node, Symbol):
                made = self.make("t") if node == TIME else self.symbol(node.name)
            elif node.op == "piecewise":
                made = self.branches(node, reach)
            elif not ready:
                stack.append((node, True))
                stack.extend((arg, False) for arg in node.args)
                continue
            else:
                args = [done[id(arg)] for arg in node.args]
                if reach is not None and node.op in _SINGULAR:
                    args = [self.guard(reach, i) for i in args]
                made = self.operation(node.op, args)
            done[id(node)] = made
        return done[id(formula)]

    def guard(self, reach: int, i: int) -> int:
        """A harmless 1 where a branch is not taken: there 0 * infinity must not become the gradient."""
        if self.literal(i) or self.nodes[i].op == "p":
            return i
        i = self.as_number(i)
        return self.make("where", reach, i, self.number(1.0))

    def branches(self, node: Apply, reach: int | None) -> int:
        made: list[int] = []
        for k in range(0, len(node.args), 2):
            last = k + 1 == len(node.args)
            condition = None if last else self.as_truth(self.tree(node.args[k + 1], reach))
            here = (
                reach
                if condition is None
                else condition
                if reach is None
                else self.operation("and", [reach, condition])
            )
            risky = any(isinstance(n, Apply) and n.op in _SINGULAR for n in walk(node.args[k]))
            guard = here if risky and here is not None and not self.literal(here) else None
            made.append(self.tree(node.args[k], guard))
            if condition is not None:
                made.append(condition)
                other = self.operation("not", [condition])
                reach = other if reach is None else self.operation("and", [reach, other])
        return self.piecewise(made)

    def changes(self, i: int) -> bool:
        """Whether a node depends on the state or on time."""
        stack, seen = [i], set()
        while stack:
            k = stack.pop()
            if k in seen:
                continue
            seen.add(k)
            if self.nodes[k].op in ("x", "t"):
                return True
            stack.extend(self.nodes[k].args)
        return False


def _name(text: str) -> ast.expr:
    first, *rest = text.split(".")
    made: ast.expr = ast.Name(first, ast.Load())
    for attribute in rest:
        made = ast.Attribute(made, attribute, ast.Load())
    return made


def _call(function: str, *args: ast.expr) -> ast.expr:
    return ast.Call(_name(function), list(args), [])


def _comment(text: str) -> str:
    return re.sub(r"[^\w .<>()+-]", "?", text)


class _Writer:
    """Nodes as statements of one function."""

    def __init__(self, table: _Table, outputs: list[int]) -> None:
        self.table, self.outputs = table, outputs
        self.lines: list[tuple[ast.stmt, str]] = []
        self.made: dict[int, ast.expr] = {}
        self.depth: dict[int, int] = {}
        self.used = self.needed()

    def needed(self) -> list[int]:
        nodes = self.table.nodes
        for node in nodes:
            node.uses = 0
        stack, seen = list(self.outputs), set()
        for i in self.outputs:
            nodes[i].uses += 1
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            for k in nodes[i].args:
                nodes[k].uses += 1
                stack.append(k)
        return sorted(seen)

    def let(self, name: str, value: ast.expr, comment: str = "") -> ast.expr:
        self.lines.append((ast.Assign([ast.Name(name, ast.Store())], value), _comment(comment)))
        return ast.Name(name, ast.Load())

    def write(self, pack: str) -> None:
        nodes = self.table.nodes
        for kind in ("x", "p"):
            mine = [i for i in self.used if nodes[i].op == kind]
            if mine:
                self.let(
                    f"{kind}s",
                    ast.Call(ast.Attribute(_name(kind), "unbind", ast.Load()), [ast.Constant(-1)], []),
                )
            for i in sorted(mine, key=lambda i: nodes[i].value):
                column = nodes[i].value
                read = ast.Subscript(_name(f"{kind}s"), ast.Constant(column), ast.Load())
                self.made[i] = self.let(f"{kind}{column}", read, self.table.names[kind][column])
        for i in self.used:
            node = nodes[i]
            if node.op in ("x", "p"):
                continue
            made = self.expression(node)
            depth = 1 + max((self.depth.get(k, 0) for k in node.args), default=-1)
            if node.op not in ("t", "number", "truth") and (node.label or node.uses > 1 or depth > _DEEPEST):
                made, depth = self.let(f"v{i}", made, node.label), 0
            self.made[i], self.depth[i] = made, depth
        columns = ast.Tuple([self.made[i] for i in self.outputs], ast.Load())
        self.lines.append((ast.Return(_call(pack, _name("x"), columns)), ""))

    def expression(self, node: _Node) -> ast.expr:
        args = [self.made[i] for i in node.args]
        if node.op == "t":
            return _name("t")
        if node.op == "truth":
            return ast.Constant(bool(node.value))
        if node.op == "number":
            return _literal(node.value)
        if node.op == "to_number":
            return _call("torch.where", args[0], self.tensor(1.0), self.tensor(0.0))
        if node.op == "neg":
            return ast.UnaryOp(ast.USub(), args[0])
        if node.op == "not":
            return ast.UnaryOp(ast.Invert(), args[0])
        if node.op in RELATIONS:
            return ast.Compare(args[0], [_INFIX[node.op]()], [args[1]])
        if node.op in ("add", "mul", "sub", "div", "pow", "and", "or", "xor"):
            return self.chain(lambda a, b: ast.BinOp(a, _INFIX[node.op](), b), args, node.op)
        if node.op == "where":
            a, b = (self.table.nodes[i] for i in node.args[1:])
            if a.op in ("number", "truth") and b.op in ("number", "truth"):
                args[1:] = [self.tensor(a.value), self.tensor(b.value)]
            return _call("torch.where", *args)
        tensors = [
            self.tensor(self.table.nodes[i].value) if self.table.literal(i) else made
            for i, made in zip(node.args, args)
        ]
        if node.op in ("max", "min"):
            return self.chain(lambda a, b: _call(_CALLS[node.op], a, b), tensors)
        return _call(_CALLS[node.op], *tensors)

    def chain(
        self, combine: Callable[[ast.expr, ast.expr], ast.expr], args: list[ast.expr], op: str = ""
    ) -> ast.expr:
        out = args[0]
        for count, arg in enumerate(args[1:], 1):
            if op == "add" and isinstance(arg, ast.UnaryOp) and isinstance(arg.op, ast.USub):
                out = ast.BinOp(out, ast.Sub(), arg.operand)
            else:
                out = combine(out, arg)
            if count % 16 == 0 and count + 1 < len(
                args
            ):  # a long sum would nest too deep for Python's compiler
                out = self.let(f"s{len(self.lines)}", out)
        return out

    def tensor(self, value: float | bool) -> ast.expr:
        """A literal as a tensor in the dtype of x."""
        if isinstance(value, bool):
            kind = [ast.keyword("dtype", _name("torch.bool"))]
            return ast.Call(_name("x.new_full"), [ast.Tuple([], ast.Load()), ast.Constant(value)], kind)
        return _call("x.new_full", ast.Tuple([], ast.Load()), _literal(value))


def _literal(value: float) -> ast.expr:
    if math.isnan(value):
        return _name("nan")
    made = _name("inf") if math.isinf(value) else ast.Constant(abs(value))
    return ast.UnaryOp(ast.USub(), made) if math.copysign(1, value) < 0 else made


def _define(name: str, table: _Table, outputs: list[int], truth: bool) -> tuple[Function, str]:
    """A function f(t, x, p) of the given nodes, and its text for people to read."""
    writer = _Writer(table, outputs)
    writer.write("pack_truth" if truth else "pack")
    arguments = ast.arguments([], [ast.arg(a) for a in "txp"], None, [], [], None, [])
    body = [line for line, _ in writer.lines]
    function = ast.FunctionDef(name=name, args=arguments, body=body, decorator_list=[], returns=None)
    setattr(function, "type_params", [])  # a field since Python 3.12  # noqa: B010
    module = ast.fix_missing_locations(ast.Module([function], []))
    scope = dict(_NAMESPACE)
    exec(
        compile(module, f"<unrolled.sbml {name}>", "exec"), scope
    )  # a syntax tree of our own making, no text
    text = [f"def {name}(t, x, p):"]
    for line, comment in writer.lines:
        text.append(
            "    " + ast.unparse(ast.fix_missing_locations(line)) + (f"  # {comment}" if comment else "")
        )
    return scope[name], "\n".join(text) + "\n"


def edges(formula: Expression) -> Expression:
    """A number that is positive where a condition is true and negative where it is false; zero at its edge.

    a < b becomes b - a; and, or, not become min, max and a change of sign.

    Example:
        >>> from unrolled.sbml.infix import parse, show
        >>> show(edges(parse("A > 2 && time < 5")))
        'min(A - 2, 5 - time)'
    """
    if isinstance(formula, Truth):
        return Number(1.0 if formula.value else -1.0)
    if not is_logical(formula) or not isinstance(formula, Apply):
        return Apply("sub", (Apply("abs", (formula,)), Number(5e-324)))
    a = formula.args
    if formula.op in ("lt", "le"):
        return Apply("sub", (a[1], a[0]))
    if formula.op in ("gt", "ge"):
        return Apply("sub", (a[0], a[1]))
    if formula.op in ("eq", "ne"):
        apart: Expression = Apply("abs", (Apply("sub", (a[0], a[1])),))
        return apart if formula.op == "ne" else Apply("neg", (apart,))
    if formula.op == "piecewise":
        return Apply("piecewise", tuple(edges(v) if k % 2 == 0 else v for k, v in enumerate(a)))
    if not a:
        return Number(1.0 if formula.op == "and" else -1.0)
    inner = [edges(arg) for arg in a]
    if formula.op == "not":
        return Apply("neg", (inner[0],))
    if formula.op == "implies":
        return Apply("max", (Apply("neg", (inner[0],)), inner[1]))
    if formula.op == "xor":
        out = inner[0]
        for other in inner[1:]:
            out = Apply("neg", (Apply("mul", (out, other)),))
        return out
    return Apply("min" if formula.op == "and" else "max", tuple(inner))


def _jumps(formula: Expression) -> list[Expression]:
    """Numbers whose signs change where a formula may jump."""
    found: list[Expression] = []
    for node in walk(formula):
        if not isinstance(node, Apply):
            continue
        if node.op in RELATIONS:
            a, b = node.args
            found.append(Apply("sub", (b, a)) if node.op in ("lt", "le") else Apply("sub", (a, b)))
        elif node.op in ("floor", "ceil", "quotient", "rem"):
            inside = node.args[0] if len(node.args) == 1 else Apply("div", node.args)
            found.append(Apply("sin", (Apply("mul", (Number(math.pi), inside)),)))
    return found


class Compiled:
    """The functions of a network; see the module's docstring. `source` is the text of all that was generated so far."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.events = network.events
        self._sources: dict[str, str] = {}
        self._built: dict[Any, Function] = {}
        self.rate: Function = self.build("rate", [state.rate for state in network.states])
        self._values: list[Function] = []

    def build(self, name: str, formulas: Sequence[Expression], *, truth: bool = False) -> Function:
        """Generate f(t, x, p) -> `[B, n]` for formulas of the network's symbols.

        Args:
            name: of the function in `source`: an identifier of ours.
            formulas: n of them.
            truth: they are conditions, and the result is boolean.

        Raises:
            ValueError: a formula names what the network does not have.
        """
        table = _Table(self.network)
        outputs = [table.add(formula) for formula in formulas]
        outputs = [table.as_truth(i) if truth else table.as_number(i) for i in outputs]
        made, text = _define(name, table, outputs, truth)
        self._sources[name] = text
        return made

    def _lazily(
        self, name: str, formulas: Callable[[], Sequence[Expression]], truth: bool = False
    ) -> Function:
        if name not in self._built:
            self._built[name] = self.build(name, formulas(), truth=truth)
        return self._built[name]

    @property
    def source(self) -> str:
        """The generated code, for people to read."""
        return "\n\n".join(self._sources.values())

    @cached_property
    def switch_formulas(self) -> tuple[Expression, ...]:
        """What `switches` computes, one per column."""
        table, rules = _Table(self.network), {rule.name: rule.formula for rule in self.network.rules}
        roots = [state.rate for state in self.network.states] + [event.trigger for event in self.events]
        wanted = set().union(*(table.uses(formula) for formula in roots)) if roots else set()
        formulas = roots + [rules[name] for name in rules if name in wanted]
        kept: dict[int, Expression] = {}
        for formula in formulas:
            for jump in _jumps(formula):
                node = table.add(jump)
                if table.changes(node):
                    kept.setdefault(node, jump)
        return tuple(kept.values())

    @property
    def switches(self) -> Function:
        """Numbers whose sign changes are where rates may jump and triggers may turn, `[B, S]`."""
        return self._lazily("switches", lambda: self.switch_formulas)

    @property
    def trigger(self) -> Function:
        """Whether each event's condition is true, bool `[B, E]`."""
        return self._lazily("trigger", lambda: [event.trigger for event in self.events], truth=True)

    @property
    def trigger_root(self) -> Function:
        """Positive where each event's condition is true, negative where false, `[B, E]`."""
        return self._lazily("trigger_root", lambda: [edges(event.trigger) for event in self.events])

    @property
    def delay(self) -> Function:
        """Delay of each event, `[B, E]`; 0 without one."""
        return self._lazily("delay", lambda: [event.delay or Number(0.0) for event in self.events])

    @property
    def priority(self) -> Function:
        """Priority of each event, `[B, E]`; NaN without one."""
        return self._lazily("priority", lambda: [event.priority or Number(math.nan) for event in self.events])

    def values(self, e: int, t: Tensor, x: Tensor, p: Tensor) -> Tensor:
        """What event e assigns, `[B, k]`, one column per assignment."""
        formulas = [assignment.formula for assignment in self.events[e].assignments]
        return self._lazily(f"values_{int(e)}", lambda: formulas)(t, x, p)

    def apply(self, e: int, values: Tensor, t: Tensor, x: Tensor, p: Tensor) -> Tensor:
        """The state with the values of event e assigned, all at once.

        A concentration becomes an amount by the size that its compartment has in x, before the event resizes it.
        """
        assignments = self.events[e].assignments
        scaled = [k for k, assignment in enumerate(assignments) if assignment.scale is not None]
        columns = list(x.unbind(-1))
        for k, assignment in enumerate(assignments):
            columns[assignment.state] = values[..., k]
        if scaled:
            scales = [assignments[k].scale or Number(1.0) for k in scaled]
            factor = self._lazily(f"scales_{int(e)}", lambda: scales)(t, x, p)
            for n, k in enumerate(scaled):
                columns[assignments[k].state] = values[..., k] * factor[..., n]
        return functions.pack(x, columns)

    def assign(self, e: int, t: Tensor, x: Tensor, p: Tensor) -> Tensor:
        """The state after event e happens at (t, x)."""
        return self.apply(e, self.values(e, t, x, p), t, x, p)
