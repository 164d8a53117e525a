"""The kinase rule: a synapse learns from two competing kinases that integrate its calcium at different lags.

CaM (calmodulin with calcium) drives CaP (CaMKII, potentiation), and CaP drives CaD (DAPK1, depression). Their
difference is the temporal derivative of the synapse's pre x post activity: outcome minus prediction.

>>> from unrolled.cortex import kinase
>>> cap, cad = kinase.synaptic_weights(200, 50)
>>> round(float(cap.sum()), 3), round(float(cad.sum()), 3)
(7.987, 8.008)
>>> round(kinase.jang_protocol(25, 50), 4), round(kinase.jang_protocol(50, 25), 4)
(0.2144, -0.1235)
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.cortex.kinase._linear import bins as bins
    from unrolled.cortex.kinase._linear import linear as linear
    from unrolled.cortex.kinase._linear import synaptic_weights as synaptic_weights
    from unrolled.cortex.kinase._synapse import Cascade as Cascade
    from unrolled.cortex.kinase._synapse import Synapse as Synapse
    from unrolled.cortex.kinase._synapse import cascade as cascade
    from unrolled.cortex.kinase._synapse import poisson as poisson
    from unrolled.cortex.kinase._synapse import regular as regular
    from unrolled.cortex.kinase._synapse import synapse as synapse
    from unrolled.cortex.kinase._synapse import trace as trace
    from unrolled.cortex.kinase.jang import JANG as JANG
    from unrolled.cortex.kinase.jang import epsp as epsp
    from unrolled.cortex.kinase.jang import fitted_gain as fitted_gain
    from unrolled.cortex.kinase.jang import hebbian_protocol as hebbian_protocol
    from unrolled.cortex.kinase.jang import jang_protocol as jang_protocol
    from unrolled.cortex.kinase.jang import statistics as statistics

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("jang",),
    names={
        "JANG": "jang",
        "epsp": "jang",
        "fitted_gain": "jang",
        "hebbian_protocol": "jang",
        "jang_protocol": "jang",
        "statistics": "jang",
        "bins": "_linear",
        "linear": "_linear",
        "synaptic_weights": "_linear",
        "Cascade": "_synapse",
        "Synapse": "_synapse",
        "cascade": "_synapse",
        "poisson": "_synapse",
        "regular": "_synapse",
        "synapse": "_synapse",
        "trace": "_synapse",
    },
)
