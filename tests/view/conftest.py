import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from unrolled.core import Trajectory
from unrolled.runs import Claim, Run

# The app and its tests need the `view` extra; those of the browser say so themselves.
pytest.importorskip("starlette", reason="the view extra (starlette, uvicorn) is not installed")


def make(root: Path, *, study: str = "toy-walk", steps: int = 40, seed: int = 0) -> Run:
    """A small run with one of everything."""
    with Run.create(study, {"preset": "tiny", "seed": seed}, root=root) as run:
        x = torch.arange(steps * 6, dtype=torch.float32).reshape(steps, 2, 3)
        run.save_trajectory(
            Trajectory.from_records(
                torch.arange(steps) * 2, {"x": x, "deep/er": x[:, 0, 0].sin()}, meta={"unit": "cycle"}
            )
        )
        for step in range(steps):
            run.log(step=step, loss=math.exp(-step / 10), optimizer="muon")
            run.log(step=step, loss=math.exp(-step / 20), optimizer="adam")
        (run.path / "readings").mkdir()
        told = {
            "name": "settling", "values": {"residual": [1.0, 0.5, "NaN"], "rate": 0.5, "settled": False}, "definition": "r",
            "units": "1", "index": ["t", [0, 1, 2]], "method": "", "status": "ok", "reason": "", "notes": [],
        }  # fmt: skip
        (run.path / "readings" / "settling.json").write_text(json.dumps(told))
        (run.figures / "one.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        run.save_claims([Claim("a", "it <b>walks</b>", paper=1.0, ours=1.1, status="reproduced")])
    return run


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make_run():
    return make


@pytest.fixture(scope="session")
def _template(tmp_path_factory) -> Run:
    return make(tmp_path_factory.mktemp("template"))


@pytest.fixture
def run(root, _template) -> Run:
    """A run of its own for each test, copied."""
    path = root / _template.study / _template.id
    shutil.copytree(_template.path, path)
    return Run.open(path)


@pytest.fixture
def client(root):
    from starlette.testclient import TestClient

    from unrolled.view.server import app

    root.mkdir(exist_ok=True)
    with TestClient(app(root), base_url="http://127.0.0.1:8420") as made:
        yield made


@pytest.fixture
def where(run) -> str:
    return f"/api/runs/{run.study}/{run.id}"
