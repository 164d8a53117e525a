"""At home elsewhere: Axon's weight files, NIR graphs, and spikes as snntorch expects them.

Our own files, exact and small, are `Network.save` and `Network.load` (safetensors).
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.cortex.interop.axon import load_wts as load_wts
    from unrolled.cortex.interop.axon import save_wts as save_wts
    from unrolled.cortex.interop.nir import from_nir as from_nir
    from unrolled.cortex.interop.nir import not_in_nir as not_in_nir
    from unrolled.cortex.interop.nir import to_nir as to_nir
    from unrolled.cortex.interop.snn import SPIKES as SPIKES
    from unrolled.cortex.interop.snn import moments as moments
    from unrolled.cortex.interop.snn import recording as recording
    from unrolled.cortex.interop.snn import spikes as spikes

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("axon", "nir", "snn"),
    names={
        "SPIKES": "snn",
        "from_nir": "nir",
        "load_wts": "axon",
        "moments": "snn",
        "not_in_nir": "nir",
        "recording": "snn",
        "save_wts": "axon",
        "spikes": "snn",
        "to_nir": "nir",
    },
)
