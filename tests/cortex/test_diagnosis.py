"""Broken networks are told what is wrong by name, healthy ones nothing."""

import pytest
import torch

from unrolled.cortex import Network, Rule, diagnose, diagnosis

HEALTHY = [
    Rule(
        "Layer",
        {
            "inhib.layer.gi": 1.05,
            "inhib.layer.fb": 0.5,
            "inhib.nominal": 0.06,
            "nmda.mgc": 1.2,
            "vgcc.ge": 0.0,
        },
    ),
    Rule("#Input", {"inhib.layer.gi": 0.9, "inhib.nominal": 0.15}),
    Rule("#Output", {"inhib.layer.gi": 0.65, "inhib.nominal": 0.24, "spike.tr": 1}),
    Rule(".back", {"scale.rel": 0.3}),
]


def network(*sheet):
    net = Network(seed=0)
    net.layer("Input", (5, 5), kind="input")
    net.layer("Hidden1", (10, 10))
    net.layer("Hidden2", (10, 10))
    net.layer("Output", (5, 5), kind="target")
    net.connect("Input", "Hidden1")
    net.connect("Hidden1", "Hidden2", back=True)
    net.connect("Hidden2", "Output", back=True)
    net.apply([*HEALTHY, *sheet])
    return net


X = (torch.arange(25) % 4 == 0).float().expand(2, 25)


def findings(net, x=X):
    return {(f.layer, f.what): f for f in diagnose(net, x, x)}


def test_a_healthy_network_is_told_nothing():
    assert diagnose(network(), X, X) == []


def test_crushed_by_inhibition():
    found = findings(network(Rule("#Hidden1", {"inhib.layer.gi": 30.0})))
    first = found["Hidden1", "silent"]
    assert first.look_at == "inhib.layer.gi of Hidden1"
    assert "silent since cycle" in str(first)
    assert "inhibition Gi" in first.message
    assert "inhib.layer.gi is 30" in first.message
    assert "nothing reaches it from Hidden1" in found["Hidden2", "silent"].message
    assert found["Hidden2", "silent"].look_at == "what drives Hidden1"


def test_too_little_excitation():
    found = findings(network(Rule("#Input->Hidden1", {"scale.abs": 0.02})))
    assert found["Hidden1", "silent"].look_at == "scale.abs of Input->Hidden1"
    assert "too weak even without inhibition" in found["Hidden1", "silent"].message
    assert found["Hidden1", "silent"].since == 0


def test_a_blank_input():
    found = findings(network(), torch.zeros(1, 25))
    assert "nothing reaches it from Input" in found["Hidden1", "silent"].message
    assert set(found) == {("Hidden1", "silent"), ("Hidden2", "silent"), ("Output", "silent")}


def test_an_input_that_is_all_on_inhibits_itself():
    it = findings(network(), torch.ones(1, 25))["Input", "silent"]
    assert it.look_at == "inhib.layer.gi of Input"


def test_silent_from_some_cycle_on():
    it = findings(network(Rule("#Hidden1", {"inhib.layer.ss": 1e7, "inhib.layer.ssi_tau": 5000.0})))[
        "Hidden1", "silent"
    ]
    assert 5 < it.since < 150
    assert it.look_at == "inhib.layer.gi of Hidden1"
    assert it.message.startswith(f"Hidden1: silent since cycle {it.since}; inhibition Gi")


def test_held_down_by_adaptation():
    net = Network()
    net.layer("Input", (4, 4), kind="input")
    net.layer("Hidden", (1, 1))
    net.connect("Input", "Hidden")
    net.apply(
        [Rule("#Hidden", {"inhib.layer.gi": 0.0, "kna.gk": 9.0, "kna.rise_tau": 2.0, "kna.decay_tau": 1e5})]
    )
    it = diagnose(net, torch.eye(16)[:3].sum(0))[0]
    assert it.look_at == "mahp.gk, kna.gk and sahp.gk of Hidden"
    assert it.since > 0


def test_saturated():
    found = findings(network(Rule("#Hidden2", {"inhib.layer.gi": 0.0})))
    it = found["Hidden2", "saturated"]
    assert it.look_at == "inhib.layer.gi of Hidden2"
    assert "% mean activity against 6 % nominal" in it.message
    assert ("Hidden1", "saturated") not in found


def test_hallucinating():
    found = findings(network(Rule("#Hidden2->Hidden1", {"scale.rel": 5.0})))
    it = found["Hidden1", "hallucinating"]
    assert it.look_at == "scale.rel of Hidden2->Hidden1"
    assert "0.1 to 0.3 is usual" in it.message


def test_sub_pools_are_named():
    net = Network()
    net.layer("Input", (4, 4), kind="input")
    net.layer("Hidden", (2, 2, 3, 3))
    net.connect("Input", "Hidden")
    net.apply([Rule("#Hidden", {"inhib.pool.gi": 60.0})])
    assert diagnose(net, torch.eye(16)[:3].sum(0))[0].look_at == "inhib.pool.gi of Hidden"


def test_it_touches_neither_state_nor_weights():
    net = network()
    net.present(X, X)
    before, weights = net.state, net["Input->Hidden1"].wt.clone()
    diagnose(net, X, X)
    assert net.state is before
    assert torch.equal(net["Input->Hidden1"].wt, weights)


def test_a_trajectory_needs_its_records():
    net = network()
    trial = net.present(X, X, record=diagnosis.NEEDED)
    assert diagnose(net, None, trajectory=trial) == []
    with pytest.raises(
        ValueError, match=r"present with record=.*lacks \['Act', 'Ge', 'Gi', 'Gk', 'VmDend', 'GababM'\]"
    ):
        diagnose(net, None, trajectory=net.present(X, record=["Spike"]))
