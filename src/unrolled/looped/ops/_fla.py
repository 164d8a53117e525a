"""flash-linear-attention's kernels, where they can run: on CUDA, in half precision.

Five of its operators cover all eight mixers, because RetNet is Mamba-2 with a constant gate and HGRN2 is GLA with k = 1 - alpha.
Signatures are those of fla 0.6.0. They are held to this package's own chunks by `tests/looped/ops/test_fla.py`, on machines that have both.
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unrolled.looped.ops._inputs import Inputs

INSTALLED = importlib.util.find_spec("fla") is not None
DEVICES = {"cuda"}
DTYPES = {torch.bfloat16, torch.float16}

KERNELS = {
    (0, False): ("linear_attn", "chunk_linear_attn"),
    (1, False): ("simple_gla", "chunk_simple_gla"),
    (2, False): ("gla", "chunk_gla"),
    (0, True): ("delta_rule", "chunk_delta_rule"),
    (1, True): ("gated_delta_rule", "chunk_gated_delta_rule"),
    (2, True): ("kda", "chunk_kda"),
}
"""By the gate (none, per head, per channel) and whether there is a beta: the module in `fla.ops`, the function."""


class Choice(NamedTuple):
    """Which implementation of `chunk` runs, and why."""

    name: str
    """"torch" or "fla"."""
    reason: str


def implementation(
    device: torch.device | str, dtype: torch.dtype, *, reset: bool = False, wanted: str = "auto"
) -> Choice:
    """Which implementation `chunk` takes for q on a device, in a dtype, and why.

    Args:
        device: of the tensors.
        dtype: of q, k and v.
        reset: whether a row holds several sequences.
        wanted: "auto" takes the kernels of flash-linear-attention where they can run, "torch" never, "fla" always.

    Raises:
        ValueError: of `wanted` there is no such implementation.
        RuntimeError: the kernels are wanted, and cannot run.

    Example:
        >>> implementation("cpu", torch.float32)
        Choice(name='torch', reason='tensors are on cpu; the kernels of flash-linear-attention run on cuda')
    """
    if wanted not in ("auto", "torch", "fla"):
        raise ValueError(f'implementation is {wanted!r}; expected "auto", "torch" or "fla"')
    if wanted == "torch":
        return Choice("torch", "asked for")
    kind = torch.device(device).type
    if kind not in DEVICES:
        why = f"tensors are on {kind}; the kernels of flash-linear-attention run on {', '.join(sorted(DEVICES))}"
    elif not INSTALLED:
        why = "flash-linear-attention is not installed: pip install flash-linear-attention"
    elif dtype not in DTYPES:
        why = f"tensors are {dtype}; the kernels of flash-linear-attention want bfloat16 or float16"
    elif reset:
        why = "sequences start inside a row; the kernels of flash-linear-attention would need them flattened"
    else:
        return Choice("fla", "asked for" if wanted == "fla" else "CUDA, half precision, installed")
    if wanted == "fla":
        raise RuntimeError(f'implementation="fla" cannot run: {why}')
    return Choice("torch", why)


def scan(x: Inputs) -> tuple[Tensor, Tensor]:
    """Run the kernel for these inputs."""
    gate = 0 if x.g is None else x.g.ndim - 2
    module, name = KERNELS[gate, x.beta is not None]
    kernel: Any = getattr(importlib.import_module(f"fla.ops.{module}"), name)
    options: dict[str, Any] = {"initial_state": x.state, "output_final_state": True}
    if x.g is not None:
        options["g"] = x.g
    if x.beta is not None:
        options["beta"] = x.beta
    if gate == 0 and x.beta is None:
        options["normalize"] = False
    q, k, v = (t.to(x.out) for t in (x.q, x.k, x.v))
    o, state = kernel(q, k, v, scale=q.shape[-1] ** -0.5, **options)
    return o.to(x.out), state
