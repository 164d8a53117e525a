"""thalamus: the corticothalamic loop that predicts what comes next (cortex fact sheet, section 5.10).

Superficial cells (`Super`) see the world; corticothalamic cells (`CT`) hold the context of the trial before and send a
prediction to the `Pulvinar`; in the plus phase the pulvinar's driver shows it what really came. Error is what the
difference does to everyone who listens, nothing more.

>>> from unrolled.cortex import Network, thalamus
>>> net = Network(seed=0)
>>> _ = net.layer("Input", (1, 7), kind="input")
>>> inp = thalamus.pulvinar(net, "InputP", driver="Input")
>>> hidden, ct = thalamus.super_ct(net, "Hidden", (4, 4))
>>> thalamus.connect_pulvinar(net, hidden, ct, inp)
>>> _ = net.connect("Input", "Hidden")
>>> sorted(net.paths)
['Hidden->HiddenCT', 'HiddenCT->InputP', 'Input->Hidden', 'InputP->Hidden', 'InputP->HiddenCT']
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.cortex.thalamus.circuit import connect_pulvinar as connect_pulvinar
    from unrolled.cortex.thalamus.circuit import context as context
    from unrolled.cortex.thalamus.circuit import ct_self as ct_self
    from unrolled.cortex.thalamus.circuit import pulvinar as pulvinar
    from unrolled.cortex.thalamus.circuit import super_ct as super_ct
    from unrolled.cortex.thalamus.circuit import super_layer as super_layer
    from unrolled.cortex.thalamus.layers import CT as CT
    from unrolled.cortex.thalamus.layers import Pulvinar as Pulvinar
    from unrolled.cortex.thalamus.layers import Super as Super
    from unrolled.cortex.thalamus.timing import Timing as Timing

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("circuit", "layers", "timing"),
    names={
        "connect_pulvinar": "circuit",
        "context": "circuit",
        "ct_self": "circuit",
        "pulvinar": "circuit",
        "super_ct": "circuit",
        "super_layer": "circuit",
        "CT": "layers",
        "Pulvinar": "layers",
        "Super": "layers",
        "Timing": "timing",
    },
)
