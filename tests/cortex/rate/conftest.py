"""Small rate-coded networks of every kind, as a fixture of functions."""

from types import SimpleNamespace

import pytest
import torch

from unrolled.cortex.rate import Conv, Net

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def dense(seed=0, **options):
    """The reference network of the fact sheet, T8: 20-30-10, logistic, symmetric."""
    return Net(20, [30, 10], rng=seed, dtype=F64, **{"activation": "logistic", "output": "logistic", "cost": "squared", "gain": 1.0, **options})  # fmt: skip


def patterns(seed=0, batch=6):
    """Inputs and binary targets for it."""
    return normal(batch, 20, seed=seed + 100).sigmoid(), (normal(batch, 10, seed=seed + 200) > 0).to(F64)


def conv(pool_by="max", **options):
    """Two pooled convolutions, a dense layer, an output; with images and labels."""
    layers = [Conv(4, 3, pool=2, pool_by=pool_by), Conv(5, 5, pool=2, pool_by=pool_by), 7, 3]
    return Net((2, 8, 8), layers, dtype=F64, **{"activation": "tanh", "rng": 1, **options})


def images(batch=5):
    return normal(batch, 2, 8, 8, seed=3), torch.arange(batch) % 3


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.fixture
def nets():
    return SimpleNamespace(
        dense=dense, patterns=patterns, conv=conv, images=images, normal=normal, cosine=cosine
    )
