"""`fit`: Friedkin-Johnsen parameters from the beliefs of a debate."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.debate import _bootstrap, _control, _estimate, _rollout
from unrolled.debate._beliefs import hears, traces
from unrolled.debate._estimate import Estimate
from unrolled.debate._normal import Stack
from unrolled.debate.fj import FJ
from unrolled.debate.result import GAMMA_IN_PI, NO_CONTROL, Control, FJFit, FJFits

ZERO = 1e-9
"""Weight below which nothing is left to split: alpha beside gamma = 1, W of an agent that listens to nobody."""

MODES = ("one_step", "rollout")


def fit(
    beliefs: Any,
    *,
    pool: bool = False,
    mode: str = "one_step",
    topology: Any = None,
    bias: bool = False,
    mask: Any = None,
    control: Any = None,
    bootstrap: int = 0,
    max_condition: float = 1e6,
    level: float = 0.9,
    rng: torch.Generator | int = 0,
) -> FJFit | FJFits:
    """Fit gamma, alpha and W of b_i(t+1) = gamma_i s_i + (1-gamma_i)[alpha_i b_i(t) + (1-alpha_i) sum_j w_ij b_j(t)].

    With u_i = [gamma_i, (1-gamma_i) alpha_i, (1-gamma_i)(1-alpha_i) w_i.] the model is linear, and what gamma, alpha and W
    may be is exactly u_i >= 0, sum u_i = 1 (debate fact sheet 2605.25929, a3). `mode="one_step"` minimises the mean
    squared error of the next round given the observed one: a small convex quadratic program per agent, solved exactly,
    all questions at once. `mode="rollout"` fits whole trajectories M_t s with unknown initial beliefs s (variable
    projection): noise in the beliefs biases the one-step fit, and this one much less; it is a local search, started at
    the one-step fit.

    **What the data cannot say.** Agent i's coefficients are unique if its design has full rank; one question with T
    transitions needs T >= 2 and T (K-1) >= n. Otherwise the status is `"unidentified"`, and the values are the minimiser
    of least norm of u (up to 64 agents; beyond, one close to it): one of many. `"ill-conditioned"`: full rank, and a
    condition number beyond `max_condition`. The status of an agent covers its own row; M and pi need all rows.

    Args:
        beliefs: `[T+1, n, K]`, probabilities over K options; or a list of them, or `[Q, T+1, n, K]`: one per question.
            NaN is missing: a transition is used when the new belief, the agent's initial belief, and all that it heard
            are there.
        pool: one set of parameters for all questions; otherwise one fit per question.
        mode: `"one_step"` or `"rollout"`.
        topology: `[n, n]`, row i marks whom agent i hears, kept exactly; everybody when None. Or a list, one per question.
        bias: add a constant pull towards each option (one more column per option; mode one_step).
        mask: `[T+1, n]` booleans, false where a belief is to be left out; a list when beliefs are one.
        control: beliefs of the same questions answered without hearing peers; tests the weight on peers against it, with
            arm labels permuted within questions. Without it the fit carries a warning.
        bootstrap: resamples for intervals of gamma, alpha, W, M and pi; bias-corrected (see `Interval`), because noise
            biases the one-step fit. 200 is a good number.
        max_condition: beyond this condition number a fit is `"ill-conditioned"`.
        level: nominal coverage of the intervals. On simulated debates (5 agents, 10 options, 5 rounds, 20 questions,
            noise 0.005) the intervals of gamma at 0.9 covered the truth as often as docs/systems/debate.md states.
        rng: of bootstrap and permutations.

    Returns:
        An `FJFit`; `FJFits` (a list) for several questions that are not pooled.

    Raises:
        TypeError: beliefs are no tensor, array or list of them.
        ValueError: no round, one agent, one option, entries that are no probabilities, shapes that do not fit together.

    Example:
        >>> fj = FJ([0.5, 0.2, 0.1], [0.25, 0.5, 0.4], [[0, 0.7, 0.3], [0.6, 0, 0.4], [0.9, 0.1, 0]])
        >>> S = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], dtype=torch.float64)
        >>> trace = torch.stack([fj.M_T(t) @ S for t in range(6)])
        >>> found = fit(trace)
        >>> found.status, bool((found.gamma - fj.gamma).abs().max() < 1e-9), found.kkt < 1e-8
        ('identified', True, True)
        >>> fit(trace[:2]).reason  # one transition
        'one transition: b(0) = s, so stubbornness and retention cannot be told apart'
    """
    if mode not in MODES:
        raise ValueError(f"mode= is one of {', '.join(map(repr, MODES))}, got {mode!r}")
    if bias and (mode == "rollout" or bootstrap):
        raise ValueError(
            "bias=True is for mode='one_step' without bootstrap: the rollout model has no constant pull"
        )
    if not 0 < level < 1 or bootstrap < 0 or not max_condition > 1:
        raise ValueError(
            f"level lies in (0, 1), bootstrap >= 0, max_condition > 1; got {level}, {bootstrap}, {max_condition}"
        )
    found, single = traces(beliefs, mask)
    if pool and len({x.shape[1] for x in found}) > 1:
        raise ValueError(
            f"pool=True shares parameters among the same agents; the questions have {[x.shape[1] for x in found][:8]}"
        )
    if pool and bias and len({x.shape[2] for x in found}) > 1:
        raise ValueError("pool=True with bias=True needs the same options in every question")
    graphs = [topology] * len(found) if single or not isinstance(topology, list) else topology
    if not single and isinstance(topology, list) and len(topology) != len(found) and pool is False:
        graphs = [topology] * len(found)  # nested lists of one [n, n]
    everybody = {n: hears(None, n) for n in {x.shape[1] for x in found}}
    heard = [everybody[x.shape[1]] if g is None else hears(g, x.shape[1]) for g, x in zip(graphs, found)]
    if pool and any(h is not heard[0] and not torch.equal(h, heard[0]) for h in heard):
        raise ValueError("pool=True needs one topology for all questions")
    groups = _grouped(found, heard, bias)
    fits: list[FJFit | None] = [None] * (1 if pool else len(found))
    options = {
        "mode": mode,
        "max_condition": max_condition,
        "bootstrap": bootstrap,
        "level": level,
        "rng": rng,
    }
    if pool:
        stacks = [stack for _, stack in groups]
        (fits[0],) = _made(stacks, _estimate.one_step(stacks, pool=True), pool=True, **options)
    else:
        for where, stack in groups:
            for q, made in zip(where, _made([stack], _estimate.one_step([stack]), pool=False, **options)):
                fits[q] = made
    arm = None if control is None else _compare(found, control, heard, bias, rng)
    whole = FJFits(f for f in fits if f is not None)
    for each in whole:
        each.control = arm
        each.notes += (GAMMA_IN_PI,) if arm else (GAMMA_IN_PI, NO_CONTROL)
    return whole[0] if single or pool else whole


def _grouped(found: list[Tensor], heard: list[Tensor], bias: bool) -> list[tuple[list[int], Stack]]:
    """Questions of equal shape together, so that they are solved together."""
    places: dict[torch.Size, list[int]] = {}
    for q, trace in enumerate(found):
        places.setdefault(trace.shape, []).append(q)
    made: list[tuple[list[int], Stack]] = []
    for where in places.values():
        first = heard[where[0]]
        same = all(heard[q] is first or torch.equal(heard[q], first) for q in where)
        graphs = first.expand(len(where), -1, -1) if same else torch.stack([heard[q] for q in where])
        made.append((where, Stack(torch.stack([found[q] for q in where]), graphs, bias)))
    return made


def _compare(found: list[Tensor], control: Any, heard: list[Tensor], bias: bool, rng: Any) -> Control:
    alone, _ = traces(control)
    if [x.shape for x in alone] != [x.shape for x in found]:
        raise ValueError(
            f"the control arm has {len(alone)} traces, the debate {len(found)}, or their shapes differ: give the same "
            "questions with the same agents, options and rounds"
        )
    both = (
        [stack for _, stack in _grouped(found, heard, bias)],
        [stack for _, stack in _grouped(alone, heard, bias)],
    )
    return _control.compare(*both, rng=rng)


def _made(
    stacks: list[Stack], estimate: Estimate, *, pool: bool, mode: str, max_condition: float, bootstrap: int,
    level: float, rng: Any,
) -> list[FJFit]:  # fmt: skip
    """Fits from estimates: parameters, errors, status and, if asked for, the rollout fit and intervals."""
    n = stacks[0].beliefs.shape[2]
    u, residual, conditioning = estimate.u, estimate.kkt, estimate.conditioning
    u, losses, mses, kls, used = _judged(stacks, u, pool)
    anchors: list[list[Tensor] | None] = [None] * len(u)
    notes: list[tuple[str, ...]] = [()] * len(u)
    if mode == "rollout":
        u, residual, conditioning = u.clone(), residual.clone(), conditioning
        for q in range(len(u)):
            mine = stacks if pool else [Stack(stacks[0].beliefs[q : q + 1], stacks[0].heard[q : q + 1])]
            if bool(u[q].isnan().any()):
                notes[q] = ("no rollout fit: some agent has no usable transition; these are one-step values",)
                continue
            r = _rollout.fit(mine, u[q])
            u[q], residual[q], anchors[q] = r.u, r.kkt, r.anchors
            losses[q], mses[q], kls[q] = r.loss, r.loss, r.kl
            for name, value in zip(conditioning._fields, r.conditioning):
                getattr(conditioning, name)[q] = value
            notes[q] = () if r.converged else (f"the local search stopped early: {r.message}",)
    gamma, alpha, W, H, bias = split(u, n)
    M = _total(gamma, H, bias)
    pi = M.mean(-2)
    missing = [int(s.beliefs[..., 0].isnan().sum()) for s in stacks] if pool else (
        stacks[0].beliefs[..., 0].isnan().sum((-2, -1)).tolist()
    )  # fmt: skip
    whole, made = conditioning, []
    full = (whole.rank == whole.unknowns) & (whole.condition <= max_condition) & ~u.isnan().any(-1)
    for q in range(len(u)):
        mine = stacks if pool else [stacks[0]]
        if bool(full[q].all()):
            statuses, reasons = ("identified",) * n, ("",) * n
        else:
            statuses, reasons = zip(*(
                _status(mine, None if pool else q, i, whole.rank[q, i], whole.unknowns[q, i], whole.condition[q, i],
                        int(estimate.count[q, i]), max_condition)
                for i in range(n)
            ))  # fmt: skip
        made.append(
            FJFit(
                gamma[q], alpha[q], W[q], H[q], M[q], pi[q], None if bias is None else bias[q], float(losses[q]),
                float(mses[q]), float(kls[q]), whole.rank[q], whole.unknowns[q], whole.condition[q], statuses, reasons,
                sum(missing) if pool else missing[q], int(used[q]), float(residual[q].nan_to_num().max()), mode,
                sum(len(s.beliefs) for s in stacks) if pool else 1, max(s.beliefs.shape[1] for s in stacks) - 1,
                anchors[q], level=level, notes=notes[q] + _undefined(gamma[q], alpha[q], W[q]),
            )
        )  # fmt: skip
        if bootstrap:
            part = stacks if pool else [Stack(stacks[0].beliefs[q : q + 1], stacks[0].heard[q : q + 1])]
            found, more = _bootstrap.intervals(part, u[q], mode, bootstrap, level, rng)
            made[-1].intervals, why = _bootstrap.known(found, statuses)
            made[-1].notes += more + why
    return made


def _judged(stacks: list[Stack], u: Tensor, pool: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Losses, mean squared errors, KL divergences and counts of the one-step predictions, per fit."""
    parts = []
    for stack in stacks:
        mine = u.expand(len(stack.beliefs), -1, -1) if pool else u
        square, kl, used = _estimate.errors(stack, _estimate.predict(stack, mine))
        numbers = square, kl, used, used * stack.beliefs.shape[3]
        parts.append([x.sum(0, keepdim=True) for x in numbers] if pool else numbers)
    square, kl, used, entries = (torch.stack(x).sum(0) for x in zip(*parts))
    mse = square / entries.where(entries > 0, torch.nan)
    return u, mse.clone(), mse, kl / used.where(used > 0, torch.nan), used


