"""Networks: making them, presenting, learning, remembering, and what bad input is told."""

import math

import pytest
import torch

from unrolled.core import Trajectory, rollout
from unrolled.cortex import Network, ThetaCycle
from unrolled.cortex.axon.kinds import Moment
from unrolled.cortex.axon.sheets import Rule


def small():
    net = Network(seed=0)
    net.layer("Input", (2, 3), kind="input")
    net.layer("Hidden", (4, 4))
    net.layer("Output", (2, 2), kind="target")
    net.connect("Input", "Hidden")
    net.connect("Hidden", "Output", back=True)
    return net


X = torch.tensor([[1.0, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 0]])
Y = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]])


# -- trials


def test_present_is_a_rollout_over_the_theta_cycle():
    net, twin = small(), small()
    trial = net.present(X, Y, record=["Output.Act", "Spike"])
    moments = twin.theta.moments({"Input": X}, {"Output": Y})
    same = rollout(twin, moments, 200, record=["Output.Act", "Spike"])
    assert trial.stop.reason == "steps"
    assert trial["Spike"].shape == (201, 2, 26)
    assert torch.equal(trial["Output.Act"], same["Output.Act"])
    assert torch.equal(trial.final["bins"], same.final["bins"])


def test_patterns_come_in_every_sensible_shape():
    nets = [small() for _ in range(5)]
    given = [X[:1], X[0], X[0].reshape(2, 3), X[:1].reshape(1, 2, 3), {"Input": X[0]}]
    ends = [net.present(x).final["Act"] for net, x in zip(nets, given)]
    assert all(torch.equal(end, ends[0]) for end in ends)
    assert ends[0].any()


def test_trials_follow_one_another_unless_told_otherwise():
    net = small()
    first = net.present(X)
    second = net.present(X)
    assert not torch.equal(first.final["Act"], second.final["Act"])
    again = net.present(X, state=first.final)
    assert torch.equal(again.final["Act"], second.final["Act"])
    assert net.present(X[:1]).final["Act"].shape == (1, 26)  # a batch of another size starts at rest


def test_cycle_advances_by_one_millisecond():
    net, twin = small(), small()
    moments = net.theta.moments({"Input": X})
    for moment in moments[:30]:
        net.cycle(moment)
    assert torch.equal(net.state["Vm"], twin.run(twin.init(moments[0]), moments[:30], 30)["Vm"])
    assert net.state["cycle"] == 30
    assert small().cycle()["Spike"].shape == (1, 26)


def test_only_learn_changes_weights():
    net = small().build()
    before = {name: path.wt.clone() for name, path in net.paths.items()}
    trial = net.present(X, Y)
    assert all(torch.equal(before[name], path.wt) for name, path in net.paths.items())
    made = net.learn(trial)
    for name, path in net.paths.items():
        changed = path.wt != before[name]
        assert not changed[made[name] == 0].any(), name
        assert changed.float().mean() > 0.1, name


def test_the_rate_scales_the_change():
    one, ten = small(), small()
    a, b = (net.learn(net.present(X, Y), rate=rate) for net, rate in ((one, 1.0), (ten, 0.5)))
    assert all(torch.allclose(a[name], 2 * b[name]) for name in a)


