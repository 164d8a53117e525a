"""Clothes in spikes: the encoding, the groups of output units, showing with and without learning, and what is refused."""

import pytest
import torch

from unrolled.cortex import ThetaCycle
from unrolled.cortex.tasks import fashion


def pictures(n=4):
    """Vertical bars for class 0, horizontal ones for class 1."""
    x = torch.zeros(n, 1, 28, 28)
    x[::2, 0, 4:24, 12:16] = 1
    x[1::2, 0, 12:16, 4:24] = 1
    return x, torch.arange(n) % 2


def weights(net):
    return {name: path.wt.clone() for name, path in net.paths.items()}


def test_encoding_is_bounded_and_tells_orientations_apart():
    x, _ = pictures()
    seen = fashion.encode(x)
    assert seen.shape == (4, fashion.INPUTS)
    assert (seen >= 0).all()
    assert (seen <= 1).all()
    assert torch.equal(seen[0], seen[2])
    assert torch.nn.functional.cosine_similarity(seen[:1], seen[1:2]) < 0.5
    assert torch.equal(seen, fashion.encode(x[:, 0]))


def test_named_is_the_largest_group_and_silence_is_no_class():
    out = torch.zeros(3, 50)
    out[0, 10:15] = 0.2
    out[0, 49] = 0.9  # one loud unit is less than a group
    out[1, 49] = 0.1
    assert fashion.named(out).tolist() == [2, 9, -1]
    assert fashion.named(fashion.outcome(torch.arange(10))).tolist() == list(range(10))


def test_two_classes_are_learned_in_a_few_images():
    net = fashion.network(seed=0, hidden=5)
    x, y = pictures(16)
    first = fashion.show(net, x, y, data=8)
    for _ in range(3):
        fashion.show(net, x, y, data=8)
    last = fashion.show(net, x[:2], y[:2], learn=False)
    assert first.error > 0.3
    assert last.error == 0
    assert 0 < last.activity["Hidden"] < 0.2
    assert last.spikes > 100


def test_testing_changes_nothing():
    net = fashion.network(ThetaCycle(50, 50), seed=0, hidden=4)
    x, y = pictures()
    fashion.show(net, x, y)
    before, state, trials = weights(net), net.state, net.trials
    fashion.show(net, x, y, learn=False)
    assert all(torch.equal(before[name], path.wt) for name, path in net.paths.items())
    assert net.state is state
    assert net.trials == trials == 4


def test_a_rate_of_nothing_learns_nothing():
    net = fashion.network(ThetaCycle(50, 50), seed=0, hidden=4)
    net.ready()
    before = weights(net)
    fashion.show(net, *pictures(), rate=0.0)
    assert all(torch.equal(before[name], path.wt) for name, path in net.paths.items())


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (torch.zeros(2, 1, 32, 32), torch.zeros(2).long(), "28"),
        (torch.zeros(2, 3, 28, 28), torch.zeros(2).long(), "28"),
        (torch.zeros(2, 1, 28, 28), torch.tensor([0, 10]), "classes"),
        (torch.zeros(2, 1, 28, 28), torch.tensor([0, -1]), "classes"),
        (torch.zeros(2, 1, 28, 28), torch.tensor([0]), "one for each"),
        (torch.zeros(0, 1, 28, 28), torch.zeros(0).long(), "at least one"),
        (torch.full((1, 1, 28, 28), float("nan")), torch.tensor([0]), "not finite"),
    ],
)
def test_bad_images_and_labels_are_refused(x, y, match):
    with pytest.raises(ValueError, match=match):
        fashion.show(fashion.network(ThetaCycle(20, 20), hidden=2), x, y)
