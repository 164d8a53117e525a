"""Scales, initial weights, contrast enhancement and slow adaptation, against the equations written as loops."""

import pytest
import torch

from unrolled.cortex import Network
from unrolled.cortex.axon import learning, slow
from unrolled.cortex.axon.paths import active_scale
from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.axon.weights import SWt


@pytest.mark.parametrize(
    ("nominal", "n_send", "n_con", "expected"),
    [
        (0.06, 100, 100, 1 / 6),  # full: round(6)
        (0.15, 25, 25, 1 / 4),  # full: round(3.75)
        (0.24, 25, 25, 1 / 6),
        (0.1, 4, 4, 1.0),  # at least one
        (0.1, 4, 1, 1.0),  # one to one: at most n_con
        (0.1, 100, 20, 1 / 4),  # partial: round(2) + 2
        (0.1, 100, 50, 1 / 7),
        (0.02, 100, 90, 1 / 2),  # at most the number of active senders
        (0.025, 100, 100, 1 / 3),  # halves go up
    ],
)
def test_expected_active_senders(nominal, n_send, n_con, expected):
    assert active_scale(nominal, n_send, n_con) == pytest.approx(expected)


def test_paths_share_the_conductance_of_a_layer():
    net = Network()
    net.layer("Input", (5, 5), kind="input")
    net.layer("Hidden", (10, 10))
    net.layer("Output", (5, 5), kind="target")
    net.connect("Input", "Hidden")
    net.connect("Hidden", "Output", back=True)
    net.connect("Input", "Hidden", kind="inhibitory")
    net.apply(
        [
            Rule(".back", {"scale.rel": 0.3}),
            Rule("#Input", {"inhib.nominal": 0.15}),
            Rule(".hidden", {"inhib.nominal": 0.06}),
        ]
    )
    scale = net.build().scale
    assert scale["Input->Hidden"] == pytest.approx(1 / 1.3 / 4)
    assert scale["Output->Hidden"] == pytest.approx(0.3 / 1.3 / 3)
    assert scale["Hidden->Output"] == pytest.approx(1 / 6)
    assert scale["Input->Hidden:inhibitory"] == pytest.approx(1 / 4)


def test_contrast_enhancement_and_back():
    swts, lwt = SWt(), torch.linspace(0, 1, 101, dtype=torch.float64)
    wt = swts.effective(torch.tensor(0.5, dtype=torch.float64), lwt)
    assert [float(wt[i]) for i in (0, 50, 100)] == pytest.approx([0, 0.5, 1.0])
    assert (wt.diff() > -1e-15).all()
    assert torch.allclose(swts.linear(wt, 0.5)[5:96], lwt[5:96], atol=1e-9)
    assert torch.allclose(SWt(gain=1.0).effective(torch.tensor(0.5), lwt), lwt)