def test_the_network_learns_four_pairs():
    net = Network(seed=0)
    net.layer("Input", (5, 5), kind="input")
    net.layer("Hidden1", (10, 10))
    net.layer("Hidden2", (10, 10))
    net.layer("Output", (5, 5), kind="target")
    net.connect("Input", "Hidden1")
    net.connect("Hidden1", "Hidden2", back=True)
    net.connect("Hidden2", "Output", back=True)
    net.apply([
        Rule("Layer", {"inhib.layer.gi": 1.05, "inhib.layer.fb": 0.5, "inhib.nominal": 0.06, "vgcc.ge": 0.0}),
        Rule("Layer", {"nmda.mgc": 1.2}),
        Rule(".input", {"inhib.layer.gi": 0.9, "inhib.nominal": 0.15}),
        Rule(".target", {"inhib.layer.gi": 0.65, "inhib.nominal": 0.24, "spike.tr": 1}),
        Rule("Path", {"lrate": 0.2, "dwt.learn_thr": 0.1}),
        Rule(".back", {"scale.rel": 0.3}),
    ])  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    x, y = (
        torch.stack([(torch.randperm(25, generator=rng) < 6).float() for _ in range(4)]) for _ in range(2)
    )

    wrong = []
    for _ in range(14):
        trial = net.present(x, y)
        wrong.append(int(((net.read(trial, "Output", "ActM").flatten(1) > 0.5) != (y > 0.5)).sum()))
        net.learn(trial)
    assert wrong[0] >= 18  # of 100 units, 24 of which are to be active
    assert sum(wrong[-4:]) <= 4


def test_reading_a_layer():
    trial = small().present(X, Y)
    net = small()
    assert net.read(trial, "Hidden", "CaP").shape == (2, 4, 4)
    with pytest.raises(KeyError, match="no variable 'Cap'"):
        net.read(trial, "Hidden", "Cap")
    with pytest.raises(ValueError, match="no layer 'Hiden'"):
        net.read(trial, "Hiden", "CaP")


# -- memory


def test_stopped_saved_loaded_and_gone_on_equals_uninterrupted_bit_for_bit(tmp_path):
    whole, first, second = (small() for _ in range(3))
    for net in (whole, first, second):
        net.slow_interval, net.gi_interval = 6, 10
        net.apply(
            [
                Rule(".hidden", {"inhib.adapt": True, "inhib.lo_tol": 0.0}),
                Rule("#Input->Hidden", {"dwt.syn_tau": 2.0}),
            ]
        )
    for _ in range(10):
        whole.learn(whole.present(X, Y))
    for _ in range(5):
        first.learn(first.present(X, Y))
    first.save(tmp_path / "net.safetensors")
    second.build(99).load(tmp_path / "net.safetensors")
    for _ in range(5):
        second.learn(second.present(X, Y))
    for name in whole.paths:
        for which in ("lwt", "swt", "wt", "dswt"):
            assert torch.equal(getattr(whole[name], which), getattr(second[name], which)), (name, which)
    for name in whole.layers:
        assert torch.equal(whole.activity[name]["trg_avg"], second.activity[name]["trg_avg"])
    assert whole.gi_mult == second.gi_mult
    assert whole.gi_mult["Hidden"] != 1.0
    assert whole.trials == second.trials == 20
    assert torch.equal(whole.state["Vm"], second.state["Vm"])


def test_a_memory_shares_nothing_and_can_be_put_back():
    net = small()
    net.present(X, Y)
    kept = net.memory()
    before = net["Input->Hidden"].wt.clone()
    net.learn()
    assert not torch.equal(net["Input->Hidden"].wt, before)
    net.restore(kept)
    assert torch.equal(net["Input->Hidden"].wt, before)


def test_a_memory_of_another_network_is_refused(tmp_path):
    other = Network()
    other.layer("Input", (2, 3), kind="input")
    other.layer("Hidden", (4, 4))
    other.connect("Input", "Hidden")
    with pytest.raises(ValueError, match="memory of another network: its layers"):
        small().restore(other.memory())
    Trajectory(torch.zeros(1), {}, {"x": torch.zeros(1)}).save(tmp_path / "x")
    with pytest.raises(ValueError, match="holds no network's memory"):
        small().load(tmp_path / "x")


def test_the_same_seed_is_the_same_network_and_another_is_not():
    a, b, c = small().build(), small().build(), small().build(1)
    assert torch.equal(a["Input->Hidden"].wt, b["Input->Hidden"].wt)
    assert not torch.equal(a["Input->Hidden"].wt, c["Input->Hidden"].wt)


