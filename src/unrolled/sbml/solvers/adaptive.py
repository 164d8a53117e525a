"""The adaptive integrator: one step size per sample, dense output, events, and a reason for every sample that failed.

Why not a library: torchdiffeq shares one step size among the batch, torchode has one per sample but neither stiffness nor
events, and diffrax is JAX. The step-size control is that of Hairer's DOPRI5.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from unrolled.sbml.events import Events, Queue, pick
from unrolled.sbml.solvers import dopri5, rodas5p
from unrolled.sbml.solvers.trial import Rate, Trial, interpolate

Method = Literal["auto", "dopri5", "rodas5p"]
REASONS = (
    "ok",
    "the rate of change is not finite",
    "the step size fell below rounding",
    "the step limit was reached",
    "an event cannot be executed, or a cascade of events has no end",
    "an event made the state not finite",
    "a number of the state is not finite at the start",
)
"""Why a sample ended: its status is an index here."""
SAFETY, SHRINK, GROW, BETA = 0.9, 0.2, 10.0, 0.04
STIFF_STEPS, CALM_STEPS = 15, 6
"""Steps at the edge of stability after which a sample is called stiff; steps off it after which they are forgotten."""
PROBES = (0.25, 0.5, 0.75, 1.0)
"""Where inside a step triggers are looked at (a step is no longer than the spacing of outputs): one that turns and returns
between two of these is missed."""


@dataclass
class Solution:
    """What an integration leaves behind.

    Attributes:
        x: `[n, B, d]`, states at the asked times; NaN from where a sample failed.
        status: `[B]`, index into `REASONS`; 0 is success.
        failed_at: `[B]`, time of failure; NaN: none.
        component: `[B]`, the state component (or event) that failed; -1: none.
        steps: `[B]`, accepted steps.
        rejected: `[B]`, rejected attempts.
        stiff_from: `[B]`, time from which the stiff method was used; NaN: never.
        fired: `[B]`, executions of events.
        accepted: with `keep_steps`, the accepted steps as (row `[k]`, start `[k]`, size `[k]`, stiff) in order.
        jumps: the rate may jump between steps.
    """

    x: Tensor
    status: Tensor
    failed_at: Tensor
    component: Tensor
    steps: Tensor
    rejected: Tensor
    stiff_from: Tensor
    fired: Tensor
    accepted: list[tuple[Tensor, Tensor, Tensor, bool]] = field(default_factory=list)
    jumps: bool = False

    @property
    def ok(self) -> Tensor:
        """`[B]`: which samples reached the end."""
        return self.status == 0


@dataclass
class _Pool:
    """The samples still under way; every field has one row per sample."""

    row: Tensor
    t: Tensor
    x: Tensor
    slope: Tensor
    h: Tensor
    error: Tensor  # of the last accepted step
    output: Tensor  # index of the next output
    stiff: Tensor
    calm: Tensor
    again: Tensor  # the last attempt was rejected
    land: Tensor  # time just past the discontinuity that this step ends at, or infinity
    p: Any = None
    queue: Queue | None = None

    def take(self, rows: Tensor) -> "_Pool":
        own = {k: v[rows] for k, v in vars(self).items() if k not in ("p", "queue")}
        return _Pool(**own, p=pick(self.p, rows), queue=None if self.queue is None else self.queue.take(rows))

    def join(self, other: "_Pool") -> "_Pool":
        if self.queue is not None and other.queue is not None:
            slots = max(self.queue.due.shape[1], other.queue.due.shape[1])
            self.queue.grow(slots)
            other.queue.grow(slots)

        def both(a: Any, b: Any, name: str) -> Any:
            if isinstance(a, Queue):
                return Queue(*(torch.cat(pair) for pair in zip(vars(a).values(), vars(b).values())))
            return (
                a
                if a is None or (name == "p" and (not isinstance(a, Tensor) or a.ndim < 2))
                else torch.cat([a, b])
            )

        return _Pool(**{k: both(v, getattr(other, k), k) for k, v in vars(self).items()})


def integrate(
    rate: Rate,
    x0: Tensor,
    times: Tensor,
    *,
    p: Any = None,
    method: Method = "auto",
    rtol: float = 1e-6,
    atol: float | Tensor = 1e-9,
    events: Events | None = None,
    jacobian: rodas5p.Derivatives | None = None,
    max_steps: int = 100_000,
    first_step: float | None = None,
    keep_steps: bool = False,
) -> Solution:
    """Integrate dx/dt = rate(t, x, p) for a batch, each sample with its own step size.

    A step is accepted when the root mean square over components of error / (atol + rtol max(|x|, |x_new|)) is at most
    1. `"auto"` starts every sample with Dormand-Prince and moves those whose steps sit at the edge of stability
    (|h lambda| > 3.25 in 15 steps), and those that fail, to Rodas5P from where they stand.

    Args:
        rate: `(t [B], x [B, d], p) -> [B, d]`.
        x0: `[B, d]`, at `times[0]`.
        times: `[n]`, increasing: where the solution is wanted.
        p: parameters, `[P]`, `[B, P]` or None.
        method: `"auto"`, `"dopri5"` (explicit, order 5) or `"rodas5p"` (stiff, order 5).
        rtol: relative tolerance.
        atol: absolute tolerance, a number or `[d]`.
        events: triggers to locate and what to do then, and discontinuities to step onto.
        jacobian: `(t, x, p) -> (J, df/dt)` for the stiff method; by default forward-mode differentiation of `rate`.
        max_steps: attempts per sample (and method) before it is given up.
        first_step: of every sample; estimated when None.
        keep_steps: keep the accepted steps (`replay` differentiates along them).

    Raises:
        ValueError: shapes, tolerances or times that make no sense.

    Example:
        >>> x0 = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
        >>> times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> found = integrate(lambda t, x, p: -x, x0, times, rtol=1e-9, atol=1e-12)
        >>> bool((found.x[1] - math.exp(-1) * x0).abs().max() < 1e-8), found.status.tolist()
        (True, [0, 0])
    """
    check(x0, times, p, rtol, atol, method)
    with torch.no_grad():
        run = _Run(rate, x0, times.to(x0), p, rtol, atol, events, jacobian, max_steps, first_step, keep_steps)
        if not x0.shape[1]:  # nothing changes
            run.solution.steps += len(times) > 1
            return run.solution
        run.solution.jumps = events is not None
        pool = run.begin()
        if method != "rodas5p":
            pool = run.advance(pool, stiff=False, switch=method == "auto")
        if len(pool.row):
            run.solution.stiff_from[pool.row] = pool.t
            run.advance(pool, stiff=True, switch=False)
    return run.solution


def resume(
    rate: Rate,
    times: Tensor,
    solution: Solution,
    rows: Tensor,
    t: Tensor,
    x: Tensor,
    output: Tensor,
    *,
    p: Any,
    rtol: float,
    atol: float | Tensor,
    max_steps: int,
) -> None:
    """Take some samples on with the stiff method, from where another left them, and write the solution in place.

    Args:
        rate: as for `integrate`.
        times: as for `integrate`.
        solution: written.
        rows: `[k]`, which samples.
        t: `[k]`, where they stand.
        x: `[k, d]`, their states there.
        output: `[k]`, index of their next output.
        p: parameters of the whole batch.
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: attempts.
    """
    whole = x.new_zeros(solution.x.shape[1:])
    with torch.no_grad():
        run = _Run(rate, whole, times, p, rtol, atol, None, None, max_steps, None, False)
        run.solution = solution
        q = pick(p, rows)
        count = torch.zeros_like(rows)
        pool = _Pool(rows, t.clone(), x.clone(), rate(t, x, q), t.clone(), torch.full_like(t, 1e-4), output.clone(), count,
                     count.clone(), count > 0, torch.full_like(t, math.inf), q)  # fmt: skip
        pool = run.check_slope(pool)
        pool.h = run.guess(pool)
        solution.stiff_from[pool.row] = pool.t
        run.advance(pool, stiff=True, switch=False)


class _Run:
    """One integration: what does not change, and the solution being written."""

    def __init__(self, rate: Rate, x0: Tensor, times: Tensor, p: Any, rtol: float, atol: float | Tensor,
                 events: Events | None, jacobian: Any, max_steps: int, first_step: float | None,
                 keep: bool) -> None:  # fmt: skip
        B, d = x0.shape
        self.rate, self.x0, self.times, self.p = rate, x0, times, p
        self.rtol = rtol
        self.atol = torch.as_tensor(atol, dtype=x0.dtype, device=x0.device)
        self.events = None if events is None else events.on(times)
        self.derivatives = jacobian or rodas5p.derivatives(rate)
        self.max_steps, self.first_step, self.keep = max_steps, first_step, keep
        self.eps = torch.finfo(x0.dtype).eps
        whole: dict[str, Any] = {"dtype": torch.long, "device": x0.device}
        self.solution = Solution(
            x0.new_full((len(times), B, d), math.nan), torch.zeros(B, **whole), x0.new_full((B,), math.nan),
            torch.full((B,), -1, **whole), torch.zeros(B, **whole), torch.zeros(B, **whole),
            x0.new_full((B,), math.nan), torch.zeros(B, **whole),
        )  # fmt: skip

    def begin(self) -> _Pool:
        B = len(self.x0)
        row = torch.arange(B, device=self.x0.device)
        t, x = self.times[0].expand(B).clone(), self.x0.clone()
        zero, count = torch.zeros_like(t), torch.zeros_like(row)
        pool = _Pool(row, t, x, torch.zeros_like(x), zero.clone(), zero + 1e-4, count.clone(), count.clone(),
                     count.clone(), count > 0, zero + math.inf, self.p)  # fmt: skip
        bad = ~x.isfinite()
        pool = self.fail(pool, bad.any(1), 6, bad.long().argmax(1))
        if self.events is not None and len(pool.row):
            pool.queue, pool.x = self.events.start(pool.t, pool.x, pool.p, pool.row)
            self.solution.fired[pool.row] = pool.queue.fired
            pool, _ = self.check_events(pool)
        if not len(pool.row):
            return pool
        self.emit_end(pool, torch.arange(len(pool.row), device=row.device))
        pool.slope = self.rate(pool.t, pool.x, pool.p)
        pool = self.check_slope(pool)
        pool.h = self.guess(pool)
        return self.finish(pool)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def advance(self, pool: _Pool, *, stiff: bool, switch: bool) -> _Pool:
        """Step until every sample is done; with `switch`, return those that need the stiff method."""
        waiting: list[_Pool] = []
        end, attempts = self.times[-1], 0
        while len(pool.row):
            attempts += 1
            if attempts > self.max_steps:
                waiting += self.give_up(pool, switch, 3)
                break
            stop = end
            if pool.queue is not None:
                # Steps end at outputs, so that a trigger is looked at four times between two of them, however calm
                # the rest is.
                stop = torch.minimum(self.times[pool.output], pool.queue.due.amin(1))
            left = stop - pool.t
            last = pool.h * 1.01 >= left
            h = torch.where(last, left, pool.h)
            end_of_step = torch.where(last, stop, pool.t + h)
            if self.events is not None:
                h, end_of_step = self.look_ahead(pool, h, end_of_step)
            trial = self.attempt(pool, h, stiff)
            scaled = trial.error / (self.atol + self.rtol * torch.maximum(pool.x.abs(), trial.end.abs()))
            error = scaled.square().mean(-1).sqrt()
            finite = error.isfinite() & trial.end.isfinite().all(-1)
            if trial.slope is not None:
                finite &= trial.slope.isfinite().all(-1)
            accept = finite & (error <= 1)
            tiny = ~accept & (h <= 4 * self.eps * torch.maximum(pool.t.abs(), self.eps * end.abs()))
            grown = self.next_size(h, error, finite, accept, pool)
            grown = torch.where(last & accept, torch.maximum(grown, pool.h), grown)
            crossing = torch.zeros_like(accept)
            if self.events is not None:
                crossing, end_of_step, trial, accept, grown = self.cross(
                    pool, end_of_step, trial, finite, accept, grown
                )
            rows = accept.nonzero().squeeze(-1)
            self.solution.rejected[pool.row[~accept]] += 1
            if len(rows):
                self.accept(pool, rows, trial, h, end_of_step, error, stiff)
            pool.h, pool.again = grown, ~accept
            if self.events is not None:
                self.settle(pool, crossing)
                pool, alive = self.check_events(pool)
                tiny, scaled, finite, accept = (v[alive] for v in (tiny, scaled, finite, accept))
                trial = Trial(
                    trial.end[alive],
                    trial.error[alive],
                    None,
                    (),
                    None if trial.stiffness is None else trial.stiffness[alive],
                )
            if bool(tiny.any()):
                sick = ~trial.end.isfinite() | ~scaled.isfinite()
                worst = torch.where(
                    finite, scaled.abs().nan_to_num(math.inf).argmax(-1), sick.long().argmax(-1)
                )
                if switch:
                    waiting.append(pool.take(tiny.nonzero().squeeze(-1)))
                    pool = pool.take((~tiny).nonzero().squeeze(-1))
                else:
                    kind = torch.where(finite, 2, 1)
                    pool = self.fail(pool, tiny, kind, worst)
                continue
            if switch and trial.stiffness is not None:
                pool, more = self.stiff_ones(pool, trial.stiffness, accept)
                waiting += more
            pool = self.finish(pool)
        return _joined(waiting) if waiting else pool.take(pool.row[:0])

    def attempt(self, pool: _Pool, h: Tensor, stiff: bool) -> Trial:
        if not stiff:
            return dopri5.step(self.rate, pool.t, pool.x, h, pool.p, pool.slope)
        J, dt = self.derivatives(pool.t, pool.x, pool.p)
        return rodas5p.step(self.rate, pool.t, pool.x, h, pool.p, pool.slope, J, dt)

    def next_size(self, h: Tensor, error: Tensor, finite: Tensor, accept: Tensor, pool: _Pool) -> Tensor:
        """Hairer's controller (dopri5.f): proportional on rejection, with a memory of the last error on acceptance."""
        error = torch.where(finite, error, math.inf).clamp(min=1e-10)
        root = error.pow(0.2 - 0.75 * BETA)
        factor = torch.where(accept, root / pool.error.pow(BETA), root) / SAFETY
        factor = (1 / factor).clamp(SHRINK, GROW)
        # After a rejection a step may not grow again at once.
        factor = torch.where(pool.again, factor.clamp(max=1.0), factor)
        return h * factor

    def accept(self, pool: _Pool, rows: Tensor, trial: Trial, h: Tensor, end: Tensor, error: Tensor,
               stiff: bool) -> None:  # fmt: skip
        if self.keep:
            taken = (end - pool.t)[rows]
            # A hop over a jump adds a rounding to the time: the step itself was h.
            taken = torch.where((taken - h[rows]).abs() <= 1e-6 * h[rows], h[rows], taken)
            self.solution.accepted.append((pool.row[rows], pool.t[rows], taken, stiff))
        self.emit(pool, rows, trial, h, end)
        self.solution.steps[pool.row[rows]] += 1
        pool.t[rows] = end[rows]
        pool.x[rows] = trial.end[rows]
        pool.error[rows] = error[rows].clamp(min=1e-4)
        if trial.slope is not None:
            pool.slope[rows] = trial.slope[rows]
        elif len(rows) == len(pool.row):
            pool.slope = self.rate(pool.t, pool.x, pool.p)
        else:
            pool.slope[rows] = self.rate(pool.t[rows], pool.x[rows], pick(pool.p, rows))
        # Outputs at the very end of the step wait for events there; without events they are written now.
        if self.events is None:
            self.emit_end(pool, rows)

    # -- output -----------------------------------------------------------------------------------------------------

    def emit(self, pool: _Pool, rows: Tensor, trial: Trial, h: Tensor, end: Tensor) -> None:
        """Write the outputs strictly inside the step, all rows at once."""
        upto = torch.searchsorted(self.times, end[rows].contiguous())  # first output at or after the end
        first = pool.output[rows]
        count = (upto - first).clamp(min=0)
        total = int(count.sum())
        if not total:
            return
        which = torch.repeat_interleave(count)
        start = count.cumsum(0) - count
        index = first[which] + torch.arange(total, device=which.device) - start[which]
        at = rows[which]
        theta = (self.times[index] - pool.t[at]) / h[at]
        values = interpolate(tuple(c[at] for c in trial.dense), theta)
        self.solution.x[index, pool.row[at]] = values
        pool.output[rows] = torch.maximum(upto, first)

    def emit_end(self, pool: _Pool, rows: Tensor) -> None:
        """Write the output that falls on the time where these samples stand."""
        index = pool.output[rows]
        here = (index < len(self.times)) & (self.times[index.clamp(max=len(self.times) - 1)] <= pool.t[rows])
        rows, index = rows[here], index[here]
        self.solution.x[index, pool.row[rows]] = pool.x[rows]
        pool.output[rows] += 1

    # -- events -----------------------------------------------------------------------------------------------------

    def cross(self, pool: _Pool, end: Tensor, trial: Trial, finite: Tensor, accept: Tensor,
              grown: Tensor) -> tuple[Tensor, Tensor, Trial, Tensor, Tensor]:  # fmt: skip
        """Shorten steps in which a trigger or a switch turns: the end is the first instant after the turn."""
        events, queue = self.events, pool.queue
        assert events is not None
        assert queue is not None
        crossing, E = torch.zeros_like(accept), len(events.events)
        end, moved = end.clone(), trial.end.clone()
        where, a, b, at_b = self.first_turn(pool, finite, trial, end)
        if len(where):
            new = events.turned(queue.signs[where], events.signs(b, at_b, pick(pool.p, where)))
            # Where the rate jumps the step is taken anew, so that no stage looks past the jump.
            span, size, accepted = a - pool.t[where], (end - pool.t)[where], accept[where]
            jumps = new[:, E:].any(-1)
            redo = jumps & (span > 1e-3 * size) & (span < size) & pool.land[where].isinf() & accepted
            again, taken, refused = where[redo], where[~redo & accepted], jumps & ~accepted
            accept[again] = False
            grown[again] = span[redo]
            pool.land[again] = b[redo]
            crossing[taken] = True
            moved[taken], end[taken] = at_b[~redo & accepted], b[~redo & accepted]
            pool.land[taken] = math.inf
            # A jump is the likely reason of a rejection: try to end before it.
            grown[where[refused]] = torch.maximum(span, 1e-3 * size)[refused]
        landed = (accept & pool.land.isfinite()).nonzero().squeeze(-1)
        if len(landed):
            # This step ended just before a jump: hop over it.
            target, reached = pool.land[landed], end[landed]
            span = reached - pool.t[landed]
            beyond = interpolate(tuple(c[landed] for c in trial.dense), (target - pool.t[landed]) / span)
            near = (target - reached).abs() <= 1e-6 * span
            here = landed[near]
            end[here], moved[here] = target[near], beyond[near]
            crossing[here] = True
            pool.land[landed] = math.inf
        slope = None if bool(crossing.any()) else trial.slope
        return crossing, end, trial._replace(end=moved, slope=slope), accept, grown

    def first_turn(self, pool: _Pool, among: Tensor, trial: Trial, end: Tensor) -> tuple[Tensor, ...]:
        """The samples of `among` in whose step something turns: rows, last time before, first time after, state there."""
        events, queue = self.events, pool.queue
        assert events is not None
        assert queue is not None
        rows, k = among.nonzero().squeeze(-1), len(PROBES)
        if not len(rows):
            return rows, pool.t[rows], pool.t[rows], pool.x[rows]
        t, size, p = pool.t[rows], (end - pool.t)[rows], pick(pool.p, rows)
        dense = tuple(c[rows] for c in trial.dense)
        inside = [interpolate(dense, torch.full_like(t, f)) for f in PROBES[:-1]]
        at = torch.cat([t + f * size for f in PROBES[:-1]] + [end[rows]])
        many = p.repeat(k, 1) if isinstance(p, Tensor) and p.ndim > 1 else p
        signs = events.signs(at, torch.cat([*inside, trial.end[rows]]), many).view(k, len(rows), -1)
        turned = events.turned(queue.signs[rows], signs).any(-1)
        hit = turned.any(0).nonzero().squeeze(-1)
        if not len(hit):
            return hit, t[hit], t[hit], pool.x[hit]
        first = turned[:, hit].long().argmax(0)
        fractions = torch.tensor((0.0, *PROBES), dtype=t.dtype, device=t.device)
        a = t[hit] + fractions[first] * size[hit]
        b = torch.where(first == k - 1, end[rows][hit], t[hit] + fractions[first + 1] * size[hit])
        part = tuple(c[hit] for c in dense)
        return rows[hit], *locate(events, queue.signs[rows[hit]], part, t[hit], size[hit], pick(p, hit), a, b)

    def look_ahead(self, pool: _Pool, h: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten steps that would pass a switch in time alone: they end just before it."""
        events, queue = self.events, pool.queue
        assert events is not None
        assert queue is not None
        E = len(events.events)
        turned = events.turned(queue.signs, events.signs(end, pool.x, pool.p))
        turned[:, :E] = False
        hit = (turned.any(-1) & pool.land.isinf()).nonzero().squeeze(-1)
        if not len(hit):
            return h, end
        t, x, p = pool.t[hit], pool.x[hit], pick(pool.p, hit)
        still = torch.zeros_like(x)
        before = queue.signs[hit]
        before[:, :E] = events.signs(t, x, p)[:, :E]
        a, b, _ = locate(events, before, (x, still, still, still, still), t, h[hit], p, t, end[hit])
        good = a - t > 4 * self.eps * torch.maximum(t.abs(), a.abs())
        rows = hit[good]
        h, end = h.clone(), end.clone()
        h[rows], end[rows] = (a - t)[good], a[good]
        pool.land[rows] = b[good]
        return h, end

    def settle(self, pool: _Pool, crossing: Tensor) -> None:
        """Execute what is due where the samples stand, then write the output that falls there."""
        events, queue = self.events, pool.queue
        assert events is not None
        assert queue is not None
        stepped = ~pool.again
        rows = (stepped & (crossing | (queue.due.amin(1) <= pool.t))).nonzero().squeeze(-1)
        calm = (stepped & ~crossing).nonzero().squeeze(-1)
        if len(rows):
            self.fire(pool, rows)
        self.emit_end(pool, stepped.nonzero().squeeze(-1))
        if len(rows):
            # A switch that is exactly zero here may jump with the next instant: go there.
            edge = (queue.signs[rows][:, len(events.events) :] == 0).any(-1)
            on_edge = rows[edge & crossing[rows] & (pool.t[rows] < self.times[-1])]
            if len(on_edge):
                pool.t[on_edge] = torch.nextafter(pool.t[on_edge], self.times[-1])
                self.fire(pool, on_edge)
            pool.slope[rows] = self.rate(pool.t[rows], pool.x[rows], pick(pool.p, rows))
            pool.error[rows] = 1e-4
            # A guess knows the new slope alone; the step so far knows the time scale. Either may be too long: then
            # the next attempt is rejected.
            pool.h[rows] = torch.maximum(self.guess(pool.take(rows)), 0.1 * pool.h[rows])
        if len(calm):
            # Nothing turned; a switch that stood at zero has taken its side.
            queue.signs[calm] = events.signs(pool.t[calm], pool.x[calm], pick(pool.p, calm))

    def fire(self, pool: _Pool, rows: Tensor) -> None:
        assert self.events is not None
        assert pool.queue is not None
        part = pool.queue.take(rows)
        before = part.fired.clone()
        p = pick(pool.p, rows)
        pool.x[rows] = self.events.fire(part, pool.t[rows], pool.x[rows], p, pool.row[rows])
        pool.queue.put(rows, part)
        self.solution.fired[pool.row[rows]] += part.fired - before

    def check_events(self, pool: _Pool) -> tuple[_Pool, Tensor]:
        """Drop the samples whose events went wrong; which rows stay."""
        assert pool.queue is not None
        failed, x, slope = pool.queue.failed >= 0, ~pool.x.isfinite(), ~pool.slope.isfinite()
        self.mark(pool, failed, 4, pool.queue.failed)
        self.mark(pool, x.any(1) & ~failed, 5, x.long().argmax(1))
        self.mark(pool, slope.any(1) & ~x.any(1) & ~failed, 1, slope.long().argmax(1))
        alive = ~(failed | x.any(1) | slope.any(1))
        rows = alive.nonzero().squeeze(-1)
        return (pool if len(rows) == len(alive) else pool.take(rows)), rows

    # -- who leaves -------------------------------------------------------------------------------------------------

    def stiff_ones(self, pool: _Pool, stiffness: Tensor, accept: Tensor) -> tuple[_Pool, list[_Pool]]:
        """Count steps at the edge of stability; send away the samples that keep to it."""
        edge = accept & (stiffness > dopri5.STIFF)
        calm = accept & ~edge
        pool.stiff = pool.stiff + edge.long()
        pool.calm = torch.where(edge, 0, pool.calm + calm.long())
        pool.stiff = torch.where(pool.calm >= CALM_STEPS, 0, pool.stiff)
        out = pool.stiff >= STIFF_STEPS
        if not bool(out.any()):
            return pool, []
        return pool.take((~out).nonzero().squeeze(-1)), [pool.take(out.nonzero().squeeze(-1))]

    def finish(self, pool: _Pool) -> _Pool:
        """Drop the samples that are done."""
        under_way = pool.output < len(self.times)
        return pool if bool(under_way.all()) else pool.take(under_way.nonzero().squeeze(-1))

    def give_up(self, pool: _Pool, switch: bool, code: int) -> list[_Pool]:
        if switch:
            return [pool]
        self.fail(pool, torch.ones_like(pool.again), code, torch.full_like(pool.row, -1))
        return []

    def check_slope(self, pool: _Pool) -> _Pool:
        bad = ~pool.slope.isfinite()
        return self.fail(pool, bad.any(1), 1, bad.long().argmax(1))

    def mark(self, pool: _Pool, mask: Tensor, code: int | Tensor, component: Tensor) -> None:
        if not bool(mask.any()):
            return
        row = pool.row[mask]
        self.solution.status[row] = code[mask] if isinstance(code, Tensor) else code
        self.solution.failed_at[row] = pool.t[mask]
        self.solution.component[row] = component[mask]
        blank(self.solution, self.times, row, self.rtol)

    def fail(self, pool: _Pool, mask: Tensor, code: int | Tensor, component: Tensor) -> _Pool:
        if not bool(mask.any()):
            return pool
        self.mark(pool, mask, code, component)
        return pool.take((~mask).nonzero().squeeze(-1))

    def guess(self, pool: _Pool) -> Tensor:
        """A first step size (Hairer, Norsett & Wanner, II.4): small against the state, and against its curvature."""
        span = (self.times[-1] - pool.t).clamp(min=0)
        if self.first_step is not None:
            return torch.minimum(span, torch.full_like(span, self.first_step))
        scale = self.atol + self.rtol * pool.x.abs()

        def norm(v: Tensor) -> Tensor:
            return (v / scale).square().mean(-1).sqrt()

        d0, d1 = norm(pool.x), norm(pool.slope)
        small = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = torch.where(small, 1e-6, 0.01 * d0 / torch.where(d1 > 0, d1, 1.0))
        h0 = torch.minimum(h0, span)
        euler = self.rate(pool.t + h0, pool.x + h0[:, None] * pool.slope, pool.p)
        d2 = norm(euler - pool.slope) / torch.where(h0 > 0, h0, 1.0)
        steep = torch.maximum(d1, d2.nan_to_num(math.inf, math.inf))
        h1 = torch.where(steep <= 1e-15, (h0 * 1e-3).clamp(min=1e-6), (0.01 / steep).pow(0.2))
        found = torch.minimum(torch.minimum(100 * h0, h1), span)
        return torch.where(found > 0, found, h0)


def blank(solution: Solution, times: Tensor, row: Tensor, rtol: float) -> None:
    """Make NaN of what was written for the time of failure and after, and just before it where a solution blew up.

    The time of a singularity is known to about rtol only, so what stands that close to it is no result.
    """
    t, status = solution.failed_at[row], solution.status[row]
    margin = torch.where((status == 1) | (status == 2), 10 * rtol * t.abs(), 0.0)
    late = times[:, None] >= t - margin
    solution.x[:, row] = torch.where(late[:, :, None], math.nan, solution.x[:, row])


def locate(events: Events, signs: Tensor, dense: tuple[Tensor, ...], t: Tensor, h: Tensor, p: Any, a: Tensor,
           b: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Close in on the first turn of any trigger inside [a, b], to rounding.

    A bracketed secant on the root functions, pushed past the root on alternating sides, and a bisection every third
    time (and wherever there is no root function).

    Returns:
        a (nothing has turned), b (something has), and the state at b.
    """
    eps = torch.finfo(t.dtype).eps

    def state(s: Tensor) -> Tensor:
        return interpolate(dense, (s - t) / h)

    def sides(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = state(s)
        return events.turned(signs, events.signs(s, x, p)), events.roots(s, x, p), x

    (_, g_a, _), (turned_b, g_b, x_b) = sides(a), sides(b)
    for i in range(80):
        tol = 2 * eps * torch.maximum(b.abs(), h)
        if bool((b - a <= tol).all()):
            break
        slope = g_a - g_b
        secant = a[:, None] + (b - a)[:, None] * g_a / torch.where(slope == 0, 1.0, slope)
        usable = turned_b & (g_a * g_b <= 0) & secant.isfinite() & (slope != 0)
        guess = torch.where(usable, secant, math.inf).amin(-1)
        guess = guess + (0, 1, -1)[i % 3] * 0.4 * tol
        middle = (a + b) / 2
        use = guess.isfinite() & (guess > a) & (guess < b) & (i % 4 != 3)
        c = torch.where(use, guess, middle)
        turned_c, g_c, x_c = sides(c)
        past = turned_c.any(-1)
        wide = past[:, None]
        a, b = torch.where(past, a, c), torch.where(past, c, b)
        g_a, g_b = torch.where(wide, g_a, g_c), torch.where(wide, g_c, g_b)
        turned_b, x_b = torch.where(wide, turned_c, turned_b), torch.where(wide, x_c, x_b)
    snapped = events.snapped(b)
    moved = (snapped != b).nonzero().squeeze(-1)
    if len(moved):
        turned, _, x = sides(snapped)
        good = turned.any(-1)
        b, x_b = torch.where(good, snapped, b), torch.where(good[:, None], x, x_b)
    return torch.minimum(a, b), b, x_b


def _joined(pools: list[_Pool]) -> _Pool:
    first, *rest = pools
    for other in rest:
        first = first.join(other)
    return first


def check(x0: Tensor, times: Tensor, p: Any, rtol: float, atol: float | Tensor, method: str) -> None:
    """Refuse what makes no sense.

    Raises:
        ValueError: shapes, tolerances, times or a method that cannot be.
    """
    if x0.ndim != 2 or not x0.is_floating_point():
        raise ValueError(f"x0 is a floating-point tensor [B, d], got {x0.dtype} {tuple(x0.shape)}")
    if times.ndim != 1 or len(times) < 1 or not bool((times[1:] > times[:-1]).all()):
        raise ValueError("times is one-dimensional and increases")
    if method not in ("auto", "dopri5", "rodas5p"):
        raise ValueError(f"method is 'auto', 'dopri5' or 'rodas5p', got {method!r}")
    if isinstance(p, Tensor) and p.ndim > 1 and len(p) != len(x0):
        raise ValueError(f"parameters have {len(p)} rows for {len(x0)} samples")
    if not 0 < rtol < 1:
        raise ValueError(f"rtol lies between 0 and 1, got {rtol}")
    if not bool((torch.as_tensor(atol) >= 0).all()):
        raise ValueError(f"atol is 0 or more, got {atol}")
    floor = 100 * torch.finfo(x0.dtype).eps
    if rtol < floor:
        raise ValueError(
            f"rtol {rtol:g} is below what {x0.dtype} can hold ({floor:.0e}): use float64, or a larger rtol"
        )
