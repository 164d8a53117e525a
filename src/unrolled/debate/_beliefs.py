"""Belief traces as `fit` takes them: checked, with a missing belief as NaN throughout."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ROUNDING = 5e-3
"""How far a belief may be from summing to 1: ten options rounded to three decimals. It is then divided by its sum."""


def traces(beliefs: Any, mask: Any = None) -> tuple[list[Tensor], bool]:
    """Every trace as `[T+1, n, K]` float64, and whether a single one was given.

    An agent's belief of which any entry is missing is missing as a whole.

    Raises:
        TypeError: `beliefs` is no tensor, array, or list of them.
        ValueError: one agent, one option, no round; an entry that is no probability; a mask that does not fit.
    """
    single = not _is_list_of_traces(beliefs)
    given = [beliefs] if single else list(beliefs)
    if not given:
        raise ValueError("there is no trace to fit: the list is empty")
    masks = [mask] if single else [None] * len(given) if mask is None else list(mask)
    if len(masks) != len(given):
        raise ValueError(f"{len(masks)} masks for {len(given)} traces: give one each, or None")
    return [
        _trace(x, m, "" if single else f" of question {q}") for q, (x, m) in enumerate(zip(given, masks))
    ], single


def _is_list_of_traces(beliefs: Any) -> bool:
    if isinstance(beliefs, Tensor) or hasattr(beliefs, "__array__"):
        return len(beliefs.shape) == 4
    if not isinstance(beliefs, Sequence) or isinstance(beliefs, str):
        raise TypeError(
            f"beliefs are a tensor [T+1, n, K], or a list of them, one per question; got {type(beliefs).__name__}"
        )
    if not beliefs or isinstance(beliefs[0], Tensor) or hasattr(beliefs[0], "__array__"):
        return not beliefs or len(beliefs[0].shape) == 3
    depth, inner = 0, beliefs
    while isinstance(inner, Sequence) and inner:
        depth, inner = depth + 1, inner[0]
    return depth == 4


def _trace(beliefs: Any, mask: Any, where: str) -> Tensor:
    made = torch.as_tensor(beliefs, dtype=torch.float64).detach().cpu()
    shape = tuple(made.shape)
    if made.ndim != 3:
        raise ValueError(f"beliefs{where} have shape {shape}; expected [rounds + 1, agents, options]")
    if shape[0] < 2:
        raise ValueError(
            f"the trace{where} has no round: {shape} holds initial beliefs alone; give T + 1 of them, T >= 1"
        )
    if shape[1] < 2:
        raise ValueError(f"the trace{where} has one agent: influence needs at least two")
    if shape[2] < 2:
        raise ValueError(
            f"the trace{where} has one option, whose probability is always 1; a number x in [0, 1] is the belief "
            "[x, 1 - x]: torch.stack([x, 1 - x], -1)"
        )
    made = made.clone()
    if mask is not None:
        keep = torch.as_tensor(mask).bool()
        if keep.shape not in (made.shape[:2], made.shape):
            raise ValueError(
                f"the mask{where} has shape {tuple(keep.shape)}; expected {shape[:2]}: round, agent"
            )
        made[~keep] = torch.nan
    gone = made.isnan()
    made = made.where(~gone.any(-1, keepdim=True), torch.nan)
    total = made.sum(-1)
    negative, off = (made < 0).any(-1), (total - 1).abs() > ROUNDING
    if bool((negative | off | made.isinf().any(-1)).any()):
        t, i = (negative | off | made.isinf().any(-1)).nonzero()[0].tolist()
        values = [round(x, 6) for x in made[t, i].tolist()]
        wrong = "has a negative entry" if negative[t, i] else f"sums to {float(total[t, i]):.6g}"
        raise ValueError(
            f"the belief of agent {i} in round {t}{where} {wrong}: {values}; probabilities are 0 or more and sum to 1. "
            "If it is missing, make it NaN; if rounding did it, divide by the sum"
        )
    return made / total[..., None]


def hears(topology: Any, n: int, where: str = "") -> Tensor:
    """`[n, n]` booleans, who hears whom; everybody when None. The diagonal (an agent's own memory) is always true.

    Raises:
        ValueError: another shape.
    """
    if topology is None:
        return torch.ones(n, n, dtype=torch.bool)
    made = torch.as_tensor(topology).bool()
    if made.shape != (n, n):
        raise ValueError(
            f"the topology{where} has shape {tuple(made.shape)}; for {n} agents give [{n}, {n}], row i being whom agent i hears"
        )
    return made | torch.eye(n, dtype=torch.bool)


def observed(stack: Tensor, heard: Tensor) -> Tensor:
    """`[Q, T, n]`: transitions of which everything is there: the new belief, the anchor, and every belief heard.

    Args:
        stack: `[Q, T+1, n, K]`.
        heard: `[Q, n, n]`.
    """
    there = ~stack[..., 0].isnan()
    if bool(there.all()):
        return there[:, 1:]
    gone = (~there[:, :-1]).float()  # how many of those it hears are missing, as a product
    return there[:, 1:] & there[:, :1] & ((heard.float() @ gone.mT).mT == 0)
