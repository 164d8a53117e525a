"""Super, CT and Pulvinar: what these layers do beyond a cortical layer (cortex fact sheet, section 5.10).

Each is a `Kind` with the numbers that are its own; `unrolled.cortex.thalamus.circuit` makes layers of them. What a
layer reads of another it reads after that cycle's spikes and uses in the next, as an axon would let it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.axon.channels import NMDA
from unrolled.cortex.axon.kinds import Kind, Moment, View
from unrolled.cortex.axon.layer import Layer
from unrolled.cortex.thalamus.timing import Timing

NO_DECAY = (("decay.act", 0.0), ("decay.glong", 0.0))


@dataclass(frozen=True)
class Member(Kind):
    """A kind that knows its network and layer, which `circuit` tells it.

    Attributes:
        net: the network.
        layer: the layer's name.
    """

    net: Any = field(default=None, repr=False, compare=False)
    layer: str = ""

    @property
    def own(self) -> Layer:
        """The layer of this kind."""
        if self.net is None:
            raise ValueError(
                f"a {self.name} layer belongs to a circuit: make it with unrolled.cortex.thalamus.super_layer, super_ct or "
                "pulvinar, not with network.layer"
            )
        return self.net.layers[self.layer]

    def variables(self) -> dict[str, float]:
        """Burst, and Burst at the end of the trial before."""
        return {"Burst": 0.0, "BurstPrv": 0.0}

    def minus_started(self, view: View) -> None:
        """BurstPrv = Burst: what context was made of."""
        view["BurstPrv"].copy_(view["Burst"])


@dataclass(frozen=True)
class Super(Member):
    """A superficial layer, whose layer-5b bursts drive the pulvinar and refresh the context of CT.

    Burst = CaP in the plus phase where CaP >= max(0.1, mean + 0.1 (max - mean)), else 0; elsewhere Burst = CaP. Mean and
    maximum are of the layer, one cycle old.

    Attributes:
        thr_rel: threshold of bursting between the layer's mean (0) and maximum (1).
        thr_abs: smallest threshold.
        timing: when each neuron learns; None is at the end of the trial.
    """

    name: str = "super"
    thr_rel: float = 0.1
    thr_abs: float = 0.1
    timing: Timing | None = None

    def variables(self) -> dict[str, float]:
        """Also the threshold, and what timing keeps."""
        return super().variables() | {"BurstThr": 0.0} | (self.timing.variables() if self.timing else {})

    @property
    def history(self) -> int:
        """With timing, credit may be of a cycle anywhere in the trial: a trial and a window of calcium."""
        if self.timing is None or self.net is None:
            return 0
        window = self.own.params.window.cycles
        return -(-(self.net.theta.length + window) // 10) * 10

    def drive(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """The threshold of bursting, from the calcium of the cycle before."""
        if moment.plus:
            ca = view["CaP"]
            mean = ca.mean(-1, keepdim=True)
            most = ca.amax(-1, keepdim=True)
            view["BurstThr"].copy_((mean + self.thr_rel * (most - mean)).clamp(min=self.thr_abs))
        view["GeExt"].zero_()

    def spiked(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """Burst, and whether it is time to learn."""
        view["Burst"].copy_(bursting(view, moment.plus))
        if self.timing is not None:
            self.timing.cycle(view, self.own.params, moment)

    def dwt(self, net: Any, path: Any, state: Any) -> Tensor | None:
        """With timing, learn from the cycle each neuron chose."""
        return None if self.timing is None else self.timing.change(net, path, state)


def bursting(view: View, plus: bool) -> Tensor:
    """CaP where it reaches the threshold of bursting, in the plus phase; CaP elsewhere."""
    ca = view["CaP"]
    return ca * (ca >= view["BurstThr"]) if plus else ca


@dataclass(frozen=True)
class CT(Member):
    """Corticothalamic layer 6: carries the context of the trial before and predicts with it.

    At cycle T - 2 - delay of a trial of T cycles its context paths bring scale x Wt x Burst of their senders; at the last
    cycle that becomes CtxtGe (is added to what is left of it, unless `decay_tau` is 0). In every cycle of the next trial
    GeRaw += g, GeSyn and the drive of inhibition += 5 g, with g = ge_gain CtxtGe, then CtxtGe -= CtxtGe / decay_tau.
    Maintenance paths drive NMDA receptors of their own.

    Attributes:
        ge_gain: gain of the context; 0.05 to 2.
        decay_tau: decay of the context, cycles; 0 copies the last trial, 50 lets the circuit take over.
        maintenance: NMDA receptors of maintenance paths.
        delay: context takes part in this many cycles before the end of the trial; a path's own `delay`.
    """

    name: str = "ct"
    params: tuple[tuple[str, Any], ...] = (*NO_DECAY, ("inhib.layer.gi", 2.2), ("inhib.pool.gi", 2.2))
    ge_gain: float = 1.0
    decay_tau: float = 50.0
    maintenance: NMDA = field(default_factory=lambda: NMDA(ge=0.007, tau=200.0))

    def __post_init__(self) -> None:
        if self.decay_tau < 0 or 0 < self.decay_tau < 1 or self.ge_gain < 0:
            raise ValueError(
                f"CT: expected ge_gain >= 0 and decay_tau 0 or at least 1, got ge_gain={self.ge_gain}, "
                f"decay_tau={self.decay_tau}"
            )

    @staticmethod
    def fast() -> "CT":
        """Integrates over one trial (Axon's preset for movement)."""
        return CT(params=_preset(2.0, 0.006, 0.004, 100.0), ge_gain=1.0, decay_tau=0.0)

    @staticmethod
    def medium() -> "CT":
        """Integrates over a few trials (Axon's preset for grammars)."""
        return CT(params=_preset(2.2, 0.009, 0.008, 200.0), ge_gain=2.0)

    @staticmethod
    def long() -> "CT":
        """Integrates over many trials (Axon's preset for music)."""
        return CT(params=_preset(2.8, 0.010, 0.010, 300.0), ge_gain=1.0)

    def variables(self) -> dict[str, float]:
        """Also context as it arrives, context as it is, and glutamate bound by maintenance."""
        return super().variables() | {"CtxtGeRaw": 0.0, "CtxtGe": 0.0, "GMaintSyn": 0.0}

    def minus_started(self, view: View) -> None:
        """Maintenance is forgotten as NMDA is."""
        super().minus_started(view)
        view["GMaintSyn"].mul_(1 - self.own.params.decay.glong)

    def drive(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """Context and maintenance join excitation; context drives inhibition too."""
        context = view["CtxtGe"] * self.ge_gain
        steady = context * self.own.params.membrane.ge_tau
        view["GeRaw"].add_(context)
        view["GeSyn"].add_(steady)
        view["GeExt"].copy_(steady)
        if self.decay_tau:
            view["CtxtGe"].mul_(1 - 1 / self.decay_tau)
        if self.maintenance.ge:
            bound = self.maintenance.bind(view["GMaintSyn"], view["GMaintRaw"])
            view["GMaintSyn"].copy_(bound)
            view["GeSyn"].add_(self.maintenance.conductance(bound, view["VmDend"]))

    def spiked(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """Burst = CaP; near the end of the trial context arrives."""
        view["Burst"].copy_(view["CaP"])
        for path in self.net.incoming(self.own):
            if path.conductance == "context" and moment.cycle == moment.length - 2 - path.params.delay:
                sender = others(path.send.name)
                burst = bursting(sender, moment.plus) if isinstance(path.send.kind, Super) else sender["CaP"]
                view["CtxtGeRaw"].add_(burst @ (self.net.scale[path.name] * path.wt))
        if moment.cycle == moment.length - 1:
            if not self.decay_tau:
                view["CtxtGe"].zero_()
            view["CtxtGe"].add_(view["CtxtGeRaw"])
            view["CtxtGeRaw"].zero_()


def _preset(gi: float, gabab: float, nmda: float, tau: float) -> tuple[tuple[str, Any], ...]:
    return (
        *NO_DECAY, ("inhib.layer.gi", gi), ("inhib.pool.gi", gi), ("gabab.gk", gabab), ("nmda.ge", nmda),
        ("nmda.tau", tau), ("sahp.gk", 1.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Pulvinar(Member):
    """Thalamic relay: shows CT's prediction in the minus phase and its driver's outcome in the plus phase.

    Plus phase: GeRaw = w GeRaw + drive_scale Burst, GeSyn = w GeSyn + 5 drive_scale Burst, of the one driver neuron at
    the same place; w = 1 - min(1, max CaP of the driver layer / full_drive): without an outcome the prediction stays. At
    the end of the minus phase its state is cleared. It learns as a target does.

    Attributes:
        driver: the layer whose layer-5b cells drive it, of the same size.
        drive_scale: conductance per unit of Burst; 0.1 to 0.2.
        full_drive: CaP of the driver layer at which nothing but the driver counts.
    """

    name: str = "pulvinar"
    is_target: bool = True
    params: tuple[tuple[str, Any], ...] = (*NO_DECAY, ("rlrate.sigmoid_min", 1.0))
    driver: str = ""
    drive_scale: float = 0.1
    full_drive: float = 0.6

    def __post_init__(self) -> None:
        if self.drive_scale < 0 or self.full_drive <= 0:
            raise ValueError(
                f"Pulvinar: expected drive_scale >= 0 and full_drive > 0, got {self.drive_scale} and {self.full_drive}"
            )

    @property
    def slow_inhibited(self) -> bool:
        """In the plus phase, in as far as it is not driven."""
        return True

    def variables(self) -> dict[str, float]:
        """Also Burst of the driver neuron, and the largest CaP of its layer."""
        return super().variables() | {"DriveBurst": 0.0, "DriveMax": 0.0}

    def drive(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """The outcome takes over from the prediction."""
        if not moment.plus:
            view["SSGiDend"].zero_()
            view["GeExt"].zero_()
            return
        rest = 1 - (view["DriveMax"] / self.full_drive).clamp(max=1)
        drive = view["DriveBurst"] * self.drive_scale
        view["GeRaw"].mul_(rest).add_(drive)
        view["GeSyn"].mul_(rest).add_(drive * self.own.params.membrane.ge_tau)
        view["GeExt"].copy_(view["GeSyn"])
        view["SSGiDend"].mul_(rest)

    def spiked(self, view: View, others: Callable[[str], View], moment: Moment) -> None:
        """What the driver says, for the next cycle; Burst of its own = CaP."""
        view["Burst"].copy_(view["CaP"])
        if moment.plus or moment.last:
            driver, kind = others(self.driver), self.net.layers[self.driver].kind
            view["DriveBurst"].copy_(
                bursting(driver, moment.plus) if isinstance(kind, Super) else driver["CaP"]
            )
            view["DriveMax"].copy_(driver["CaP"].amax(-1, keepdim=True).expand_as(view["DriveMax"]))

    def minus_ended(self, view: View) -> None:
        """Forget the prediction, all but what learning needs of it."""
        for name in ("Act", "ActInt", "Spike", "Ge", "Gi", "Gk", "GeRaw", "GeExt"):
            view[name].zero_()
        for name in ("GababM", "GababX", "GnmdaSyn", "VgccM", "VgccH"):
            view[name].zero_()
        for name in ("Vm", "VmDend"):
            view[name].fill_(self.own.params.membrane.v_init)
        view["ISIAvg"].fill_(-1)


def context_change(net: Any, path: Any, state: Any) -> Tensor:
    """How a context path learns: dw = BurstPrv_send (LearnCaP - LearnCaD)_recv ETrLearn, softly bounded; no RLRate.

    Returns:
        The change `[send, recv]`, summed over data, before the learning rate.
    """
    recv = path.recv.part
    error = (state["LearnCaP"] - state["LearnCaD"])[:, recv] * state["ETrLearn"][:, recv]
    burst = state["BurstPrv"][:, path.send.part].T
    up, down = burst @ error.clamp(min=0), burst @ error.clamp(max=0)
    return torch.lerp(up, down, path.lwt)  # up (1 - LWt) + down LWt
