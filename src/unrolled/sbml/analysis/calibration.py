"""Calibration: where a network lives, how far it swings, and on what time scale; what makes it fit for a policy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import require
from unrolled.sbml.analysis._field import Field
from unrolled.sbml.analysis.steady import steady_states

TURNS = 6
"""A rhythm is believed when it crosses its mean upwards so often within the second half of a run."""


@dataclass(frozen=True)
class Calibration:
    """Statistics of a network on its attractors.

    Attributes:
        species: names, in the order of the tensors.
        mu: `[d]`, means.
        std: `[d]`, standard deviations; at least 1 for what nothing changes, and never 0.
        time_scale: the mean time between upward crossings of the mean where the network keeps moving; else the time in
            which its distance from rest falls to 1/e.
        moving: whether it keeps moving.
        t_end: how long each start was followed.
    """

    species: tuple[str, ...]
    mu: Tensor
    std: Tensor
    time_scale: float
    moving: bool
    t_end: float

    def normalised(self, x: Tensor) -> Tensor:
        """(x - mu) / std."""
        return (x - self.mu.to(x)) / self.std.to(x)

    def to_frame(self) -> Any:
        """A `pandas.DataFrame`, one row a species.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        return pandas.DataFrame({"species": self.species, "mu": self.mu.tolist(), "std": self.std.tolist()})

    def __str__(self) -> str:
        rows = ", ".join(
            f"{n} {m:.4g} ± {s:.4g}" for n, m, s in zip(self.species, self.mu.tolist(), self.std.tolist())
        )
        return f"{'period' if self.moving else 'relaxation'} {self.time_scale:.4g}: {rows}"  # fmt: skip


def calibrate(
    model: Any,
    *,
    starts: int = 64,
    parameters: Mapping[str, float] | None = None,
    t_end: float | None = None,
    points: int = 801,
    floor: float = 1e-5,
    seed: int = 0,
    **options: Any,
) -> Calibration:
    """Mean and standard deviation of each species over random starts, second half of each run, and the time scale.

    As the language-game paper calibrates its reservoirs (2605.16321; fact sheet, A3): at least 20 starts, values below
    1e-5 raised to it, statistics of the second half, constants with std 1. The paper's solver is a fixed-step one and its
    length of a run is 200; here the solver is adaptive and the length is 100 periods (40 relaxation times): 200 time units are not a
    period of some of its networks.

    Args:
        model: the network.
        starts: how many, one batch; uniform between 0 and the model's scale, with the initial state's conserved totals.
        parameters: values other than the model's.
        t_end: length of a run; 100 periods or 40 relaxation times when None.
        points: recorded per run.
        floor: least value of a network whose initial state has nothing negative.
        seed: of the starts.
        options: of `model.simulate`.

    Raises:
        ValueError: no run reached its end.

    Example:
        Decay to 2 with rate 1/2:

        >>> from unrolled.sbml import Model
        >>> model = Model.from_equations({"x": 1.0}, {"k": 0.5}, {"x": "1 - k * x"})
        >>> found = calibrate(model)
        >>> round(found.mu.item(), 6), round(found.time_scale, 1), found.moving
        (2.0, 2.0, False)
    """
    system = Field(model, parameters)
    given = dict(parameters) if parameters else None
    scale, moving = time_scale(model, system, given, **options)
    t_end = (100 if moving else 40) * scale if t_end is None else t_end
    system.widen(steady_states(model, parameters=parameters, seed=seed, positive=system.nonnegative))
    x0 = system.starts(starts, 0.0, seed, signed=not system.nonnegative)
    run = model.simulate(t_end, points, x0=x0, parameters=given, **options)
    half = run["x"][points // 2 :]
    half = half[:, half.isfinite().all(-1).all(0)]
    if not half.numel():
        raise ValueError(f"{model.name}: none of {starts} runs reached t = {t_end:g}; give a shorter t_end=")
    if system.nonnegative:
        half = half.clamp(min=floor)
    flat = half.reshape(-1, system.size)
    mu, std = flat.mean(0), flat.std(0, correction=0)
    fixed = system.W.abs().gt(0).sum(1) == 1
    for row in system.W[fixed]:
        i = int(row.abs().argmax())
        mu[i], std[i] = system.x0[i], max(1.0, float(std[i]))
    # What rests at one place has no width: its size stands in for it.
    still = std <= 1e-6 * mu.abs()
    std = torch.where(still, mu.abs().clamp(min=1.0 if not bool(mu.any()) else 1e-6), std)
    return Calibration(system.species, mu, std, scale, moving, float(t_end))


def time_scale(
    model: Any,
    system: Field,
    parameters: Mapping[str, float] | None = None,
    *,
    longest: int = 12,
    **options: Any,
) -> tuple[float, bool]:
    """The period, or the time of relaxation, of the run from the initial state; and whether it keeps moving.

    The run is made four times longer until it rests, or has turned often enough.
    """
    speed = (system.f(system.x0[None])[0].abs() / system.scale).max()
    t_end = 2.0 / max(float(speed), 1e-6)
    # Companions cost next to nothing, and from 64 samples on the loop is compiled.
    start = system.starts(64, 0.0, 0)
    for _ in range(longest):
        run = model.simulate(t_end, 801, x0=start, parameters=parameters, **options)
        x = run["x"][:, 0] / system.scale
        if not bool(x.isfinite().all()):
            return t_end / 4, False
        half = x[400:]
        swing = half.amax(0) - half.amin(0)
        if float(swing.max()) < 1e-3:
            far = (x - x[-1]).abs().amax(-1)
            away = (far > far[0].clamp(min=1e-9) / math.e).nonzero()
            relaxed = float(run.t[int(away[-1])]) if len(away) else 0.0
            # Of 800 records at least 10 should show the way to rest: else look closer.
            if relaxed < t_end / 80 and float(far.max()) > 1e-6:
                t_end /= 8
                continue
            return max(relaxed, t_end / 800), False
        leader = half[:, int(swing.argmax())]
        above = leader > leader.mean()
        rises = (above[1:] & ~above[:-1]).nonzero()[:, 0]
        if len(rises) >= TURNS:
            return float(rises[-1] - rises[0]) / (len(rises) - 1) * t_end / 800, True
        t_end *= 4
    return t_end, False
