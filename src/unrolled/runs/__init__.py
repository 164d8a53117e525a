"""Runs: one folder per run, an index that can be rebuilt from the folders, sinks, sweeps and their executors.

>>> import tempfile
>>> from unrolled.runs import Run
>>> with Run.create("demo", {"seed": 1}, root=tempfile.mkdtemp()) as run:
...     run.log(step=0, loss=2.0)
>>> run.state, run.metrics()[0]["loss"]
('finished', 2.0)
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "atomic",
        "checkpoint",
        "claims",
        "config",
        "distributed",
        "environment",
        "executors",
        "exhibits",
        "folder",
        "index",
        "kinds",
        "liveness",
        "metrics",
        "plain",
        "resuming",
        "sinks",
        "study",
        "sweep",
    ),
    names={
        "Checkpoint": "checkpoint",
        "Claim": "claims",
        "DiskFull": "atomic",
        "ExhibitError": "kinds",
        "Run": "run",
        "RunError": "folder",
        "Study": "study",
        "StudyError": "study",
    },
)
