"""What each of two processes does in test_parallel.py; started by torchrun, never imported."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from unrolled.instruments.curvature import Probe
from unrolled.optim import Muon
from unrolled.training import checkpoint, fit, gpt, parallel, schedules
from unrolled.training.corpus import Corpus

TEXT = Corpus.from_tokens(torch.randint(0, 32, (3000,), generator=torch.Generator().manual_seed(0)), vocab=32)
CONFIG = gpt.GPTConfig(layers=2, heads=2, width=16, context=16, vocab=32)


def ragged(i, rows, rank, world):
    """Rows of the global batch i for one rank, with ever other numbers of counted targets; some have none at all."""
    x, y = TEXT.batches(batch=rows * world, context=16, seed=3)(i)
    y = y.clone()
    for r in range(len(y)):
        y[r, (7 * i + 5 * r) % 17 :] = -100
    y[: 2 if i in (4, 9) else 0] = -100  # the first rank counts nothing
    return x[rank * rows : (rank + 1) * rows], y[rank * rows : (rank + 1) * rows]


def exact(probe):
    """Every digit of every record; NaN equals NaN."""
    states = [record.state_dict() for record in probe.records]
    return json.dumps(states, default=lambda tensor: tensor.tolist())


OPTIMIZERS = {
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2),
    "muon": lambda model: Muon(model, lr=1e-2, polar_dtype=torch.float64),
}


def train(model, world, optimizer=OPTIMIZERS["adamw"], probed=True, **options):
    updates = optimizer(model)
    probe = Probe(model, updates, gpt.loss, every=3) if probed else None
    result = fit(
        model,
        lambda i: ragged(i, 2, world.rank, world.size) if world.size > 1 else ragged(i, 4, 0, 1),
        gpt.loss,
        updates,
        schedule=schedules.cosine(8, warmup=2),
        accumulate=2,
        clip=0.5,
        probe=probe,
        **{"steps": 8, **options},
    )
    return result, probe


def plain(dtype, dropout=0.0):
    return gpt.GPT(gpt.GPTConfig(**{**vars(CONFIG), "dropout": dropout}), rng=1).to(dtype)


class Told:
    """A log and a progress callback that remember being called."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, *args, **numbers):
        self.calls.append((args, numbers))


def main(out: Path) -> None:
    with parallel.init_from_env("cpu") as world:
        assert (world.size, world.rank, world.main) == (2, parallel.rank(), parallel.rank() == 0)
        assert parallel.init_from_env("cpu").size == 2  # a second call joins nothing twice
        torch.set_num_threads(1)
        kept = {}
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
            calls = []
            torch.manual_seed(world.rank)
            model = parallel.ddp(plain(dtype), world)
            result, probe = train(model, world, log=Told(calls), progress=Told(calls))
            assert bool(calls) == world.main
            kept[name] = {"model": parallel.unwrap(model).state_dict(), "history": result.history}
            kept[name]["probe"] = [record.state_dict() for record in probe.records]

        # Resume, with dropout drawn apart on each rank.
        def dropping(folder, steps, **options):
            torch.manual_seed(100 + world.rank)
            model = parallel.ddp(plain(torch.float32, 0.3), world)
            return model, *train(model, world, checkpoint=folder, steps=steps, **options)

        whole, want, seen = dropping(None, 8)
        dropping(out / "resume", 3)
        torch.rand(3 + world.rank)
        resumed, got, again = dropping(out / "resume", 8)
        assert got.resumed == 3
        assert got.history["loss"] == want.history["loss"]
        assert exact(again) == exact(seen)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
        parallel.wait(resumed)
        assert list(checkpoint.steps(out / "resume")) == [7, 8]

        # The wrapper forgotten.
        alone = plain(torch.float32)
        sgd = torch.optim.SGD(alone.parameters(), lr=1.0)
        with pytest.warns(UserWarning, match="2 processes run, but this model is not shared"):
            fit(alone, lambda i: ragged(i, 2, world.rank, 2), gpt.loss, sgd, steps=1)

        # A batch that goes wrong on one rank stops both, before the update.
        def poisoned(m, batch):
            summed, count = gpt.loss(m, batch)
            return summed * (float("nan") if world.rank == 1 else 1.0), count

        model = parallel.ddp(plain(torch.float32), world)
        before = [p.detach().clone() for p in model.parameters()]
        sgd = torch.optim.SGD(model.parameters(), lr=1.0)
        stopped = fit(model, lambda i: ragged(i, 2, world.rank, 2), poisoned, sgd, steps=3)
        assert (stopped.stop.reason, stopped.stop.step) == ("nonfinite", 0)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))

        # Folders that are not shared.
        private = out / f"private{world.rank}"
        if world.main:
            checkpoint.save_step(private, 1, {})
        with pytest.raises(ValueError, match="must be a shared folder"):
            fit(model, lambda i: ragged(i, 2, world.rank, 2), gpt.loss, sgd, steps=3, checkpoint=private)

        # A model that is not a GPT, with rows 5 to 3 and a parameter that gets no gradient.
        net = nn.ModuleDict({"a": nn.Linear(3, 1).double(), "b": nn.Linear(3, 1).double()})
        for p in net.parameters():
            p.data.fill_(0.5)

        class Half(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                return self.net["a"](x)

        half = parallel.ddp(Half(), world, find_unused_parameters=True)
        x = torch.arange(24.0, dtype=torch.float64).view(8, 3) / 10
        mine = x[:5] if world.rank == 0 else x[5:]
        sgd = torch.optim.SGD(half.parameters(), lr=0.1)
        fit(half, lambda i: mine, lambda m, b: (m(b).square().sum(), len(b)), sgd, steps=3)
        kept["half"] = net.state_dict()

        # FSDP2, stopped and resumed, with an optimizer of elements and with one of whole matrices.
        for name, optimizer in OPTIMIZERS.items():
            for steps in (5, 8):
                model = parallel.fsdp(plain(torch.float64), world)
                shard = sum(p.to_local().numel() for p in model.parameters())
                folder = out / f"fsdp-{name}"
                result, _ = train(model, world, optimizer, probed=False, checkpoint=folder, steps=steps)
            assert parallel.is_sharded(model)
            assert result.resumed == 5
            state, _ = parallel.state(model, None)
            kept[f"fsdp-{name}"] = {"model": state, "history": result.history, "shard": shard}
        if world.main:
            checkpoint.save(out / "result.safetensors", kept)
        parallel.wait(model)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
