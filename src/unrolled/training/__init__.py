"""Train by gradient: one plain loop (`fit`), real text, a small readable GPT, checkpoints, many processes.

Read these first: `fit.py`, `gpt.py`, `corpus.py`.

>>> from unrolled import training
>>> training.fit.__name__, training.corpus.__name__, training.gpt.__name__
('fit', 'corpus', 'unrolled.training.gpt')
"""

# Not lazy as elsewhere: `training.fit` is the function, and a later first import of the module of that name would
# put the module there. It costs some 20 ms beyond torch.
from unrolled.training import checkpoint, gpt, images, parallel, schedules, tokenizer
from unrolled.training.corpus import Batches, Corpus, corpus
from unrolled.training.fit import Fit, fit, validation
from unrolled.training.progress import Progress, progress

__all__ = [
    "Batches",
    "Corpus",
    "Fit",
    "Progress",
    "checkpoint",
    "corpus",
    "fit",
    "gpt",
    "images",
    "parallel",
    "progress",
    "schedules",
    "tokenizer",
    "validation",
]
