"""The Ray executor on a real local cluster."""

from pathlib import Path

import pytest

from unrolled.runs import Run, index, sweep

TOY = str(Path(__file__).parent.parent / "cli" / "toy_study.py")


@pytest.mark.slow
def test_a_sweep_on_a_ray_cluster(tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        cells = {
            f"seed={s}": {"preset": "tiny", "steps": 6, "seed": s, "fail_at": 2 if s == 1 else -1}
            for s in range(3)
        }
        planned = sweep.plan("toy-study", cells, tmp_path, source=TOY)
        done = {cell.label: cell for cell in sweep.run(planned, executor="ray", workers=2)}
        assert {label: cell.state for label, cell in done.items()} == {
            "seed=0": "finished", "seed=1": "failed", "seed=2": "finished",
        }  # fmt: skip
        assert done["seed=1"].error == "RuntimeError: told to fail at step 2"
        again = sweep.run(sweep.plan("toy-study", cells, tmp_path, source=TOY), executor="ray", workers=2)
        assert [cell.state for cell in again] == ["finished"] * 3
        assert [Run.open(cell.path).status_now()["starts"] for cell in again] == [1, 2, 1]
        assert len(index.query(tmp_path)) == 3
        assert ray.is_initialized()  # a cluster that was there stays
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_ray_makes_a_cluster_of_its_own_when_there_is_none(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    planned = sweep.plan("toy-study", {"a": {"preset": "tiny", "steps": 3}}, tmp_path, source=TOY)
    assert [cell.state for cell in sweep.run(planned, executor="ray", workers=1)] == ["finished"]
    assert not ray.is_initialized()
