"""`FJFit`: what a fit found, how well it is determined, and what it cannot say."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unrolled.core.extras import require
from unrolled.debate.fj import FJ
from unrolled.instruments.reading import axes

NO_CONTROL = (
    "no control arm: agents that see the same evidence predict one another without talking, so weight on peers is an "
    "upper bound of influence; run the same questions with control='no_peers' and pass that log as control="
)
GAMMA_IN_PI = (
    "pi_j has gamma_j as a factor: part of 'stubborn agents are influential' is algebra; see M_T for T rounds"
)
KL = "observed || predicted, in nats, mean over predicted beliefs"


class Interval(NamedTuple):
    """Two-sided interval of a parameter."""

    low: Tensor
    high: Tensor


class Control(NamedTuple):
    """The debate against the no-peers arm: weight on peers, and an exact or sampled permutation p-value (one-sided)."""

    peer_weight: float
    control_peer_weight: float
    p_value: float
    permutations: int
    questions: int


@dataclass
class FJFit:
    """Friedkin-Johnsen parameters of one debate, or of several that share them.

    Attributes:
        gamma: stubbornness `[n]`.
        alpha: retention `[n]`; NaN where gamma is 1.
        W: who listens to whom `[n, n]`; a row of NaN where the agent listens to nobody.
        H: how this round enters the next `[n, n]`.
        M: total influence `[n, n]`.
        pi: influence per agent `[n]`, the mean row of M.
        bias: `[n, K]`, weight of a constant pull towards each option; None unless `bias=True`.
        loss: mean squared error that was minimised.
        mse: mean squared error of what the mode predicts: the next round from observed beliefs (one_step), or the whole
            trace from fitted initial beliefs (rollout).
        kl: Kullback-Leibler divergence of the same, observed || predicted; infinite where a prediction of 0 was wrong.
        rank: directions that the data determine, per agent `[n]`.
        unknowns: directions to determine, per agent `[n]`.
        condition: condition number of each agent's design `[n]`; infinite where unidentified.
        statuses: per agent: `"identified"`, `"ill-conditioned"`, `"unidentified"`.
        reasons: per agent, why; empty where identified.
        missing: beliefs (agent and round) that are missing.
        transitions: predicted beliefs that the fit used.
        kkt: largest violation of the optimality conditions.
        mode: `"one_step"` or `"rollout"`.
        questions: how many share these parameters.
        rounds: of the longest trace.
        anchors: fitted initial beliefs, one `[n, K]` per question, in mode rollout.
        intervals: name -> `Interval`, from the bootstrap.
        level: nominal coverage of the intervals.
        control: the comparison with the no-peers arm.
        notes: what a careful reader should know.
    """

    gamma: Tensor
    alpha: Tensor
    W: Tensor
    H: Tensor
    M: Tensor
    pi: Tensor
    bias: Tensor | None
    loss: float
    mse: float
    kl: float
    rank: Tensor
    unknowns: Tensor
    condition: Tensor
    statuses: tuple[str, ...]
    reasons: tuple[str, ...]
    missing: int
    transitions: int
    kkt: float
    mode: str
    questions: int
    rounds: int
    anchors: list[Tensor] | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    level: float = 0.9
    control: Control | None = None
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many agents."""
        return len(self.gamma)

    @property
    def status(self) -> str:
        """The worst of the agents'."""
        return next((s for s in ("unidentified", "ill-conditioned") if s in self.statuses), "identified")

    @property
    def reason(self) -> str:
        """Why the status is not `"identified"`."""
        told: dict[str, list[int]] = {}
        for i, why in enumerate(self.reasons):
            if why:
                told.setdefault(why, []).append(i)
        return "; ".join(
            why if len(who) == self.n else f"agent{'s' * (len(who) > 1)} {', '.join(map(str, who))}: {why}"
            for why, who in told.items()
        )

    @property
    def model(self) -> FJ:
        """The fitted system.

        Raises:
            ValueError: a parameter that it needs is undefined, or the fit has a bias, which `FJ` has not.
        """
        if self.bias is not None:
            raise ValueError(
                "a fit with bias=True has a constant pull that FJ does not have; fit without bias"
            )
        if self.gamma.isnan().any():
            raise ValueError(f"the fit leaves parameters undefined: {self.reason}")
        needed = (self.gamma < 1) & self.alpha.isnan()
        unheard = (1 - self.gamma) * (1 - self.alpha.nan_to_num(nan=1.0)) <= 1e-9
        alpha = torch.where(unheard & ~needed & (self.gamma < 1), torch.ones_like(self.alpha), self.alpha)
        alpha = torch.where(needed, torch.ones_like(alpha), alpha)
        return FJ(self.gamma, alpha, self.W)

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with one row per agent; numbers of the whole fit are in `attrs`.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        columns: dict[str, Any] = {"agent": range(self.n)}
        for name in ("gamma", "alpha", "pi", "rank", "unknowns", "condition"):
            columns[name] = getattr(self, name).tolist()
        for name in ("gamma", "alpha", "pi"):
            if name in self.intervals:
                columns[f"{name}_low"] = self.intervals[name].low.tolist()
                columns[f"{name}_high"] = self.intervals[name].high.tolist()
        columns |= {f"W[{j}]": self.W[:, j].tolist() for j in range(self.n)}
        columns |= {"status": self.statuses, "reason": self.reasons}
        frame = pandas.DataFrame(columns)
        frame.attrs.update(self.numbers(), notes=self.notes)
        return frame

    def numbers(self) -> dict[str, Any]:
        """What belongs to the whole fit."""
        return {
            "loss": self.loss, "mse": self.mse, "kl": self.kl, "kl_direction": KL, "status": self.status,
            "reason": self.reason, "rank": int(self.rank.min()), "unknowns": int(self.unknowns.max()),
            "condition": float(self.condition.max()), "kkt": self.kkt, "missing": self.missing,
            "transitions": self.transitions, "questions": self.questions, "rounds": self.rounds, "mode": self.mode,
        }  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Who moved whom: M as a matrix, row by row.

        Raises:
            ImportError: matplotlib is not installed (extra `report`).
        """
        ax = axes(ax)
        image = ax.imshow(self.M.numpy(), cmap="cividis", vmin=0, vmax=1)
        ax.figure.colorbar(image, ax=ax, label="share of the final belief")
        if self.n <= 10:
            for i in range(self.n):
                for j in range(self.n):
                    value = float(self.M[i, j])
                    color = "black" if value > 0.55 else "white"
                    ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
        ax.set(
            xlabel="initial belief of agent",
            ylabel="final belief of agent",
            title=f"who moved whom ({self.status})",
        )
        ax.set_xticks(range(self.n))
        ax.set_yticks(range(self.n))
        return ax

    def __str__(self) -> str:
        def row(name: str, values: Tensor) -> str:
            return f"  {name:<13}" + "".join(f"{x:>8.3f}" for x in values.tolist())

        counted = f"{self.questions} question{'s' * (self.questions != 1)}, {self.transitions} transitions"
        lines = [
            f"FJ fit ({self.mode}) of {self.n} agents, {counted}, {self.missing} beliefs missing: {self.status}",
            row("stubbornness", self.gamma),
            row("retention", self.alpha),
            row("influence pi", self.pi),
            f"  mse {self.mse:.3g}, kl {self.kl:.3g} (observed || predicted), rank {int(self.rank.min())} of "
            f"{int(self.unknowns.max())}, condition {float(self.condition.max()):.3g}",
        ]
        lines += [f"  {self.reason}"] if self.reason else []
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__


class FJFits(list[FJFit]):
    """One fit per question."""

    def __init__(self, fits: Iterable[FJFit] = ()) -> None:
        super().__init__(fits)

    def stack(self, name: str) -> Tensor:
        """One attribute of all fits: `[Q, ...]`, such as `stack("pi")`.

        Raises:
            ValueError: the questions have different numbers of agents.

        Example:
            >>> from unrolled import debate
            >>> trace = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.5, 0.5]], [[0.9, 0.1], [0.6, 0.4]]])
            >>> debate.fit([trace, trace]).stack("gamma").shape
            torch.Size([2, 2])
        """
        values = [torch.as_tensor(getattr(fit, name)) for fit in self]
        if len({value.shape for value in values}) > 1:
            raise ValueError(
                f"{name} has different shapes: the questions have {sorted({f.n for f in self})} agents"
            )
        return torch.stack(values)

    def counts(self) -> dict[str, int]:
        """How many fits have each status."""
        found = [fit.status for fit in self]
        return {status: found.count(status) for status in ("identified", "ill-conditioned", "unidentified")}

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with one row per question and agent.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        frames = [fit.to_frame().assign(question=q, mse=fit.mse, kl=fit.kl) for q, fit in enumerate(self)]
        for frame in frames:
            frame.attrs = {}
        return pandas.concat(frames, ignore_index=True)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {status}" for status, count in self.counts().items() if count)
        return f"{len(self)} FJ fits: {told}"

    __repr__ = __str__
