"""looped: linear-time looped language models (LT2 2605.20670), on CPU and GPU.

A stack of blocks, applied T times to its own output: depth without parameters, and with linear mixers context without a
quadratic bill.

>>> import torch
>>> from unrolled.looped import LT2, Cache, LT2Config
>>> model = LT2(LT2Config.preset("tiny")).eval()
>>> tokens = torch.arange(12)[None]
>>> whole = model(tokens).logits
>>> cache = Cache()
>>> parts = [model(tokens[:, t : t + 1], cache=cache).logits for t in range(12)]  # one token at a time
>>> torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)
True
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.looped._generate import Generation as Generation
    from unrolled.looped._loss import loss as loss
    from unrolled.looped.cache import Cache as Cache
    from unrolled.looped.config import LT2Config as LT2Config
    from unrolled.looped.model import LT2 as LT2
    from unrolled.looped.model import Output as Output
    from unrolled.looped.sampling import Sampling as Sampling
    from unrolled.looped.system import BlockSystem as BlockSystem

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("convert", "interop", "mixers", "ops", "tasks", "text", "train"),
    names={
        "BlockSystem": "system",
        "Cache": "cache",
        "Generation": "_generate",
        "LT2": "model",
        "LT2Config": "config",
        "Output": "model",
        "Sampling": "sampling",
        "loss": "_loss",
    },
)