# -- bad input


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda net: net.connect("Input", "Hidden", "one-to-one"),
            "layers of one size, got 6 .Input. and 16 .Hidden.",
        ),
        (lambda net: net.connect("Input", "Hiden"), "no layer 'Hiden'; there are Input, Hidden, Output"),
        (lambda net: net.connect("Input", "Hidden"), "there is a forward path between them already"),
        (
            lambda net: net.connect("Output", "Input", torch.ones(3, 3)),
            r"mask is \[send, recv\] = \[4, 6\], got \[3, 3\]",
        ),
        (lambda net: net.connect("Output", "Input", torch.zeros(4, 6)), "6 of 6 receivers have no sender"),
        (lambda net: net.connect("Output", "Input", "all"), "unknown pattern 'all'"),
        (lambda net: net.connect("Output", "Input", kind="sideways"), "unknown kind of path 'sideways'"),
        (lambda net: net.connect("Output", "Input", "pool-one-to-one"), "needs sub-pools of one arrangement"),
        (lambda net: net.layer("Hidden", (2, 2)), "'Hidden': a name is unique"),
        (lambda net: net.layer("a.b", (2, 2)), "without '.'"),
        (lambda net: net.layer("More", (2, 2, 2)), r"got \(2, 2, 2\)"),
        (lambda net: net.layer("More", (0, 2)), r"got \(0, 2\)"),
        (
            lambda net: net.layer("More", (2, 2), kind="thalamus"),
            "unknown kind 'thalamus'; expected input, hidden, target",
        ),
        (lambda net: (net.layer("More", (2, 2)), net.build()), "'More' receives no path and no pattern"),
        (lambda net: Network().build(), "a network without layers"),
        (lambda net: net.build().layer("More", (2, 2)), "has run already"),
        (lambda net: net.apply([Rule("#Hiden", {})]), "'#Hiden' finds no layer and no path"),
        (lambda net: net.apply([Rule("Layer", {"inhib.layer.g": 1.0})]), "did you mean 'inhib.layer.gi'"),
        (lambda net: net.apply([Rule("Layer", {"nmda.tau": -100.0})]), "NMDA.tau=-100.0: a time constant"),
        (lambda net: net.apply([Rule("Layer", {"kna.rise_tau": 0.0})]), "KNa.rise_tau=0.0: a time constant"),
        (lambda net: net.apply([Rule("Layer", {"nmda.ge": math.nan})]), "NMDA.ge=nan is not finite"),
        (lambda net: net.apply([Rule("Layer", {"nmda": 1.0})]), "a group of values: set one of nmda.ge"),
        (lambda net: net.apply([Rule("Layer", {"nmda.ge.x": 1.0})]), "'ge' is a value"),
        (lambda net: net.apply([Rule("Layer", {"decay.gbufs": 1.0})]), "is of type bool"),
        (lambda net: net.apply([Rule("Layer", {"nmda.tau": "100"})]), "is of type float .100.0., got '100'"),
        (lambda net: net.apply([Rule("Path", {"delay": 2.5})]), "is of type int .2., got 2.5"),
        (lambda net: net.apply([Rule("Layer", {"decay.act": 1.5})]), "a proportion is between 0 and 1"),
        (lambda net: net.apply([Rule("Path", {"scale.rel": -1.0})]), "expected 0 or more"),
        (
            lambda net: net.apply([Rule("Layer", {"gabab.rise_tau": 60.0})]),
            "expected less than decay_tau=50.0",
        ),
        (lambda net: net.apply([Rule("Layer", {"window.cycles": 155})]), "multiple of 10 ms"),
    ],
)
def test_a_network_that_cannot_be_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make(small())


