# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
"""The sums behind a reading: evaluate a step by one method, or by the best one that works."""

import contextlib
import math
import sys
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unrolled.instruments.curvature import finite_difference
from unrolled.instruments.curvature.graph import GraphFacts
from unrolled.instruments.curvature.hvp import (
    Method,
    NotTwiceDifferentiable,
    double_backward,
    forward_over_reverse,
)
from unrolled.instruments.curvature.objective import Objective
from unrolled.instruments.curvature.state import displaced
from unrolled.instruments.curvature.vectors import Vector, directions, group_inner, inner

METHODS = ("auto", "jet", "double_backward", "forward_over_reverse", "finite_difference", "one_sided")

TRUST_CUSTOM = 0.01
"""`auto` keeps a product through custom autograd functions that is this close to a central difference."""


@dataclass(frozen=True)
class Step:
    """A step to be measured.

    Attributes:
        update: Z, in the order of the objective's parameters.
        after: W - Z as the parameters hold it.
        blocks: group of each parameter.
        n_groups: L.
        signs: `[m, L]`: the vectors s_j Z to multiply by H.
        whole: the rows of `signs` that add up to Z: the all-ones row, or all rows of an identity.
        decay: coefficient c of each parameter, with z_decay = c W; None when not told apart.
    """

    update: Sequence[Tensor]
    after: Sequence[Tensor]
    blocks: Sequence[int]
    n_groups: int
    signs: Tensor
    whole: Sequence[int]
    decay: Sequence[float] | None = None


@dataclass(frozen=True)
class Sums:
    """Sums over this process's micro-batches: they add up over processes before anything is divided.

    Attributes:
        before: sum_b s_b(W).
        change: sum_b s_b(W) - s_b(W-Z).
        count: n = sum_b n_b.
        slopes: n <G_l, Z_l>, `[L]`; `[1]` from a method that gives totals.
        quads: n <s_j Z, H[s_j Z]>, `[m]`.
        rows: n <Z_l, (H[s_j Z])_l>, `[m, L]`; None from a method that gives totals.
        decay: n <G, z_decay> and n <z_decay, HZ>.
        unused: names of parameters the loss does not depend on.
        method: what was used.
        math_attention: fused attention had to be replaced by math attention.
        notes: what the reader should know.
    """

    before: float
    change: float
    count: float
    slopes: Tensor
    quads: Tensor
    rows: Tensor | None
    decay: tuple[float, float]
    unused: tuple[str, ...] = ()
    method: str = ""
    math_attention: bool = False
    notes: tuple[str, ...] = ()

    def pack(self) -> Tensor:
        """All numbers in one float64 vector."""
        rows = torch.zeros(0, dtype=torch.float64) if self.rows is None else self.rows.reshape(-1)
        head = torch.tensor([self.before, self.change, self.count, *self.decay], dtype=torch.float64)
        return torch.cat([head, self.slopes, self.quads, rows])

    def unpack(self, packed: Tensor) -> "Sums":
        """The same with the numbers of `packed`."""
        before, change, count, first, second = packed[:5].tolist()
        slopes, quads, rows = packed[5:].split(
            [len(self.slopes), len(self.quads), len(packed) - 5 - len(self.slopes) - len(self.quads)]
        )
        return replace(
            self,
            before=before,
            change=change,
            count=count,
            decay=(first, second),
            slopes=slopes,
            quads=quads,
            rows=None if self.rows is None else rows.reshape(self.rows.shape),
        )


def measure(
    objective: Objective,
    step: Step,
    method: str,
    *,
    eps: float | None = None,
    rows: bool = True,
    math_attention: bool = False,
) -> Sums:
    """Evaluate `step` by `method`; `"auto"` takes the cheapest that works and says why others did not.

    Args:
        objective: the loss.
        step: the update.
        method: one of `METHODS`.
        eps: step of the finite differences; by dtype when None.
        rows: whether a method that gives totals only will not do for `"auto"`.
        math_attention: replace fused attention from the start.

    Raises:
        NotTwiceDifferentiable: the method does not work on this model.
        NotImplementedError: the jet meets an operator it has no rule for.
    """
    with _eager(), _math_attention() if math_attention else contextlib.nullcontext():
        match method:
            case "jet":
                return _by_jet(objective, step)
            case "finite_difference":
                return _by_products(objective, step, finite_difference.central(eps), method)
            case "one_sided":
                return _by_products(objective, step, finite_difference.one_sided(eps), method)
            case "double_backward":
                return _with_math(objective, step, double_backward, method)
            case "forward_over_reverse":
                return _with_math(objective, step, forward_over_reverse, method)
            case _:
                return _auto(objective, step, finite_difference.central(eps), rows)


def _auto(objective: Objective, step: Step, fallback: Method, rows: bool) -> Sums:
    reasons: list[str] = []
    if not rows:
        try:
            return _by_jet(objective, step)
        except NotImplementedError as error:
            reasons.append(f"jet: {_first_line(error)}")
    try:
        sums = _with_math(objective, step, double_backward, "double_backward", check=True)
    except NotTwiceDifferentiable as error:
        reasons.append(f"double_backward: {_first_line(error)}")
        sums = _by_products(objective, step, fallback, "finite_difference")
    if reasons:
        why = f"falls back to {sums.method} ({'; '.join(reasons)})"
        warn(f"curvature {why}")
        sums = replace(sums, notes=(*sums.notes, why))
    return sums