def split(u: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """gamma, alpha, W, H and bias from u `[..., n, p]`; NaN where there is nothing left to split."""
    gamma, H = u[..., 0], u[..., 1 : n + 1]
    constants = u[..., n + 1 :] if u.shape[-1] > n + 1 else None
    rest = H.sum(-1)
    own = H.diagonal(dim1=-2, dim2=-1)
    alpha = torch.where(rest > ZERO, own / rest, torch.nan)
    peers = H - torch.diag_embed(own)
    heard = peers.sum(-1, keepdim=True)
    W = torch.where(heard > ZERO, peers / heard, torch.nan)
    return gamma, alpha, W, H, constants


def _total(gamma: Tensor, H: Tensor, bias: Tensor | None) -> Tensor:
    """M of every fit; the limit of `FJ.M` where nobody is stubborn."""
    n = gamma.shape[-1]
    known = ~(gamma.isnan().any(-1) | H.isnan().flatten(1).any(-1))
    safe = known & ((gamma > ZERO).all(-1) if bias is None else True)
    made = torch.full_like(H, torch.nan)
    if safe.any():
        solved, _ = torch.linalg.solve_ex(
            torch.eye(n, dtype=H.dtype) - H[safe], torch.diag_embed(gamma[safe])
        )
        made[safe] = solved
    for q in (known & ~safe).nonzero().flatten().tolist():
        free = H[q].sum(-1)
        own = H[q].diagonal()
        alpha = torch.where(free > 0, own / free.where(free > 0, 1.0), 0.0)
        peers = H[q] - torch.diag(own)
        heard = peers.sum(-1, keepdim=True)
        W = torch.where(heard > 0, peers / heard, torch.nan)
        stubborn = gamma[q].where(gamma[q] > ZERO, 0.0).clamp(max=1)
        made[q] = FJ(stubborn, torch.where(heard[:, 0] > 0, alpha, 1.0).clamp(0, 1), W).M
    return made


def _undefined(gamma: Tensor, alpha: Tensor, W: Tensor) -> tuple[str, ...]:
    """Why entries are NaN, for agents whose row was fitted."""
    notes: list[str] = []
    fixed = [i for i in range(len(gamma)) if not math.isnan(gamma[i]) and math.isnan(alpha[i])]
    if fixed:
        notes.append(f"alpha and W are NaN for agents {fixed}: gamma is 1, nothing else is listened to")
    if not bool(gamma.isnan().any()) and bool((gamma <= ZERO).all()):
        notes.append("nobody is stubborn (DeGroot): M and pi are limits, the weights of the final consensus")
    deaf = [i for i in range(len(gamma)) if not math.isnan(alpha[i]) and bool(W[i].isnan().any())]
    if deaf:
        notes.append(f"rows of W are NaN for agents {deaf}: they listen to nobody but themselves")
    return tuple(notes)


def _status(
    stacks: list[Stack], q: int | None, i: int, rank: Tensor, unknowns: Tensor, condition: Tensor, count: int,
    max_condition: float,
) -> tuple[str, str]:  # fmt: skip
    """Status of one agent's row and, unless it is identified, why."""
    traced = [s.beliefs if q is None else s.beliefs[q : q + 1] for s in stacks]
    if not count:
        if all(bool(B[:, 0, i, 0].isnan().all()) for B in traced):
            return "unidentified", (
                "its initial belief is missing, so it has no anchor; if it joined late, fit the rounds since: beliefs[t:]"
            )
        return "unidentified", "no transition in which it answered and all that it heard was observed"
    if int(rank) == int(unknowns):
        if float(condition) <= max_condition:
            return "identified", ""
        return (
            "ill-conditioned",
            f"condition number {float(condition):.2g} is beyond max_condition = {max_condition:.2g}",
        )
    return "unidentified", _why(traced, int(rank), int(unknowns))


def _why(traced: list[Tensor], rank: int, unknowns: int) -> str:
    if all(B.shape[1] == 2 for B in traced):
        return "one transition: b(0) = s, so stubbornness and retention cannot be told apart"
    available = sum(len(B) * (B.shape[1] - 1) * (B.shape[3] - 1) for B in traced)
    if available < unknowns:
        return (
            f"{available} independent equations (questions x rounds x (options - 1)) for {unknowns} unknowns"
        )
    n = traced[0].shape[2]
    for a in range(n):
        for b in range(a + 1, n):
            if all(torch.allclose(B[:, :, a], B[:, :, b], atol=1e-12, equal_nan=True) for B in traced):
                return f"agents {a} and {b} wrote the same beliefs in every round: their influence cannot be told apart"
    return f"beliefs are collinear (consensus, or too little movement): rank {rank} of {unknowns}"
