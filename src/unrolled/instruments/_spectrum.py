# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false, reportUnnecessaryIsInstance=false
"""`spectrum`: leading eigenvalues of one step, or of any linear operator, from products alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import scipy.linalg
import scipy.sparse.linalg
import torch
from torch import Tensor

from unrolled.core import Trajectory, tree
from unrolled.instruments._jacobian import Flat, fixed_noise, path_of, products
from unrolled.instruments.reading import COLORS, Reading, axes

WHICH = {
    "LM": "largest modulus",
    "LR": "largest real part",
    "SR": "smallest real part",
    "LI": "largest imaginary part",
}


def spectrum(
    operator: Any,
    state: Any = None,
    input: Any = None,
    *,
    of: Any = None,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
    k: int = 6,
    which: str = "LM",
    symmetric: bool | None = None,
    vectors: bool = False,
    dense_below: int = 128,
    tol: float = 0.0,
    max_iterations: int | None = None,
    seed: int = 0,
    rng: torch.Generator | int | None = None,
) -> "SpectrumReading":
    """Leading eigenvalues of J = d step / d state at a state, or of a linear function.

    Small operators are built column by column and solved whole (LAPACK). Larger ones are only ever multiplied: by
    Lanczos iteration when symmetric, by Arnoldi iteration otherwise (ARPACK through `scipy.sparse.linalg`), in
    float64 whatever the dtype of the state. Products are Jacobian-vector products, held to a central difference of
    the step along one random direction before they are believed.

    Args:
        operator: a system, or a linear function v -> A v (a Hessian-vector product, say) of tensors like `state`, or
            of `shape` and `dtype`.
        state: where to differentiate; by default `operator.init(input)`. The final state of a trajectory is its
            `final`. For a function: an example of what it takes, a tensor or a tree of them.
        input: the input of the step.
        of: leaves of the state that count: a path, a list of paths, or a function that returns one leaf. The result
            is that diagonal block of the Jacobian, other leaves held. None takes every floating-point leaf: the whole
            state (an optimizer's parameters alone do not tell its stability; its moments are state too).
        shape: what a function takes, when `state` is not given.
        dtype: of that.
        k: how many eigenvalues; fewer when there are fewer.
        which: `"LM"` largest modulus, `"LR"` largest real part, `"SR"` smallest real part, `"LI"` largest imaginary.
        symmetric: True, False, or None to test u^T A v = v^T A u on random vectors. A wrong True is an error.
        vectors: return unit eigenvectors too.
        dense_below: build the matrix up to this many entries of the state.
        tol: of ARPACK, relative; 0 is the precision of the state's dtype.
        max_iterations: of ARPACK; its own default when None.
        seed: of the start vector and of the tests.
        rng: noise of the step: a seed or generator, started anew for each product.

    Returns:
        One row per eigenvalue, leading first: `eigenvalue` (complex unless symmetric), `residual` ||A v - lambda v||
        for the unit vector v (the self-check: for a symmetric operator the error is at most that), `condition` of the
        eigenvalue (1 when symmetric; NaN when not known, which is the case for Arnoldi: the error may be `residual`
        times that). Numbers: `radius` (largest modulus found), `products` (how many were used), `derivative_check`
        (relative distance from the central difference). With `vectors`: `vectors`, `[k, entries]`, and for a lone leaf
        `[k, *shape]`. Eigenvalues that did not converge are NaN, with the status `"not converged"`.

    Raises:
        TypeError: no system and no function; leaves that are not floating point; a function `of` that computes.
        KeyError: no such leaf.
        ValueError: a function without `state` or `shape`, one that is not linear, a state that is not finite, a step
            that changes shapes or overwrites its state, a wrong `symmetric`, or a `k` or `which` out of range.
        RuntimeError: the step cannot be differentiated.

    Example:
        A damped oscillator has the eigenvalues decay * exp(+-2 pi i / period):

        >>> from unrolled.toys import LinearMap
        >>> pair = spectrum(LinearMap.oscillator(decay=0.5, period=4), torch.zeros(2, dtype=torch.float64))
        >>> [complex(round(z.real, 12), round(z.imag, 12)) for z in pair["eigenvalue"].tolist()]
        [0.5j, -0.5j]

        A function and a shape will do, here diag(1, 2, 3):

        >>> weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        >>> spectrum(lambda v: weights * v, shape=(3,), k=1)["eigenvalue"].tolist()
        [3.0]
    """
    if which not in WHICH:
        raise ValueError(f"which= is one of {', '.join(map(repr, WHICH))}; got {which!r}")
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k counts eigenvalues and is at least 1, got {k!r}")
    if callable(getattr(operator, "step", None)):
        linear = _of_step(operator, state, input, of, rng, seed)
    elif isinstance(operator, Trajectory):
        raise TypeError(
            "spectrum reads a system at a state, not a trajectory: spectrum(system, trajectory.final, input)"
        )
    elif callable(operator):
        linear = _of_function(operator, state, shape, dtype, of, seed)
    else:
        raise TypeError(
            f"spectrum reads a system (with a step) or a linear function, got {type(operator).__name__}"
        )
    linear.symmetric = _symmetric(linear, symmetric, seed)
    if linear.zero:
        solved = _Solved(
            numpy.zeros(min(k, linear.size)), numpy.eye(linear.size, min(k, linear.size)), "zero operator"
        )
    elif linear.size <= dense_below or k >= linear.size - 1:
        solved = _dense(linear, k, which)
    else:
        solved = _iterated(linear, k, which, tol, max_iterations, seed)
    return _report(linear, solved, k, which, vectors)


class SpectrumReading(Reading):
    """Leading eigenvalues."""

    def columns(self) -> dict[str, Tensor]:
        """Real and imaginary part, modulus, residual and condition of each eigenvalue."""
        found = self["eigenvalue"]
        imag = found.imag if found.is_complex() else torch.zeros_like(found)
        real = found.real if found.is_complex() else found
        own = {"real": real, "imag": imag, "modulus": found.abs()}
        return own | {name: self[name] for name in ("residual", "condition")}

    def plot(self, ax: Any = None) -> Any:
        """The complex plane with the unit circle; for a symmetric operator, the eigenvalues in order."""
        ax = axes(ax)
        if not self["eigenvalue"].is_complex():
            rank = torch.arange(1, len(self["eigenvalue"]) + 1)
            ax.vlines(rank.numpy(), 0, self["eigenvalue"].numpy(), color="0.75")
            ax.plot(rank.numpy(), self["eigenvalue"].numpy(), marker="o", linestyle="", color=COLORS[0])
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            if len(rank) <= 12:
                ax.set_xticks(rank.numpy())
            ax.set_xlabel("rank")
            ax.set_ylabel("eigenvalue")
        else:
            turn = torch.linspace(0, 2 * math.pi, 200)
            ax.plot(turn.cos().numpy(), turn.sin().numpy(), color="0.7", linewidth=0.8)
            ax.axhline(0, color="0.9", linewidth=0.8, zorder=0)
            ax.axvline(0, color="0.9", linewidth=0.8, zorder=0)
            columns = self.columns()
            outside = columns["modulus"] > 1
            for inside, color, label in ((~outside, COLORS[0], "inside"), (outside, COLORS[1], "outside")):
                if bool(inside.any()):
                    x, y = columns["real"][inside].numpy(), columns["imag"][inside].numpy()
                    ax.plot(x, y, marker="o", linestyle="", color=color, label=f"{label} the unit circle")
            ax.set_aspect("equal", adjustable="datalim")
            ax.set_xlabel("real part")
            ax.set_ylabel("imaginary part")
            ax.legend(frameon=False, loc="best", fontsize="small")
        ax.set_title(
            f"spectrum: radius {self['radius']:.4g}" + ("" if self.status == "ok" else f" ({self.status})")
        )
        return ax


@dataclass
class _Linear:
    """A linear operator on float64 NumPy vectors, and what is known about it."""

    product: Callable[[Tensor], Tensor]
    flat: Flat
    definition: str
    method: str = ""
    check: float = math.nan
    agrees: bool = True
    symmetric: bool = False
    zero: bool = False
    count: int = 0

    @property
    def size(self) -> int:
        return self.flat.size

    def apply(self, v: Any) -> Any:
        """A v, for a real or complex v."""
        if numpy.iscomplexobj(v):
            return self.apply(v.real) + 1j * self.apply(v.imag)
        self.count += 1
        vector = torch.from_numpy(numpy.ascontiguousarray(v, dtype=numpy.float64).reshape(-1))
        made = self.product(vector.to(self.flat.device, self.flat.dtype))
        made = made.detach().double().cpu().numpy()
        if not numpy.isfinite(made).all():
            raise ValueError(
                "a product with the operator is not finite: the derivative overflows or is undefined here"
            )
        return made


@dataclass
class _Solved:
    values: Any
    vectors: Any
    method: str
    condition: Any = None
    reason: str = ""


def _of_step(system: Any, state: Any, input: Any, of: Any, rng: Any, seed: int) -> _Linear:
    """The Jacobian of one step."""
    if getattr(system, "donates", False):
        raise ValueError(
            f"{type(system).__name__} overwrites its state (donates = True) and has no derivative"
        )
    noise = fixed_noise(rng)
    if state is None:
        state = system.init(input, rng=noise("cpu"))
    flat = Flat(state, path_of(of, state))
    generator = noise(flat.device)
    start = None if generator is None else generator.get_state()

    def step(x: Tensor) -> Tensor:
        again = None if generator is None or start is None else generator.set_state(start)
        return flat.vector(system.step(flat.tree(x), input, rng=again))

    made = products(step, flat.vector(flat.like), seed=seed)
    what = f"d step({', '.join(flat.paths)}) / d ({', '.join(flat.paths)}) of {type(system).__name__}"
    return _Linear(made.apply, flat, what, made.method, made.check, made.agrees)


def _of_function(
    function: Callable[..., Any], state: Any, shape: Any, dtype: torch.dtype, of: Any, seed: int
) -> _Linear:
    """A linear function of a tensor or a tree."""
    if of is not None:
        raise ValueError(
            "of= chooses leaves of a system's state; a linear function takes all that it is given"
        )
    if (state is None) == (shape is None):
        raise ValueError(
            "a linear function comes with either state= (an example) or shape=, and not with both"
        )
    if shape is not None:
        state = torch.zeros(tuple(shape), dtype=dtype)
    flat = Flat(tree.map(torch.zeros_like, state), what="state=")

    def product(v: Tensor) -> Tensor:
        return flat.vector(function(flat.tree(v)))

    name = getattr(function, "__name__", type(function).__name__)
    linear = _Linear(product, flat, f"the linear function {name} on {flat.size} entries", "products")
    u, v = _probes(linear.size, 2, seed)
    summed, apart = linear.apply(u) + 2 * linear.apply(v), linear.apply(u + 2 * v)
    if numpy.linalg.norm(summed - apart) > _tolerance(linear) * max(
        numpy.linalg.norm(apart), numpy.linalg.norm(summed)
    ):
        raise ValueError(f"{name} is not linear: f(u) + 2 f(v) differs from f(u + 2 v); pass v -> A v")
    return linear


def _probes(size: int, count: int, seed: int) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, size, generator=generator, dtype=torch.float64).numpy())


def _tolerance(linear: _Linear) -> float:
    return 1000 * float(torch.finfo(linear.flat.dtype).eps) * math.sqrt(max(1.0, linear.size / 1000))


def _symmetric(linear: _Linear, claimed: bool | None, seed: int) -> bool:
    """Test u^T A v = v^T A u on three pairs; also notices the zero operator."""
    probes = _probes(linear.size, 4, seed + 1)
    images = [linear.apply(v) for v in probes]
    linear.zero = all(not image.any() for image in images)
    worst = 0.0
    for u, v, Au, Av in zip(probes, probes[1:], images, images[1:]):
        size = numpy.linalg.norm(u) * numpy.linalg.norm(Av) + numpy.linalg.norm(v) * numpy.linalg.norm(Au)
        worst = max(worst, abs(u @ Av - v @ Au) / size) if size else worst
    allowed = max(_tolerance(linear), 1e-6 if linear.method == "central differences" else 0.0)
    if claimed and worst > allowed:
        raise ValueError(
            f"symmetric=True, but u^T A v and v^T A u differ by {worst:.2g} relative to their size: leave it out"
        )
    return worst <= allowed if claimed is None else claimed


def _order(values: Any, which: str) -> Any:
    """Indices, leading first; a conjugate pair has the positive imaginary part first."""
    keys = {"LM": -abs(values), "LR": -values.real, "SR": values.real, "LI": -abs(values.imag)}
    scale = max(abs(values).max(), 1e-300)
    primary = numpy.round(keys[which] / scale, 12)
    return numpy.lexsort((-values.imag, -values.real, primary))


def _dense(linear: _Linear, k: int, which: str) -> _Solved:
    """Every column, then LAPACK."""
    matrix = numpy.stack([linear.apply(e) for e in numpy.eye(linear.size)], axis=1)
    if linear.symmetric:
        values, made = scipy.linalg.eigh((matrix + matrix.T) / 2)
        chosen = _order(values, which)[:k]
        return _Solved(values[chosen], made[:, chosen], "dense, symmetric", numpy.ones(len(chosen)))
    solved: Any = scipy.linalg.eig(matrix, left=True, right=True)
    values, left, right = solved
    overlap = abs((left.conj() * right).sum(axis=0))
    with numpy.errstate(divide="ignore"):
        condition = 1 / overlap
    chosen = _order(values, which)[:k]
    return _Solved(values[chosen], right[:, chosen], "dense", condition[chosen])


def _iterated(
    linear: _Linear, k: int, which: str, tol: float, max_iterations: int | None, seed: int
) -> _Solved:
    """Lanczos or Arnoldi."""
    sparse: Any = scipy.sparse.linalg
    operator = sparse.LinearOperator((linear.size, linear.size), matvec=linear.apply, dtype=numpy.float64)
    (start,) = _probes(linear.size, 1, seed)
    double = linear.flat.dtype == torch.float64 and linear.method != "central differences"
    options: dict[str, Any] = {
        "v0": start,
        "maxiter": max_iterations,
        "tol": tol or (0.0 if double else 1e-6),
    }
    # A wider basis than ARPACK's 2k + 1 costs memory, not products, and finds clustered eigenvalues.
    options["ncv"] = min(linear.size, max(2 * k + 1, 20))
    reason = ""
    try:
        if linear.symmetric:
            code = {"LM": "LM", "LR": "LA", "SR": "SA", "LI": "LM"}[which]
            values, made = sparse.eigsh(operator, k=k, which=code, **options)
        else:
            values, made = sparse.eigs(operator, k=k, which=which, **options)
    except sparse.ArpackNoConvergence as error:
        values, made = error.eigenvalues, error.eigenvectors
        reason = f"{len(values)} of {k} eigenvalues converged; raise max_iterations or tol, or ask for fewer"
    chosen = _order(values, which)[:k] if len(values) else []
    made = made / numpy.linalg.norm(made, axis=0) if len(values) else numpy.zeros((linear.size, 0))
    condition = numpy.full(len(chosen), 1.0 if linear.symmetric else math.nan)
    method = "Lanczos" if linear.symmetric else "Arnoldi"
    return _Solved(values[chosen] if len(values) else values, made[:, chosen], method, condition, reason)


def _report(linear: _Linear, solved: _Solved, k: int, which: str, vectors: bool) -> SpectrumReading:
    pairs = [
        (value, vector / numpy.linalg.norm(vector)) for value, vector in zip(solved.values, solved.vectors.T)
    ]
    residual = [float(numpy.linalg.norm(linear.apply(vector) - value * vector)) for value, vector in pairs]
    rows = min(k, linear.size)
    real = linear.symmetric
    eigenvalue = torch.full((rows,), math.nan, dtype=torch.float64 if real else torch.complex128)
    eigenvalue[: len(pairs)] = torch.as_tensor(
        numpy.array([value for value, _ in pairs]), dtype=eigenvalue.dtype
    )
    condition = (
        torch.ones(rows, dtype=torch.float64) if solved.condition is None else _padded(solved.condition, rows)
    )
    values: dict[str, Any] = {
        "eigenvalue": eigenvalue,
        "residual": _padded(residual, rows),
        "condition": condition,
        "radius": float(eigenvalue[: len(pairs)].abs().max()) if pairs else math.nan,
        "products": linear.count,
        "derivative_check": linear.check,
    }
    if vectors:
        made = (
            torch.as_tensor(numpy.stack([vector for _, vector in pairs]))
            if pairs
            else torch.empty(0, linear.size)
        )
        values["vectors"] = (
            made.reshape(-1, *linear.flat.shapes[linear.flat.paths[0]])
            if len(linear.flat.paths) == 1
            else made
        )
    status, reason = ("not converged", solved.reason) if solved.reason else ("ok", "")
    if not linear.agrees:
        status, reason = (
            "unverified",
            (
                "the derivative differs from a finite difference along a random direction: the step has a kink or noise here"
            ),
        )
    return SpectrumReading(
        "spectrum",
        values,
        f"eigenvalues of {linear.definition}, {WHICH[which]} first",
        index=("rank", torch.arange(1, rows + 1)),
        method=f"{solved.method}; {linear.method}",
        status=status,
        reason=reason,
        notes=_notes(linear, condition),
    )


def _notes(linear: _Linear, condition: Tensor) -> tuple[str, ...]:
    notes: list[str] = []
    if linear.zero:
        notes.append(
            "every product is zero: the step does not depend smoothly on this state (sign, argmax, detach)"
        )
    if linear.method == "central differences":
        notes.append(
            "automatic differentiation misses part of the step (something is detached): relative error about 1e-9"
        )
    steep = condition[condition.isfinite()]
    if len(steep) and float(steep.max()) > 1e6:
        notes.append(
            f"an eigenvalue has the condition number {float(steep.max()):.2g}: nearly defective, or repeated; read it with care"
        )
    if bool(condition.isinf().any()):
        notes.append("an eigenvalue is defective: it moves by the m-th root of a perturbation")
    return tuple(notes)


def _padded(values: Any, rows: int) -> Tensor:
    made = torch.full((rows,), math.nan, dtype=torch.float64)
    made[: len(values)] = torch.as_tensor(numpy.array(values), dtype=torch.float64)
    return made
