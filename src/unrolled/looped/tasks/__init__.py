"""Tasks that tell mixers apart: recall (MQAR, needle), state tracking (parity, group words), both at once (swap programs).

Every task is a small frozen object that maps a step index to a batch: `task(index) -> (tokens, targets)`, each `[batch,
length]` int64, where `targets[:, t]` is what is to be predicted at position t, and -100 where nothing is asked. That is
what `training.fit` takes as `batches` and what `training.gpt.loss` scores; a resumed run sees the batches it would have
seen. Language modelling needs no task: `training.corpus(...).batches(...)` has the same shape.

>>> import torch
>>> from unrolled.looped import tasks
>>> tokens, targets = tasks.Words("Z2", length=6, batch=1)(0)
>>> torch.equal(targets, tokens.cumsum(1) % 2)
True
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("mqar", "words", "swap", "needle", "score"),
    names={
        "MQAR": "mqar",
        "Words": "words",
        "Swap": "swap",
        "Curriculum": "swap",
        "Needle": "needle",
        "accuracy": "score",
        "loss": "score",
    },
)
