"""Many processes, applied from outside: model code stays single-device, and one process needs none of this.

torchrun --nproc-per-node 2 train.py

with parallel.init_from_env() as world:              # one process when torchrun is not there
    model = parallel.ddp(GPT(config), world)         # or parallel.fsdp(...) when it does not fit
    batches = text.batches(..., rank=world.rank, world=world.size)
    fit(model, batches, loss, optimizer, ...)
"""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unrolled.core import tree

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """Which process this is. As a context manager it closes the process group it opened.

    Attributes:
        rank: this process, from 0.
        size: how many there are.
        local_rank: this process on its own machine.
        device: where its model belongs.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """True in the process that prints and writes."""
        return self.rank == 0

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def init_from_env(device: str | None = None) -> World:
    """Join the process group that torchrun describes; a world of one when there is none.

    Backends are NCCL on GPUs and gloo on CPUs. Each process takes the GPU of its local rank.

    Args:
        device: "cuda" or "cpu"; None takes GPUs where there are any.

    Raises:
        RuntimeError: half of torchrun's variables are set, or a machine has fewer GPUs than processes.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cuda", "cpu"):
        raise ValueError(f'device is "cuda" or "cpu", got {device!r}: each process finds its own index')
    if dist.is_available() and dist.is_initialized():
        place = int(os.environ.get("LOCAL_RANK", "0"))
        return World(dist.get_rank(), dist.get_world_size(), place, _device(kind, place))
    missing = [name for name in _VARIABLES if name not in os.environ]
    if "RANK" in missing and "WORLD_SIZE" in missing:
        return World(device=_device(kind, 0))
    if missing:
        raise RuntimeError(
            f"{', '.join(missing)} not set, though other variables of a process group are: start with "
            f"`torchrun --nproc-per-node N script.py`, or unset {', '.join(n for n in _VARIABLES if n in os.environ)}"
        )
    place = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    target = _device(kind, place)
    if kind == "cuda":
        torch.cuda.set_device(target)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size(), place, target)


def _device(kind: str, place: int) -> torch.device:
    if kind == "cpu":
        return torch.device("cpu")
    if place >= torch.cuda.device_count():
        raise RuntimeError(
            f"process {place} of this machine has no GPU, there are {torch.cuda.device_count()}: start fewer processes"
        )
    return torch.device("cuda", place)


def ddp(model: nn.Module, world: World, **options: Any) -> nn.Module:
    """The model on this process's device, its gradients averaged over all; in a world of one the model itself.

    Build the optimizer from the result (or from the model after this call: the parameters are the same).

    Args:
        model: any module.
        world: from `init_from_env`.
        **options: for `DistributedDataParallel`, e.g. `find_unused_parameters=True`.
    """
    model = model.to(world.device)
    if world.size == 1:
        return model
    ids = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, **options)


def fsdp(model: nn.Module, world: World, **options: Any) -> nn.Module:
    """The model with parameters, gradients and optimizer state cut into one part per process (FSDP2), in place.

    Every block of `model.blocks`, where there is such a list, is gathered on its own. Build the optimizer afterwards: the
    parameters are new objects. Adam works on the parts; Muon gathers each matrix for its polar factor, which costs
    communication. The curvature probe needs whole parameters and says so.

    Args:
        model: any module.
        world: from `init_from_env`.
        **options: for `fully_shard`, e.g. `mp_policy=`.
    """
    model = model.to(world.device)
    if world.size == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    return model


def unwrap(model: nn.Module) -> nn.Module:
    """The plain module inside DDP and torch.compile.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> unwrap(layer) is layer
        True
    """
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def is_sharded(model: nn.Module) -> bool:
    """True for a model that `fsdp` has cut up."""
    if not dist.is_available() or not dist.is_initialized():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(unwrap(model), FSDPModule)


def replicas(model: nn.Module) -> int:
    """Over how many processes this model averages its gradients; 1 for a plain module."""
    if is_sharded(model):
        return dist.get_world_size()
    wrapped = _wrapper(model)
    return 1 if wrapped is None else dist.get_world_size(wrapped.process_group)


def rank() -> int:
    """This process's number; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def without_sync(model: nn.Module) -> AbstractContextManager[Any]:
    """Leave gradients unreduced inside: for all micro-batches but the last. Nothing to leave out without DDP."""
    wrapped = _wrapper(model)
    return nullcontext() if wrapped is None else wrapped.no_sync()


def total(values: Tensor, model: nn.Module) -> Tensor:
    """The sum of `values` over the processes that train `model`; no gradient."""
    if replicas(model) > 1:
        values = values.clone()
        wrapped = _wrapper(model)
        dist.all_reduce(values, group=None if wrapped is None else wrapped.process_group)
    return values


def gather(value: Any, model: nn.Module) -> list[Any]:
    """`value` of every process that trains `model`, in order of rank."""
    if replicas(model) == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def wait(model: nn.Module) -> None:
    """Return when every process that trains `model` has come here."""
    if replicas(model) > 1:
        dist.barrier()


def _wrapper(model: nn.Module) -> DistributedDataParallel | None:
    while not isinstance(model, DistributedDataParallel):
        inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return None
        model = inner
    return model


def state(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """`state_dict`s of model and optimizer, as one process would have them.

    Sharded tensors are put together one by one, so every process calls this; only rank 0 keeps them.
    """
    sharded = is_sharded(model)

    def whole(tensor: Tensor) -> Tensor:
        gathered = getattr(tensor, "full_tensor", None)  # of a DTensor, whose module takes seconds to import
        if sharded and gathered is not None:
            tensor = gathered().cpu()
            return tensor if rank() == 0 else tensor.new_empty(0)
        return tensor

    weights = tree.map(whole, dict(unwrap(model).state_dict()))
    return weights, None if optimizer is None else tree.map(whole, optimizer.state_dict())


def load_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    saved: dict[str, Any],
    saved_optimizer: dict[str, Any] | None,
) -> None:
    """Put back what `state` gave; every process passes the whole of it."""
    plain = unwrap(model)
    live = plain.state_dict()
    plain.load_state_dict({name: _part(value, live.get(name)) for name, value in saved.items()})
    if optimizer is None or saved_optimizer is None:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = {
        index: {name: _part(value, parameters[index]) for name, value in values.items()}
        for index, values in saved_optimizer["state"].items()
    }
    optimizer.load_state_dict({**saved_optimizer, "state": states})
    _keep_dtypes(optimizer, states)


def _part(value: Any, like: Any) -> Any:
    """This process's part of a tensor that is as large as `like`, where `like` is cut up."""
    if hasattr(like, "placements") and isinstance(value, Tensor) and value.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor

        placed = value.to(like.device)
        return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)
    return value


def _keep_dtypes(optimizer: torch.optim.Optimizer, saved: dict[Any, Any]) -> None:
    # torch casts floating state to its parameter's dtype: float32 moments of bfloat16 weights would lose half
    # their digits on the way back.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in saved.items():
        live = optimizer.state[parameters[index]]
        for name, value in values.items():
            if (
                isinstance(value, Tensor)
                and isinstance(live[name], Tensor)
                and live[name].dtype != value.dtype
            ):
                live[name] = value.clone().to(live[name].device)
