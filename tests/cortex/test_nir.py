"""NIR graphs: what they carry comes back, what a cortex has not is refused by name, and a spike is worth what it is in Axon."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from unrolled.core import rollout
from unrolled.cortex import Network, Rule, interop
from unrolled.cortex.tasks import ra25, reber

nir = pytest.importorskip("nir")


def lif(n, r=1.0, leak=0.0, threshold=1.0):
    full = [np.full(n, x, dtype=np.float32) for x in (0.02, r, leak, threshold)]
    return nir.LIF(tau=full[0], r=full[1], v_leak=full[2], v_threshold=full[3])


def chain(*between, n_in=3, n_out=2, node=None):
    """Input -> nodes -> a population."""
    nodes = {"in": nir.Input(input_type={"input": np.array([n_in])}), "out": node or lif(n_out)}
    names = ["in", *(f"n{i}" for i in range(len(between))), "out"]
    nodes |= dict(zip(names[1:-1], between))
    return nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)


def strength(net, name):
    return net.scale[name] * net[name].wt


def mixed():
    net = Network(seed=1)
    net.layer("Input", (2, 3), kind="input")
    net.layer("Hidden", (2, 4))
    net.layer("Output", (2, 2), kind="target")
    net.connect("Input", "Hidden", torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) > 0.3)
    net.connect("Hidden", "Output", back=True)
    net.connect("Hidden", "Hidden", kind="inhibitory")
    net.apply([Rule("#Input->Hidden", {"delay": 4}), Rule(".back", {"scale.rel": 0.2})])
    return net


@pytest.mark.parametrize("make", [mixed, ra25.network], ids=["mixed", "ra25"])
def test_wiring_strengths_and_delays_come_back_from_a_file(make, tmp_path):
    net = make()
    nir.write(tmp_path / "net.nir", interop.to_nir(net))
    back = interop.from_nir(nir.read(tmp_path / "net.nir"))
    assert {x.name: (x.shape, x.kind.name) for x in back.layers.values()} == {
        x.name: (x.shape if x.kind.name != "input" else (1, x.n), x.kind.name) for x in net.layers.values()
    }
    for path in net.paths.values():
        mine = next(
            p
            for p in back.paths.values()
            if (p.send.name, p.recv.name, p.kind) == (path.send.name, path.recv.name, path.kind)
        )
        assert mine.params.delay == path.params.delay
        torch.testing.assert_close(strength(back, mine.name), strength(net, path.name), rtol=1e-5, atol=1e-7)
    assert len(back.paths) == len(net.paths)


def test_a_network_that_came_back_behaves_the_same():
    """Same conductances, same cells: the same cycles, as long as rounding has not grown."""
    net = mixed()
    back = interop.from_nir(interop.to_nir(net))
    x = torch.eye(6)[:2]
    a, b = (
        rollout(each, each.moments(x)[:80], 80, record=["Hidden.GeRaw", "Output.Vm"]) for each in (net, back)
    )
    assert float(a["Hidden.GeRaw"].max()) > 0.1
    for name in a.records:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-3)


def test_a_graph_is_read_by_others_as_it_is_meant():
    """One spike into the exported CubaLIF moves it as it moves Axon's cell: within the driving force's change."""
    net = Network(seed=0)
    net.layer("In", (1, 1), interop.SPIKES)
    net.layer("Out", (1, 1))
    net.connect("In", "Out")
    net.apply([Rule("Layer", {"nmda.ge": 0.0, "vgcc.ge": 0.0, "ak.gk": 0.0, "gabab.gk": 0.0, "mahp.gk": 0.0, "inhib.layer.on": False}),
               Rule("Path", {"scale.abs": 0.02})])  # fmt: skip
    train = torch.zeros(200, 1, 1)
    train[20] = 1
    trial = rollout(net, interop.moments(net, {"In": train}), 200, record=["Out.Vm"])
    axon = trial["Out.Vm"][1:, 0, 0].double().numpy()
    graph = interop.to_nir(net)
    cell, weight = graph.nodes["Out"], float(graph.nodes["In->Out"].weight[0, 0])
    delay = float(graph.nodes["In->Out delay"].delay[0])
    v, i, dt, cuba = float(cell.v_leak[0]), 0.0, 1e-5, []
    arrival = round((0.020 + delay) / dt)
    for step in range(20_000):
        if step == arrival:
            i += float(cell.w_in[0]) / float(cell.tau_syn[0]) * weight
        v += dt / float(cell.tau_mem[0]) * (float(cell.v_leak[0]) - v + float(cell.r[0]) * i)
        i -= dt / float(cell.tau_syn[0]) * i
        if (step + 1) % 100 == 0:
            cuba.append(v)
    peak = max(cuba) + 70
    assert 0.3 < peak < 3  # mV: far below threshold
    assert max(axon) + 70 == pytest.approx(peak, rel=0.1)
    assert abs(int(np.argmax(axon)) - int(np.argmax(cuba))) <= 1


def test_inhibition_moves_the_potential_by_the_same_current():
    net = mixed().build()
    weight = interop.to_nir(net).nodes["Hidden->Hidden"].weight
    assert (weight < 0).all()
    ge = strength(net, "Hidden->Hidden").T.numpy()
    np.testing.assert_allclose(weight, -ge * (100 * 20) / (100 * 70), rtol=1e-5)


def test_a_stranger_s_weights_keep_their_strength_relative_to_threshold():
    weight = np.array([[0.5, 0.25, 0.0], [0.1, -0.2, 0.3]])
    net = interop.from_nir(chain(nir.Delay(np.full(3, 0.002)), nir.Linear(weight)))
    assert [(p.name, p.kind, p.params.delay) for p in net.paths.values()] == [
        ("in->out", "forward", 1),
        ("in->out:inhibitory", "inhibitory", 1),
    ]
    to_threshold = 20 / 350  # Ge that takes a cell from -70 to -50 mV
    torch.testing.assert_close(
        strength(net, "in->out"),
        torch.tensor(weight.T).clamp(min=0).float() * to_threshold,
        rtol=1e-5,
        atol=1e-8,
    )
    inhibition = strength(net, "in->out:inhibitory")
    assert float(inhibition[1, 1]) == pytest.approx(0.2 * to_threshold * 3.5, rel=1e-5)
    # half the resistance, or twice the threshold: half the strength
    for node in (lif(2, r=0.5), lif(2, threshold=2.0), lif(2, leak=-1.0)):
        half = interop.from_nir(chain(nir.Linear(np.abs(weight)), node=node))
        assert float(strength(half, "in->out").max()) == pytest.approx(0.25 * to_threshold, rel=1e-5)
    assert net.present(torch.eye(3)[:2]).final["Spike"].shape == (2, 5)


def test_what_lies_between_populations_is_multiplied():
    first, second = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]), np.array([[0.1, 0.2], [0.3, 0.4]])
    graph = chain(
        nir.Linear(first),
        nir.Delay(np.full(2, 0.003)),
        nir.Scale(np.array([1.0, 0.5])),
        nir.Affine(second, np.zeros(2)),
    )
    net = interop.from_nir(graph)
    expected = torch.tensor(second @ np.diag([1.0, 0.5]) @ first).T.float() * 20 / 350
    torch.testing.assert_close(strength(net, "in->out"), expected, rtol=1e-5, atol=1e-8)
    assert net["in->out"].params.delay == 2


@pytest.mark.parametrize(
    ("graph", "match"),
    [
        (lambda: chain(nir.Affine(np.ones((2, 3)), np.ones(2))), "'n0' has a bias: a cortex has none; make it an input"),
        (lambda: chain(nir.Delay(np.array([0.001, 0.004, 0.001])), nir.Linear(np.ones((2, 3)))), "'n0': delays from 0.001 to 0.004 s"),
        (lambda: chain(nir.Threshold(np.ones(3)), nir.Linear(np.ones((2, 3)))), "'n0' is a Threshold: a cortex has populations"),
        (lambda: chain(nir.Linear(np.ones((2, 3))), node=lif(2, threshold=-1.0)), "'out': expected v_threshold above v_leak"),
    ],
)  # fmt: skip
def test_what_a_cortex_has_not_is_refused_by_name(graph, match):
    with pytest.raises(ValueError, match=match):
        interop.from_nir(graph())


def test_targets_are_named_and_must_be_there():
    net = interop.from_nir(chain(nir.Linear(np.ones((2, 3)))), targets=("out",))
    assert net["out"].kind.is_target
    with pytest.raises(ValueError, match="no population ouch in this graph; there are in, out"):
        interop.from_nir(chain(nir.Linear(np.ones((2, 3)))), targets=("ouch",))


def test_what_is_lost_is_listed():
    lost = interop.not_in_nir(reber.network())
    for what in (
        "NMDA",
        "inhibition",
        "learning",
        "path Hidden->HiddenCT: a context path",
        "layer InputP: what a pulvinar",
    ):
        assert any(line.startswith(what) for line in lost), what
    graph = interop.to_nir(reber.network())
    assert "Hidden->HiddenCT" not in graph.nodes
    assert "learning" in graph.metadata["not carried"]


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"unrolled\[nir\]"):
        interop.to_nir(mixed())
