"""Made-up runs that look like real ones. They are made for these tests alone and are no results."""

import math
from pathlib import Path

import pytest

from unrolled.runs import Claim, Run

STUDY = '''
"""Made up: does one optimizer pay less for its direction than another?"""

from dataclasses import dataclass

PAPER = {
    "title": "A Made-Up Paper <on> Curvature",
    "arxiv": "0000.00000",
    "bibtex": "@misc{nobody2000made,\\n  title = {A Made-Up Paper <on> Curvature}\\n}",
}
METHODS = ("muon", "adam")


@dataclass(frozen=True)
class Config:
    preset: str = "tiny"
    seed: int = 0
    steps: int = 300


def tiny():
    return Config()


def study(config, run):
    return []


def figures(run):
    import numpy as np
    from matplotlib import pyplot as plt

    rows = run.metrics()
    made = {}
    fig, ax = plt.subplots()
    for color, name in (("#0072B2", "adam"), ("#E69F00", "muon")):
        mine = [row for row in rows if row["optimizer"] == name]
        ax.plot([r["step"] for r in mine], [r["loss"] for r in mine], color=color, label=name.capitalize())
    ax.set(xlabel="step", ylabel="loss (nats per byte)", title="Loss")
    ax.legend()
    made["loss"] = (fig, "Loss on the training batch against the step; Muon in orange, Adam in blue.")
    fig, axs = plt.subplots(1, 2, figsize=(9, 3.2))
    x = np.linspace(0, 300, 40)
    for ax, title in zip(axs, ("Gain and penalty", "NDS")):
        ax.plot(x, np.exp(-x / 200) * 0.2, color="#0072B2", marker="o", label="Adam")
        ax.plot(x, np.exp(-x / 150) * 0.15, color="#E69F00", marker="o", label="Muon")
        ax.fill_between(x, 0.02, 0.05, color="k", alpha=0.15)
        ax.axhline(0.1, color="k", lw=0.8, ls="--")
        ax.set(xlabel="step", title=title)
        ax.text(150, 0.16, r"$\\langle G, Z\\rangle - \\frac{1}{2}\\langle Z, HZ\\rangle$", color="k")
    axs[0].legend()
    made["gain & penalty"] = (fig, "Two panels side by side, with <angle> brackets & mathematics in the text.")
    fig, ax = plt.subplots()
    rng = np.random.default_rng(0)
    ax.plot(np.arange(100_000), rng.standard_normal(100_000).cumsum(), color="#009E73")
    ax.set(xlabel="sample", title="A long series")
    made["long"] = (fig, "A hundred thousand points.")
    return made
'''


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "made_up_curvature.py"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture
def claims() -> list[Claim]:
    return made_up_claims()


def made_up_claims() -> list[Claim]:
    here = {"preset": "tiny", "hardware": "Some Processor 9000, 2 cores"}
    return [
        Claim("nds", "At matched validation loss Adam's normalised directional sharpness exceeds Muon's; mean ratio",
              paper=1.76, ours=1.5512, spread=0.1123, seeds=5, status="direction only", source="0000.00000, figure 2",
              note="Above one in 5 of 5 seeds, but smaller than the paper's: 2 layers and bytes instead of 12 and words.", **here),
        Claim("predicted", "Predicted and realised loss change agree: median error after warm-up", paper="curves only",
              ours=1.43, seeds=1, unit="%", status="reproduced", source="0000.00000, figure 1", **here),
        Claim("gains", "The gains of the two optimizers are equal, the whole gap is the penalty", paper=1.0,
              ours=1.38, spread=0.05, seeds=5, status="not reproduced", source="0000.00000, section 3",
              note="Muon's gain is 38 % larger at matched loss; 61 % of the gap is gain.", **here),
        Claim("cross", "The cross-layer part falls <fastest> for Muon", paper=None, ours=math.nan, status="not reproduced",
              note="NaN: the penalty was zero at step 0, so the ratio has no value.", **here),
        Claim.not_attempted("124m", "The same ratio for 124 M parameters", why="needs a GPU", paper=2.94,
                            command="unrolled run curvature-124m --preset paper"),
    ]  # fmt: skip


@pytest.fixture(name="fill")
def _fill():
    return fill


def fill(run: Run, steps: int = 300) -> None:
    for optimizer, rate in (("adam", 120.0), ("muon", 80.0)):
        run.status(phase=f"train {optimizer}", steps=steps)
        for step in range(0, steps, 5):
            run.log(
                step=step,
                optimizer=optimizer,
                loss=5.5 * math.exp(-step / rate) + 2.0 + 0.05 * math.sin(step),
            )
        run.progress(steps, steps)


@pytest.fixture
def finished(tmp_path: Path, study_file: Path) -> Path:
    config = {"preset": "tiny", "seed": 0, "steps": 300, "lr": {"adam": 3e-3, "muon": 0.02}, "text": None}
    with Run.create("made-up-curvature", config, tmp_path / "runs", source=str(study_file)) as run:
        fill(run)
        run.save_claims(made_up_claims())
    return run.path


@pytest.fixture
def killed(tmp_path: Path, study_file: Path) -> Path:
    """A run whose process is gone without having written claims."""
    from unrolled.runs import atomic, plain

    run = Run.create(
        "made-up-curvature", {"preset": "tiny", "seed": 1}, tmp_path / "runs", source=str(study_file)
    )
    run.status(phase="train adam", step=120, steps=300)
    run.log(step=0, optimizer="adam", loss=5.0)
    run.end("failed")
    path = run.path / "status.json"
    status = plain.loads(path.read_text())
    del status["ended"]
    atomic.write_json(path, {**status, "state": "running", "pid_started": -1, "step": 120})
    return run.path
