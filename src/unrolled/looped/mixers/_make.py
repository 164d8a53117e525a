"""From the name in a pattern to a module."""

import importlib

from torch import nn

from unrolled.looped.config import LINEAR, MIXERS, LT2Config


def make(name: str, config: LT2Config) -> nn.Module:
    """Build the mixer of that name.

    Raises:
        ValueError: no such mixer.

    Example:
        >>> make("full", LT2Config(width=8, heads=2)).q.weight.shape
        torch.Size([8, 8])
    """
    if name not in MIXERS:
        raise ValueError(f"no mixer {name!r}: there are {', '.join(MIXERS)}")
    home = "linear" if name in LINEAR else {"nsa": "nsa", "dsa": "dsa"}.get(name, "attention")
    module = importlib.import_module(f"unrolled.looped.mixers.{home}")
    return module.KINDS[name](config)
