"""Integrators for batches, each sample with its own step size; they know nothing of SBML.

`integrate` is the adaptive one (Dormand-Prince, Rodas5P, events), `Lanes` its compiled loop on a CPU, the module `replay`
its gradient, `positive_rk4` the fixed-step simulator of the language-game paper, `naive` the twin to read first.
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.sbml.solvers.adaptive import Solution as Solution
    from unrolled.sbml.solvers.adaptive import integrate as integrate
    from unrolled.sbml.solvers.lanes import Lanes as Lanes
    from unrolled.sbml.solvers.rk4 import positive_rk4 as positive_rk4

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("adaptive", "dopri5", "lanes", "naive", "replay", "rk4", "rodas5p", "trial"),
    names={
        "Lanes": "lanes",
        "Solution": "adaptive",
        "integrate": "adaptive",
        "positive_rk4": "rk4",
    },
)
