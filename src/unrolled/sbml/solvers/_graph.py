"""From a batched rate in torch to straight-line C: trace it, and write one line per elementwise operation.

Only what the closed table below knows is written; anything else makes the rate unsuitable, and the plain path is used.
No text of the caller's enters the code: names are made here, numbers are printed as hexadecimal floats.
"""

import math
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

Array = np.ndarray[Any, Any]
"""A traced tensor as an array of C names: the batch axis has length 1."""


class Unsuitable(Exception):
    """The rate holds an operation that this path does not know."""


_BINARY = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}", "ne": "{0} != {1}",
    "maximum": "v_max({0}, {1})", "minimum": "v_min({0}, {1})", "atan2": "v_atan2({0}, {1})",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}",
    "logical_and": "{0} & {1}", "logical_or": "{0} | {1}", "logical_xor": "{0} ^ {1}",
}  # fmt: skip
_UNARY = {
    "neg": "-{0}", "abs": "v_abs({0})", "reciprocal": "1.0 / {0}", "sqrt": "v_sqrt({0})", "exp": "v_exp({0})",
    "log": "v_log({0})", "log10": "v_log10({0})", "sin": "v_sin({0})", "cos": "v_cos({0})", "tan": "v_tan({0})",
    "asin": "v_asin({0})", "acos": "v_acos({0})", "atan": "v_atan({0})", "sinh": "v_sinh({0})",
    "cosh": "v_cosh({0})", "tanh": "v_tanh({0})", "asinh": "v_asinh({0})", "acosh": "v_acosh({0})",
    "atanh": "v_atanh({0})", "floor": "v_floor({0})", "ceil": "v_ceil({0})", "trunc": "v_trunc({0})",
    "expm1": "v_expm1({0})", "log1p": "v_log1p({0})", "sigmoid": "1.0 / (1.0 + v_exp(-{0}))",
    "bitwise_not": "~{0}", "logical_not": "~{0}",
}  # fmt: skip
_LOGICAL = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and",
                      "logical_or", "logical_xor", "bitwise_not", "logical_not"})  # fmt: skip


