"""Ion channels of an Axon neuron, one per file: each is a frozen parameter sheet with its equations as methods.

Voltages are in mV, times in ms, conductances in units of the neuron's `gbar` (100 nS); every tensor is `[data, neurons]`.

>>> import torch
>>> from unrolled.cortex.axon.channels import NMDA
>>> nmda = NMDA()
>>> float(nmda.gate(torch.tensor(0.0))), round(float(nmda.gate(torch.tensor(-70.0))), 3)
(0.0, 2.252)
"""

from unrolled.cortex.axon.channels.ak import AK
from unrolled.cortex.axon.channels.gabab import GABAB
from unrolled.cortex.axon.channels.kna import KNa
from unrolled.cortex.axon.channels.mahp import MAHP
from unrolled.cortex.axon.channels.nmda import NMDA
from unrolled.cortex.axon.channels.sahp import SAHP
from unrolled.cortex.axon.channels.vgcc import VGCC

__all__ = ["AK", "GABAB", "MAHP", "NMDA", "SAHP", "VGCC", "KNa"]
