"""The corners of torch that the pass needs and torch keeps to itself, in one place for the next upgrade."""

import contextlib
import importlib
import sys
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


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """While it is open, compiled modules run as they were written."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and importing it takes seconds
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def apart(f: Callable[[], T]) -> T:
    """f() with autograd and torch.func as they are outside a pass: their state is per thread, so in another thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(f).result()


def in_place_view(op: Any) -> bool:
    """Whether an operator only changes the shape of its argument, in place (`transpose_`)."""
    return torch.Tag.inplace_view in op.tags


def reshape_in_place(op: Any, wrapper: torch.Tensor, *args: Any, **kwargs: Any) -> None:
    """Let such an operator change the shape a wrapper shows, and nothing else."""
    meta = _C._meta_in_tls_dispatch_include()
    with _C._DisableTorchDispatch():
        _C._set_meta_in_tls_dispatch_include(True)
        try:
            op(wrapper, *args, **kwargs)
        finally:
            _C._set_meta_in_tls_dispatch_include(meta)


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
