"""A kind of layer of one's own is written once and does the same in the naive twin and in the fused cycle."""

from dataclasses import dataclass

import torch

from unrolled.cortex import Network
from unrolled.cortex.axon.kinds import Kind
from unrolled.cortex.axon.sheets import Rule


@dataclass(frozen=True)
class Relay(Kind):
    """Touches everything a kind may touch."""

    name: str = "relay"
    is_target: bool = True
    params: tuple = (("inhib.layer.gi", 0.7), ("rlrate.sigmoid_min", 1.0))

    def variables(self):
        return {"Burst": 0.25, "Kept": 0.0}

    def drive(self, view, others, moment):
        view["GeSyn"].add_(view["GMaintRaw"], alpha=0.5)
        if moment.plus:
            strength = others("Input")["CaP"].amax(-1, keepdim=True).clamp(max=0.6)
            view["GeRaw"].mul_(0.5).add_(0.05 * strength)
            view["GeSyn"].mul_(0.5).add_(0.25 * strength)
            view["SSGiDend"].copy_(0.3 * strength.expand_as(view["SSGiDend"]))
            view["GeExt"].copy_(view["GeSyn"])

    def spiked(self, view, others, moment):
        view["Burst"].copy_(view["CaP"] * (view["CaP"] > others("Hidden")["CaP"].mean(-1, keepdim=True)))
        if moment.cycle == moment.length - 1:
            view["Kept"].add_(view["Burst"])

    def minus_started(self, view):
        view["Kept"].mul_(0.5)

    def minus_ended(self, view):
        view["VmDend"].fill_(-70.0)


def relay_net():
    net = Network(dtype=torch.float64, seed=3)
    net.layer("Input", (3, 3), kind="input")
    net.layer("Hidden", (4, 4))
    net.layer("Relay", (2, 3), kind=Relay())
    net.connect("Input", "Hidden")
    net.connect("Hidden", "Relay", back=True)
    net.connect("Relay", "Relay", kind="maintenance")
    net.connect("Hidden", "Relay", kind="context")
    net.apply([Rule(".relay", {"decay.act": 0.0})])
    return net


def test_a_kind_does_the_same_in_both(nets):
    net = relay_net()
    inputs, _ = nets.patterns(net.ready(), 3)
    moments, naive, fused = net.theta.moments(inputs), None, None
    for _ in range(2):
        naive = net.naive.init(moments[0]) if naive is None else naive
        fused = net.init(moments[0]) if fused is None else fused
        for moment in moments:
            naive = net.naive.step(naive, moment)
        fused = net.run(fused, moments, len(moments))
        flat = net.naive.flat(naive)
        assert flat.keys() == fused.keys()
        for name, x in flat.items():
            if isinstance(x, torch.Tensor):
                assert torch.allclose(x, fused[name], rtol=0, atol=1e-7), name
    assert net.read(fused, "Relay", "Kept").any()
    assert net.read(fused, "Relay", "Spike").shape == (3, 2, 3)
    assert not net.read(fused, "Hidden", "Kept").any()


def test_a_kind_that_only_forgets_is_called_too():
    @dataclass(frozen=True)
    class Forgetful(Kind):
        name: str = "forgetful"

        def minus_ended(self, view):
            view["CaP"].zero_()

    assert Forgetful().acts
    assert not Kind().acts


def test_paths_between_the_same_layers_are_told_apart():
    net = relay_net()
    assert {"Hidden->Relay", "Hidden->Relay:context", "Relay->Relay", "Relay->Hidden"} <= set(net.paths)
    shared = net.scale if net.built else net.build().scale
    # context counts with excitation, maintenance is on its own (fact sheet, section 5.2)
    assert shared["Hidden->Relay"] == shared["Hidden->Relay:context"] == 0.5 / 2
    assert shared["Relay->Relay"] == 1.0


def test_a_rule_of_ones_own_decides_how_a_path_learns(nets):
    net = Network(seed=0)
    net.layer("Input", (2, 2), kind="input")
    net.layer("Hidden", (3, 3))

    def burst(net, path, state):
        send, recv = state["CaP"][:, path.send.part], state["CaDiff"][:, path.recv.part]
        return send.T @ recv

    net.connect("Input", "Hidden", rule=burst)
    trial = net.present(torch.eye(4)[:2])
    made = net.learn(trial)["Input->Hidden"]
    final = trial.final
    expected = 0.04 * final["CaP"][:, :4].T @ final["CaDiff"][:, 4:]
    assert torch.allclose(made, expected)
    assert made.any()
