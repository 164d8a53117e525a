# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Tell decoupled weight decay from the optimizer's own step: Z = z_opt + z_decay, z_decay = lr * wd * W.

Decoupled decay multiplies W by 1 - lr * wd beside the update. Whether an optimizer does so is read, in this order, from

1. the group's `decoupled_weight_decay` (torch's Adam, NAdam, RAdam and AdamW carry it),
2. the class: one of `DECOUPLED`, or derived from one.

Decay through the gradient (SGD's, Adam's) is part of the optimizer's direction and stays in z_opt.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

DECOUPLED = (
    "AdamW",
    "Muon",
    "Adafactor",
    "Lion",
    "NAdamW",
    "LAMB",
    "Adan",
    "SOAP",
    "Shampoo",
    "MuonWithAuxAdam",
)
COUPLED = (
    "SGD",
    "Adam",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adagrad",
    "Adadelta",
    "ASGD",
    "RMSprop",
    "Rprop",
    "LBFGS",
)

Decay = Callable[[torch.optim.Optimizer, dict[str, Any]], float]
"""`f(optimizer, group)` gives the coefficient c with z_decay = c W for the group's parameters."""


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The torch optimizer inside a wrapper that keeps it as `.optimizer` (Accelerate, Lightning)."""
    while (inner := getattr(optimizer, "optimizer", None)) is not None:
        optimizer = inner
    return optimizer


def decoupled(optimizer: Any, group: dict[str, Any]) -> bool | None:
    """Whether a group's weight decay is decoupled; None if that is not known.

    Example:
        >>> w = [torch.nn.Parameter(torch.ones(1))]
        >>> [decoupled(o, o.param_groups[0]) for o in (torch.optim.AdamW(w), torch.optim.Adam(w), torch.optim.SGD(w))]
        [True, False, False]
    """
    flag = group.get("decoupled_weight_decay")
    if isinstance(flag, bool):
        return flag
    names = [base.__name__ for base in type(optimizer).__mro__]
    for name in names:  # the nearest known ancestor decides
        if name in DECOUPLED:
            return True
        if name in COUPLED:
            return False
    return None


def coefficients(optimizers: Iterable[Any], decay: Decay | None = None) -> tuple[dict[int, float], set[str]]:
    """The c of every parameter by `id`, 0 where decay is not decoupled, and the classes that could not be told

    Read just before the step, while the groups hold the step's own learning rate.
    """
    found: dict[int, float] = {}
    unknown: set[str] = set()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if decay is not None:
                c = float(decay(optimizer, group))
            else:
                c = float(group.get("lr", 0.0)) * float(group.get("weight_decay") or 0.0)
                known = decoupled(optimizer, group)
                if c and known is None:
                    unknown.add(type(optimizer).__name__)
                if not known:
                    c = 0.0
            found |= {id(p): c for p in group["params"]}
    return found, unknown
