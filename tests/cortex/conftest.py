"""Networks that several tests of cortex use, as a fixture of functions."""

from types import SimpleNamespace

import pytest
import torch

from unrolled.cortex import Network
from unrolled.cortex.axon.sheets import Rule

AXON_TEST = [
    Rule("Layer", {"decay.gbufs": True, "rlrate.on": False, "inhib.layer.fb": 0.5}),
    Rule("Path", {"swts.var": 0.0}, "identical weights, for reproducibility"),
    Rule(".back", {"scale.rel": 0.2}),
]


def axon_test_net(*, rlrate=False, inhibitory=False, delay=None, **options):
    """Axon's own test network: three layers of four neurons, one to one."""
    net = Network(**options)
    net.layer("Input", (4, 1), kind="input")
    net.layer("Hidden", (4, 1))
    net.layer("Output", (4, 1), kind="target")
    net.connect("Input", "Hidden", "one-to-one")
    if inhibitory:
        net.connect("Input", "Hidden", "one-to-one", kind="inhibitory")
    net.connect("Hidden", "Output", "one-to-one", back=True)
    net.apply(AXON_TEST)
    if rlrate:
        net.apply([Rule("#Hidden", {"rlrate.on": True})])
    if delay is not None:
        net.apply([Rule("Path", {"delay": delay})])
    return net.build()


def random_net(seed=0, *, pools=False, inhibitory=False, sheet=(), **options):
    """Input, two hidden layers and an output, bidirectional, with random weights."""
    net = Network(seed=seed, **options)
    net.layer("Input", (3, 4), kind="input")
    net.layer("Hidden1", (2, 2, 2, 3) if pools else (4, 6))
    net.layer("Hidden2", (4, 5))
    net.layer("Output", (2, 4), kind="target")
    net.connect("Input", "Hidden1")
    net.connect("Hidden1", "Hidden2", back=True)
    net.connect("Hidden2", "Output", back=True)
    if inhibitory:
        net.connect("Hidden1", "Hidden2", kind="inhibitory")
    net.apply(list(sheet))
    return net.build()


def patterns(net, data, seed=0, density=0.3):
    """Random 0/1 patterns for the input and target layers of a network."""
    rng = torch.Generator().manual_seed(seed)

    def draw(layer):
        return (torch.rand(data, layer.n, generator=rng) < density).to(net.like)

    layers = net.layers.values()
    return {x.name: draw(x) for x in layers if x.kind.is_input}, {
        x.name: draw(x) for x in layers if x.kind.is_target
    }


@pytest.fixture(scope="session")
def nets():
    return SimpleNamespace(axon_test=axon_test_net, random=random_net, patterns=patterns)
