import subprocess
import sys
from pathlib import Path

import pytest

from unrolled.runs import Run, distributed, index

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def test_two_processes_share_one_folder(tmp_path):
    done = subprocess.run(
        [*TORCHRUN, str(HERE / "torchrun_script.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("before", "after"):
        paths = {(tmp_path / f"{name}-{rank}").read_text() for rank in (0, 1)}
        assert len(paths) == 1
        run = Run.open(paths.pop())
        assert run.state == "finished"
        assert [row["rank"] for row in run.metrics()] == [0]
    assert len(index.query(tmp_path)) == 2


def test_a_study_runs_unchanged_under_torchrun(tmp_path):
    toy = HERE.parent / "cli" / "toy_study.py"
    done = subprocess.run(
        [*TORCHRUN, "-m", "unrolled", "run", str(toy), "--runs", str(tmp_path), "--no-report"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = index.query(tmp_path)
    assert row["state"] == "finished"
    steps = [each["step"] for each in Run.open(row["path"]).metrics()]
    assert steps == [0, *range(20), 20]
    assert done.stdout.count("the loss falls below one") == 1


def test_ranks_without_a_way_to_agree_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert distributed.rank() == 1
    with pytest.raises(RuntimeError, match="start with `torchrun`, or call"):
        distributed.share(None)
