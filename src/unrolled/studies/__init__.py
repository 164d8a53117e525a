"""Studies: each file puts a system under an instrument and holds the result against the published number.

A study is one file with a frozen `Config`, its presets `tiny()`, `small()`, `paper()`, `study(config, run)` which returns
claims, and `figures(run)` which draws from the run folder alone. `unrolled list` shows them, `unrolled run NAME` runs one.
"""

import pkgutil

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=tuple(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    ),
)
