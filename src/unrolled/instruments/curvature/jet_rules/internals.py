"""The corners of torch that the pass needs and torch keeps to itself, in one place for the next upgrade."""

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_C: Any = vars(torch)["_C"]

below_autograd = _C._AutoDispatchBelowADInplaceOrView
"""Context manager: operators reach `__torch_dispatch__` whole (composite ones not yet split) and unrecorded."""

without_torch_function = _C.DisableTorchFunctionSubclass
"""Context manager: tensor subclasses do not see Python-level functions a second time."""


def apart(f: Callable[[], T]) -> T:
    """f() with autograd and torch.func as they are outside a pass: their state is per thread, so in another thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(f).result()


def passing() -> bool:
    """Whether a pass is under way, that is, whether autograd is kept out."""
    return _C._dispatch_tls_is_dispatch_key_excluded(_C.DispatchKey.AutogradFunctionality)


def transformed() -> bool:
    """Whether a torch.func transform such as vmap is under way."""
    return _C._functorch.peek_interpreter_stack() is not None


def composite(op: Any, args: Any, kwargs: Any) -> Any:
    """A composite operator by the simpler ones torch makes it of, in C++; NotImplemented for one that is not."""
    key = _C.DispatchKey.CompositeImplicitAutograd
    if not _C._dispatch_has_kernel_for_dispatch_key(op.name(), key):
        return NotImplemented
    return op._op_dk(key, *args, **kwargs)


def decomposition(op: Any) -> Any:
    """Torch's definition of an operator by simpler ones, or None."""
    table: Any = importlib.import_module("torch._decomp").decomposition_table  # slow, and rarely needed
    return table.get(op)
