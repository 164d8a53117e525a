"""Formulas as infix text, `"k1 * A / (Km + A)"`, to and from the checked tree."""

import math
import re

from unrolled.sbml.expression import (
    NAN,
    OPERATIONS,
    TIME,
    Apply,
    Expression,
    Number,
    Symbol,
    Truth,
    apply,
)

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)"
    r"|(?P<sign>\*\*|<=|>=|==|!=|&&|\|\||[-+*/^()<>,!]))"
)

_BINARY = {
    "||": (1, "or"), "&&": (2, "and"), "==": (3, "eq"), "!=": (3, "ne"), "<": (4, "lt"), "<=": (4, "le"), ">": (4, "gt"),
    ">=": (4, "ge"), "+": (5, "add"), "-": (5, "sub"), "*": (6, "mul"), "/": (6, "div"), "^": (8, "pow"), "**": (8, "pow"),
}  # fmt: skip
_UNARY = 7

_ALIASES = {"sqrt": "root", "log": "ln", "log10": "log", "ceiling": "ceil", "asin": "arcsin", "acos": "arccos"} | {
    "atan": "arctan", "sqr": "pow", "power": "pow",
}  # fmt: skip

_CONSTANTS = {
    "time": TIME, "pi": Number(math.pi), "true": Truth(True), "false": Truth(False), "inf": Number(math.inf), "nan": NAN,
}  # fmt: skip

DEEPEST = 200
"""How far parentheses may nest."""


def parse(text: str) -> Expression:
    """Read a formula.

    Operators as in algebra: `+ - * / ^` (`**` too), comparisons, `&& || !`. `2^3^2` is 2^9 and `-x^2` is -(x^2).
    `log` is the natural logarithm, `log10` the decimal one; `piecewise(value, condition, ..., otherwise)`; `time`,
    `pi`. A name in front of parentheses is a function of `OPERATIONS`; any other is a quantity.

    Raises:
        ValueError: text that is no formula; the message shows where.

    Example:
        >>> parse("k * A")
        Apply(op='mul', args=(Symbol(name='k'), Symbol(name='A')))
        >>> show(parse("Vmax * S^2 / (Km^2 + S^2)"))
        'Vmax * S^2 / (Km^2 + S^2)'
    """
    return _Parser(text).whole()


class _Parser:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, [], 0, 0
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if found is None:
                place += len(text[place:]) - len(text[place:].lstrip())
                raise self.error(f"unexpected {text[place]!r}", place)
            self.tokens.append(
                (found.lastgroup, found.group(found.lastgroup or 0), found.start(found.lastgroup or 0))
            )
            place = found.end()

    def error(self, what: str, place: int | None = None) -> ValueError:
        if place is None:
            place = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text)
        return ValueError(f"{what} at character {place + 1} of the formula {self.text!r}")

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, sign: str) -> None:
        if self.peek() != sign:
            raise self.error(f"expected {sign!r}")
        self.at += 1

    def whole(self) -> Expression:
        made = self.level(0)
        if self.at < len(self.tokens):
            raise self.error(f"unexpected {self.peek()!r}")
        return made

    def level(self, lowest: int) -> Expression:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep")
        left = self.operand()
        while self.peek() in _BINARY and _BINARY[self.peek()][0] >= lowest:
            strength, op = _BINARY[self.peek()]
            self.at += 1
            right = self.level(strength if op == "pow" else strength + 1)
            if op in ("add", "mul") and isinstance(left, Apply) and left.op == op:
                left = Apply(op, (*left.args, right))
            else:
                left = apply(op, left, right)
        self.depth -= 1
        return left

    def operand(self) -> Expression:
        if self.at >= len(self.tokens):
            raise self.error("the formula ends too early")
        kind, text, _ = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return Number(float(text))
        if text in ("-", "+", "!"):
            inner = self.level(_UNARY)
            if text == "-":
                return Number(-inner.value) if isinstance(inner, Number) else apply("neg", inner)
            return inner if text == "+" else apply("not", inner)
        if text == "(":
            inner = self.level(0)
            self.take(")")
            return inner
        if kind == "name":
            return self.call(text) if self.peek() == "(" else _CONSTANTS.get(text, Symbol(text))
        self.at -= 1
        raise self.error(f"unexpected {text!r}")

    def call(self, name: str) -> Expression:
        start = self.at - 1
        self.take("(")
        args: list[Expression] = []
        while self.peek() != ")":
            args.append(self.level(0))
            if self.peek() != ")":
                self.take(",")
        self.take(")")
        if name in ("sqrt", "log10", "sqr") and len(args) != 1:
            raise self.error(f"{name} takes 1 argument, got {len(args)}", self.tokens[start][2])
        if name == "log" and len(args) == 2:
            return apply("log", *args)
        if name == "sqr":
            args.append(Number(2.0))
        elif name == "sqrt":
            args.insert(0, Number(2.0))
        elif name == "log10":
            args.insert(0, Number(10.0))
        try:
            return apply(_ALIASES.get(name, name), *args)
        except ValueError as error:
            known = ", ".join(sorted({*OPERATIONS, *_ALIASES} - {"rateof"}))
            what = (
                str(error)
                if _ALIASES.get(name, name) in OPERATIONS
                else f"there is no function {name!r}, only {known}"
            )
            raise self.error(what, self.tokens[start][2]) from None


_SIGNS = {op: (strength, sign) for sign, (strength, op) in _BINARY.items() if sign != "**"}


def show(node: Expression) -> str:
    """A formula as text that `parse` reads back."""
    return _show(node, 0)


def _show(node: Expression, lowest: int) -> str:
    if isinstance(node, Number):
        return (
            (f"{node.value:.0f}" if node.value.is_integer() and abs(node.value) < 1e6 else repr(node.value))
            if (node.value >= 0 or lowest == 0 or math.isnan(node.value))
            else f"({node.value!r})"
        )
    if isinstance(node, Truth):
        return str(node.value).lower()
    if isinstance(node, Symbol):
        return "time" if node == TIME else node.name
    args = node.args
    if node.op in _SIGNS and len(args) >= 2:
        strength, sign = _SIGNS[node.op]
        first = _show(args[0], strength + (node.op == "pow"))
        rest = [_show(arg, strength + (node.op != "pow")) for arg in args[1:]]
        text = (sign if node.op == "pow" else f" {sign} ").join([first, *rest])
        return f"({text})" if strength < lowest else text
    if node.op == "neg" and len(args) == 1:
        text = f"-{_show(args[0], _UNARY)}"
        return f"({text})" if lowest >= 5 else text
    if node.op == "root" and len(args) == 2 and args[0] == Number(2.0):
        return f"sqrt({_show(args[1], 0)})"
    name = {"ln": "log"}.get(node.op, node.op)
    return f"{name}({', '.join(_show(arg, 0) for arg in args)})"
