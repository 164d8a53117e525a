import itertools
import math

import pytest

from unrolled.training import schedules


@pytest.mark.parametrize(
    "factor",
    [
        schedules.constant(warmup=5),
        schedules.linear(50, warmup=5),
        schedules.cosine(50, warmup=5),
        schedules.trapezoid(50, warmup=5, decay=10),
    ],
)
def test_no_step_is_wasted_and_nothing_exceeds_one(factor):
    values = [factor(step) for step in range(50)]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < v <= 1 for v in values)
    assert all(b <= a for a, b in itertools.pairwise(values[5:]))


def test_closed_forms():
    assert [schedules.linear(4, floor=0.2)(s) for s in range(6)] == pytest.approx(
        [1, 0.8, 0.6, 0.4, 0.2, 0.2]
    )
    cosine = schedules.cosine(8)
    assert [cosine(s) for s in range(9)] == pytest.approx(
        [(1 + math.cos(math.pi * s / 8)) / 2 for s in range(9)]
    )
    hold = schedules.trapezoid(10, warmup=0, decay=5)
    assert [hold(s) for s in range(10)] == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert [schedules.trapezoid(4)(s) for s in range(4)] == [1, 1, 1, 1]
    assert schedules.trapezoid(4, warmup=2, decay=2)(1) == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="warm-up and decay take 12"):
        schedules.trapezoid(10, warmup=6, decay=6)
    with pytest.raises(ValueError, match="at least one step"):
        schedules.linear(0)
    with pytest.raises(ValueError, match="floor"):
        schedules.cosine(10, floor=1.5)
