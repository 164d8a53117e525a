"""Formulas by walking the tree, one operation at a time: the twin that generated code is held to, and initial values."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from unrolled.sbml import functions
from unrolled.sbml.expression import RELATIONS, TIME, Expression, Number, Symbol, Truth

TABLE: Mapping[str, Callable[..., Tensor]] = {
    "sub": torch.sub, "div": torch.div, "neg": torch.neg, "pow": torch.pow, "root": functions.root,
    "exp": torch.exp, "ln": torch.log, "abs": torch.abs, "floor": torch.floor, "ceil": torch.ceil,
    "log": lambda base, x: torch.log(x) / torch.log(base), "factorial": functions.factorial,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "sec": lambda x: 1 / torch.cos(x), "csc": lambda x: 1 / torch.sin(x), "cot": lambda x: 1 / torch.tan(x),
    "arcsin": torch.asin, "arccos": torch.acos, "arctan": torch.atan,
    "arcsec": lambda x: torch.acos(1 / x), "arccsc": lambda x: torch.asin(1 / x), "arccot": functions.arccot,
    "sinh": torch.sinh, "cosh": torch.cosh, "tanh": torch.tanh,
    "sech": lambda x: 1 / torch.cosh(x), "csch": lambda x: 1 / torch.sinh(x), "coth": lambda x: 1 / torch.tanh(x),
    "arcsinh": torch.asinh, "arccosh": torch.acosh, "arctanh": torch.atanh,
    "arcsech": lambda x: torch.acosh(1 / x), "arccsch": lambda x: torch.asinh(1 / x), "arccoth": functions.arccoth,
    "quotient": functions.quotient, "rem": functions.rem,
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
    "not": torch.logical_not, "implies": lambda a, b: torch.logical_or(torch.logical_not(a), b),
}  # fmt: skip
"""Operations with a fixed number of arguments."""

FOLDS: Mapping[str, tuple[Callable[..., Tensor], float | bool]] = {
    "add": (torch.add, 0.0), "mul": (torch.mul, 1.0), "max": (torch.maximum, math.nan), "min": (torch.minimum, math.nan),
    "and": (torch.logical_and, True), "or": (torch.logical_or, False), "xor": (torch.logical_xor, False),
}  # fmt: skip
"""Operations of any number of arguments: how two combine, and what none make."""


def evaluate(formula: Expression, values: Mapping[str, Tensor], t: Tensor) -> Tensor:
    """The value of a formula; truth values come out boolean.

    Args:
        formula: what to compute.
        values: name -> tensor, of every symbol.
        t: the time.

    Raises:
        KeyError: a symbol without a value.
    """
    done: dict[int, Tensor] = {}
    stack: list[tuple[Expression, bool]] = [(formula, False)]
    while stack:
        node, ready = stack.pop()
        if isinstance(node, Number | Truth):
            kind = torch.bool if isinstance(node, Truth) else t.dtype
            done[id(node)] = torch.tensor(node.value, dtype=kind, device=t.device)
        elif isinstance(node, Symbol):
            done[id(node)] = t if node == TIME else values[node.name]
        elif ready:
            done[id(node)] = operate(node.op, [done[id(arg)] for arg in node.args], t)
        else:
            stack.append((node, True))
            stack.extend((arg, False) for arg in node.args)
    return done[id(formula)]


def operate(op: str, args: list[Tensor], like: Tensor) -> Tensor:
    """One operation of the table on its arguments, which turn into numbers or truth values as it wants them."""

    def number(value: Tensor) -> Tensor:
        return value.to(like.dtype) if value.dtype == torch.bool else value

    def truth(value: Tensor) -> Tensor:
        return value if value.dtype == torch.bool else value != 0

    if op == "piecewise":
        pairs = list(zip(args[0:-1:2], args[1::2]))
        logical = len(args) % 2 == 1 and all(value.dtype == torch.bool for value in args[::2])
        out = args[-1] if len(args) % 2 else torch.tensor(math.nan, dtype=like.dtype, device=like.device)
        out = out if logical else number(out)
        for value, condition in reversed(pairs):
            out = torch.where(truth(condition), value if logical else number(value), out)
        return out
    wants = truth if op in ("and", "or", "xor", "not", "implies") else number
    args = [wants(arg) for arg in args]
    if op in ("eq", "ne") or op in RELATIONS:
        return TABLE[op](*args)
    if op in FOLDS:
        combine, empty = FOLDS[op]
        if not args:
            return torch.tensor(
                empty, dtype=torch.bool if isinstance(empty, bool) else like.dtype, device=like.device
            )
        out = args[0]
        for arg in args[1:]:
            out = combine(out, arg)
        return out
    return TABLE[op](*args)
