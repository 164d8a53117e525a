"""Instruments: pure functions that read a trajectory, a system or a loss, and return a `Reading`.

An instrument is a function, and its module is private: `instruments.spectrum` is the function whatever was imported
first. `curvature` is a sub-package of its own.

>>> import torch
>>> from unrolled.core import Trajectory
>>> from unrolled.instruments import delta
>>> log = Trajectory.from_records(range(4), {"x": torch.tensor([0.0, 0.0, 3.0, 5.0])})
>>> float(delta(log, minus=(0, 2), plus=(2, 4))["delta"])
4.0
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.instruments import curvature as curvature
    from unrolled.instruments._delta import delta as delta
    from unrolled.instruments._influence import influence as influence
    from unrolled.instruments._lens import lens as lens
    from unrolled.instruments._settling import settling as settling
    from unrolled.instruments._spectrum import spectrum as spectrum
    from unrolled.instruments.reading import Reading as Reading

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("curvature", "reading"),
    names={
        "Reading": "reading",
        "delta": "_delta",
        "influence": "_influence",
        "lens": "_lens",
        "settling": "_settling",
        "spectrum": "_spectrum",
    },
)
