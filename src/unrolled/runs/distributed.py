"""Runs under `torchrun`: rank 0 owns the folder, the other ranks read it and write nothing."""

import os
import sys
from datetime import timedelta

_asked = 0


def rank() -> int:
    """This process's rank; 0 when nothing is distributed.

    Example:
        >>> rank()
        0
    """
    distributed = _initialised()
    return distributed.get_rank() if distributed else int(os.environ.get("RANK", "0") or 0)


def world_size() -> int:
    """How many processes work on the same run."""
    distributed = _initialised()
    return distributed.get_world_size() if distributed else int(os.environ.get("WORLD_SIZE", "1") or 1)


def share(text: str | None) -> str:
    """Rank 0's text, on every rank; every rank must call this the same number of times.

    With a process group it is broadcast; before there is one, it goes through the store of the torchrun agent.

    Args:
        text: what rank 0 has to say; the others pass None.

    Raises:
        RuntimeError: several ranks, but neither a process group nor a torchrun agent.
    """
    global _asked
    if world_size() == 1:
        assert text is not None
        return text
    distributed = _initialised()
    if distributed:
        box = [text]
        distributed.broadcast_object_list(box, src=0)
        return str(box[0])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RuntimeError(
            f"WORLD_SIZE={world_size()}, but no process group is initialised and no torchrun agent answers: "
            "start with `torchrun`, or call torch.distributed.init_process_group first"
        )
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=120))
    # After a restart the agent keeps its store; the attempt's number keeps the answers apart.
    key = f"unrolled/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{_asked}"
    _asked += 1
    if text is not None:
        store.set(key, text)
        return text
    return store.get(key).decode()


def _initialised():
    """torch.distributed, if there is a process group. A process that never imported torch has none."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed
    return None
