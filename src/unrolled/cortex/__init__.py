"""cortex: the same cells are a prediction, then an outcome; a synapse learns from the difference.

>>> import unrolled.cortex as cortex
>>> round(cortex.td.fast_slow(50, 80), 3)
6.466
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.cortex.axon.kinds import Kind as Kind
    from unrolled.cortex.axon.kinds import Moment as Moment
    from unrolled.cortex.axon.sheets import Rule as Rule
    from unrolled.cortex.diagnosis import Finding as Finding
    from unrolled.cortex.diagnosis import diagnose as diagnose
    from unrolled.cortex.network import Network as Network
    from unrolled.cortex.theta import ThetaCycle as ThetaCycle

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("axon", "diagnosis", "hybrid", "interop", "kinase", "rate", "tasks", "td", "thalamus"),
    names={
        "Finding": "diagnosis",
        "Kind": "axon",
        "Moment": "axon",
        "Network": "network",
        "Rule": "axon",
        "ThetaCycle": "theta",
        "diagnose": "diagnosis",
    },
)
