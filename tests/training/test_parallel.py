"""Two gloo processes under torchrun against one process with the same global batch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from unrolled.training import checkpoint, fit, parallel

WORKER = Path(__file__).with_name("torchrun_worker.py")


def worker():
    spec = importlib.util.spec_from_file_location("torchrun_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    environment = {k: v for k, v in os.environ.items() if k not in parallel._VARIABLES} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1",
         "--nproc-per-node=2", str(WORKER), str(out)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {"folder": out, **checkpoint.load(out / "result.safetensors")}


@pytest.fixture(scope="module")
def one_process():
    work, world = worker(), parallel.World()
    made = {}
    for name, dtype, optimizer in [
        ("float32", torch.float32, "adamw"),
        ("float64", torch.float64, "adamw"),
        ("muon", torch.float64, "muon"),
    ]:
        model = work.plain(dtype)
        result, probe = work.train(model, world, work.OPTIMIZERS[optimizer])
        records = [record.state_dict() for record in probe.records]
        made[name] = {"history": result.history, "model": model.state_dict(), "probe": records}
    return made


@pytest.mark.parametrize(
    ("many", "one", "tolerance"),
    [
        ("float32", "float32", 1e-6),
        ("float64", "float64", 1e-12),
        ("fsdp-adamw", "float64", 1e-12),
        ("fsdp-muon", "muon", 1e-12),
    ],
)
def test_two_processes_do_what_one_does(two_processes, one_process, many, one, tolerance):
    many, one = two_processes[many], one_process[one]
    assert many["history"]["count"] == one["history"]["count"]
    assert len(set(one["history"]["count"])) > 4  # the counts really differ
    relative = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(many["history"]["loss"], one["history"]["loss"], **relative)
    torch.testing.assert_close(many["history"]["grad_norm"], one["history"]["grad_norm"], **relative)
    assert many["model"].keys() == one["model"].keys()
    torch.testing.assert_close(many["model"], dict(one["model"]), **relative)


def test_the_probe_sees_one_step_whatever_the_processes(two_processes, one_process):
    many, one = two_processes["float64"]["probe"], one_process["float64"]["probe"]
    assert [r["step"] for r in many] == [r["step"] for r in one] == [0, 3, 6]
    for a, b in zip(many, one):
        for name in ("loss", "gain", "penalty", "actual", "norm", "nds", "count"):
            assert a[name] == pytest.approx(b[name], rel=1e-9, abs=1e-12)


def test_fsdp_holds_half_of_the_model_each(two_processes):
    whole = sum(v.numel() for v in two_processes["fsdp-adamw"]["model"].values())
    assert two_processes["fsdp-adamw"]["shard"] == whole / 2


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_checkpoint_of_a_sharded_model_is_that_of_a_plain_one(two_processes, name):
    work = worker()
    model = work.plain(torch.float64)
    optimizer = work.OPTIMIZERS[name](model)
    saved = checkpoint.load(checkpoint.latest(two_processes["folder"] / f"fsdp-{name}"))
    with pytest.warns(UserWarning, match="written by 2 processes, this run has 1"):
        checkpoint.restore(saved, model, optimizer)
    torch.testing.assert_close(
        dict(model.state_dict()), two_processes[f"fsdp-{name}"]["model"], rtol=0, atol=0
    )
    for p in model.parameters():
        moments = [v for v in optimizer.state[p].values() if isinstance(v, torch.Tensor) and v.ndim]
        assert moments
        assert all(v.shape == p.shape and v.abs().max() > 0 for v in moments)


def test_parameters_without_gradient(two_processes):
    x = torch.arange(24.0, dtype=torch.float64).view(8, 3) / 10
    model = nn.Linear(3, 1).double()
    for p in model.parameters():
        p.data.fill_(0.5)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, lambda i: x, lambda m, b: (m(b).square().sum(), len(b)), sgd, steps=3)
    torch.testing.assert_close(two_processes["half"]["a.weight"], model.weight.data, rtol=1e-12, atol=1e-13)
    assert (two_processes["half"]["b.weight"] == 0.5).all()


def test_a_world_of_one_needs_nothing(monkeypatch):
    for name in (*parallel._VARIABLES, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with parallel.init_from_env("cpu") as world:
        assert (world.rank, world.size, world.main) == (0, 1, True)
        model = nn.Linear(1, 1)
        assert parallel.ddp(model, world) is model
        assert parallel.fsdp(model, world) is model
    assert parallel.rank() == 0
    assert parallel.replicas(model) == 1
    assert parallel.gather("x", model) == ["x"]
    parallel.wait(model)


def test_half_an_environment_is_an_error(monkeypatch):
    for name in parallel._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        RuntimeError, match=r"MASTER_ADDR, MASTER_PORT not set.*torchrun.*unset RANK, WORLD_SIZE"
    ):
        parallel.init_from_env("cpu")
    with pytest.raises(ValueError, match='"cuda" or "cpu"'):
        parallel.init_from_env("cuda:1")


def test_a_checkpoint_of_two_processes_in_one_warns(tmp_path):
    model = nn.Linear(1, 1)
    tree = checkpoint.snapshot(model)
    tree["rng"] = tree["rng"] * 2
    with pytest.warns(UserWarning, match="written by 2 processes, this run has 1"):
        checkpoint.restore(tree, model)