@pytest.mark.parametrize(
    ("present", "text"),
    [
        (lambda net: net.present(X, {"Hidden": torch.ones(2, 16)}), "a hidden layer is never clamped to one; targets go to"),
        (lambda net: net.present({"Output": Y}), r"a target layer is never clamped to one; inputs go to \['Input'\]"),
        (lambda net: net.present({"Eye": X}), "no layer 'Eye'"),
        (lambda net: net.present(X[:, :5]), r"shape \[2, 5\]: expected \[data, 6\] or \[data, 2, 3\]"),
        (lambda net: net.present(X, Y[:1]), r"target for 'Output' has shape \[1, 4\], expected \[2, 4\]"),
        (lambda net: net.present(torch.where(X > 0, torch.nan, X)), "input for 'Input' has 6 values that are not finite"),
        (lambda net: net.present(X, torch.full_like(Y, torch.inf)), "target for 'Output' has 8 values that are not finite"),
        (lambda net: net.present(X - 0.5, Y), "input for 'Input' has 6 negative values .least -0.5.: a pattern is a conductance"),
        (lambda net: net.run(net.init(Moment({"Input": X})), [Moment({"Input": X[:1]})], 1), "batch of 1, the state one of 2"),
        (lambda net: net.learn(), "nothing to learn from"),
        (lambda net: net.learn(rollout(net, net.theta.moments({"Input": X})[:150], 150, record={})), "does not end with a plus"),
        (lambda net: ThetaCycle.of(200, plus=250), "plus=250: the plus phase is part of the cycle"),
        (lambda net: ThetaCycle(150, -50), "plus=-50: a number of cycles"),
        (lambda net: ThetaCycle(155, 50), "multiples of 10 ms"),
        (lambda net: ThetaCycle(150, 0), "each phase lasts at least 10 ms"),
    ],
)  # fmt: skip
def test_a_trial_that_cannot_be_is_refused(present, text):
    with pytest.raises(ValueError, match=text):
        present(small())


def test_lists_arrays_one_rule_and_one_readout_will_do():
    net = small()
    net.apply(Rule("#Hidden", {"inhib.layer.gi": 1.05}))
    a = net.present(X.tolist(), Y.numpy(), state=net.init(Moment({"Input": X})), record="Hidden.Vm")
    b = net.present(X, Y, state=net.init(Moment({"Input": X})), record=["Hidden.Vm"])
    assert torch.equal(a["Hidden.Vm"], b["Hidden.Vm"])


def test_what_is_of_another_kind_is_told_so():
    with pytest.raises(TypeError, match=r"expected ThetaCycle\(minus=150, plus=50\)"):
        Network((150, 50))
    with pytest.raises(TypeError, match="learn from a Trajectory"):
        small().learn(X)
    with pytest.raises(KeyError, match="no readout 'Hidden.Spik', did you mean 'Spike'"):
        small().present(X, Y, record=["Hidden.Spik"])
    with pytest.raises(KeyError, match="no readout 'Hiden.Act', did you mean 'Hidden'"):
        small().present(X, Y, record=["Hiden.Act"])


def test_two_inputs_need_names():
    net = Network()
    net.layer("Eye", (2, 2), kind="input")
    net.layer("Ear", (2, 2), kind="input")
    net.layer("Hidden", (2, 2))
    net.connect("Eye", "Hidden")
    net.connect("Ear", "Hidden")
    with pytest.raises(ValueError, match=r"one input layer, this one has \['Eye', 'Ear'\]"):
        net.present(torch.ones(1, 4))
    assert net.present({"Eye": torch.ones(1, 4)}).final["Spike"].shape == (1, 12)


def test_a_tensor_is_no_moment():
    with pytest.raises(TypeError, match="a network's input is a Moment"):
        rollout(small(), X, 2)
    with pytest.raises(KeyError, match="no layer and no path 'Hiden'"):
        small()["Hiden"]
    net = small()
    state = net.init(Moment())
    with pytest.raises(KeyError, match="no readout 'Hidden.Vn'"):
        net.run(state, [Moment()], 1, record=["Hidden.Vn"])
