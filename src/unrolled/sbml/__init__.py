"""sbml: biological models in SBML as batched, differentiable systems.

A file, or equations, become a vector field that is simulated, differentiated and scanned in batches:

>>> from unrolled import sbml
>>> model = sbml.Model.from_equations({"S": 1.0, "P": 0.0}, {"k": 0.5}, reactions={"v": "S -> P : k * S"})
>>> model.rate(0.0, model.initial_state()).tolist()
[[-0.5, 0.5]]
>>> round(float(model.simulate(2.0, 3).value("P")[-1]), 6)  # 1 - 1/e
0.632121
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.sbml._fetch import fetch as fetch
    from unrolled.sbml._load import load as load
    from unrolled.sbml.errors import SBMLError as SBMLError
    from unrolled.sbml.errors import UnsupportedError as UnsupportedError
    from unrolled.sbml.model import Model as Model

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("analysis", "compile", "expression", "infix", "ir", "model", "models"),
    names={
        "Model": "model",
        "SBMLError": "errors",
        "UnsupportedError": "errors",
        "fetch": "_fetch",
        "load": "_load",
    },
)
