"""Gradients: take the accepted steps again, with the graph kept and the step sizes held constant.

Discretise, then differentiate: the result is the exact derivative of the numbers that `integrate` returned, steps fixed.
Rejected attempts leave nothing in the graph, so an overflow in one cannot poison a gradient.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from unrolled.sbml.events import pick
from unrolled.sbml.solvers import dopri5, rodas5p
from unrolled.sbml.solvers.adaptive import Solution
from unrolled.sbml.solvers.trial import Rate, interpolate

WHOLE = 64
"""Steps up to which the whole graph is kept; beyond, segments of about sqrt(steps) are recomputed."""


def replay(rate: Rate, x0: Tensor, times: Tensor, solution: Solution, *, p: Any = None) -> Tensor:
    """The states of a solution, differentiable in x0 and p.

    Args:
        rate: as given to `integrate`.
        x0: as given, with or without `requires_grad`.
        times: as given.
        solution: of `integrate(..., keep_steps=True)`, without events.
        p: as given.

    Returns:
        `[n, B, d]`, equal to `solution.x` up to rounding; NaN where a sample failed.

    Example:
        >>> from unrolled.sbml.solvers.adaptive import integrate
        >>> x0, times = torch.ones(1, 1, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> k = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
        >>> decay = lambda t, x, p: -p * x
        >>> found = integrate(decay, x0, times, p=k.detach(), rtol=1e-9, atol=1e-12, keep_steps=True)
        >>> path = replay(decay, x0, times, found, p=k)
        >>> abs(torch.autograd.grad(path[1, 0, 0], k)[0].item() + math.exp(-2)) < 1e-8
        True
    """
    times = times.to(x0)
    start, size, stiff, count = _table(solution, times, x0)
    steps = start.shape[0]
    derivatives = rodas5p.derivatives(rate)
    t0 = times[0].expand(len(x0))
    x, slope = x0, rate(t0, x0, p)
    everyone = torch.arange(len(x0), device=x0.device)
    indices: list[tuple[Tensor, Tensor]] = [(torch.zeros_like(everyone), everyone)]
    values: list[Tensor] = [x0]

    def segment(x: Tensor, slope: Tensor, p: Any, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        found: list[Tensor] = []
        for k in range(first, last):
            active = count > k
            for kind in (False, True):
                rows = (active & (stiff[k] == kind)).nonzero().squeeze(-1)
                if not len(rows):
                    continue
                whole = len(rows) == len(x)
                t, h = start[k, rows], size[k, rows]
                mine, q = x if whole else x[rows], pick(p, rows)
                before = rate(t, mine, q) if solution.jumps else slope if whole else slope[rows]
                if kind:
                    trial = rodas5p.step(rate, t, mine, h, q, before, *derivatives(t, mine, q))
                    after = rate(t + h, trial.end, q)
                else:
                    trial = dopri5.step(rate, t, mine, h, q, before)
                    after = trial.slope
                    assert after is not None
                x = trial.end if whole else x.index_put((rows,), trial.end)
                slope = after if whole else slope.index_put((rows,), after)
                _, which, index = _outputs(times, t, h)
                if len(which):
                    theta = (times[index] - t[which]) / h[which]
                    found.append(interpolate(tuple(c[which] for c in trial.dense), theta))
        return x, slope, torch.cat(found) if found else x.new_zeros(0, x.shape[1])

    length = steps if steps <= WHOLE else math.isqrt(steps) + 1
    for first in range(0, steps, max(1, length)):
        last = min(first + length, steps)
        for k in range(first, last):
            active = count > k
            for kind in (False, True):
                rows = (active & (stiff[k] == kind)).nonzero().squeeze(-1)
                _, which, index = _outputs(times, start[k, rows], size[k, rows])
                indices.append((index, rows[which]))
        if length == steps:
            x, slope, made = segment(x, slope, p, first, last)
        else:
            x, slope, made = checkpoint(segment, x, slope, p, first, last, use_reentrant=False)  # type: ignore[misc]
        values.append(made)
    at = tuple(torch.cat(side) for side in zip(*indices))
    empty = x0.new_full((len(times), *x0.shape), math.nan)
    out = empty.index_put(at, torch.cat(values))
    return torch.where(solution.x.isnan(), math.nan, out)


def _outputs(times: Tensor, t: Tensor, h: Tensor) -> tuple[int, Tensor, Tensor]:
    """The outputs in (t, t + h]: how many, of which row, and their index."""
    first = torch.searchsorted(times, t.contiguous(), right=True)
    # t + h rounds; a step that was placed on an output ends there.
    end = t + h
    end = end + 4 * torch.finfo(t.dtype).eps * end.abs()
    count = torch.searchsorted(times, end.contiguous(), right=True) - first
    count = count.clamp(min=0)
    total = int(count.sum())
    which = torch.repeat_interleave(count)
    begin = count.cumsum(0) - count
    return total, which, first[which] + torch.arange(total, device=t.device) - begin[which]


def _table(solution: Solution, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Accepted steps per sample, up to its last output: start, size and kind `[K, B]`, and how many `[B]`."""
    B = len(like)
    if not solution.accepted:
        none = like.new_zeros(0, B)
        return none, none, none.bool(), torch.zeros(B, dtype=torch.long, device=like.device)
    row, t, h = (torch.cat([each[i] for each in solution.accepted]) for i in range(3))  # type: ignore[misc]
    kind = torch.cat([torch.full_like(each[0], each[3], dtype=torch.bool) for each in solution.accepted])
    # Of a sample that failed, the steps that led into the failure lead to no output.
    reached = torch.where(solution.x.isnan().any(-1), -math.inf, times[:, None]).amax(0)
    useful = t < reached[row]
    row, t, h, kind = row[useful], t[useful], h[useful], kind[useful]
    order = row.argsort(stable=True)
    count = torch.bincount(row, minlength=B)
    begin = count.cumsum(0) - count
    k = torch.arange(len(row), device=row.device) - begin[row[order]]
    K = int(count.max()) if B else 0
    tables = []
    for value in (t, h, kind):
        made = torch.zeros(K, B, dtype=value.dtype, device=value.device)
        made[k, row[order]] = value[order]
        tables.append(made)
    return tables[0], tables[1], tables[2], count
