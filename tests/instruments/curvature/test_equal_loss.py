import math

import pytest
import torch

from unrolled.core import Trajectory
from unrolled.instruments.curvature.equal_loss import match


def run(t, loss, **columns):
    return Trajectory.from_records(t, {"val_loss": torch.tensor(loss, dtype=torch.float64), **columns})


def test_a_linear_column_is_read_exactly_at_equal_loss():
    a = run([0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0], nds=torch.tensor([8.0, 6.0, 4.0, 2.0]))
    b = run([0, 3], [3.5, 0.5], nds=torch.tensor([3.5, 0.5]))
    reading = match(a, b, columns=["nds"], points=7)
    low, high = reading.index[1].min(), reading.index[1].max()
    assert (float(low), float(high)) == (1.0, 3.5)
    torch.testing.assert_close(reading["nds[a]"], 2 * reading.index[1])
    assert float(reading["ratio[nds]"]) == pytest.approx(2.0, abs=1e-12)
    assert float(reading["ratio_of_means[nds]"]) == pytest.approx(2.0, abs=1e-12)


def test_mean_of_ratios_differs_from_ratio_of_means():
    a = run([0, 1], [2.0, 1.0], x=torch.tensor([1.0, 4.0]))
    b = run([0, 1], [2.0, 1.0], x=torch.tensor([1.0, 1.0]))
    reading = match(a, b, columns=["x"], points=2)
    assert float(reading["ratio[x]"]) == 2.5
    c = run([0, 1], [2.0, 1.0], x=torch.tensor([1.0, 3.0]))
    reading = match(a, c, columns=["x"], points=2)
    assert float(reading["ratio[x]"]) == pytest.approx((1 + 4 / 3) / 2)
    assert float(reading["ratio_of_means[x]"]) == pytest.approx(5 / 4)


def test_a_loss_that_rises_again_is_not_read_twice():
    bumpy = run([0, 1, 2, 3], [4.0, 2.0, 3.0, 1.0], x=torch.tensor([0.0, 1.0, 99.0, 2.0]))
    plain = run([0, 1, 3], [4.0, 2.0, 1.0], x=torch.tensor([0.0, 1.0, 2.0]))
    a, b = (match(r, plain, columns=["x"], points=9) for r in (bumpy, plain))
    assert torch.equal(a["x[a]"], b["x[a]"])


def test_no_overlap_is_said_and_never_extrapolated():
    reading = match(run([0, 1], [4.0, 3.0]), run([0, 1], [2.0, 1.0]), columns=["t"])
    assert reading.status == "no overlap"
    assert "[3, 4]" in reading.reason
    assert "[1, 2]" in reading.reason
    assert math.isnan(reading["ratio[t]"])
    assert reading.index is None


def test_a_denominator_that_changes_sign_gives_nan_with_a_note():
    a = run([0, 1], [2.0, 1.0], x=torch.tensor([1.0, 1.0]))
    b = run([0, 1], [2.0, 1.0], x=torch.tensor([-1.0, 1.0]))
    reading = match(a, b, columns=["x"])
    assert math.isnan(reading["ratio[x]"])
    assert "changes sign" in reading.notes[0]


def test_nan_losses_are_left_out():
    a = run([0, 1, 2], [4.0, float("nan"), 1.0])
    assert match(a, a, columns=["t"], points=2)["t[a]"].tolist() == [0.0, 2.0]


def test_bad_input():
    a = run([0, 1], [2.0, 1.0])
    with pytest.raises(KeyError, match="no record 'nds'"):
        match(a, a, columns=["nds"])
    with pytest.raises(ValueError, match="2 points"):
        match(a, a, points=1)
    wide = Trajectory.from_records([0, 1], {"val_loss": torch.tensor([2.0, 1.0]), "x": torch.ones(2, 3)})
    with pytest.raises(ValueError, match="one number per time"):
        match(wide, wide, columns=["x"])