def test_initial_weights():
    rng = torch.Generator().manual_seed(0)
    swts = SWt()
    swt, lwt = swts.draw((200, 50), None, False, rng, torch.float64)
    wt = swts.effective(swt, lwt)
    assert float(wt.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(wt.min()) < 0.28
    assert float(wt.max()) > 0.72
    assert torch.allclose(swt.mean(0), torch.full((50,), 0.5, dtype=torch.float64), atol=1e-9)
    assert float(swt.std()) == pytest.approx(0.5 * 0.25 / 3**0.5, rel=0.05)
    swt, lwt = swts.draw((200, 50), None, True, rng, torch.float64)
    assert (swt == 0.5).all()
    assert float(swts.effective(swt, lwt).std()) == pytest.approx(0.25 / 3**0.5, rel=0.05)


def rescaled(column, swts):
    """The shift of one receiver's structural weights, as a loop."""
    column = column.tolist()
    n, total = len(column), sum(column)
    low, high = sum(x <= swts.low for x in column), sum(x >= swts.high for x in column)
    gap = swts.mean - total / n
    if n <= 1 or gap == 0:
        return column
    stuck = high if gap > 0 else low
    if 0 < stuck < n:
        gap = swts.mean - total / (n - stuck)
    return [min(max(x + gap, swts.low), swts.high) for x in column]


def test_the_shift_of_structural_weights_with_some_at_the_bounds():
    swts = SWt(spct=1.0, var=0.35)
    rng = torch.Generator().manual_seed(1)
    swt = (0.5 + 0.7 * (torch.rand(12, 40, generator=rng, dtype=torch.float64) - 0.5)).clamp(0.2, 0.8)
    made = swts.shift(swt, torch.ones_like(swt))
    expected = torch.tensor([rescaled(column, swts) for column in swt.T], dtype=torch.float64).T
    assert torch.allclose(made, expected)
    assert ((swt >= 0.8).any(0) & (swt <= 0.2).any(0)).any()


def test_reciprocal_paths_start_as_transposes():
    net = Network()
    net.layer("Input", (3, 3), kind="input")
    net.layer("A", (3, 3))
    net.layer("B", (4, 4), kind="target")
    net.connect("Input", "A")
    mask = torch.rand(9, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[0] = True
    net.connect("A", "B", mask, back=True)
    net.connect("A", "A", kind="lateral")
    net.apply([Rule("#Input->A", {"swts.sym": False})])
    net.build()
    forward, back, side = net["A->B"], net["B->A"], net["A->A"]
    assert torch.equal(back.mask, mask.T)
    assert torch.equal(torch.where(mask, forward.wt, 0.0), back.wt.T)
    assert (back.swt.T[mask] == 0.5).all()  # into a target, and so back
    assert torch.equal(side.lwt, side.lwt.T)
    assert not forward.wt[~mask].any()


def test_structural_weights_follow_what_was_learned_and_keep_wt():
    swts = SWt()
    rng = torch.Generator().manual_seed(0)
    swt, lwt = swts.draw((6, 3), None, False, rng, torch.float64)
    wt = swts.effective(swt, lwt)
    dswt = 0.3 * torch.randn(6, 3, generator=rng, dtype=torch.float64)
    new_swt, new_lwt = slow.structural(swts, swt, lwt, wt, dswt, torch.ones_like(swt))
    for r in range(3):
        bound = [
            d * (0.8 - s) if d >= 0 else d * (s - 0.2)
            for d, s in zip(dswt[:, r].tolist(), swt[:, r].tolist())
        ]
        mean, mean_wt = sum(bound) / 6, float(wt[:, r].mean())
        decay = min(max(0.0008 * (mean_wt - 0.5), 0.0), 0.0008)
        for s in range(6):
            structural = float(swt[s, r]) + 0.1 * (bound[s] - mean)
            w = float(wt[s, r]) / structural / 2
            linear = 1 / (1 + ((1 - w) / w) ** (1 / 6))
            assert float(new_swt[s, r]) == pytest.approx(structural)
            assert float(new_lwt[s, r]) == pytest.approx(linear * (1 - decay))
    kept = wt.mean(0) <= 0.5
    assert kept.any()
    assert torch.allclose(swts.effective(new_swt, new_lwt)[:, kept], wt[:, kept])


def test_only_connected_synapses_count_in_slow_adaptation():
    swts = SWt()
    mask = torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)
    swt = torch.full((3, 1), 0.5, dtype=torch.float64)
    dswt = torch.tensor([[0.3], [0.1], [9.0]], dtype=torch.float64)
    made, _ = slow.structural(swts, swt, swt, swt * mask, dswt, mask)
    assert made[:2].flatten().tolist() == pytest.approx([0.5 + 0.1 * 0.3 * 0.1, 0.5 - 0.1 * 0.3 * 0.1])


def test_slow_adaptation_comes_every_slow_interval_and_balances_activity(nets):
    net = nets.random(slow_interval=8)
    inputs, targets = nets.patterns(net, 4)
    net.learn(net.present(inputs, targets))
    path = net["Input->Hidden1"]
    before = path.swt.clone()
    assert path.dswt.any()
    net.learn(net.present(inputs, targets))
    assert not torch.equal(path.swt, before)
    assert not path.dswt.any()
    assert torch.equal(net["Hidden2->Output"].swt, torch.full_like(net["Hidden2->Output"].swt, 0.5))
    assert net.trials == 8


def test_targets_of_activity_move_with_the_error_and_keep_their_mean(nets):
    net = nets.random(pools=True)
    before = net.activity["Hidden1"]["trg_avg"].clone()
    assert sorted(before.reshape(4, 6)[0].tolist()) == pytest.approx(torch.linspace(0.5, 2, 6).tolist())
    for _ in range(3):
        net.learn(net.present(*nets.patterns(net, 4)))
    after = net.activity["Hidden1"]["trg_avg"]
    assert not torch.equal(before, after)
    assert (after >= 0.5).all()
    assert (after <= 2).all()
    assert torch.equal(net.activity["Input"]["trg_avg"], net.build().activity["Input"]["trg_avg"])


def test_synaptic_scaling_pulls_an_overactive_neuron_down():
    net = Network(slow_interval=1)
    net.layer("Input", (2, 2), kind="input")
    net.layer("Hidden", (2, 2))
    net.connect("Input", "Hidden")
    net.apply([Rule("Path", {"swts.adapt": False, "lrate": 0.0}), Rule("Layer", {"trg.scale_rate": 0.05})])
    net.build()
    mine = net.activity["Hidden"]
    mine["act_avg"] = torch.tensor([0.4, 0.1, 0.1, 0.1])
    mine["trg_avg"] = torch.ones(4)
    before = net["Input->Hidden"].wt.clone()
    net.learn(net.present(torch.zeros(1, 4)))
    change = net["Input->Hidden"].wt - before
    assert (change[:, 0] < 0).all()
    assert (change[:, 1:] > 0).all()


def test_inhibition_adapts_towards_the_nominal_activity(nets):
    net = nets.random(gi_interval=4, sheet=[Rule(".hidden", {"inhib.adapt": True, "inhib.nominal": 0.01})])
    inputs, targets = nets.patterns(net, 4)
    for _ in range(3):
        net.learn(net.present(inputs, targets))
    assert net.gi_mult["Hidden1"] == pytest.approx(1.03)
    assert net.gi_mult["Input"] == net.gi_mult["Output"] == 1.0
    fresh = nets.random(sheet=[Rule(".hidden", {"inhib.adapt": True, "inhib.nominal": 0.01})])
    fresh.gi_mult["Hidden1"] = 5.0
    fresh.changed()
    moments = fresh.theta.moments(inputs, targets)
    for moment, state in ((moments[60], fresh.run(fresh.init(moments[0]), moments[:60], 60)),):
        after = fresh.step(state, moment)
        assert after["Gi"][:, fresh["Hidden1"].part].max() > 2


def test_zero_changes_stay_zero_when_the_mean_is_taken_off():
    dwt = torch.tensor([[0.5, 0.0], [0.1, 0.2], [0.0, 0.0]])
    assert learning.sub_mean(dwt, 1.0).tolist() == [
        [pytest.approx(0.2), 0.0],
        [pytest.approx(-0.2), pytest.approx(0.2)],
        [0.0, 0.0],
    ]