def _with_math(objective: Objective, step: Step, method: Method, name: str, *, check: bool = False) -> Sums:
    """As is; if a fused attention kernel has no second derivative, again with math attention."""
    try:
        return _by_products(objective, step, method, name, check=check)
    except NotTwiceDifferentiable as error:
        reason = _first_line(error)
        if "attention" not in reason:
            raise
    with _math_attention():
        sums = _by_products(objective, step, method, name, check=check)
    why = f"{name} used math attention, as the fused kernel has no second derivative ({reason})"
    warn(f"curvature: {why}")
    return replace(sums, math_attention=True, notes=(*sums.notes, why))


def _by_products(objective: Objective, step: Step, method: Method, name: str, *, check: bool = False) -> Sums:
    """Gain and rows from gradients and Hessian-vector products, micro-batch by micro-batch."""
    n = step.n_groups
    before: list[float] = []
    slopes = torch.zeros(n, dtype=torch.float64)
    rows = torch.zeros(len(step.signs), n, dtype=torch.float64)
    decay = [0.0, 0.0]
    used = [False] * len(objective.params)
    facts = GraphFacts()
    for b in range(len(objective)):
        made = method(objective, b, directions(step.update, step.blocks, step.signs))
        before.append(float(made.loss))
        facts = made.facts if b == 0 else facts
        used = [was or g is not None for was, g in zip(used, made.grads)]
        slopes += group_inner(made.grads, step.update, step.blocks, n)
        decay[0] += _with_decay(made.grads, objective, step)
        for j, product in enumerate(made.hvps):
            rows[j] += group_inner(product, step.update, step.blocks, n)
            if j in step.whole:
                decay[1] += _with_decay(product, objective, step)
            del product
        del made
    if check and facts.custom and not facts.sixteen_bit:
        _check_custom(objective, step, float(rows[list(step.whole)].sum()), facts.custom)
    trust = (
        f"second derivatives of custom autograd functions taken on trust: {', '.join(facts.custom)} "
        "(method='auto' compares with a central difference)"
    )
    return Sums(
        before=math.fsum(before),
        change=_change(objective, step, before),
        count=objective.count,
        slopes=slopes,
        quads=(rows * step.signs).sum(1),
        rows=rows,
        decay=(decay[0], decay[1]),
        unused=tuple(name for name, was in zip(objective.names, used) if not was),
        method=name,
        notes=(trust,) if facts.custom and (facts.sixteen_bit or not check) else (),
    )


def _by_jet(objective: Objective, step: Step) -> Sums:
    """Gain and <v, Hv> from second-order Taylor passes: totals only, no graph.

    L(W) comes from a plain forward pass, like L(W-Z): in 16-bit arithmetic the jet's own value rounds differently, and
    the difference of the two would be as large as the change that is sought.
    """
    from unrolled.instruments.curvature.jet import jet

    before = objective.sums().tolist()
    gain, decay = 0.0, 0.0
    quads = torch.zeros(len(step.signs), dtype=torch.float64)
    for b in range(len(objective)):
        batch = None if objective.batches is None else [objective.batches[b]]
        for j, vector in enumerate(directions(step.update, step.blocks, step.signs)):
            update = {name: v for name, v in zip(objective.names, vector) if v is not None}
            with objective.replay(b):
                made = jet(objective.model, objective.call, update, batch)
            objective.counted(b, made.count)
            _, slope, bend = made.sums  # not the means: a micro-batch may count nothing
            quads[j] += bend
            gain += slope if j in step.whole else 0.0
        if step.decay is not None and any(step.decay):  # a plain gradient costs less than another pass
            decay += _with_decay(double_backward(objective, b, ()).grads, objective, step)
    return Sums(
        before=math.fsum(before),
        change=_change(objective, step, before),
        count=objective.count,
        slopes=torch.tensor([gain], dtype=torch.float64),
        quads=quads,
        rows=None,
        decay=(decay, math.nan),
        method="jet",
    )


def _change(objective: Objective, step: Step, before: Sequence[float]) -> float:
    """sum_b s_b(W) - s_b(W-Z), batch by batch."""
    with displaced(objective.params, step.after):
        after = objective.sums().tolist()
    return math.fsum(x - y for x, y in zip(before, after, strict=True))


def _with_decay(vector: Vector, objective: Objective, step: Step) -> float:
    """<vector, z_decay> with z_decay = c W, without making it."""
    if step.decay is None:
        return 0.0
    parts = zip(vector, objective.params, step.decay, strict=True)
    return math.fsum(c * float(inner(v, p)) for v, p, c in parts if c and v is not None)


def _check_custom(objective: Objective, step: Step, quad: float, custom: Sequence[str]) -> None:
    """Hold <Z,HZ> to a central difference.

    Raises:
        NotTwiceDifferentiable: they differ.
    """
    ones = torch.ones(1, step.n_groups, dtype=torch.int64)
    central = finite_difference.central()
    reference = 0.0
    for b in range(len(objective)):
        for product in central(objective, b, directions(step.update, step.blocks, ones)).hvps:
            reference += float(group_inner(product, step.update, step.blocks, step.n_groups).sum())
    if abs(quad - reference) > TRUST_CUSTOM * abs(reference):
        raise NotTwiceDifferentiable(
            f"the backward of custom autograd function {', '.join(custom)} loses second derivatives: <Z,HZ> came out "
            f"as {quad / objective.count:.4g}, a central difference gives {reference / objective.count:.4g}"
        )


@contextlib.contextmanager
def _eager() -> Generator[None]:
    """Run compiled modules as plain Python inside: compiled graphs cannot be differentiated twice."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def warn(text: str) -> None:
    """Warn at the line outside this package that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        __package__ or "unrolled"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _math_attention() -> contextlib.AbstractContextManager[object]:
    """Attention out of matmul and softmax, which can be differentiated twice."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
