# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeArgument=false
"""Remember the circumstances of a step's own forward passes, so that the probe can repeat them."""

from typing import Any

import torch
from torch import nn

from unrolled.core.seeds import RngState
from unrolled.instruments.curvature.groups import unwrapped
from unrolled.instruments.curvature.state import Buffers, measuring

_MOST = 4096
"""Forward calls remembered per step; beyond them the last ones count."""


class Scenes:
    """Random state at each forward call of a model with gradients enabled, and buffers and autocast at the first.

    Watching costs a hook on the steps that are to be probed, and nothing otherwise.

    Attributes:
        rng: one random state per call.
        buffers: of the model, before the first call; None without calls.

    Example:
        >>> model = nn.Dropout()
        >>> scenes = Scenes(model)
        >>> scenes.watch()
        >>> first = model(torch.ones(8))
        >>> scenes.rng[0].restore()
        >>> torch.equal(model(torch.ones(8)), first), len(scenes.rng)
        (True, 2)
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._hook: Any = None
        self.clear()

    def watch(self) -> None:
        """Start to remember."""
        if self._hook is None:
            self._hook = self._model.register_forward_pre_hook(self._called)

    def clear(self) -> None:
        """Forget, and stop watching."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self.rng: list[RngState] = []
        self.buffers: Buffers | None = None
        self._autocast: list[tuple[str, torch.dtype, bool]] = []

    def autocast(self) -> list[Any]:
        """Context managers for the autocast that the first call ran under."""
        return [torch.autocast(kind, dtype, cache_enabled=cache) for kind, dtype, cache in self._autocast]

    def _called(self, *_: Any) -> None:
        if not torch.compiler.is_compiling() and torch.is_grad_enabled() and not measuring():
            self.note()

    def note(self) -> None:
        """Remember the present state as that of a forward pass."""
        if not self.rng:
            inner = unwrapped(self._model)
            self.buffers = Buffers(inner)
            kinds = {p.device.type for p in inner.parameters()}
            self._autocast = [
                (kind, torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled())
                for kind in sorted(kinds)
                if torch.is_autocast_enabled(kind)
            ]
        self.rng.append(RngState.capture())
        del self.rng[:-_MOST]
