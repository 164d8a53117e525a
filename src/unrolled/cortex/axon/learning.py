"""Learning at the end of a theta cycle: credit x error, bounded softly, one product of binned calcium per synapse.

The functions here read like the equations and form every synapse of every sample; `unrolled.cortex.axon.products`
computes the same sums with a few matrix products.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate
from unrolled.cortex.axon.weights import SWt
from unrolled.cortex.kinase._linear import BIN, synaptic_weights


@dataclass(frozen=True)
class RLRate:
    """Learning rate of a receiving neuron from its activity and error (cortex fact sheet, section 5.7).

    Example:
        >>> rl = RLRate()
        >>> p, d = torch.tensor([0.5, 0.0]), torch.tensor([0.4, 0.0])
        >>> [round(float(x), 5) for x in rl(p, d, torch.tensor(0.8))]
        [0.2, 5e-05]
    """

    on: bool = True
    """Off is a rate of 1 for every neuron."""
    sigmoid_min: float = 0.05
    """Floor of the factor that favours half-active neurons; 0.05, or 1 (off) for pulvinar."""
    linear: bool = False
    """Two straight lines, 2 c and 2 (1 - c), in place of the parabola 4 c (1 - c)."""
    diff: bool = True
    """Scale by the neuron's own error."""
    spike_thr: float = 0.1
    """CaP or CaD below which the error factor is `least`; 0 to 1."""
    diff_thr: float = 0.02
    """Error CaP - CaD below which the error factor is `least`; 0 to 1."""
    least: float = 0.001
    """Smallest error factor, 0 to 1."""

    def __post_init__(self) -> None:
        validate(self)

    def __call__(self, ca_p: Tensor, ca_d: Tensor, layer_max: Tensor) -> Tensor:
        """Sig x diff: sig = max(4 c (1 - c), sigmoid_min), c = min(CaD / layer max, 1); diff = |CaP - CaD| / max.

        Args:
            ca_p: CaP, `[data, neurons]`.
            ca_d: CaD, same shape.
            layer_max: largest CaD of the layer in the cycle before, `[data, 1]`.
        """
        if not self.on:
            return torch.ones_like(ca_p)
        c = (ca_d / torch.where(layer_max == 0, 1.0, layer_max)).clamp(max=1)
        half_active = 2 * torch.minimum(c, 1 - c) if self.linear else 4 * c * (1 - c)
        sig = torch.where(layer_max == 0, 1.0, half_active.clamp(min=self.sigmoid_min))
        if not self.diff:
            return sig
        most, gap = torch.maximum(ca_p, ca_d), (ca_p - ca_d).abs()
        counts = (most > self.spike_thr) & (gap >= self.diff_thr)
        return sig * torch.where(counts, gap / torch.where(counts, most, 1.0), self.least)


@dataclass(frozen=True)
class Window:
    """Which neurons learn, and over which stretch credit is summed (fact sheet, section 5.7)."""

    thr: float = 0.1
    """CaD at the learning cycle above which a hidden neuron learns; 0 to 1."""
    cycles: int = 160
    """Length of the credit window, ms, a multiple of 10; it ends with the last complete bin but one."""

    def __post_init__(self) -> None:
        validate(self)
        if self.cycles < 10 or self.cycles % 10:
            raise ValueError(
                f"Window.cycles={self.cycles}: expected a positive multiple of 10 ms, the width of a bin"
            )


