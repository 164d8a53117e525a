"""MQAR has the statistics of zoology's generator."""

import numpy as np
import pytest
import torch

from unrolled.looped.tasks import MQAR


@pytest.mark.parametrize(("length", "pairs"), [(64, 4), (128, 8), (256, 64), (1024, 256)])
def test_every_example_is_a_memory_and_its_questions(length, pairs):
    task = MQAR(length=length, pairs=pairs, batch=16, seed=3)
    tokens, targets = task(5)
    assert tokens.shape == targets.shape == (16, length)
    assert tokens.dtype == targets.dtype == torch.int64
    for row, wanted in zip(tokens.tolist(), targets.tolist()):
        keys, values = row[0 : 2 * pairs : 2], row[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert all(1 <= k < 4096 for k in keys)
        assert all(4096 <= v < 8192 for v in values)
        memory = dict(zip(keys, values))
        asked = [t for t in range(length) if wanted[t] != -100]
        assert len(asked) == pairs
        assert all(t >= 2 * pairs and t % 2 == 0 for t in asked)
        assert sorted(row[t] for t in asked) == sorted(keys)
        assert all(memory[row[t]] == wanted[t] for t in asked)


def test_gaps_follow_the_power_law_without_replacement():
    task = MQAR(length=64, pairs=4, batch=20_000, vocab=128)
    tokens, targets = task(0)
    keys = tokens[:, 0:8:2]
    where = (targets != -100).nonzero()[:, 1].view(-1, 4)
    gaps = (where - 8) // 2
    assert gaps.max() == 27  # the last gap there is: (64 - 8) / 2 - 1
    placed = tokens.gather(1, where)
    first = torch.stack([gaps[i, (placed[i] == keys[i, 0]).nonzero()[0, 0]] for i in range(20_000)])
    p = task.chances()
    expected = p * 20_000
    assert p.sum().item() == pytest.approx(1)
    assert (p / p[0]).numpy() == pytest.approx(np.arange(1, 29) ** -0.99)
    seen = torch.bincount(first, minlength=28).double()
    chi2 = float(((seen - expected).square() / expected).sum())
    assert chi2 < 55.5  # 0.1 % point of 27 degrees of freedom
    # Which gaps are taken at all, against numpy's draws one after another.
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.choice(28, 4, replace=False, p=p.numpy()) for _ in range(20_000)])
    theirs = np.bincount(drawn.ravel(), minlength=28) / 20_000
    ours = (torch.bincount(gaps.flatten(), minlength=28) / 20_000).numpy()
    assert np.abs(ours - theirs).max() < 0.02


def test_keys_and_values_are_spread_evenly():
    tokens, _ = MQAR(length=16, pairs=4, vocab=32, batch=10_000)(0)
    for column, low, high in ((0, 1, 16), (6, 1, 16), (1, 16, 32), (7, 16, 32)):
        seen = torch.bincount(tokens[:, column], minlength=32)[low:high].double()
        assert seen.sum() == 10_000
        expected = 10_000 / (high - low)
        assert float(((seen - expected).square() / expected).sum()) < 45


def test_noise_or_zeros_between_queries():
    quiet, targets = MQAR(length=32, pairs=4, batch=4, noise=False)(0)
    rest = quiet[:, 8:][targets[:, 8:] == -100]
    assert (rest == 0).all()
    tokens, targets = MQAR(length=32, pairs=4, batch=2000, vocab=64)(0)
    rest = tokens[:, 8:][targets[:, 8:] == -100]
    assert set(rest.tolist()) == set(range(64))


def test_batches_are_a_function_of_seed_and_index():
    task = MQAR(batch=2)
    assert torch.equal(task(3)[0], MQAR(batch=2)(3)[0])
    assert not torch.equal(task(3)[0], task(4)[0])
    assert not torch.equal(task(3)[0], MQAR(batch=2, seed=1)(3)[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 63}, "even length"),
        ({"length": 64, "pairs": 17}, "4 \\* pairs"),
        ({"pairs": 0}, "pairs=0"),
        ({"vocab": 64}, "vocab > length"),
        ({"batch": 0}, "batch >= 1"),
    ],
)
def test_bad_sizes(options, said):
    with pytest.raises(ValueError, match=said):
        MQAR(**options)
    with pytest.raises(ValueError, match="at least 0"):
        MQAR()(-1)
