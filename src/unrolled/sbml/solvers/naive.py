"""The slow twin of `integrate`: Dormand-Prince for one sample in plain numbers; nothing but the tests uses it."""

from collections.abc import Callable, Sequence

import numpy as np

from unrolled.sbml.solvers.dopri5 import A, C, D, E

Rate = Callable[[float, np.ndarray], np.ndarray]


def dopri5(
    rate: Rate, x0: Sequence[float], times: Sequence[float], *, rtol: float, atol: float
) -> tuple[np.ndarray, int, int]:
    """States at `times`, accepted and rejected steps.

    Hairer, Norsett & Wanner (Solving Ordinary Differential Equations I, II.4 and II.6), one line per formula.

    Example:
        >>> path, accepted, rejected = dopri5(lambda t, x: -x, [1.0], [0.0, 1.0], rtol=1e-9, atol=1e-12)
        >>> bool(abs(path[1, 0] - np.exp(-1)) < 1e-9)
        True
    """
    t, x, end = float(times[0]), np.array(x0, dtype=float), float(times[-1])
    out, wanted = [x.copy()], list(times[1:])
    k1 = rate(t, x)
    h = first_step(rate, t, x, k1, end - t, rtol, atol)
    past, accepted, rejected, again = 1e-4, 0, 0, False
    while wanted:
        last = 1.01 * h >= end - t
        h = end - t if last else h
        k = [k1]
        for row, c in zip(A, C):
            y = x + h * np.tensordot(row, np.array(k), 1)
            k.append(rate(t + c * h, y))
        error = norm(h * np.tensordot(E, np.array(k), 1), x, y, rtol, atol)
        root = max(error, 1e-10) ** 0.17
        if error > 1:
            rejected, again = rejected + 1, True
            h *= max(0.9 / root, 0.2)
            continue
        factor = min(max(0.9 * past**0.04 / root, 0.2), 1.0 if again else 10.0)
        reached = end if last else t + h
        bend = h * k[0] - (y - x)
        high = h * np.tensordot(D, np.array(k), 1)
        while wanted and wanted[0] <= reached:
            s = (wanted.pop(0) - t) / h
            inner = bend + s * ((y - x) - h * k[6] - bend + (1 - s) * high)
            out.append(x + s * ((y - x) + (1 - s) * inner))
        t, x, k1, past, again, accepted = reached, y, k[6], max(error, 1e-4), False, accepted + 1
        h *= factor
    return np.array(out), accepted, rejected


def norm(error: np.ndarray, x: np.ndarray, y: np.ndarray, rtol: float, atol: float) -> float:
    """Root mean square of error / (atol + rtol max(|x|, |y|))."""
    return float(np.sqrt(np.mean((error / (atol + rtol * np.maximum(abs(x), abs(y)))) ** 2)))


def first_step(
    rate: Rate, t: float, x: np.ndarray, k1: np.ndarray, span: float, rtol: float, atol: float
) -> float:
    """The first step size (II.4): from the size of the state, its slope, and the change of the slope."""
    d0, d1 = norm(x, x, x, rtol, atol), norm(k1, x, x, rtol, atol)
    h0 = min(1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1, span)
    d2 = norm(rate(t + h0, x + h0 * k1) - k1, x, x, rtol, atol) / h0
    steep = max(d1, d2)
    h1 = max(1e-6, 1e-3 * h0) if steep <= 1e-15 else (0.01 / steep) ** 0.2
    return min(100 * h0, h1, span)
