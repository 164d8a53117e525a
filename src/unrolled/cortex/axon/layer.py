"""A layer: its shape, its kind, and one sheet with every parameter of its neurons."""

from dataclasses import dataclass, field

from unrolled.cortex.axon.calcium import LearnCa, SpikeCa
from unrolled.cortex.axon.channels import AK, GABAB, MAHP, NMDA, SAHP, VGCC, KNa
from unrolled.cortex.axon.inhibition import Inhibition
from unrolled.cortex.axon.kinds import HIDDEN, Kind
from unrolled.cortex.axon.learning import RLRate, Window
from unrolled.cortex.axon.neuron import Clamp, Decay, Dendrite, Membrane, Spiking
from unrolled.cortex.axon.slow import TrgAvg


@dataclass(frozen=True)
class LayerParams:
    """Every parameter of a layer's neurons; Axon's cortical defaults (cortex fact sheet, section 5).

    Example:
        >>> LayerParams().nmda.ge, LayerParams().learn_ca.m_tau
        (0.006, 2.0)
    """

    membrane: Membrane = field(default_factory=Membrane)
    """Capacitances, leak, reversals, synaptic decay."""
    spike: Spiking = field(default_factory=Spiking)
    """Spike, refractory period, rate."""
    dend: Dendrite = field(default_factory=Dendrite)
    """The dendrite."""
    clamp: Clamp = field(default_factory=Clamp)
    """External patterns."""
    decay: Decay = field(default_factory=Decay)
    """What is forgotten between theta cycles."""
    nmda: NMDA = field(default_factory=NMDA)
    """NMDA conductance."""
    vgcc: VGCC = field(default_factory=VGCC)
    """Voltage-gated calcium."""
    gabab: GABAB = field(default_factory=GABAB)
    """GABA-B inhibition."""
    mahp: MAHP = field(default_factory=MAHP)
    """Medium afterhyperpolarization."""
    sahp: SAHP = field(default_factory=SAHP)
    """Slow afterhyperpolarization."""
    ak: AK = field(default_factory=AK)
    """A-type potassium."""
    kna: KNa = field(default_factory=KNa)
    """Sodium-gated potassium, medium (Slick)."""
    kna_slow: KNa = field(default_factory=lambda: KNa(rise_tau=1000.0, decay_tau=1000.0))
    """Sodium-gated potassium, slow (Slack)."""
    inhib: Inhibition = field(default_factory=Inhibition)
    """Inhibition of the layer and its sub-pools; expected activity."""
    spike_ca: SpikeCa = field(default_factory=SpikeCa)
    """Calcium of spikes."""
    learn_ca: LearnCa = field(default_factory=LearnCa)
    """Calcium of learning."""
    learn_nmda: NMDA = field(default_factory=NMDA)
    """NMDA receptors as a source of learning calcium; separate from `nmda`."""
    rlrate: RLRate = field(default_factory=RLRate)
    """Learning rate per neuron."""
    window: Window = field(default_factory=Window)
    """Who learns, over which stretch."""
    trg: TrgAvg = field(default_factory=TrgAvg)
    """Targets of long-run activity."""


@dataclass
class Layer:
    """A layer of a network.

    Attributes:
        name: unique in the network.
        shape: `(rows, columns)`, or `(pool rows, pool columns, rows, columns)` for a layer with sub-pools.
        kind: what it is to the outside.
        params: its sheet; replaced, never changed in place.
        tags: names that `.tag` selectors of a sheet find.
        index: position in the network.
        start: index of its first neuron among all of the network's.
        pool: index of its layer pool among all pools; sub-pools follow.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind = HIDDEN
    params: LayerParams = field(default_factory=LayerParams)
    tags: frozenset[str] = frozenset()
    index: int = 0
    start: int = 0
    pool: int = 0

    @property
    def n(self) -> int:
        """Number of neurons."""
        n = 1
        for size in self.shape:
            n *= size
        return n

    @property
    def sub_pools(self) -> int:
        """Number of sub-pools, 0 without."""
        return self.shape[0] * self.shape[1] if len(self.shape) == 4 else 0

    @property
    def pools(self) -> int:
        """Number of pools, the layer's own included."""
        return 1 + self.sub_pools

    @property
    def part(self) -> slice:
        """Where its neurons are among all of the network's."""
        return slice(self.start, self.start + self.n)

    @property
    def pool_part(self) -> slice:
        """Where its pools are among all of the network's."""
        return slice(self.pool, self.pool + self.pools)

    @property
    def adapts(self) -> bool:
        """Whether its neurons have targets of long-run activity."""
        return self.params.trg.on and not self.kind.takes_pattern
