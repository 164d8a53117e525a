"""T6 of the cortex fact sheet: Axon's own unit tests, for the naive twin and the fused cycle alike."""

import pytest
import torch

from unrolled.core import Trajectory

TOL = 1e-5
BOTH = pytest.mark.parametrize("fused", [False, True], ids=["naive", "fused"])


def trial(net, fused, pattern, state, at=()):
    """One theta cycle of a pattern on input and output: the last state in flat form, and those at some cycles."""
    system, kept = (net if fused else net.naive), {}
    moments = net.theta.moments({"Input": pattern}, {"Output": pattern})
    state = system.init(moments[0]) if state is None else state
    for t, moment in enumerate(moments, 1):
        state = system.step(state, moment)
        if t in at:
            kept[t] = state if fused else net.naive.flat(state)
    return state, (state if fused else net.naive.flat(state)), kept


def close(x, expected):
    assert torch.allclose(x.flatten(), torch.tensor(expected, dtype=x.dtype), rtol=0, atol=TOL), (x, expected)


ACTIVITY = {
    # pattern, cycle, layer: Act, Ge, Gi
    (0, 50, "Hidden"): ([0.6944439, 0, 0, 0], [0.35238016, 0, 0, 0], [0.15478326] * 4),
    (0, 50, "Output"): ([0.55552065, 0, 0, 0], [0.35870183, 0, 0, 0], [0.20974194] * 4),
    (0, 200, "Hidden"): ([0.56933826, 0, 0, 0], [0.43519318, 0, 0, 0], [0.21780372] * 4),
    (0, 200, "Output"): ([0.69444436, 0, 0, 0], [0.8, 0, 0, 0], [0.48570368] * 4),
    (1, 50, "Hidden"): ([0, 0.46289298, 0, 0], [0.011576458, 0.45270887, 0, 0], [0.1974176] * 4),
    (1, 50, "Output"): ([0, 0, 0, 0], [0.014116121, 0.26705682, 0, 0], [0.089714766] * 4),
    (1, 200, "Hidden"): ([0, 0.56031764, 0, 0], [0.0022698431, 0.5705052, 0, 0], [0.2899328] * 4),
    (1, 200, "Output"): ([0, 0.69444436, 0, 0], [0, 0.8, 0, 0], [0.43397403] * 4),
}


@BOTH
def test_T6_activity_of_two_patterns(nets, fused):
    net, state = nets.axon_test(), None
    for p in range(2):
        state, _, kept = trial(net, fused, torch.eye(4)[p : p + 1], state, at=(50, 200))
        for (pattern, cycle, layer), expected in ACTIVITY.items():
            if pattern == p:
                for variable, values in zip(("Act", "Ge", "Gi"), expected):
                    close(net.read(kept[cycle], layer, variable), values)


@BOTH
def test_T6_activity_after_40_cycles(nets, fused):
    net = nets.axon_test()
    _, _, kept = trial(net, fused, torch.eye(4)[:1], None, at=(40,))
    for layer, act, ge, gi in (
        ("Hidden", 0.6944009, 0.7366979, 0.24779804),
        ("Output", 0.55272156, 0.4743182, 0.21460174),
    ):
        close(net.read(kept[40], layer, "Act"), [act, 0, 0, 0])
        close(net.read(kept[40], layer, "Ge"), [ge, 0, 0, 0])
        close(net.read(kept[40], layer, "Gi"), [gi] * 4)


@BOTH
def test_T6_inhibitory_path(nets, fused):
    net = nets.axon_test(inhibitory=True)
    _, _, kept = trial(net, fused, torch.eye(4)[:1], None, at=(50, 200))
    for cycle, hidden, output in (
        (50, ([0] * 4, [0.30250484, 0, 0, 0], [0.46865422, 0, 0, 0]), ([0] * 4, [0] * 4, [0] * 4)),
        (200, ([0] * 4, [0.46512103, 0, 0, 0], [0.44725537, 0, 0, 0]),
         ([0.7936507, 0, 0, 0], [0.8, 0, 0, 0], [0.39994955] * 4)),
    ):  # fmt: skip
        for layer, expected in (("Hidden", hidden), ("Output", output)):
            for variable, values in zip(("Act", "Ge", "Gi"), expected):
                close(net.read(kept[cycle], layer, variable), values)


