"""What a network does: conserved totals, steady states, basins, sensitivities, scans, phase portraits, calibration.

Every function takes a `Model` and runs its variations as one batch.

>>> from unrolled.sbml import analysis, models
>>> print(analysis.steady_states(models.schlogl()))
stable node: X = 1
stable node: X = 3
unstable node: X = 2
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.sbml.analysis.attractors import basins as basins
    from unrolled.sbml.analysis.calibration import calibrate as calibrate
    from unrolled.sbml.analysis.conservation import conserved as conserved
    from unrolled.sbml.analysis.phase import portrait as portrait
    from unrolled.sbml.analysis.scans import scan as scan
    from unrolled.sbml.analysis.sensitivity import sensitivities as sensitivities
    from unrolled.sbml.analysis.steady import steady_states as steady_states
    from unrolled.sbml.analysis.summary import report as report

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "attractors",
        "calibration",
        "conservation",
        "phase",
        "scans",
        "sensitivity",
        "steady",
        "summary",
    ),
    names={
        "basins": "attractors",
        "calibrate": "calibration",
        "conserved": "conservation",
        "portrait": "phase",
        "scan": "scans",
        "report": "summary",
        "sensitivities": "sensitivity",
        "steady_states": "steady",
    },
)
