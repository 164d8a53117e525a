"""Confidence, alignment, routing, and when a mixture beats its members (theorems 2.4 and 2.5)."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.reading import Reading


def confidence(S: Any) -> Tensor:
    """C_j = 1 - H(s_j) / log K: 0 for a uniform belief, 1 for certainty (debate fact sheet 2605.25929, equation 8).

    Args:
        S: beliefs, `[..., n, K]`.

    Returns:
        `[..., n]`; NaN where a belief is missing.

    Raises:
        ValueError: fewer than two options, or entries that are no probabilities.

    Example:
        >>> confidence([[1.0, 0.0], [0.5, 0.5]]).tolist()
        [1.0, 0.0]
    """
    beliefs = _beliefs(S)
    return 1 - torch.special.entr(beliefs).sum(-1) / math.log(beliefs.shape[-1])


def relative_confidence(S: Any) -> Tensor:
    """R_j = C_j over the second largest C: above 1 only for an agent that stands out (equation 8).

    Args:
        S: beliefs, `[..., n, K]`, n at least 2.

    Returns:
        `[..., n]`; infinite or NaN where the runner-up has no confidence at all, NaN where a belief is missing.

    Raises:
        ValueError: one agent, fewer than two options, or entries that are no probabilities.

    Example:
        >>> relative_confidence([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]])[1].item()  # the runner-up itself
        1.0
    """
    C = confidence(S)
    if C.shape[-1] < 2:
        raise ValueError("relative confidence compares agents: give beliefs of at least two, [..., n, K]")
    runner_up = C.nan_to_num(nan=-math.inf).topk(2, dim=-1).values[..., 1:]
    return C / runner_up.where(runner_up > -math.inf, math.nan)


def alignment(S: Any) -> Tensor:
    """How close each agent begins to the others: 1 - TV(s_j, mean of the others).

    The paper names this proxy without a formula; this is the package's.

    Args:
        S: beliefs, `[..., n, K]`, n at least 2.

    Returns:
        `[..., n]` in [0, 1]; NaN where a belief is missing (its own, or all the others').

    Raises:
        ValueError: one agent, fewer than two options, or entries that are no probabilities.

    Example:
        >>> alignment([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).tolist()
        [0.5, 0.5, 0.0]
    """
    beliefs = _beliefs(S)
    if beliefs.shape[-2] < 2:
        raise ValueError("alignment compares agents: give beliefs of at least two, [..., n, K]")
    there = ~beliefs.isnan().any(-1, keepdim=True)
    known = beliefs.where(there, 0.0)
    others = (known.sum(-2, keepdim=True) - known) / (there.sum(-2, keepdim=True) - there.to(known.dtype))
    return 1 - 0.5 * (beliefs - others).abs().sum(-1)


def route(S: Any, beta: float) -> Tensor:
    """The confidence router pi_j proportional to exp(beta C_j) (equation 8).

    Args:
        S: beliefs, `[..., n, K]`.
        beta: 0 weighs all alike; `inf` takes the most confident, ties shared. The paper does not say which it used.

    Returns:
        `[..., n]`, sums to 1. An agent whose belief is missing gets weight 0.

    Raises:
        ValueError: beta is NaN, or S holds no probabilities.

    Example:
        >>> route([[1.0, 0.0], [0.5, 0.5]], beta=math.log(3)).tolist()
        [0.75, 0.25]
    """
    if math.isnan(beta):
        raise ValueError("beta is NaN; give a number, or math.inf for the most confident agent alone")
    C = confidence(S)
    C = C.where(~C.isnan(), -math.inf if beta >= 0 else math.inf)
    if math.isinf(beta):
        best = (C if beta > 0 else -C).amax(-1, keepdim=True) * (1 if beta > 0 else -1) == C
        return best.to(C.dtype) / best.sum(-1, keepdim=True)
    if beta == 0:
        C = C.where(C.isinf(), 0.0)
        return C.isfinite().to(C.dtype) / C.isfinite().sum(-1, keepdim=True)
    return torch.softmax(beta * C, dim=-1)


def ambiguity(pi: Any, S: Any, y: Any) -> Reading:
    """The ambiguity identity, E loss(mix) = sum_j pi_j r_j - D_pi (lemma 2.3), with the Brier loss ||p - e_y||^2.

    Args:
        pi: weights, `[n]` or `[..., n]`, sum to 1.
        S: beliefs, `[..., n, K]`.
        y: the right option: an index, `[...]` of them, or its distribution given S, `[..., K]` floating point.

    Returns:
        `risk` `[..., n]` (r_j), `loss` (of the mixture), `average` (sum_j pi_j r_j), `diversity`
        (D = sum_j pi_j ||s_j - mix||^2), `regret` (average - min_j r_j); loss = average - diversity.

    Raises:
        ValueError: shapes that do not fit, weights that do not sum to 1, an option that is not there.

    Example:
        >>> reading = ambiguity([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], y=0)
        >>> [reading[name].item() for name in ("loss", "average", "diversity", "regret")]
        [0.5, 1.0, 0.5, 1.0]
    """
    values = _terms(_weights(pi), _beliefs(S), y)
    return Reading(
        "ambiguity",
        values,
        "loss = average - diversity, with the Brier loss (lemma 2.3)",
        units="Brier",
        method="exact",
    )


def advantage(pi: Any, S: Any, y: Any, *, static: Any = None) -> Reading:
    """Does the debate beat the best single agent, and a fixed ensemble? The terms of theorems 2.4 and 2.5.

    Over questions q, with pi(q) the influence in question q and j* the agent with the lowest mean risk:

    * theorem 2.4: R_{j*} - R_debate = E[r_{j*} - min_j r_j] (specialisation) + E[D_pi] (diversity) - E[regret_pi];
    * theorem 2.5: R_static - R_debate = E[sum_j (a_j - pi_j) r_j] (routing gain) - E[D_a - D_pi] (diversity lost).

    Both are identities of the Brier risk (debate fact sheet, equations 6 and 7); a debate is ahead when its side is
    positive. They hold for the mixture of initial beliefs pi S, which is what FJ dynamics predict.

    Args:
        pi: influence per question, `[Q, n]`, or `[n]` for all.
        S: initial beliefs, `[Q, n, K]`.
        y: right options, `[Q]`, or their distributions given S, `[Q, K]`.
        static: weights of the ensemble to compare with, `[n]`; uniform when None.

    Returns:
        Per question: `specialisation`, `diversity`, `regret`, `over_best` (their balance), `realised_over_best`
        (the difference of losses itself), `routing_gain`, `diversity_lost`, `over_static`, `realised_over_static`.
        Numbers: `best_agent`, and the mean of each as `mean_<name>`.

    Raises:
        ValueError: shapes that do not fit, weights that do not sum to 1, an option that is not there, no question.

    Example:
        Each of two agents knows one question, and the router knows who:

        >>> S = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
        >>> terms = advantage(torch.eye(2, dtype=torch.float64), S, y=torch.tensor([0, 0]))
        >>> terms["mean_over_best"], terms["mean_over_static"], terms["realised_over_static"].tolist()
        (1.0, 0.5, [0.5, 0.5])
    """
    beliefs = _beliefs(S)
    if beliefs.ndim != 3 or not len(beliefs):
        raise ValueError(
            f"advantage averages over questions: give S as [Q, n, K], got {tuple(beliefs.shape)}"
        )
    if beliefs.isnan().any():
        gone = beliefs.isnan().any(-1).any(-1).nonzero().squeeze(-1).tolist()
        raise ValueError(f"initial beliefs are missing in questions {gone[:8]}: leave those questions out")
    questions, n, _ = beliefs.shape
    weights = _weights(pi).to(beliefs.dtype).expand(questions, n)
    fixed = (
        torch.full((n,), 1 / n, dtype=beliefs.dtype) if static is None else _weights(static).to(beliefs.dtype)
    )
    debate, ensemble = _terms(weights, beliefs, y), _terms(fixed.expand(questions, n), beliefs, y)
    risk = debate["risk"]
    best = int(risk.mean(0).argmin())
    specialisation = risk[:, best] - risk.amin(-1)
    values: dict[str, Any] = {
        "specialisation": specialisation,
        "diversity": debate["diversity"],
        "regret": debate["regret"],
        "over_best": specialisation + debate["diversity"] - debate["regret"],
        "realised_over_best": risk[:, best] - debate["loss"],
        "routing_gain": ((fixed - weights) * risk).sum(-1),
        "diversity_lost": ensemble["diversity"] - debate["diversity"],
        "realised_over_static": ensemble["loss"] - debate["loss"],
    }
    values["over_static"] = values["routing_gain"] - values["diversity_lost"]
    means = {f"mean_{name}": float(value.mean()) for name, value in values.items()}
    return Reading(
        "advantage",
        {**values, **means, "best_agent": best},
        "Brier risk of the best agent, and of a static ensemble, minus that of the debate (theorems 2.4, 2.5)",
        units="Brier",
        index=("question", torch.arange(questions)),
        method="exact",
    )


def _terms(pi: Tensor, S: Tensor, y: Any) -> dict[str, Tensor]:
    """Risks, loss of the mixture, average risk, diversity and regret."""
    if pi.shape[-1] != S.shape[-2]:
        raise ValueError(
            f"{pi.shape[-1]} weights for {S.shape[-2]} agents: give pi as [..., n] for S [..., n, K]"
        )
    pi, truth = pi.to(S.dtype), _truth(y, S)

    def brier(p: Tensor, e: Tensor) -> Tensor:  # E ||p - e_y||^2 = ||p||^2 - 2 p . E e_y + 1
        return (p * p).sum(-1) - 2 * (p * e).sum(-1) + 1

    risk = brier(S, truth[..., None, :])
    mix = (pi[..., None] * S).sum(-2)
    average = (pi * risk).sum(-1)
    return {
        "risk": risk,
        "loss": brier(mix, truth),
        "average": average,
        "diversity": (pi * (S - mix[..., None, :]).square().sum(-1)).sum(-1),
        "regret": average - risk.amin(-1),
    }


def _truth(y: Any, S: Tensor) -> Tensor:
    """The right option's distribution, `[..., K]`."""
    given, options = torch.as_tensor(y), S.shape[-1]
    if given.is_floating_point():
        if given.shape[-1:] != (options,):
            raise ValueError(
                f"y has shape {tuple(given.shape)}: as distributions it needs {options} options last"
            )
        return given.to(S.dtype)
    if given.numel() and not bool(((given >= 0) & (given < options)).all()):
        raise ValueError(f"y holds option {int(given.max())}; there are {options}, counted from 0")
    if given.shape not in ((), S.shape[:-2]):
        raise ValueError(
            f"y has shape {tuple(given.shape)}; S has {tuple(S.shape)}: give one option per question"
        )
    return torch.nn.functional.one_hot(given.long(), options).to(S.dtype)


def _weights(pi: Any) -> Tensor:
    weights = pi if isinstance(pi, Tensor) else torch.as_tensor(pi, dtype=torch.float64)
    if weights.ndim == 0 or bool((weights.sum(-1) - 1).abs().max() > 1e-6) or bool((weights < -1e-12).any()):
        raise ValueError(f"weights of agents are 0 or more and sum to 1, got {weights.tolist()}")
    return weights


def _beliefs(S: Any) -> Tensor:
    """Floating-point probabilities along the last axis; a missing belief is NaN."""
    beliefs = S if isinstance(S, Tensor) else torch.as_tensor(S, dtype=torch.float64)
    beliefs = beliefs if beliefs.is_floating_point() else beliefs.double()
    if beliefs.ndim < 2 or beliefs.shape[-1] < 2:
        raise ValueError(
            f"beliefs are [..., n, K] with at least two options, got shape {tuple(beliefs.shape)}"
        )
    bad = (beliefs < 0).any(-1) | ((beliefs.sum(-1) - 1).abs() > 1e-3)
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"belief {where} is no distribution: {[round(x, 6) for x in beliefs[where].tolist()]} sums to "
            f"{float(beliefs[where].sum()):.6g}; give probabilities, 0 or more, that sum to 1"
        )
    return beliefs
