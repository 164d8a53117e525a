"""Optimizers as systems and as `torch.optim` classes, the quadratic theory, and data for the curvature studies.

>>> import torch
>>> from unrolled import optim, rollout
>>> bowl = lambda params, _: 0.5 * (params**2).sum()
>>> path = rollout(optim.sgd(bowl, params=torch.ones(1), lr=0.5), steps=3, record=["params"])
>>> path["params"].flatten().tolist()
[1.0, 0.5, 0.25, 0.125]
"""

import importlib
from typing import TYPE_CHECKING, Any

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.optim import data as data
    from unrolled.optim import polar as polar
    from unrolled.optim import recipes as recipes
    from unrolled.optim import theory as theory
    from unrolled.optim import updates as updates
    from unrolled.optim.optimizer import Muon as Muon
    from unrolled.optim.systems import adam as adam
    from unrolled.optim.systems import muon as muon
    from unrolled.optim.systems import sgd as sgd
    from unrolled.training import gpt as gpt

_attached, _, _names = attach(
    __name__,
    submodules=("data", "optimizer", "polar", "recipes", "systems", "theory", "updates"),
    names={"adam": "systems", "muon": "systems", "sgd": "systems", "Muon": "optimizer"},
)
__all__ = sorted([*_names, "gpt"])


def __getattr__(name: str) -> Any:
    if name == "gpt":  # the model of the curvature studies lives with the training code
        return importlib.import_module("unrolled.training.gpt")
    return _attached(name)


def __dir__() -> list[str]:
    return __all__
