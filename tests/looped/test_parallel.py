"""Two gloo processes under torchrun end where one process with the same global batch ends."""

import os
import subprocess
import sys

import pytest
import torch

from unrolled.cli import main
from unrolled.looped import LT2
from unrolled.training import parallel

WORDS = (
    "looped",
    "train",
    "--steps",
    "5",
    "--context",
    "16",
    "--width",
    "16",
    "--heads",
    "2",
    "--loops",
    "2",
    "--lr",
    "0.01",
)


def weights(folder):
    return dict(LT2.from_pretrained(folder).named_parameters())


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_do_what_one_does(tmp_path, monkeypatch, sharded):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(300)))
    environment = {k: v for k, v in os.environ.items() if k not in parallel._VARIABLES}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2", "-m", "unrolled",
         *WORDS, "--text", str(text), "--batch", "2", "--out", "two", *(["--shard"] if sharded else [])],
        capture_output=True, text=True, env=environment | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("in 2 processes") == 1, "only one process speaks"
    assert main([*WORDS, "--text", str(text), "--batch", "4", "--out", "one"]) == 0
    two, one = weights("two"), weights("one")
    fresh = dict(LT2(LT2.from_pretrained("one").config).named_parameters())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-5, rtol=1e-3)
    assert any((one[name] - fresh[name]).abs().max() > 1e-2 for name in one), "training moved the weights"
