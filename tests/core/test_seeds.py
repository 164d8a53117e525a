import random

import numpy
import pytest
import torch

from unrolled.core import seeds


def test_generator_passes_through_what_it_can():
    rng = torch.Generator()
    assert seeds.generator(rng) is rng
    assert seeds.generator(None) is None
    assert seeds.generator(5).initial_seed() == 5


@pytest.mark.parametrize("bad", [True, 1.0, "1", numpy.int64(3)])
def test_generator_refuses_what_is_no_seed(bad):
    with pytest.raises(TypeError, match=f"an int or a torch.Generator, got {type(bad).__name__}"):
        seeds.generator(bad)


def test_spawn_is_a_function_of_the_parent():
    children = [seeds.spawn(seeds.generator(1), 4) for _ in range(2)]
    assert [c.initial_seed() for c in children[0]] == [c.initial_seed() for c in children[1]]
    assert len({c.initial_seed() for c in children[0]}) == 4
    parent = seeds.generator(1)
    first, second = seeds.spawn(parent, 1), seeds.spawn(parent, 1)
    assert first[0].initial_seed() != second[0].initial_seed()
    assert seeds.spawn(parent, 0) == []


def test_children_draw_independently():
    one, two = seeds.spawn(seeds.generator(0), 2)
    x, y = (torch.randn(20_000, generator=rng, dtype=torch.float64) for rng in (one, two))
    # The correlation of independent draws has standard deviation 1 / sqrt(20000) = 0.007.
    assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 0.03


def test_the_snapshot_restores_every_generator():
    def draw():
        return random.random(), float(numpy.random.random()), float(torch.rand(()))

    before = seeds.RngState.capture()
    first = draw()
    assert draw() != first
    before.restore()
    assert draw() == first
