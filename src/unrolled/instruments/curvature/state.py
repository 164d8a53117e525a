# pyright: reportPrivateUsage=false
"""Leave no trace: parameters at another point for a while, and everything else put back as it was.

Gradients and optimizer state need no snapshot: nothing here calls `backward` or `step`, and
`torch.autograd.grad` writes to neither `p.grad` nor a gradient accumulator (DDP's hooks stay silent).
"""

import contextlib
from collections.abc import Generator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from unrolled.core.seeds import RngState


class Buffers:
    """The buffers of a module (batch-norm statistics, power-iteration vectors) as they are now.

    Example:
        >>> norm = torch.nn.BatchNorm1d(1)
        >>> kept = Buffers(norm)
        >>> _ = norm(torch.tensor([[0.0], [2.0]]))
        >>> kept.reset()
        >>> norm.running_mean.item(), norm.num_batches_tracked.item()
        (0.0, 0)
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [
            (module, name, buffer, None if buffer is None else buffer.detach().clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
        ]

    @torch.no_grad()
    def reset(self) -> None:
        """Put the buffers back: the same tensors with the same content.

        Through `.data`, so that graphs which saved a buffer (masks, rotary tables) do not take it for changed. Version
        counters cannot tell which need it: batch norm's kernel does not count its writes.
        """
        for module, name, buffer, copy in self._kept:
            module._buffers[name] = buffer
            if buffer is not None and copy is not None:
                buffer.data.copy_(copy)


_measuring = ContextVar("measuring", default=False)


def measuring() -> bool:
    """Whether a measurement is under way: forward passes are then not the user's own."""
    return _measuring.get()


@contextlib.contextmanager
def preserved(model: nn.Module) -> Generator[None]:
    """Restore random generators, buffers, training flags and `requires_grad` on the way out, errors included.

    Tensor hooks on parameters (`p.register_hook`, a common way to clip) are off inside: G is the raw gradient.

    Example:
        >>> model = torch.nn.Dropout()
        >>> before = torch.get_rng_state()
        >>> with preserved(model):
        ...     _ = model.eval(), torch.rand(3)
        >>> model.training, torch.equal(before, torch.get_rng_state())
        (True, True)
    """
    rng, buffers = RngState.capture(), Buffers(model)
    training = [(module, module.training) for module in model.modules()]
    frozen = [(p, p.requires_grad) for p in model.parameters()]
    hooked = [(p, p._backward_hooks) for p in model.parameters() if p._backward_hooks]
    token = _measuring.set(True)
    try:
        for p, _ in hooked:
            p._backward_hooks = None
        yield
    finally:
        _measuring.reset(token)
        for p, hooks in hooked:
            p._backward_hooks = hooks
        for p, needed in frozen:
            if p.requires_grad != needed:
                p.requires_grad_(needed)
        for module, flag in training:
            module.training = flag
        buffers.reset()
        rng.restore()


@contextlib.contextmanager
def displaced(params: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Generator[None]:
    """Parameters holding other values for a while; afterwards they have their own storage back, untouched.

    The `Parameter` objects stay the same, so tied weights, optimizers, hooks and closures keep working.

    Args:
        params: the parameters.
        values: what they hold meanwhile, in their own dtype and shape.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> place = w.data_ptr()
        >>> with displaced([w], [torch.zeros(2)]):
        ...     w.sum().item()
        0.0
        >>> w.sum().item(), w.data_ptr() == place
        (2.0, True)
    """
    own = [p.data for p in params]
    try:
        for p, value in zip(params, values, strict=True):
            p.data = value
        torch.clear_autocast_cache()  # it keeps half-precision copies by parameter object, not by value
        yield
    finally:
        for p, value in zip(params, own):
            p.data = value
        torch.clear_autocast_cache()
