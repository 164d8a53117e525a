"""What two processes do together: a run made before and after there is a process group, and one resumed."""

import sys
from pathlib import Path

import torch.distributed as dist

from unrolled.runs import Run, distributed


def main() -> None:
    root = Path(sys.argv[1])
    rank = distributed.rank()
    assert distributed.world_size() == 2

    with Run.create("before", {"seed": 1}, root) as run:  # through torchrun's store
        run.log(step=0, rank=rank)
        run.save_checkpoint(1, {})
        run.status(phase="x")
    assert run.writes is False
    (root / f"before-{rank}").write_text(str(run.path))

    dist.init_process_group("gloo")
    run = Run.create("after", {"seed": 1}, root)  # broadcast
    run.log(step=0, rank=rank)
    (root / f"after-{rank}").write_text(str(run.path))
    dist.barrier()
    assert run.metrics()[0]["rank"] == 0  # every rank may read
    dist.barrier()
    run.end("interrupted")
    dist.barrier()
    path = run.path
    run = Run.resume(path)
    assert run.resumed
    assert run.writes is (rank == 0)
    dist.barrier()
    run.log(step=0, rank=rank)
    run.end()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
