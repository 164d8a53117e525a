"""axon: the spiking neuron and its learning rule, one concept a file, with every constant in a readable sheet.

`naive` is the whole cycle as the equations say it; `fused` is the same cycle fast. Read them in this order: `channels`,
`neuron`, `inhibition`, `calcium`, `paths`, `naive`, `learning`, `slow`.

>>> from unrolled.cortex import axon
>>> axon.LayerParams().spike.tr, axon.PathParams().delay
(3, 2)
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.cortex.axon.kinds import Kind as Kind
    from unrolled.cortex.axon.kinds import Moment as Moment
    from unrolled.cortex.axon.layer import Layer as Layer
    from unrolled.cortex.axon.layer import LayerParams as LayerParams
    from unrolled.cortex.axon.naive import Naive as Naive
    from unrolled.cortex.axon.paths import Path as Path
    from unrolled.cortex.axon.paths import PathParams as PathParams
    from unrolled.cortex.axon.sheets import Rule as Rule

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "calcium",
        "channels",
        "inhibition",
        "kinds",
        "layer",
        "learning",
        "naive",
        "neuron",
        "paths",
        "sheets",
        "slow",
        "state",
        "weights",
    ),
    names={
        "Kind": "kinds",
        "Layer": "layer",
        "LayerParams": "layer",
        "Moment": "kinds",
        "Naive": "naive",
        "Path": "paths",
        "PathParams": "paths",
        "Rule": "sheets",
    },
)
