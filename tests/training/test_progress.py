import io
import time

import pytest

from unrolled.training import progress
from unrolled.training.progress import Progress


def test_a_line_per_tenth_off_a_terminal():
    out = io.StringIO()
    report = progress("train", file=out)
    report.log(step=3, loss=1.23456, note="words are left out")
    for step in range(1, 1001):
        report(step, 1000)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("train: 100/1000 (10 %)")
    assert lines[0].endswith("loss 1.235")
    assert lines[-1].startswith("train: 1000/1000 (100 %)")


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 11])
def test_short_runs_end_at_the_end(steps):
    out = io.StringIO()
    report = progress("x", steps, file=out)
    for step in range(1, steps + 1):
        report(step)
    lines = out.getvalue().splitlines()
    assert len(lines) == min(steps, 10)
    assert lines[-1].startswith(f"x: {steps}/{steps}")


def test_a_bar_on_a_terminal():
    out = io.StringIO()
    with Progress("roll", 50, file=out, live=True) as report:
        report(1)
        report.log(step=1, loss=0.5)
        for step in range(2, 51):
            report(step)
    text = out.getvalue()
    assert "roll" in text
    assert "50/50" in text
    assert "loss 0.5" in text


def test_most_calls_are_cheap():
    report = progress("x", 10**9, file=io.StringIO())
    began = time.perf_counter()
    for step in range(1, 10_001):
        report(step, 10**9)
    assert (time.perf_counter() - began) / 10_000 < 20e-6
