"""MathML to the checked tree, through libsbml's parser."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from unrolled.sbml.errors import SBMLError, UnsupportedError
from unrolled.sbml.expression import (
    TIME,
    Apply,
    Expression,
    Number,
    Symbol,
    Truth,
    apply,
    substitute,
    symbols,
)

AVOGADRO = 6.02214179e23
"""As SBML Level 3 fixes it."""

_OPERATIONS = {
    "AST_PLUS": "add", "AST_TIMES": "mul", "AST_DIVIDE": "div", "AST_POWER": "pow", "AST_FUNCTION_POWER": "pow",
    "AST_FUNCTION_EXP": "exp", "AST_FUNCTION_LN": "ln", "AST_FUNCTION_ABS": "abs", "AST_FUNCTION_FLOOR": "floor",
    "AST_FUNCTION_CEILING": "ceil", "AST_FUNCTION_FACTORIAL": "factorial", "AST_FUNCTION_MAX": "max",
    "AST_FUNCTION_MIN": "min", "AST_FUNCTION_QUOTIENT": "quotient", "AST_FUNCTION_REM": "rem",
    "AST_FUNCTION_PIECEWISE": "piecewise", "AST_LOGICAL_AND": "and", "AST_LOGICAL_OR": "or", "AST_LOGICAL_XOR": "xor",
    "AST_LOGICAL_NOT": "not", "AST_LOGICAL_IMPLIES": "implies", "AST_FUNCTION_RATE_OF": "rateof",
} | {
    f"AST_FUNCTION_{name.upper()}": name
    for base in ("sin", "cos", "tan", "sec", "csc", "cot")
    for name in (base, base + "h", "arc" + base, "arc" + base + "h")
}  # fmt: skip

_RELATIONS = {
    "AST_RELATIONAL_EQ": "eq", "AST_RELATIONAL_NEQ": "ne", "AST_RELATIONAL_LT": "lt", "AST_RELATIONAL_LEQ": "le",
    "AST_RELATIONAL_GT": "gt", "AST_RELATIONAL_GEQ": "ge",
}  # fmt: skip

_CONSTANTS: Mapping[str, Expression] = {
    "AST_CONSTANT_E": Number(math.e), "AST_CONSTANT_PI": Number(math.pi), "AST_CONSTANT_TRUE": Truth(True),
    "AST_CONSTANT_FALSE": Truth(False), "AST_NAME_TIME": TIME, "AST_NAME_AVOGADRO": Number(AVOGADRO),
}  # fmt: skip


class Function:
    """A function definition of a model: its arguments and its body, already a tree."""

    def __init__(self, name: str, arguments: tuple[str, ...], body: Expression) -> None:
        self.name, self.arguments, self.body = name, arguments, body


class Reader:
    """Reads the formulas of one document.

    Args:
        libsbml: the module.
        functions: name -> its definition in libsbml; bodies are read when first called, whatever their order.
    """

    def __init__(self, libsbml: Any, functions: Mapping[str, Any]) -> None:
        self.types = {
            getattr(libsbml, name): name
            for name in dir(libsbml)
            if name.startswith("AST_") and name != "AST_END_OF_CORE"
        }
        self.definitions = functions
        self.functions: dict[str, Function] = {}
        self.open: list[str] = []

    def read(self, node: Any, where: str, local: Mapping[str, str] | None = None) -> Expression:
        """A formula as a tree.

        Args:
            node: of libsbml.
            where: the element that holds it, for messages.
            local: names that mean something else here (local parameters).

        Raises:
            UnsupportedError: something that is not computed: delay(), distributions, an unknown function.
            SBMLError: a malformed formula.
        """
        local = local or {}
        return self._read(node, where, lambda name: Symbol(local.get(name, name)))

    def _read(self, node: Any, where: str, name: Callable[[str], Expression]) -> Expression:
        """Leaves first and without recursion: a sum of a thousand terms may nest a thousand deep."""
        out: list[Expression] = []
        stack: list[tuple[Any, int]] = [(node, -1)]
        while stack:
            node, count = stack.pop()
            if node is None:
                raise SBMLError(f"{where}: a part of the formula is missing")
            kind = self.types.get(node.getType(), "AST_UNKNOWN")
            if count >= 0:
                args = out[len(out) - count :]
                del out[len(out) - count :]
                out.append(self._checked(kind, node.getName(), args, where))
            elif kind == "AST_INTEGER":
                out.append(Number(float(node.getInteger())))
            elif kind in ("AST_REAL", "AST_REAL_E", "AST_RATIONAL"):
                out.append(Number(float(node.getReal())))
            elif kind in _CONSTANTS:
                out.append(_CONSTANTS[kind])
            elif kind == "AST_NAME":
                out.append(name(node.getName()))
            else:
                children = [node.getChild(i) for i in range(node.getNumChildren())]
                names = [
                    child is not None and self.types.get(child.getType()) == "AST_NAME" for child in children
                ]
                if kind == "AST_FUNCTION_RATE_OF" and names != [True]:
                    raise SBMLError(f"{where}: rateOf takes the name of a quantity")
                stack.append((node, len(children)))
                stack.extend((child, -1) for child in reversed(children))
        return out[0]

    def _checked(self, kind: str, label: str | None, args: list[Expression], where: str) -> Expression:
        try:
            return self._make(kind, label, args, where)
        except SBMLError:
            raise
        except ValueError as error:
            raise SBMLError(f"{where}: {error}") from None

    def _make(self, kind: str, label: str | None, args: list[Expression], where: str) -> Expression:
        if kind == "AST_FUNCTION":
            return self._call(str(label), args, where)
        if kind == "AST_MINUS":
            if len(args) == 1 and isinstance(args[0], Number):
                return Number(-args[0].value)
            return apply("neg" if len(args) == 1 else "sub", *args)
        if kind == "AST_FUNCTION_LOG":
            return apply("log", *([Number(10.0)] if len(args) == 1 else []), *args)
        if kind == "AST_FUNCTION_ROOT":
            return apply("root", *([Number(2.0)] if len(args) == 1 else []), *args)
        if kind in _RELATIONS:
            return self._relation(_RELATIONS[kind], args)
        if kind == "AST_FUNCTION_DELAY":
            raise UnsupportedError(f"{where}: delay() is not supported: the model needs its own past")
        if kind in _OPERATIONS:
            return apply(_OPERATIONS[kind], *args)
        shown = label or kind.removeprefix("AST_").removeprefix("FUNCTION_").lower()
        raise UnsupportedError(f"{where}: {shown!r} is not supported in a formula")

    def _relation(self, op: str, args: list[Expression]) -> Expression:
        if len(args) < 2:
            # A comparison without a second side holds vacuously (L3V2, 3.4).
            return Truth(True)
        if op == "ne" and len(args) > 2:
            raise ValueError(f"neq takes 2 arguments, got {len(args)}")
        pairs = [apply(op, a, b) for a, b in pairwise(args)]
        return pairs[0] if len(pairs) == 1 else Apply("and", tuple(pairs))

    def _call(self, function: str, args: list[Expression], where: str) -> Expression:
        if function not in self.definitions:
            known = ", ".join(self.definitions) or "none"
            raise SBMLError(f"{where}: there is no function {function!r}; the model defines {known}")
        made = self.function(function)
        if len(args) != len(made.arguments):
            raise SBMLError(f"{where}: {function} takes {len(made.arguments)} arguments, got {len(args)}")
        return substitute(made.body, dict(zip(made.arguments, args)))

    def function(self, name: str) -> Function:
        """A function definition, with the functions it calls put in place.

        Raises:
            SBMLError: it calls itself, has no body, or names what is not its argument.
            UnsupportedError: as `read`.
        """
        if name in self.functions:
            return self.functions[name]
        where = f"function {name}"
        if name in self.open:
            raise SBMLError(f"{where} calls itself: {' -> '.join([*self.open, name])}")
        definition = self.definitions[name]
        if definition.getBody() is None:
            raise SBMLError(f"{where} has no body")
        arguments = tuple(definition.getArgument(i).getName() for i in range(definition.getNumArguments()))
        self.open.append(name)
        body = self._read(definition.getBody(), where, Symbol)
        self.open.pop()
        foreign = symbols(body) - set(arguments)
        if foreign:
            raise SBMLError(f"{where} names {sorted(foreign)[0]!r}, which is none of its arguments")
        self.functions[name] = Function(name, arguments, body)
        return self.functions[name]