@dataclass(frozen=True)
class DWt:
    """Details of the weight change (fact sheet, section 5.7)."""

    learn_thr: float = 0.0
    """Credit (Syn) a synapse must exceed to learn; 0, or 0.1 to 0.2 in the reference simulations."""
    ca_p_scale: float = 1.0
    """Factor of the synaptic CaP into targets; 0.95 to 1.05."""
    ca_plus: int = 0
    """Plus phase for which the weights of linear synaptic calcium are, ms; 0 is the cycle's own, as in Axon. 50 is what they
    were fitted with: they are then the cascade's, with kinases of 40 ms, wherever the phases meet."""
    sub_mean: float = 0.0
    """Proportion of the mean change per receiver (over synapses that change) that is subtracted, 0 to 1."""
    syn_tau: float = 1.0
    """Time constant of credit, in theta cycles; 1 is this cycle's credit alone."""

    def __post_init__(self) -> None:
        validate(self)

    def weights(self, cycles: int, plus: int) -> tuple[Tensor, Tensor]:
        """The weights of synaptic CaP and CaD, one per bin of a theta cycle; see `unrolled.cortex.kinase.synaptic_weights`.

        Example:
            With `ca_plus` they do not depend on where the phases meet:

            >>> cap, _ = DWt(ca_plus=50).weights(200, 100)
            >>> [round(float(w), 3) for w in cap[-3:]]
            [0.95, 1.155, 1.36]
        """
        if not self.ca_plus:
            return synaptic_weights(cycles, plus)
        cap, cad = synaptic_weights(max(cycles, 4 * self.ca_plus), self.ca_plus)
        return cap[-cycles // BIN :], cad[-cycles // BIN :]


def credit(send_bins: Tensor, recv_bins: Tensor) -> Tensor:
    """Syn = (8 / n) sum_b r_b s_b over the n bins of the window, for one sample: `[send, recv]`.

    Args:
        send_bins: CaSyn of the senders, `[n, send]`.
        recv_bins: CaSyn of the receivers, `[n, recv]`.

    Example:
        >>> credit(torch.full((16, 1), 2.0), torch.full((16, 1), 3.0)).tolist()
        [[48.0]]
    """
    return 8.0 / len(send_bins) * torch.einsum("bs,br->sr", send_bins, recv_bins)


def soft_bound(dw: Tensor, lwt: Tensor) -> Tensor:
    """Dw (1 - LWt) if dw > 0 else dw LWt."""
    return torch.where(dw > 0, dw * (1 - lwt), dw * lwt)


def cortex(syn: Tensor, trace: Tensor, recv_learn: Tensor, lwt: Tensor, params: DWt) -> Tensor:
    """The kinase rule for cortical receivers, one sample: trace x (CaDiff RLRate ETrLearn) where Syn exceeds the threshold.

    Args:
        syn: this cycle's credit, `[send, recv]`.
        trace: credit averaged over theta cycles (equal to `syn` when `syn_tau` is 1).
        recv_learn: CaDiff x RLRate x ETrLearn of the receivers, 0 for those that do not learn, `[recv]`.
        lwt: linear weights, `[send, recv]`.
        params: the path's.

    Returns:
        The change of LWt before the learning rate, `[send, recv]`.
    """
    return soft_bound(torch.where(syn > params.learn_thr, trace * recv_learn, 0.0), lwt)


def target(ca_p: Tensor, ca_d: Tensor, rlrate: Tensor, lwt: Tensor, params: DWt) -> Tensor:
    """The rule for targets, one sample: the synapse's own derivative RLRate (CaP_syn - CaD_syn), `[send, recv]`."""
    return soft_bound(rlrate * (params.ca_p_scale * ca_p - ca_d), lwt)


def sub_mean(dwt: Tensor, amount: float) -> Tensor:
    """Subtract `amount` of the mean over each receiver's changing synapses from those synapses; `[send, recv]`.

    Example:
        >>> sub_mean(torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]]), 1.0).tolist()
        [[-1.0, 2.0], [1.0, 0.0], [0.0, 0.0]]
    """
    changing = dwt != 0
    n = changing.sum(0)
    mean = dwt.sum(0) / n.clamp(min=1)
    return torch.where(changing & (n > 1), dwt - amount * mean, dwt)


def apply(swts: SWt, swt: Tensor, lwt: Tensor, dwt: Tensor) -> tuple[Tensor, Tensor]:
    """`(LWt, Wt)` after a change: LWt = clip(LWt + dWt, 0, 1), Wt = effective(SWt, LWt)."""
    lwt = (lwt + dwt).clamp(0, 1)
    return lwt, swts.effective(swt, lwt)
