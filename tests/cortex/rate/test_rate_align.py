"""Alignment: its exact gradient against autograd through the settling, and what it says of rules and feedback."""

import pytest
import torch

from unrolled.cortex.rate import Net, NotSettling, align, backprop, generec, settle
from unrolled.cortex.rate.align import gradient
from unrolled.cortex.rate.learn import losses

EXACT = {"sweeps": 400, "nudged": 400, "tol": 1e-12}


@pytest.mark.parametrize("pool_by", ["max", "mean"])
@pytest.mark.parametrize(("cost", "output"), [("squared", "linear"), ("cross_entropy", "softmax"), ("squared", "logistic")])  # fmt: skip
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_implicit_differentiation_is_backward_through_the_settling(nets, pool_by, cost, output, feedback):
    net, (x, labels) = (
        nets.conv(pool_by, cost=cost, output=output, gain=0.05, feedback=feedback),
        nets.images(),
    )
    implicit = gradient(net, x, labels)
    state = settle(net, x, sweeps=500, tol=1e-13).state(net)
    for path in net.paths:
        path.put(lambda name, value: value.requires_grad_())
    for _ in range(60):
        state = net.step(state, x)
    loss = losses(net, net.paths[-1].drive(state["hidden3"]), net.targets(labels)).mean()
    leaves = {name: net.tensors()[name] for name in implicit}
    for name, value in zip(leaves, torch.autograd.grad(loss, list(leaves.values()))):
        torch.testing.assert_close(implicit[name], value, rtol=1e-7, atol=1e-9)


def test_cosines_of_the_reference_network(nets):
    """T8: centered nudging at beta .1 needs .999; feed-forward backprop is met as the gain goes down."""
    reading = align(nets.dense(), nets.patterns(), beta=0.1, **EXACT)
    assert float(reading["cosine"].min()) > 0.99999
    assert reading["total"] > 0.99999
    assert float((reading["ratio"] - 1).abs().max()) < 0.01
    assert reading.notes == ("layers from below: hidden1, output",)
    with_less = [
        align(nets.dense(gain=g), nets.patterns(), beta=0.1, **EXACT)["total_feedforward"]
        for g in (1, 0.3, 0.1)
    ]
    assert with_less == sorted(with_less)
    assert with_less[-1] > 0.999


def test_it_sees_what_breaks_the_gradient(nets):
    net, batch = nets.dense(), nets.patterns()
    reversed_phases = align(net, batch, rule=generec, beta=-0.1, **EXACT)
    assert reversed_phases["total"] > 0.99  # both the nudge's sign and the division by it turn round
    asymmetric = align(nets.dense(feedback="random", gain=0.3), batch, **EXACT)
    assert asymmetric["cosine"][0] < 0.9
    assert asymmetric["cosine"][1] > 0.99
    untold = align(nets.dense(gain=0.0), batch, **EXACT)
    assert torch.isnan(untold["cosine"][0])


def test_it_leaves_the_network_alone(nets):
    net = Net(20, [30, 10], rng=0, matmul=torch.bfloat16)
    before = {name: value.clone() for name, value in net.tensors().items()}
    x, labels = nets.patterns()[0].float(), torch.arange(6)
    reading = align(net, (x, labels))
    assert reading["total"] > 0.99
    assert net.dtype == torch.float32
    assert net.paths[0].matmul == torch.bfloat16
    for name, value in net.tensors().items():
        assert torch.equal(value, before[name])


def test_a_network_without_a_fixed_point_has_no_gradient_to_align_with(nets):
    net, batch = nets.dense(activation="linear", output="linear", gain=3.0), nets.patterns()
    with pytest.raises(NotSettling, match="lower gain"):
        align(net, batch, sweeps=1, nudged=0)


def test_backprop_is_torch_s_gradient_of_the_plain_network(nets):
    net, (x, labels) = nets.conv("max"), nets.images()
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 5, 5, padding=2),
        torch.nn.Tanh(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(20, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3),
    ).double()  # fmt: skip
    theirs = list(module.parameters())
    with torch.no_grad():
        for mine, their in zip((v for p in net.paths for v in (p.weight, p.bias)), theirs):
            their.copy_(mine)
    loss = torch.nn.functional.cross_entropy(module(x), labels)
    loss.backward()
    step = backprop(net, x, labels)
    assert step.loss == pytest.approx(loss.item())
    for (name, value), their in zip(step.changes.items(), theirs):
        assert their.grad is not None, name
        torch.testing.assert_close(value, -their.grad)
