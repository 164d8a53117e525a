"""unrolled: read what an iterated system computes, one step at a time.

`import unrolled as un` costs little more than `import torch`: sub-packages load when first used.

    >>> import unrolled as un
    >>> un.rollout.__name__
    'rollout'
"""

from unrolled._lazy import attach

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "core",
        "cortex",
        "debate",
        "instruments",
        "languagegame",
        "latent",
        "looped",
        "optim",
        "report",
        "runs",
        "sbml",
        "studies",
        "toys",
        "training",
    ),
    names={
        "System": "core",
        "Trajectory": "core",
        "Reading": "instruments",
        "Stop": "core",
        "Settled": "core",
        "Halted": "core",
        "rollout": "core",
        "check_system": "core",
        "curvature": "instruments",
    },
)
