# pyright: strict
"""Toy systems with closed forms: for tests, for the documentation, and for trying an instrument on something known.

In all of them the input of step 0 is where the iteration starts, `[..., n]` with the batch first; only
`MovingAverage` reads the input again at every step.
"""

from unrolled.toys.linear import LinearMap, QuadraticDescent
from unrolled.toys.memory import Hopfield, MovingAverage
from unrolled.toys.scalar import AR1, LogisticMap

__all__ = ["AR1", "Hopfield", "LinearMap", "LogisticMap", "MovingAverage", "QuadraticDescent"]
