"""The page on training: its blocks run in order, and its script runs alone and under torchrun."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
BLOCK = re.compile(r"^```python(?P<title> title=\"(?P<file>[^\"]+)\")?\n(?P<code>.*?)^```$", re.M | re.S)


def test_the_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    blocks = list(BLOCK.finditer(PAGE.read_text()))
    assert len(blocks) >= 6
    for block in blocks:
        line = PAGE.read_text()[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block["code"], PAGE, "exec"), names)
    printed = capsys.readouterr().out
    assert "Python 3" in printed
    assert "1 process(es), 256 tokens per step: steps at step 20" in printed


def test_the_script_runs_under_torchrun(tmp_path):
    (script,) = [block for block in BLOCK.finditer(PAGE.read_text()) if block["file"]]
    (tmp_path / script["file"]).write_text(script["code"])
    assert f"torchrun --nproc-per-node 2 {script['file']}" in PAGE.read_text()
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2",
         script["file"]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["2 process(es), 512 tokens per step: steps at step 20"]
    assert (tmp_path / "checkpoints-2" / "step-00000020.safetensors").exists()
