"""T1 of the cortex fact sheet, and what bad input is told."""

import math

import pytest

from unrolled.cortex import td


@pytest.mark.parametrize(
    ("prediction", "outcome", "expected"),
    [(50, 80, 6.4657), (80, 50, -5.6483), (50, 50, 0.3144), (20, 20, 0.1258), (80, 80, 0.5030)],
)
def test_T1_the_five_reference_values(prediction, outcome, expected):
    assert td.fast_slow(prediction, outcome) == pytest.approx(expected, abs=1e-4)


def test_a_too_slow_kinase_sees_growth_that_is_not_there():
    assert td.fast_slow(50, 50, tau_slow=70) == pytest.approx(2.8113, abs=1e-4)


def test_the_difference_peaks_after_both_onsets_and_more_after_the_first():
    size = td.course(50, 80)["difference"].abs()
    first, second = size[:151].argmax(), 151 + size[151:].argmax()
    assert 0 < first < 75
    assert 155 < second < 200
    assert size[first] > size[second] > size[150]


def test_linear_in_the_driver():
    a, b = td.fast_slow(3, 11), td.fast_slow(7, -2)
    assert td.fast_slow(3 + 2 * 7, 11 + 2 * -2) == pytest.approx(a + 2 * b, abs=1e-12)


def test_no_plus_phase_is_all_prediction():
    assert td.fast_slow(10, math.pi, minus=150, plus=0) == td.fast_slow(10, 10, minus=150, plus=0)


@pytest.mark.parametrize("tau", [-20.0, 0.0, 0.5, float("nan")])
def test_an_impossible_time_constant_is_refused(tau):
    with pytest.raises(ValueError, match="tau_fast=.*at least 1"):
        td.fast_slow(1, 2, tau_fast=tau)


@pytest.mark.parametrize(
    ("kw", "text"), [({"plus": -1}, "plus=-1"), ({"prediction": math.nan}, "not finite")]
)
def test_bad_input_is_named(kw, text):
    with pytest.raises(ValueError, match=text):
        td.fast_slow(**{"prediction": 1.0, "outcome": 2.0} | kw)
