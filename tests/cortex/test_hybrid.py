"""Hybrid: what a rate-coded network knows arrives in excitatory weights; layers that do not fit are refused whole."""

import pytest
import torch

from unrolled.cortex import Network, hybrid
from unrolled.cortex.rate import Conv, Momentum, Net, learn

LAYERS = {"hidden1": "Hidden", "output": "Output"}


def spiking(outputs=(3, 2), seed=0):
    net = Network(seed=seed)
    net.layer("Input", (2, 3), kind="input")
    net.layer("Hidden", (4, 4))
    net.layer("Output", outputs, kind="target")
    net.connect("Input", "Hidden")
    net.connect("Hidden", "Output", back=True)
    return net.ready()


def weights(net):
    return {name: path.wt.clone() for name, path in net.paths.items()}


def test_excitatory_weights_keep_each_units_order_and_forget_its_bias_and_size():
    w = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    wt = hybrid.excitatory(w, spread=0.25, reach=3.0)
    assert (wt >= 0.25).all()
    assert (wt <= 0.75).all()
    assert torch.allclose(wt.mean(1), torch.full((5,), 0.5), atol=0.02)
    assert torch.equal(wt.argmax(1), w.argmax(1))
    assert torch.allclose(wt, hybrid.excitatory(7 * w + 3, spread=0.25, reach=3.0), atol=1e-5)


def test_a_unit_without_a_preference_gets_none():
    assert torch.equal(hybrid.excitatory(torch.ones(2, 4)), torch.full((2, 4), 0.5))


def test_put_writes_every_direction_and_neighbours_share():
    net, rate = spiking(), Net(6, [16, 3], rng=1)
    hybrid.put(net, rate, LAYERS)
    wanted = hybrid.excitatory(rate.paths[1].weight)
    forward = net["Hidden->Output"].wt.T
    assert torch.allclose(forward[::2], wanted, atol=1e-5)
    assert torch.allclose(forward[1::2], wanted, atol=1e-5)
    assert torch.equal(net["Output->Hidden"].wt, net["Hidden->Output"].wt.T)
    assert torch.allclose(net["Input->Hidden"].wt.T, hybrid.excitatory(rate.paths[0].weight), atol=1e-5)


def test_it_learns_on_from_there():
    net = spiking()
    hybrid.put(net, Net(6, [16, 3], rng=1), LAYERS)
    before = weights(net)
    x, y = torch.eye(6)[:2], torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]])
    for _ in range(3):
        net.learn(net.present(x, y))
    assert any(not torch.equal(before[name], path.wt) for name, path in net.paths.items())
    assert all(bool(torch.isfinite(path.wt).all()) for path in net.paths.values())


def test_what_was_learned_in_rates_is_there_in_spikes():
    """Two patterns, trained in rates, put into spikes that never learned: each drives its own outputs most."""
    x = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    rate = Net(6, [16, 2], rng=0)
    memory = Momentum(rate, 0.2)
    for _ in range(100):
        learn(rate, x, torch.tensor([0, 1]), memory)
    net = spiking(outputs=(2, 3))
    hybrid.put(net, rate, LAYERS)
    act = net.read(net.present(x), "Output", "ActM").sum(2)
    assert act[0, 0] > act[0, 1]
    assert act[1, 1] > act[1, 0]


@pytest.mark.parametrize(
    ("rate", "layers", "match"),
    [
        (Net(6, [16, 3]), {"hidden1": "Hidden"}, "from below"),
        (Net(6, [16, 3]), {"output": "Output", "hidden1": "Hidden"}, "from below"),
        (Net(6, [16, 3]), {"hidden1": "Nowhere", "output": "Output"}, "Nowhere"),
        (Net(6, [16, 3]), {"hidden1": "Output", "output": "Hidden"}, "forward path|sizes"),
        (Net(6, [15, 3]), LAYERS, "sizes"),
        (Net(6, [16, 4]), LAYERS, "sizes"),
        (Net((1, 2, 3), [Conv(16, 1), 3]), LAYERS, "convolution"),
    ],
)
def test_layers_that_do_not_fit_are_refused_and_nothing_changes(rate, layers, match):
    net = spiking()
    before = weights(net)
    with pytest.raises(ValueError, match=match):
        hybrid.put(net, rate, layers)
    assert all(torch.equal(before[name], path.wt) for name, path in net.paths.items())


@pytest.mark.parametrize("options", [{"spread": 0.0}, {"spread": 0.5}, {"reach": 0.0}])
def test_odd_options_are_refused(options):
    with pytest.raises(ValueError, match="spread"):
        hybrid.put(spiking(), Net(6, [16, 3]), LAYERS, **options)


def test_weights_that_are_not_finite_are_refused():
    net, rate = spiking(), Net(6, [16, 3])
    rate.paths[0].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        hybrid.put(net, rate, LAYERS)
