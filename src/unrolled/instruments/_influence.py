# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnnecessaryIsInstance=false
"""`influence`: which part of the initial state, or of the input, decided a read-out at the end."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import rollout, tree
from unrolled.core.rollout import input_function
from unrolled.instruments._jacobian import Flat, difference, fixed_noise, matrix, products
from unrolled.instruments.reading import COLORS, Reading, axes


def influence(
    system: Any,
    input: Any = None,
    steps: int = 1,
    *,
    state: Any = None,
    of: Any = None,
    wrt: str = "state",
    leaf: str | None = None,
    axis: int = 0,
    normalise: str | Tensor | None = None,
    method: str = "auto",
    max_dense: int = 256,
    rng: torch.Generator | int | None = None,
) -> "InfluenceReading":
    """The Jacobian of a read-out after `steps` steps by where the iteration started, and each row's share of it.

    J = d y / d s with y = of(x_T), and s the initial state x_0 or the constant input u (through `init` as well).

    * When every step is affine in (x, u), as in DeGroot's and Friedkin and Johnsen's opinion dynamics, J is exact and
      global: x_T = M z_0 + c with M a product (for a constant map, a power by repeated squaring) of one-step
      matrices, and no small change is meant. That the steps are affine is detected on random states, and the whole
      product is verified on a finite random change of the start, run through the system itself; `verification` is the
      relative error of that. The method is then `"exact (linear)"`.
    * Otherwise J is the gradient through the rollout (reverse mode), valid for small changes: `"gradient"`. It is
      held to a finite difference of the rollout along one random direction; `verification` is the relative distance.

    The share of row j of s (an agent, a token, a gene: position j along `axis`) is
    share_j = sum |J[., j]| / sum |J|, over all entries of y and of the row. In a DeGroot chain at consensus it is the
    stationary distribution.

    Args:
        system: the system.
        input: as `rollout` takes it. With `wrt="input"`: one tensor (constant), or a list of tensors of one shape
            (then the rows are the steps).
        steps: how many.
        state: where to start; by default `system.init(input of step 0)`. With `wrt="input"`, `init` is part of what
            is differentiated unless `state` is given.
        of: what is read at the end: a path or a function of the state; None when the state has one tensor.
        wrt: `"state"` or `"input"`.
        leaf: the leaf of the initial state, when it has several floating-point leaves.
        axis: the axis of s along which rows are counted.
        normalise: None: J as it is. `"value"`: J times the value of s (gradient times input: what the entry
            contributed). A tensor that broadcasts to s: J times it (a standard deviation, say: the effect of a typical
            change).
        method: `"auto"`, `"exact"` (an error when the steps are not affine) or `"gradient"`.
        max_dense: build one-step matrices up to this many entries of state and input.
        rng: a generator or a seed for `init` and `step`; the noise is held fixed.

    Returns:
        Per row: `share` (sums to 1), `strength` (sum of |J|), `effect` (sum of J, signed). Numbers and tensors:
        `ranking` (rows, strongest first), `jacobian` `[*y, *s]`, `rows` `[y rows, s rows]` (Frobenius norm of each
        block, when y has rows), `verification`. The status is `"unidentified"`, and the shares NaN, when nothing flows
        from s to y (a sign, an argmax or a detach in between); `"unverified"` when no finite difference confirms it.

    Raises:
        TypeError: what is read, or s, is not floating point.
        KeyError: no such leaf.
        ValueError: arguments that make no sense together; a rollout that ends in NaN; `method="exact"` on steps that
            are not affine; a system that overwrites its state.

    Example:
        Two agents of a DeGroot chain; the stationary distribution of W is (3/4, 1/4):

        >>> from unrolled.toys import LinearMap
        >>> W = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
        >>> reading = influence(LinearMap(W), torch.tensor([1.0, 0.0], dtype=torch.float64), steps=100)
        >>> [round(x, 12) for x in reading["share"].tolist()], reading.method
        ([0.75, 0.25], 'exact (linear)')
    """
    if wrt not in ("state", "input"):
        raise ValueError(f'wrt= is "state" or "input", got {wrt!r}')
    if method not in ("auto", "exact", "gradient"):
        raise ValueError(f'method= is "auto", "exact" or "gradient", got {method!r}')
    if steps < 1:
        raise ValueError(f"influence needs at least one step, got {steps}")
    if getattr(system, "donates", False):
        raise ValueError(f"{type(system).__name__} overwrites its state (donates = True) and has no gradient")
    case = _case(system, input, steps, state, of, wrt, leaf, rng)
    if not isinstance(axis, int) or not (-case.source.ndim <= axis < max(case.source.ndim, 1)):
        raise ValueError(f"axis={axis} is no axis of {case.name}, which has shape {tuple(case.source.shape)}")
    found = None if method == "gradient" else _exact(case, max_dense)
    if isinstance(found, str):
        if method == "exact":
            raise ValueError(f"the influence is not exact here: {found}")
        reason, found = found, None
    else:
        reason = ""
    if found is None:
        found = _gradient(case, f"not exact: {reason}; true for small changes" if reason else "")
    return _report(case, found, axis, normalise)


class InfluenceReading(Reading):
    """Who decided the outcome."""

    def columns(self) -> dict[str, Tensor]:
        """Share, strength and signed effect of each row."""
        return {name: self[name] for name in ("share", "strength", "effect")}

    def plot(self, ax: Any = None) -> Any:
        """Who moved whom as a matrix, when the read-out has rows; else the shares, strongest on top."""
        ax = axes(ax)
        blocks = self.values.get("rows")
        if self.status == "unidentified":
            ax.set_axis_off()
            ax.text(0.5, 0.5, "nothing flows from the start\nto the read-out", ha="center", va="center")
        elif blocks is not None and 1 < len(blocks) <= 64 and blocks.shape[1] <= 64:
            image = ax.imshow(blocks.numpy(), cmap="cividis", vmin=0, aspect="auto")
            ax.figure.colorbar(image, ax=ax, label="|J|")
            ax.set_xlabel("from row")
            ax.set_ylabel("to row")
            ax.set_xticks(range(0, blocks.shape[1], max(1, blocks.shape[1] // 8)))
            ax.set_yticks(range(0, len(blocks), max(1, len(blocks) // 8)))
        else:
            order = self["ranking"][:20]
            effect = self["effect"][order]
            colors = [COLORS[1] if value >= 0 else COLORS[0] for value in effect.tolist()]
            ax.barh([str(int(row)) for row in order], self["share"][order].numpy(), color=colors)
            ax.invert_yaxis()
            for color, label in ((COLORS[1], "raises"), (COLORS[0], "lowers")):
                if color in colors:
                    ax.plot([], [], marker="s", linestyle="", color=color, label=f"{label} the read-out")
            ax.legend(frameon=False, loc="lower right")
            ax.set_xlabel("share of the influence")
            ax.set_ylabel("row")
        ax.set_title(f"influence, {self.method}" + ("" if self.status == "ok" else f" ({self.status})"))
        return ax


@dataclass(frozen=True)
class _Found:
    """`[*y, *s]`, how it was found and how it was checked."""

    jacobian: Tensor
    method: str
    verification: float
    note: str = ""
    doubt: str = ""


@dataclass
class _Case:
    """A question: the system and where it starts, what is read, and by what."""

    system: Any
    input: Any
    steps: int
    start: Any
    given: bool
    source: Tensor
    name: str
    wrt: str
    leaf: str
    read: Any
    rng: Callable[[], torch.Generator | None]

    def run(self, source: Tensor, grad: str = "none") -> Any:
        """The final state when the source is another."""
        rng, input, start = self.rng(), self.input, self.start
        if self.wrt == "input":
            input = list(source) if isinstance(self.input, list) else source
        if not self.given:
            with torch.set_grad_enabled(grad != "none"):
                first = self.system.init(
                    input_function(input)(0), rng=rng
                )  # draws its share of the noise either way
            start = first if self.wrt == "input" else start
        if self.wrt == "state":
            start = _replace(start, self.leaf, source)
        trajectory = rollout(self.system, input, self.steps, state=start, record={}, grad=grad, rng=rng)
        if not trajectory.stop.ok:
            raise ValueError(f"the rollout has no end to read: {trajectory.stop}")
        return trajectory.final

    def value(self, final: Any) -> Tensor:
        """The read-out."""
        value = self.read(final)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"of= reads a {kind}; the read-out must be a floating-point tensor")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"the read-out is not finite after {self.steps} steps: it runs away; take fewer steps"
            )
        return value


def _case(
    system: Any, input: Any, steps: int, state: Any, of: Any, wrt: str, leaf: str | None, rng: Any
) -> _Case:
    at = input_function(input)
    noise = fixed_noise(rng)
    with torch.no_grad():
        start = system.init(at(0), rng=noise("cpu")) if state is None else state
    start = tree.detach(start)
    read = tree.reader(of, start)
    if wrt == "input":
        if leaf is not None:
            raise ValueError('leaf= names a leaf of the initial state; it has no meaning with wrt="input"')
        if isinstance(input, list):
            shapes = {tuple(u.shape) if isinstance(u, Tensor) else type(u).__name__ for u in input}
            if len(shapes) != 1 or not isinstance(input[0], Tensor):
                raise ValueError(
                    f"a list of inputs must be tensors of one shape to be compared; got {shapes}"
                )
            source = torch.stack(input)
        elif isinstance(input, Tensor):
            source = input
        else:
            raise ValueError(f'wrt="input" needs a tensor or a list of tensors, got {type(input).__name__}')
        name, path = "the input", ""
        if not source.is_floating_point():
            raise TypeError(f"the input is {source.dtype}: only floating-point values can be perturbed")
        if not bool(torch.isfinite(source).all()):
            raise ValueError("the input is not finite: a derivative there says nothing")
    else:
        paths = None if leaf is None else [leaf]
        flat = Flat(start, paths, what="the initial state")
        if len(flat.paths) > 1:
            raise ValueError(
                f"the initial state has the leaves {', '.join(flat.paths)}: say which with leaf="
            )
        path = flat.paths[0]
        name, source = path, tree.select(start, path)
    given = state is not None
    return _Case(
        system, input, steps, start, given, source.detach(), name, wrt, path, read, lambda: noise("cpu")
    )


def _replace(state: Any, path: str, value: Tensor) -> Any:
    """The state with another leaf at a path."""
    names = iter([known or "state" for known, _ in tree.leaves(state)])

    def pick(leaf: Tensor) -> Tensor:
        return value if next(names) == path else leaf

    return tree.map(pick, state)


def _gradient(case: _Case, note: str) -> _Found:
    """One reverse pass per entry of the read-out, held to a finite difference of the rollout."""
    with torch.enable_grad():
        source = case.source.clone().requires_grad_()
        y = case.value(case.run(source, grad="full"))
    if not y.requires_grad:
        nothing = torch.full((*y.shape, *source.shape), math.nan, dtype=y.dtype, device=y.device)
        return _Found(nothing, "gradient", math.nan, note)
    rows: list[Tensor] = []
    for entry in torch.eye(y.numel(), dtype=y.dtype, device=y.device):
        (row,) = torch.autograd.grad(
            y, source, entry.reshape(y.shape), retain_graph=True, materialize_grads=True
        )
        rows.append(row.reshape(-1))
    jacobian = torch.stack(rows)

    def end(s: Tensor) -> Tensor:
        return case.value(case.run(s.reshape(source.shape))).reshape(-1)

    known = difference(end, case.source.reshape(-1))
    made = jacobian @ known.direction.to(jacobian)
    doubt = ""
    if not known.agrees(made):
        doubt = (
            "it differs from a finite difference of the rollout: something in the step is detached"
            if known.smooth
            else "no finite difference confirms it: the rollout has kinks, or is too sensitive to its start"
        )
    shaped = jacobian.reshape((*y.shape, *source.shape))
    return _Found(shaped, "gradient", known.check(made), note, doubt)


def _exact(case: _Case, max_dense: int) -> "_Found | str":
    """The product form and its verification error; or why there is none."""
    if isinstance(case.input, list) and case.wrt == "input":
        return "the input changes from step to step"
    at = input_function(case.input)
    try:
        flat = Flat(case.start)
    except (TypeError, ValueError) as error:
        return str(error)
    source_size = case.source.numel() if case.wrt == "input" else 0
    n = flat.size
    if n + source_size > max_dense:
        return f"state and input have {n + source_size} entries, more than max_dense={max_dense}"
    constant = case.wrt == "input" or not (isinstance(case.input, list) or at is case.input)
    if not constant and case.steps * n > 16 * max_dense:
        return "the input changes from step to step, over too many steps to build each matrix"
    x0 = flat.vector(case.start)
    z0 = torch.cat([x0, case.source.reshape(-1).to(x0)]) if source_size else x0
    tolerance = 1e-9 if z0.dtype == torch.float64 else 1e-4
    whole = torch.eye(len(z0), dtype=z0.dtype, device=z0.device)
    try:
        for index in range(1 if constant else case.steps):
            step = _one_step(case, flat, at(index), n)
            if not _affine(step, z0, tolerance):
                return "the step is not affine"
            whole = matrix(products(step, z0).apply, z0) @ whole
        if constant:
            whole = torch.linalg.matrix_power(whole, case.steps)
        if not bool(torch.isfinite(whole).all()):
            return "the product of the one-step matrices overflows"
        return _read_through(case, flat, whole, n, tolerance)
    except (RuntimeError, IndexError, KeyError) as error:  # a step may refuse a random state
        return f"the step on a random state raised {type(error).__name__}: {str(error).splitlines()[0]}"


def _one_step(case: _Case, flat: Flat, input: Any, n: int) -> Any:
    """(x, u) -> (step(x, u), u) on one vector, with fixed noise."""

    def step(z: Tensor) -> Tensor:
        rng = case.rng()
        if case.wrt == "state":
            return flat.vector(case.system.step(flat.tree(z), input, rng=rng))
        u = z[n:]
        after = case.system.step(
            flat.tree(z[:n]), u.reshape(case.source.shape).to(case.source.dtype), rng=rng
        )
        return torch.cat([flat.vector(after), u])

    return step


def _affine(fn: Any, z0: Tensor, tolerance: float) -> bool:
    """f(a + d) - f(a) = f(b + d) - f(b) on random points of the size of the start."""
    rng = torch.Generator().manual_seed(0)
    scale = max(float(z0.abs().max()), 1.0)
    with torch.no_grad():
        for _ in range(3):
            a, b, d = (scale * torch.randn(3, len(z0), generator=rng, dtype=torch.float64)).to(z0)
            at_a, at_b = fn(a), fn(b)
            apart = (fn(a + d) - at_a) - (fn(b + d) - at_b)
            if not float(apart.norm()) <= tolerance * float(at_a.norm() + at_b.norm() + d.norm()):
                return False
    return True


def _read_through(case: _Case, flat: Flat, whole: Tensor, n: int, tolerance: float) -> "_Found | str":
    """Where the source enters, then the product, then the read-out; verified on a finite change of the source."""
    source = case.source.reshape(-1).to(whole)
    m = len(source)

    def entry(s: Tensor) -> Tensor:
        """The start of the (augmented) state from the source."""
        s_shaped = s.reshape(case.source.shape).to(case.source.dtype)
        if case.wrt == "state":
            return flat.vector(_replace(case.start, case.leaf, s_shaped))
        rng = case.rng()
        start = case.start if case.given else case.system.init(s_shaped, rng=rng)
        return torch.cat([flat.vector(start), s])

    if not _affine(entry, source, tolerance):
        return "the initial state is not affine in the input"
    through = (whole @ matrix(products(entry, source).apply, source))[:n]
    change = torch.randn(m, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(source)
    change = change * max(float(source.abs().max()), 1.0)
    with torch.no_grad():
        before = case.run(case.source)
        after = case.run((source + change).reshape(case.source.shape).to(case.source.dtype))
    moved, predicted = flat.vector(after) - flat.vector(before), through @ change
    rounding = (
        1000 * torch.finfo(whole.dtype).eps * float(flat.vector(before).norm() + flat.vector(after).norm())
    )
    size = float(moved.norm() + change.norm() * through.norm() / math.sqrt(m))
    error = float((moved - predicted).norm()) / max(size, rounding / tolerance, 1e-300)
    if not error <= tolerance:
        return f"the product misses a finite change of the start by {error:.2g} (the steps differ from one another)"
    end = Flat(before)

    def read(x: Tensor) -> Tensor:
        return case.value(end.tree(x)).reshape(-1)

    y = case.value(before)
    final = end.vector(before)
    outer = matrix(products(read, final).apply, final)
    note = (
        ""
        if _affine(read, final, tolerance)
        else "the read-out is not linear: J holds its derivative at the end"
    )
    jacobian = (outer @ through).to(y.dtype).reshape((*y.shape, *case.source.shape))
    return _Found(jacobian, "exact (linear)", error, note)


def _report(case: _Case, found: _Found, axis: int, normalise: Any) -> InfluenceReading:
    source = case.source
    jacobian, kind = _normalised(found.jacobian, source, normalise)
    y_ndim = jacobian.ndim - source.ndim
    shaped = jacobian.double().cpu()
    if source.ndim == 0:
        shaped = shaped[..., None]
    else:
        shaped = shaped.movedim(y_ndim + axis % source.ndim, y_ndim)
    rows = shaped.shape[y_ndim]
    y_rows = shaped.shape[0] if y_ndim else 1
    blocks = shaped.reshape(y_rows, -1, rows, math.prod(shaped.shape[y_ndim + 1 :]))
    strength, effect = blocks.abs().sum(dim=(0, 1, 3)), blocks.sum(dim=(0, 1, 3))
    total = strength.sum()
    status, reason = ("unverified", found.doubt) if found.doubt else ("ok", "")
    if not bool(torch.isfinite(total)) or float(total) == 0:
        status = "unidentified"
        reason = (
            ("the gradient is zero" if float(total) == 0 else "no gradient flows")
            + f" from {case.name} to the read-out: a sign, an argmax, an integer or a detach lies between, or nothing does"
        )
    values: dict[str, Any] = {
        "share": strength / total if float(total) else torch.full_like(strength, math.nan),
        "strength": strength,
        "effect": effect,
        "ranking": torch.argsort(strength, descending=True, stable=True),
        "jacobian": jacobian,
        "verification": found.verification,
    }
    if y_ndim:
        values["rows"] = blocks.square().sum(dim=(1, 3)).sqrt()
    return InfluenceReading(
        "influence",
        values,
        f"J = d(read-out after {case.steps} steps) / d({case.name}){kind}; share_j = sum |J[., j]| / sum |J|",
        units="units of the read-out" + (f" per unit of {case.name}" if not kind else ""),
        index=("row", torch.arange(rows)),
        method=found.method,
        status=status,
        reason=reason,
        notes=(found.note,) if found.note else (),
    )


def _normalised(jacobian: Tensor, source: Tensor, normalise: Any) -> tuple[Tensor, str]:
    if normalise is None:
        return jacobian, ""
    if isinstance(normalise, str) and normalise == "value":
        return jacobian * source.to(jacobian), " times its value"
    if isinstance(normalise, Tensor):
        try:
            return jacobian * normalise.to(jacobian).broadcast_to(source.shape), " times the scale given"
        except RuntimeError as error:
            raise ValueError(
                f"normalise= has shape {tuple(normalise.shape)}, which does not broadcast to {tuple(source.shape)}"
            ) from error
    raise ValueError(f'normalise= is None, "value" or a tensor, got {normalise!r}')
