import errno
import os
import subprocess

import pytest

from unrolled.runs import DiskFull, Run, atomic


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"x": 1})
    with pytest.raises(ZeroDivisionError), atomic.replacing(path) as scratch:  # noqa: PT012
        scratch.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == '{\n  "x": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        DiskFull, match=r"^the disk is full: a.txt could not be written.*free some space and resume"
    ):
        atomic.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_other_errors_are_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic.write_text(tmp_path / "no" / "a.txt", "x")


def test_a_row_that_fits_half_is_taken_back(tmp_path, monkeypatch):
    with Run.create("toy", {"seed": 0}, tmp_path) as run:
        run.log(step=0, loss=1.0)
        write = os.write

        def half(handle, data):
            if len(data) > 20:
                return write(handle, data[:20])
            return full()

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(DiskFull, match="metrics.jsonl"):
            run.log(step=1, loss=0.5, note="x" * 100)
        monkeypatch.undo()
        run.log(step=1, loss=0.25)
    assert [(row["step"], row["loss"]) for row in run.metrics()] == [(0, 1.0), (1, 0.25)]


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_during_a_run(small_disk):
    import torch

    study, rows = "toy", 0
    with pytest.raises(DiskFull, match="disk is full"), Run.create(study, {"seed": 0}, small_disk) as run:  # noqa: PT012
        run.save_checkpoint(1, {"x": torch.ones(8)})
        while True:
            run.log(step=rows, loss=1.0, pad="x" * 500)
            rows += 1
            assert rows < 1000
    assert [row["step"] for row in Run.open(run.path).metrics()] == list(range(rows))
    assert run.load_checkpoint().tensors["x"].tolist() == [1.0] * 8
    # Not one more checkpoint fits, and the one that is there stays whole.
    (small_disk / "fill").write_bytes(b"")
    with pytest.raises(OSError), open(small_disk / "fill", "wb", buffering=0) as file:  # noqa: PT012
        while True:
            file.write(b"x" * 4096)
    from unrolled.runs import checkpoint

    with pytest.raises(DiskFull, match="Earlier files in .*checkpoints are whole"):
        checkpoint.save(run.checkpoints, 2, {"x": torch.ones(9000)}, {}, 0)
    assert checkpoint.load(run.checkpoints).step == 1
    # With space again the run goes on.
    (small_disk / "fill").unlink()
    (run.checkpoints / "step-000000001.safetensors").unlink()
    with Run.resume(run.path) as again:
        again.log(step=0, loss=1.0)
    assert Run.open(run.path).state == "finished"
