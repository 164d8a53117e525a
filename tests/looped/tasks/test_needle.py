"""Needles are where they are said to be, and their values are asked for."""

import pytest
import torch

from unrolled.looped.tasks import Needle


@pytest.mark.parametrize(("needles", "size"), [(1, 1), (1, 3), (4, 2)])
def test_the_answer_is_what_the_needle_says(needles, size):
    task = Needle(length=96, needles=needles, size=size, batch=32)
    tokens, targets = task(0)
    assert tokens.shape == (32, 96)
    assert tokens.max() < task.vocab
    for row, wanted in zip(tokens.tolist(), targets.tolist()):
        places = [t for t, x in enumerate(row) if x == task.mark]
        assert len(places) == needles
        said = {row[t + 1]: row[t + 2 : t + 2 + size] for t in places}
        assert len(said) == needles
        assert row[-2 - size] == task.mark + 1
        key = row[-1 - size]
        assert row[-size:] == said[key]
        assert [x for x in wanted if x != -100] == said[key]
        assert wanted[-1 - size : -1] == said[key]
        assert wanted[-1] == -100


def test_depth_and_its_spread():
    for depth, place in ((0.0, 0), (0.5, 45), (1.0, 90)):
        task = Needle(length=96, depth=depth, batch=4)
        tokens, _ = task(0)
        assert (tokens[:, place] == task.mark).all()
    task = Needle(length=40, batch=4000)
    where = (task(0)[0] == task.mark).nonzero()[:, 1]
    seen = torch.bincount(where).double()
    assert len(seen) == 35
    expected = 4000 / 35
    assert float(((seen - expected).square() / expected).sum()) < 66  # 0.1 % point of 34 degrees of freedom


def test_bad_input():
    with pytest.raises(ValueError, match="do not fit"):
        Needle(length=5)
    with pytest.raises(ValueError, match="a key for every needle"):
        Needle(needles=65)
    with pytest.raises(ValueError, match="for a single needle"):
        Needle(needles=2, depth=0.5)
