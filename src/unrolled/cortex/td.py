"""The temporal derivative: a fast integral minus a slow integral of one driver.

No neuron compares prediction with outcome. Two integrators of the same signal do it by lagging behind it differently:
shortly after the driver changed, the fast one already shows the outcome and the slow one still shows the prediction.

>>> round(fast_slow(50.0, 80.0), 4), round(fast_slow(80.0, 50.0), 4)
(6.4657, -5.6483)
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory


def fast_slow(
    prediction: float,
    outcome: float,
    tau_fast: float = 20.0,
    tau_slow: float = 40.0,
    minus: int = 150,
    plus: int = 50,
) -> float:
    """Fast minus slow at the end of a theta cycle (cortex fact sheet, section 2.2).

    fast += (d - fast) / tau_fast, slow += (d - slow) / tau_slow, both from 0, both driven by d: the prediction for
    `minus` cycles, then the outcome for `plus` cycles.

    Args:
        prediction: the driver in the minus phase, any unit (Hz in the fact sheet).
        outcome: the driver in the plus phase, same unit.
        tau_fast: time constant of the fast integral, in cycles (ms), at least 1.
        tau_slow: time constant of the slow integral, in cycles (ms), at least 1.
        minus: cycles of prediction.
        plus: cycles of outcome.

    Returns:
        fast - slow at the end, in the driver's unit. With tau_slow much above tau_fast, a flat driver is still
        being caught up with and reads as an increase: 2.8113 for (50, 50) with tau_slow = 70.

    Raises:
        ValueError: a time constant below 1, a negative number of cycles, or a driver that is not finite.

    Example:
        A linear filter started at 0 has the closed form x_T = d_1 (k^plus - k^T) + d_2 (1 - k^plus), k = 1 - 1/tau:

        >>> k20, k40 = 1 - 1 / 20, 1 - 1 / 40
        >>> x20, x40 = (50 * (k**50 - k**200) + 80 * (1 - k**50) for k in (k20, k40))
        >>> abs(fast_slow(50, 80) - (x20 - x40)) < 1e-12
        True
    """
    return float(course(prediction, outcome, tau_fast, tau_slow, minus, plus)["difference"][-1])


def course(
    prediction: float,
    outcome: float,
    tau_fast: float = 20.0,
    tau_slow: float = 40.0,
    minus: int = 150,
    plus: int = 50,
) -> Trajectory:
    """The whole course of `fast_slow`: records `driver`, `fast`, `slow` and `difference` at every cycle from 0 on.

    The size of the difference peaks twice, after each onset; learning has to wait for the second.

    Raises:
        ValueError: as `fast_slow`.

    Example:
        >>> path = course(50, 80)
        >>> len(path), int(path["difference"][:150].argmax())
        (201, 27)
    """
    for name, tau in (("tau_fast", tau_fast), ("tau_slow", tau_slow)):
        check_tau(name, tau)
    for name, cycles in (("minus", minus), ("plus", plus)):
        if cycles < 0:
            raise ValueError(f"{name}={cycles} cycles: a phase lasts 0 cycles or more")
    driver = torch.tensor([float(prediction)] * minus + [float(outcome)] * plus, dtype=torch.float64)
    if not bool(torch.isfinite(driver).all()):
        raise ValueError(f"the driver is not finite: prediction={prediction}, outcome={outcome}")
    fast, slow = integral(driver, tau_fast), integral(driver, tau_slow)
    start = torch.zeros(1, dtype=torch.float64)
    records = {
        "driver": torch.cat([driver[:1] if len(driver) else start, driver]),
        "fast": torch.cat([start, fast]),
        "slow": torch.cat([start, slow]),
        "difference": torch.cat([start, fast - slow]),
    }
    return Trajectory.from_records(
        torch.arange(minus + plus + 1), records, meta={"minus": minus, "plus": plus}
    )


def integral(driver: Tensor, tau: float, start: Any = 0.0) -> Tensor:
    """Exponential integral along the first axis: x_t = x_{t-1} + (driver_t - x_{t-1}) / tau.

    Args:
        driver: `[cycles, ...]`.
        tau: time constant in cycles, at least 1.
        start: x before the first cycle, a number or a tensor of shape `[...]`.

    Raises:
        ValueError: a time constant below 1.

    Example:
        >>> integral(torch.ones(3), 2.0).tolist()
        [0.5, 0.75, 0.875]
    """
    check_tau("tau", tau)
    x = torch.as_tensor(start, dtype=driver.dtype, device=driver.device).expand(driver.shape[1:])
    series: list[Tensor] = []
    for value in driver:
        x = x + (value - x) / tau
        series.append(x)
    return torch.stack(series) if series else driver.clone()


def check_tau(name: str, tau: float) -> None:
    """Refuse a time constant that no integrator with 1-ms steps can have.

    Raises:
        ValueError: below 1 (a step would overshoot), negative or not a number.

    Example:
        >>> check_tau("tau_fast", -20.0)
        Traceback (most recent call last):
        ...
        ValueError: tau_fast=-20.0: a time constant is in cycles of 1 ms and at least 1
    """
    if not tau >= 1:
        raise ValueError(f"{name}={tau}: a time constant is in cycles of 1 ms and at least 1")
