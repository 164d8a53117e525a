"""When a neuron learns: some time after its own response to a new input, not when a clock says so (section 5.9)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.axon.kinds import Moment, View
from unrolled.cortex.axon.layer import LayerParams
from unrolled.cortex.axon.learning import soft_bound
from unrolled.cortex.kinase._linear import BIN


@dataclass(frozen=True)
class Timing:
    """Detects the peak of a neuron's response, and learns a fixed delay after it.

    Ga = Ge + Gi goes through the cascade 5 / 40 / 40; TimeDiff is |GaP - GaD| smoothed over `tau` ms, which rises when
    the input changes. The minus peak is where it has risen for `ups` cycles in a row, if `minus_window` cycles pass
    after that. `enable_window` cycles later the neuron is enabled if its CaD exceeds `window.thr`; the cycle it learns
    from is `learn_cycles` after the end of the minus window.

    With `learn_cycles` below `enable_window` that cycle is past when the neuron is enabled; its error is kept from the
    time. (Axon's code, as read, keeps the error only of neurons enabled before; then a layer with 20, as in its grammar
    simulation, would not learn.)

    Attributes:
        learn_cycles: 30 by default, 20 for grammars, 50 for objects; 0 or more.
        minus_window: cycles after the peak in which nothing is decided.
        enable_window: cycles after that.
        ups: cycles of rise that make a peak.
        tau: smoothing of TimeDiff, ms.
    """

    learn_cycles: int = 30
    minus_window: int = 120
    enable_window: int = 40
    ups: int = 18
    tau: float = 4.0

    def __post_init__(self) -> None:
        if (
            self.learn_cycles < 0
            or self.minus_window < 1
            or self.enable_window < 1
            or self.ups < 1
            or self.tau < 1
        ):
            raise ValueError(
                f"{self}: expected learn_cycles >= 0, windows and ups of at least 1 cycle, and tau >= 1"
            )

    @staticmethod
    def variables() -> dict[str, float]:
        """What a neuron keeps. Cycles are counted by `Clock`; -1 is never."""
        return {
            "Clock": 0.0, "GaM": 0.0, "GaP": 0.0, "GaD": 0.0, "TimeDiff": 0.0, "TimePeak": 0.0, "PeakUps": 0.0,
            "PeakCycle": -1.0, "WindowCycle": -1.0, "LearnNow": -1.0, "LearnHeld": 0.0, "LearnErr": 0.0,
        }  # fmt: skip

    def cycle(self, v: View, params: LayerParams, moment: Moment) -> None:
        """One cycle of detection, after this cycle's calcium."""
        ca = params.spike_ca
        now = v["Clock"].add_(1)
        v["GaM"].lerp_(v["Ge"] + v["Gi"], 1 / ca.m_tau)
        v["GaP"].lerp_(v["GaM"], 1 / ca.p_tau)
        v["GaD"].lerp_(v["GaP"], 1 / ca.d_tau)
        diff = v["TimeDiff"].lerp_((v["GaP"] - v["GaD"]).abs_(), 1 / self.tau)

        opened, peak = v["WindowCycle"], v["PeakCycle"]
        waits = (opened < 0).logical_or_(
            now - opened > self.enable_window
        )  # no minus peak of the present kind yet
        climbs = (v["PeakUps"] < self.ups).logical_and_(waits)
        up = (diff > v["TimePeak"]).logical_and_(climbs)
        torch.where(climbs, diff, v["TimePeak"], out=v["TimePeak"])
        torch.where(up, now, peak, out=peak)
        v["PeakUps"].add_(up).masked_fill_(climbs & ~up, 0.0)
        found = waits & (v["PeakUps"] >= self.ups) & (now - peak >= self.minus_window)
        torch.where(found, now, opened, out=opened)

        # the error of the cycle to learn from, kept before it is known whether the neuron is enabled
        first = now - moment.cycle  # of this trial
        due = torch.maximum(opened + self.learn_cycles, first + 1)
        lasts = max(self.enable_window, self.learn_cycles + 1) + 2
        keep = (opened >= 0) & (now == due + 1) & (now - opened <= lasts)
        if bool(keep.any()):
            rate = params.rlrate(v["CaP"], v["CaD"], v["CaD"].amax(-1, keepdim=True))
            error = params.learn_ca.difference(v["LearnCaP"], v["LearnCaD"]) * rate * v["ETrLearn"]
            v["LearnHeld"].copy_(torch.where(keep, error, v["LearnHeld"]))
            v["LearnErr"].copy_(torch.where(keep & (v["LearnNow"] == due), error, v["LearnErr"]))

        decides = (opened >= 0) & (now - opened == self.enable_window)
        if bool(decides.any()):
            enabled = decides & (v["CaD"] >= params.window.thr)
            v["LearnNow"].copy_(torch.where(enabled, due, torch.where(decides, -1.0, v["LearnNow"])))
            held = torch.where(now > due, v["LearnHeld"], 0.0)  # 0 until the cycle comes
            v["LearnErr"].copy_(torch.where(enabled, held, v["LearnErr"]))
            for name in ("TimePeak", "PeakUps"):
                v[name].masked_fill_(decides, 0.0)

    def change(self, net: Any, path: Any, state: Any) -> Tensor:
        """Change of a path `[send, recv]`: credit of the window that ends when each receiver learned, times its error.

        Only receivers whose cycle was in the trial that just ended learn.
        """
        recv, params = path.recv.part, path.recv.params
        now, length, window = state["cycle"], net.theta.length, params.window.cycles
        learned = state["LearnNow"][:, recv]
        due = (learned > now - length) & (learned <= now)
        error = torch.where(due, state["LearnErr"][:, recv], 0.0)
        bins = net.n_bins
        order = [b % bins for b in range(now // BIN - bins, now // BIN)]
        s, r = state["bins"][:, order, path.send.part], state["bins"][:, order, recv]
        # the window starts `window` ms before; Clock counts from 1, cycles from 0
        start = ((learned - 1 - window) / BIN).floor() - (now // BIN - bins)
        at = torch.arange(bins, device=s.device).view(1, -1, 1)
        inside = (at >= start.unsqueeze(1)) & (at < start.unsqueeze(1) + window // BIN)
        r = r * inside * (8.0 * BIN / window)
        total = torch.zeros_like(path.lwt)
        for d in range(len(s)):  # only neurons that were active and chose a cycle of this trial
            senders, receivers = s[d].any(0).nonzero().flatten(), error[d].nonzero().flatten()
            syn = s[d][:, senders].T @ r[d][:, receivers]
            syn = torch.nn.functional.threshold(syn, path.params.dwt.learn_thr, 0.0)
            at = (senders.unsqueeze(1), receivers.unsqueeze(0))
            total[at] += soft_bound(syn * error[d, receivers], path.lwt[at])
        return total