class Writer:
    """C lines of one traced function.

    Args:
        batch: size of the batch axis in the trace.

    Attributes:
        lines: declarations in order.
        logical: name -> whether it is a truth value.
        numbers: names of literals -> their values.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.lines: list[str] = []
        self.logical: dict[str, bool] = {}
        self.numbers: dict[str, float] = {}

    def number(self, value: Any) -> str:
        name = f"c{len(self.numbers)}"
        self.numbers[name] = float(value)
        text = "NAN" if math.isnan(value) else "INFINITY" if value == math.inf else "-INFINITY" if value == -math.inf else float(value).hex()  # fmt: skip
        kind = "vm" if isinstance(value, bool) else "vd"
        self.lines.append(
            f"const {kind} {name} = {'~' if value is True else ''}({kind}){{}}{f' + {text}' if kind == 'vd' else ''};"
        )
        self.logical[name] = isinstance(value, bool)
        return name

    def let(self, expression: str, logical: bool) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"const {'vm' if logical else 'vd'} {name} = {expression};")
        self.logical[name] = logical
        return name

    def array(self, value: Any) -> Array:
        if isinstance(value, np.ndarray):
            return value
        made = np.empty((), dtype=object)
        made[()] = self.number(value)
        return made

    def real(self, name: Any) -> str:
        return self.let(f"{name} ? (vd){{}} + 1.0 : (vd){{}}", False) if self.logical[name] else name

    def elementwise(self, template: str, *args: Any, logical: bool = False, real: bool = True) -> Array:
        arrays = np.broadcast_arrays(*(self.array(a) for a in args))
        out = np.empty(arrays[0].shape, dtype=object)
        for at in np.ndindex(out.shape):
            names = [self.real(a[at]) if real else a[at] for a in arrays]
            out[at] = self.let(template.format(*names), logical)
        return out

    def power(self, base: Any, exponent: Any) -> Array:
        bases, exponents = np.broadcast_arrays(self.array(base), self.array(exponent))
        out = np.empty(bases.shape, dtype=object)
        for at in np.ndindex(out.shape):
            b, e = str(bases[at]), str(exponents[at])
            value = self.numbers.get(e)
            if value is not None and value == int(value) and 1 <= abs(value) <= 8:
                n, square, made = abs(int(value)), b, ""
                while n:
                    if n & 1:
                        made = self.let(f"{made} * {square}", False) if made else square
                    n >>= 1
                    square = self.let(f"{square} * {square}", False) if n else square
                out[at] = made if value > 0 else self.let(f"1.0 / {made}", False)
            else:
                out[at] = self.let(f"v_sqrt({b})" if value == 0.5 else f"v_pow({b}, {e})", False)
        return out

    def shape(self, sizes: Any) -> tuple[int, ...]:
        return tuple(1 if s == self.batch else int(s) for s in sizes)

    def call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operation of the traced graph on arrays of names."""
        name = target.__name__.split(".")[0] if hasattr(target, "__name__") else str(target)
        if target is operator.getitem:
            return args[0][args[1]]
        if name in ("add", "sub") and kwargs.get("alpha", 1) != 1:
            args = (args[0], self.elementwise("{0} * {1}", args[1], kwargs["alpha"]))
        if name == "div" and kwargs.get("rounding_mode"):
            made = self.elementwise("{0} / {1}", *args[:2])
            return self.elementwise(
                "v_floor({0})" if kwargs["rounding_mode"] == "floor" else "v_trunc({0})", made
            )
        if name == "rsub":
            return self.elementwise("{1} - {0}", *args[:2])
        if name in _BINARY:
            logic = name.startswith(("bitwise", "logical"))
            return self.elementwise(_BINARY[name], *args[:2], logical=name in _LOGICAL, real=not logic)
        if name in _UNARY:
            return self.elementwise(
                _UNARY[name], args[0], logical=name in _LOGICAL, real=name not in _LOGICAL
            )
        if name == "pow":
            return self.power(*args[:2])
        if name == "where":
            arrays = [self.array(a) for a in args]
            both = [bool(self.logical[a.flat[0]]) for a in arrays[1:]]
            if all(both):
                return self.elementwise("{0} ? {1} : {2}", *arrays, logical=True, real=False)
            real = [self.elementwise("{0}", a) for a in arrays[1:]]
            return self.elementwise("{0} ? {1} : {2}", arrays[0], *real, real=False)
        if name == "clamp" or name == "clamp_min":
            made, (low, high) = args[0], (*args[1:], None, None)[:2]
            low = kwargs.get("min", low)
            made = made if low is None else self.elementwise("v_max({0}, {1})", made, low)
            return made if high is None else self.elementwise("v_min({0}, {1})", made, high)
        moved = self.move(name, args, kwargs)
        if moved is None:
            raise Unsuitable(f"{target} is not elementwise")
        return moved

    def move(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Operations that only arrange elements; None for any other."""
        x = args[0]
        if name in ("clone", "detach", "alias", "contiguous", "lift_fresh_copy", "lift_fresh"):
            return x
        if name == "_to_copy":
            if kwargs.get("dtype") not in (None, torch.float64, torch.bool):
                raise Unsuitable(f"a conversion to {kwargs['dtype']}")
            return x if kwargs.get("dtype") in (None, torch.bool) else self.elementwise("{0}", x)
        if name == "unbind":
            return [np.asarray(v, dtype=object) for v in np.moveaxis(x, args[1] if len(args) > 1 else 0, 0)]
        if name in ("stack", "cat"):
            arrays = [np.broadcast_arrays(*x)[i] if name == "stack" else a for i, a in enumerate(x)]
            return (np.stack if name == "stack" else np.concatenate)(arrays, args[1] if len(args) > 1 else 0)
        if name == "permute":
            return np.transpose(x, args[1])
        if name in ("transpose", "swapaxes"):
            return np.swapaxes(x, args[1], args[2])
        if name == "select":
            return np.asarray(np.take(x, args[2], axis=args[1]), dtype=object)
        if name == "unsqueeze":
            return np.expand_dims(x, args[1])
        if name == "squeeze":
            return np.squeeze(x, axis=args[1] if len(args) > 1 else None)
        if name in ("expand", "view", "reshape", "_unsafe_view"):
            sizes = self.shape(args[1])
            if name == "expand":
                padded = (1,) * (len(sizes) - x.ndim) + x.shape
                return np.broadcast_to(
                    x.reshape(padded), [a if s == -1 else s for s, a in zip(sizes, padded)]
                )
            return x.reshape(sizes)
        if name == "slice":
            axis, start, end, step = (*args[1:], *(0, 0, None, 1)[len(args) - 1 :])[:4]
            whole = x.shape[int(axis or 0)] == 1
            return (
                x
                if whole
                else np.moveaxis(np.moveaxis(x, int(axis or 0), 0)[start:end:step], 0, int(axis or 0))
            )
        fills = {
            "zeros_like": 0.0,
            "ones_like": 1.0,
            "new_zeros": 0.0,
            "new_ones": 1.0,
            "zeros": 0.0,
            "ones": 1.0,
        }
        if name in fills or name in ("full", "full_like", "new_full", "scalar_tensor"):
            value = fills.get(name, args[-1])
            shape = () if name == "scalar_tensor" else x.shape if name.endswith("_like") else self.shape(args[1] if name.startswith("new") else x)  # fmt: skip
            return np.full(shape, self.number(value), dtype=object)
        return None


class Code(NamedTuple):
    """C statements of a rate.

    Attributes:
        prepare: set `q[0..kept)` from `p`: what depends on parameters alone, computed once per sample.
        rate: set `dx` from `t`, `x`, `p` and `q`.
        kept: how many q there are.
    """

    prepare: str
    rate: str
    kept: int


def write(rate: Callable[[Tensor, Tensor, Any], Tensor], d: int, parameters: int | None) -> Code:
    """C statements that set `dx[0..d)` from `t`, `x[0..d)` and `p[0..)`, all vectors of lanes.

    Raises:
        Unsuitable: the rate is not elementwise along the batch, or cannot be traced.

    Example:
        >>> print(write(lambda t, x, p: (p * p) * x, 1, 1).prepare, end="")
        const vd v0 = p[0] * p[0];
        q[0] = v0;
        >>> print(write(lambda t, x, p: (p * p) * x, 1, 1).rate, end="")
        const vd v0 = q[0];
        const vd v1 = v0 * x[0];
        dx[0] = v1;
    """
    batch = 7 + d + (parameters or 0)
    example = torch.full((batch, d), 0.5, dtype=torch.float64)
    p = None if parameters is None else torch.full((batch, parameters), 0.5, dtype=torch.float64)
    try:
        with torch.no_grad():
            graph = make_fx(rate)(torch.full((batch,), 0.5, dtype=torch.float64), example, p)
    except Exception as error:
        raise Unsuitable(f"cannot be traced: {error}") from error
    writer = Writer(batch)
    inputs = iter(
        [
            np.array(["t"], dtype=object),
            np.array([[f"x[{i}]" for i in range(d)]], dtype=object).reshape(1, d),
            np.array([[f"p[{i}]" for i in range(parameters or 0)]], dtype=object).reshape(1, parameters or 0),
        ]
    )
    for each in ["t", *(f"x[{i}]" for i in range(d)), *(f"p[{i}]" for i in range(parameters or 0))]:
        writer.logical[each] = False
    made: dict[Any, Any] = {}
    result: Any = None

    def known(value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return made[value]
        if isinstance(value, list | tuple):
            return [known(v) for v in value]
        return value

    for node in graph.graph.nodes:
        if node.op == "placeholder":
            made[node] = next(inputs)
        elif node.op == "get_attr":
            constant = getattr(graph, str(node.target))
            if constant.ndim:
                raise Unsuitable("it holds a constant tensor")
            made[node] = writer.array(constant.item())
        elif node.op == "output":
            result = known(node.args[0])
        else:
            made[node] = writer.call(
                node.target, tuple(known(a) for a in node.args), {k: known(v) for k, v in node.kwargs.items()}
            )
    if not isinstance(result, np.ndarray) or result.shape != (1, d):
        raise Unsuitable("its result is not [B, d]")
    ends = [f"dx[{i}] = {writer.real(result[0, i])};" for i in range(d)]
    return _hoisted(_used(writer.lines, ends), ends)


_NAME = re.compile(r"\b[vc]\d+\b")


def _used(lines: list[str], ends: list[str]) -> list[str]:
    """Declarations that the ends need."""
    wanted = {name for line in ends for name in _NAME.findall(line)}
    kept: list[str] = []
    for line in reversed(lines):
        name, expression = line.split(" = ", 1)
        if name.split()[-1] in wanted:
            wanted |= set(_NAME.findall(expression))
            kept.append(line)
    return kept[::-1]


def _hoisted(lines: list[str], ends: list[str]) -> Code:
    """Apart: what depends on parameters alone."""
    changes: set[str] = set()
    reads_p: set[str] = set()
    before: list[str] = []
    during: list[str] = []
    for line in lines:
        name, expression = line.split(" = ", 1)
        name, inner = name.split()[-1], set(_NAME.findall(expression))
        if inner & changes or re.search(r"\b(t\b|x\[)", expression):
            changes.add(name)
            during.append(line)
            continue
        before.append(line)
        if inner & reads_p or "p[" in expression:
            reads_p.add(name)
        else:
            during.append(line)  # a literal: cheaper to write again than to load
    wanted = {name for line in (*during, *ends) for name in _NAME.findall(line.split(" = ", 1)[1])}
    kept = [
        line.split(" = ", 1)[0] for line in before if line.split(" = ", 1)[0].split()[-1] in wanted & reads_p
    ]
    loads = []
    for i, declared in enumerate(kept):
        logical, name = declared.split()[1] == "vm", declared.split()[-1]
        before.append(f"q[{i}] = {'(vd)' if logical else ''}{name};")
        loads.append(f"{declared} = {'(vm)' if logical else ''}q[{i}];")
    used = _used(before, [line for line in before if line.startswith("q[")])
    stores = [line for line in before if line.startswith("q[")]
    body = [*loads, *during, *ends]
    return Code("".join(f"{x}\n" for x in [*used, *stores]), "".join(f"{x}\n" for x in body), len(kept))
