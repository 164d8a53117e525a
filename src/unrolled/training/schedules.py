"""Learning-rate schedules: plain functions from a step to a factor of the optimizer's own learning rate.

All start with `warmup` steps of linear rise: step 0 takes 1 / warmup, step `warmup - 1` is the first at full height
(no step is wasted on a rate of zero). Decays reach their floor at step `steps`, so the last step taken, `steps - 1`,
still moves.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(*, warmup: int = 0) -> Schedule:
    """Rise, then 1.

    Example:
        >>> factor = constant(warmup=4)
        >>> [factor(step) for step in (0, 1, 3, 100)]
        [0.25, 0.5, 1.0, 1.0]
    """
    _check(None, warmup, 0.0)
    return lambda step: _rise(step, warmup)


def linear(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Rise, then a straight line from 1 to `floor` at step `steps`.

    Example:
        >>> factor = linear(10, warmup=2)
        >>> [factor(step) for step in (0, 1, 2, 6, 10, 99)]
        [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    _check(steps, warmup, floor)

    def factor(step: int) -> float:
        if step < warmup:
            return _rise(step, warmup)
        return floor + (1 - floor) * (1 - _done(step, warmup, steps))

    return factor


def cosine(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Rise, then half a cosine from 1 to `floor` at step `steps` (1608.03983, eq. 5, one cycle).

    Example:
        >>> factor = cosine(10, warmup=2, floor=0.1)
        >>> [round(factor(step), 3) for step in (0, 2, 4, 6, 10)]
        [0.5, 1.0, 0.868, 0.55, 0.1]
    """
    _check(steps, warmup, floor)

    def factor(step: int) -> float:
        if step < warmup:
            return _rise(step, warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * _done(step, warmup, steps))) / 2

    return factor


def trapezoid(steps: int, *, warmup: int = 0, decay: int = 0, floor: float = 0.0) -> Schedule:
    """Rise, hold 1, then a straight line to `floor` over the last `decay` steps (warm-up, stable, decay).

    Example:
        >>> factor = trapezoid(10, warmup=2, decay=4)
        >>> [factor(step) for step in (0, 1, 5, 6, 8, 10)]
        [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    _check(steps, warmup + decay, floor)

    def factor(step: int) -> float:
        if step < warmup:
            return _rise(step, warmup)
        if step <= steps - decay and step < steps:
            return 1.0
        return floor + (1 - floor) * (1 - _done(step, steps - decay, steps))

    return factor


def _rise(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _done(step: int, start: int, end: int) -> float:
    return 1.0 if step >= end else (step - start) / (end - start)


def _check(steps: int | None, used: int, floor: float) -> None:
    if steps is not None and steps < 1:
        raise ValueError(f"a schedule spans at least one step, got steps={steps}")
    if used < 0 or (steps is not None and used > steps):
        raise ValueError(f"warm-up and decay take {used} steps, which do not fit into {steps}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor is a factor between 0 and 1, got {floor}")