LEARNING = {
    # variable of the neuron or path: one value per pattern
    ("Hidden", "LearnCaP"): [0.5500735, 0.5519808, 0.54200256, 0.5519518],
    ("Hidden", "LearnCaD"): [0.52224743, 0.49780282, 0.49890643, 0.50385964],
    ("Output", "LearnCaP"): [0.58267534, 0.56314445, 0.5760921, 0.57729626],
    ("Output", "LearnCaD"): [0.50602317, 0.4639777, 0.4770922, 0.47976217],
    ("Input->Hidden", "dwt"): [0.004471265, 0.0076135984, 0.006134646, 0.006948054],
    ("Hidden->Output", "dwt"): [0.0055950927, 0.010907927, 0.010558605, 0.010816593],
    ("Input->Hidden", "wt"): [0.5268025, 0.54555845, 0.5367433, 0.5415946],
    ("Hidden->Output", "wt"): [0.5335216, 0.5650866, 0.56302404, 0.56454736],
}
WITH_RLRATE = {
    ("Input->Hidden", "dwt"): [2.2356323e-07, 2.6165517e-05, 1.8274108e-05, 2.6021975e-05],
    ("Input->Hidden", "wt"): [0.50000143, 0.500157, 0.5001098, 0.5001563],
}
RLRATES = [
    [5.0e-05, 5.0e-05, 5.0e-05, 5.0e-05],
    [0.00018922218, 0.003436682, 5.0e-05, 5.0e-05],
    [5.0e-05, 0.00016346086, 0.0029788367, 5.0e-05],
    [5.0e-05, 5.0e-05, 0.00018306368, 0.0037452176],
]


@BOTH
@pytest.mark.parametrize("rlrate", [False, True])
def test_T6_learning_of_four_patterns(nets, fused, rlrate):
    net, state = nets.axon_test(rlrate=rlrate), None
    expected = LEARNING | (WITH_RLRATE if rlrate else {})
    for p in range(4):
        state, flat, _ = trial(net, fused, torch.eye(4)[p : p + 1], state)
        mine = None if fused else net.naive.dwt(state)
        made = net.learn(Trajectory(torch.zeros(1), {}, flat))
        made = made if mine is None else mine
        for (where, what), values in expected.items():
            if what == "dwt":
                got = made[where][p, p]
            elif what == "wt":
                got = net[where].wt[p, p]
            else:
                got = net.read(flat, where, what)[0, p, 0]
            tol = 1e-6 if what == "dwt" else TOL
            assert float(got) == pytest.approx(values[p], abs=tol), (where, what, p)
        if rlrate:
            assert torch.allclose(
                net.read(flat, "Hidden", "RLRate").flatten(), torch.tensor(RLRATES[p]), rtol=1e-3, atol=1e-7
            )


@BOTH
@pytest.mark.parametrize("delay", range(5))
def test_T6_a_spike_arrives_after_delay_plus_one_cycles(nets, fused, delay):
    net = nets.axon_test(delay=delay)
    system = net if fused else net.naive
    moments = net.theta.moments({"Input": torch.eye(4)[:1]})
    state, spiked, received = system.init(moments[0]), None, None
    for t, moment in enumerate(moments[:100]):
        state = system.step(state, moment)
        flat = state if fused else net.naive.flat(state)
        if spiked is None and net.read(flat, "Input", "Spike").any():
            spiked = t
        if received is None and net.read(flat, "Hidden", "Ge").any():
            received = t
    assert spiked is not None
    assert received == spiked + delay + 1


def test_setting_a_weight_gives_its_linear_weight(nets):
    net = nets.axon_test()
    linear = net["Input->Hidden"].params.swts.linear(torch.tensor(0.15), torch.tensor(0.5))
    assert float(linear) == pytest.approx(0.42822415, abs=1e-7)
    assert float(net["Input->Hidden"].params.swts.effective(torch.tensor(0.5), linear)) == pytest.approx(
        0.15, abs=1e-6
    )
