"""Where the paper's networks live: mean, standard deviation and time scale of each (2605.16321; fact sheet, A4)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """mu and std per species, in the order of the model's columns; `time_scale` in the model's unit of time."""

    mu: tuple[float, ...]
    std: tuple[float, ...]
    time_scale: float


STATISTICS: dict[str, Statistics] = {
    "tyson1999": Statistics((0, 1.3, 1.9), (1, 0.7, 1.1), 24),
    "weimann2004": Statistics(
        (0.74, 0.95, 1.64, 1.16, 0.70, 1.18, 1.15), (0.51, 1.54, 1.92, 0.81, 0.42, 0.64, 0.55), 24
    ),
    "almeida2019": Statistics(
        (1.94, 3.08, 107.82, 1.40, 51.80, 3.36, 21.48, 6.70),
        (2.96, 1.83, 22.46, 0.74, 20.40, 2.82, 10.53, 4.40),
        20,
    ),
    "leloup1999": Statistics(
        (0.35, 0.35, 0.34, 0.34, 0.33, 0.33, 0.41, 1.16, 1.03, 1.03),
        (0.32, 0.32, 0.32, 0.32, 0.33, 0.33, 0.31, 0.51, 0.89, 0.89),
        24,
    ),
    "tyson1991": Statistics((0.5, 0.015, 0.2, 0.1), (0.5, 0.02, 0.07, 0.07), 36),
    "gardner1998": Statistics((0.12, 0.24, 0.29, 3.96, 0.41), (0.06, 0.09, 0.15, 0.03, 0.03), 16),
    "gerard2010": Statistics(
        (0.19, 1.22, 0.76, 1.36, 1.20, 1.37, 3, 5), (0.01, 1.25, 0.86, 1.14, 1.13, 0.66, 0.01, 0.01), 24
    ),
    "chickarmane2006": Statistics(
        (0, 0, 0, 0.01, 0, 0, 10, 7.26, 7.26, 0.003, 0.53, 4.26),
        (1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.2, 1.1),
        50,
    ),
    "chickarmane2008": Statistics(
        (0.05, 0.04, 0.62, 2.44, 8.30, 4.98), (0.08, 0.09, 0.27, 1.47, 1.15, 0.75), 560
    ),
    "zatorsky2006": Statistics((0.40, 0.55, 0.55), (0.30, 0.17, 0.26), 7),
    "gardner2000": Statistics((78, 7.7, 0), (78, 7.7, 1), 15),
    "liebal2012": Statistics((100, 226660, 15.75, 137.85), (1, 46480, 4.1, 19.25), 100),
    "markevich2004": Statistics((250, 250, 250, 50, 100), (250, 250, 250, 50, 100), 420),
    "kholodenko2000": Statistics(
        (78.43, 21.57, 212.43, 45.79, 41.77, 79.29, 38.67, 182.04),
        (17.54, 17.54, 77.98, 33.64, 52.41, 76.26, 26.07, 97.91),
        1300,
    ),
    "lorenz": Statistics((-0.07, -0.02, 24.76), (8.18, 9.16, 7.66), 1),
}
"""Shipped name -> statistics. Constant species have their value as mean."""
