"""The probe under DistributedDataParallel: two gloo processes, one account."""

import math
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unrolled.instruments.curvature import Probe

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch.distributed is not built in")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 3)])

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x).tanh())


def loss_fn(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])


def batch(step, rank):
    """Processes hold batches of unequal size: 5 and 3."""
    rng = torch.Generator().manual_seed(10 * step + rank)
    n = 5 if rank == 0 else 3
    return torch.randn(n, 4, generator=rng).double(), torch.randint(3, (n,), generator=rng)


def make():
    torch.manual_seed(0)
    model = Net().double()
    return model, torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)


def both(step):
    return [batch(step, 0), batch(step, 1)]


FIELDS = ("gain", "penalty", "actual", "nds", "norm", "within", "cross", "loss", "count")


def worker(rank, port, folder):
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model, optimizer = make()
    ddp = DistributedDataParallel(model)
    rows: list = []
    probe = Probe(ddp, optimizer, loss_fn, every=2, split="exact", rows=True, sink=rows)
    jet = Probe(ddp, optimizer, loss_fn, every=2)
    for step in range(4):
        optimizer.zero_grad()
        total, _ = loss_fn(ddp, batch(step, rank))
        with jet.step(batch(step, rank)), probe.step(batch(step, rank)):
            (total * 2 / 8).backward()  # DDP averages over 2 processes: sum / 8 over the global batch
            optimizer.step()

    # one process fails: both say so, neither waits for ever, and training goes on
    sick = rank == 1

    def fragile(model, batch):
        if sick and model.training:
            raise RuntimeError("only here")
        return loss_fn(model, batch)

    probe.loss_fn = fragile
    optimizer.zero_grad()
    with probe.step(batch(4, rank)):
        (loss_fn(ddp, batch(4, rank))[0] * 2 / 8).backward()
        optimizer.step()
    sharded = fully_shard(make()[0])
    try:
        Probe(sharded, torch.optim.SGD(sharded.parameters(), lr=0.1), loss_fn)
    except NotImplementedError as error:
        refused = str(error)
    else:
        refused = ""
    torch.save(
        {
            "refused": refused,
            "records": [r.state_dict() for r in probe.records],
            "jet": [r.state_dict() for r in jet.records],
            "rows": rows,
            "weights": [p.detach() for p in model.parameters()],
        },
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


def test_two_processes_give_the_account_of_the_global_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))

    model, optimizer = make()
    alone = Probe(model, optimizer, loss_fn, every=2, split="exact", rows=True)
    for step in range(4):
        optimizer.zero_grad()
        with alone.step(both(step)):
            total = sum(loss_fn(model, b)[0] for b in both(step))
            (total / 8).backward()
            optimizer.step()
    assert [r["step"] for r in first["records"]] == [0, 2, 4]
    for mine, yours, jet, expected in zip(first["records"], second["records"], first["jet"], alone.records):
        for field in FIELDS:
            assert mine[field] == yours[field]
            assert mine[field] == pytest.approx(getattr(expected, field), abs=1e-12), field
        for field in ("gain", "penalty", "actual", "count"):
            assert jet[field] == pytest.approx(getattr(expected, field), abs=1e-12), field
        assert torch.allclose(mine["coupling"], expected.coupling, atol=1e-12, rtol=0)
        assert mine["count"] == 8
    failed = [record["records"][2] for record in (first, second)]
    assert [r["status"] for r in failed] == ["failed", "failed"]
    assert "in another process" in failed[0]["reason"]
    assert "only here" in failed[1]["reason"]
    assert math.isnan(failed[0]["nds"])
    assert [row["step"] for row in first["rows"]] == [0, 2, 4]
    assert "sharded" in first["refused"]
    assert second["rows"] == []  # rank 0 reports
    for a, b in zip(first["weights"], second["weights"]):
        assert torch.equal(a, b)
