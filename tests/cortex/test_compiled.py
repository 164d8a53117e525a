"""The compiled cell equals the naive twin, and a machine without a compiler gets a warning and the eager cycle."""

import pytest
import torch

from unrolled.cortex import ThetaCycle
from unrolled.cortex.axon.compiled import READ, WRITTEN
from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.axon.state import VARIABLES

SHEET = [
    Rule("#Hidden1", {"membrane.c": 200.0, "nmda.mgc": 1.2, "spike.tr": 1, "learn_ca.etrace_scale": 0.2}),
    Rule("#Output", {"vgcc.ge": 0.0, "decay.ahp": 0.5}),
]


def differences(net, inputs, targets):
    moments = net.theta.moments(inputs, targets)
    naive = net.naive.init(moments[0])
    for moment in moments:
        naive = net.naive.step(naive, moment)
    flat, fast = net.naive.flat(naive), net.run(net.init(moments[0]), moments, len(moments))
    return {k: float((flat[k] - fast[k]).abs().max()) for k in flat if isinstance(flat[k], torch.Tensor)}


def test_the_compiled_cell_equals_the_naive_twin(nets):
    net = nets.random(
        dtype=torch.float64, pools=True, inhibitory=True, sheet=SHEET, theta=ThetaCycle(90, 30)
    ).compile("eager")
    inputs, targets = nets.patterns(net, 3)
    assert max(differences(net, inputs, targets).values()) < 1e-6
    assert net._fused.compiled is not None


@pytest.mark.slow
def test_with_inductor_too(nets):
    net = nets.random(dtype=torch.float64, sheet=SHEET).compile()
    inputs, targets = nets.patterns(net, 3)
    assert max(differences(net, inputs, targets).values()) < 1e-6


def test_it_keeps_up_with_learning_and_can_be_switched_off(nets):
    eager, compiled = (nets.random(dtype=torch.float64, theta=ThetaCycle(40, 20)) for _ in range(2))
    compiled.compile("eager")
    inputs, targets = nets.patterns(eager, 2)
    for _ in range(2):
        for net in (eager, compiled):
            net.learn(net.present(inputs, targets))
    for name, path in eager.paths.items():
        assert torch.allclose(path.wt, compiled[name].wt, rtol=0, atol=1e-6)
    compiled.compile("").present(inputs, targets)
    assert compiled._fused.compiled is None


def test_without_a_compiler_it_warns_and_runs(nets, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", lambda fn, backend, **options: lambda *args: broken(None, args))
    net, eager = nets.random().compile(), nets.random()
    inputs, targets = nets.patterns(net, 2)
    with pytest.warns(
        RuntimeWarning, match="does not work here .RuntimeError: no C.. compiler found.; the cycle runs"
    ):
        trial = net.present(inputs, targets)
    assert torch.equal(trial.final["Act"], eager.present(inputs, targets).final["Act"])


def test_the_lists_of_variables_are_complete():
    assert set(READ) <= set(VARIABLES)
    assert set(WRITTEN) <= set(VARIABLES)
    elsewhere = {
        "GeRaw",
        "GeSynPaths",
        "GiSynPaths",
        "Gi",
        "ActM",
        "ActP",
        "SahpCa",
        "SahpN",
        "CaDPrev",
        "CaDiff",
        "RLRate",
    }
    assert set(VARIABLES) - set(WRITTEN) == elsewhere
