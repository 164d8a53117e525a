"""Settling: to the fixed point, as the naive twin, and loudly when there is none."""

import pytest
import torch

from unrolled.core import check_system, rollout
from unrolled.cortex.rate import Momentum, Net, NotSettling, Nudged, learn, naive, nudge, settle


@pytest.mark.parametrize("pool_by", ["max", "mean"])
@pytest.mark.parametrize("feedback", ["symmetric", "learned", "random"])
def test_settling_ends_where_stepping_all_layers_at_once_does(nets, pool_by, feedback):
    net, (x, _) = nets.conv(pool_by, feedback=feedback, gain=0.05), nets.images()
    found = settle(net, x, sweeps=200, tol=1e-13)
    assert found.stop.reason == "settled"
    for mine, theirs in zip(found.ys, naive.settled(net, x, 400)):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("cost", "output"),
    [(c, o) for c in ("squared", "cross_entropy") for o in ("softmax", "logistic")] + [("squared", "linear")],
)
def test_a_nudge_is_the_difference_of_two_settled_states(nets, cost, output):
    net, (x, labels) = nets.conv(output=output, cost=cost, gain=0.05), nets.images()
    base, target = settle(net, x, sweeps=300, tol=1e-14), net.targets(labels)
    for beta in (0.3, -0.3):
        changes, _ = nudge(net, base, target, beta, sweeps=300, tol=1e-13)
        there = naive.settled(net, x, 600, target=target, beta=beta)
        for change, free, moved in zip(changes, base.ys, there):
            torch.testing.assert_close(free + change, moved, rtol=0, atol=1e-10)


def test_a_settled_state_stays_under_the_system_s_own_step(nets):
    net, (x, labels) = nets.conv(), nets.images()
    base = settle(net, x, sweeps=300, tol=1e-14)
    again = net.step(base.state(net), x)
    for name in net.names:
        torch.testing.assert_close(again[name], base.state(net)[name], rtol=0, atol=1e-12)
    changes, _ = nudge(net, base, net.targets(labels), 0.2, sweeps=300, tol=1e-13)
    moved = {**base.state(net), **{n: y + d for n, y, d in zip(net.names, base.ys, changes)}}
    again = net.step(moved, Nudged(x, net.targets(labels), 0.2))
    for name in net.names:
        torch.testing.assert_close(again[name], moved[name], rtol=0, atol=1e-11)


def test_sweeps_of_settle_are_steps_of_the_system(nets):
    net, (x, _) = nets.conv(), nets.images()
    path = rollout(net, x, 3)
    for k in range(4):
        found = settle(net, x, sweeps=k, tol=None)
        for name, y in zip(net.names, found.ys):
            torch.testing.assert_close(path[name][k], y, rtol=0, atol=1e-13)


def test_it_is_a_system(nets):
    check_system(nets.conv(), nets.images()[0])
    check_system(nets.dense(), nets.patterns()[0])


def test_without_a_nudge_nothing_changes_however_badly_the_free_state_had_settled(nets):
    net, (x, labels) = nets.conv(gain=0.3), nets.images()
    base = settle(net, x, sweeps=1, tol=None)
    changes, _ = nudge(net, base, net.targets(labels), 0.0)
    assert all(not bool(change.any()) for change in changes)


def test_anderson_settles_where_plain_sweeps_do_in_fewer(nets):
    net, (x, _) = nets.dense(gain=2.5, seed=2), nets.patterns()
    for path in net.paths:
        path.put(lambda name, value: 2 * value)
    plain = settle(net, x, sweeps=400, tol=1e-10)
    quick = settle(net, x, sweeps=400, tol=1e-10, anderson=4)
    assert quick.stop.reason == plain.stop.reason == "settled"
    assert quick.sweeps < plain.sweeps
    for a, b in zip(quick.ys, plain.ys):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


def test_settling_goes_on_from_a_state(nets):
    net, (x, _) = nets.conv(), nets.images()
    there = settle(net, x, sweeps=300, tol=1e-13)
    again = settle(net, x, sweeps=5, tol=1e-11, state=there.state(net))
    assert again.stop.reason == "settled"
    assert again.sweeps == 1
    with pytest.raises(ValueError, match="a state of 5 samples for 2 images"):
        settle(net, x[:2], state=there.state(net))


def test_a_batch_is_its_samples_one_by_one(nets):
    net, (x, _) = nets.conv(), nets.images()
    together = settle(net, x, sweeps=6, tol=None, anderson=2)
    for i in range(len(x)):
        alone = settle(net, x[i : i + 1], sweeps=6, tol=None, anderson=2)
        for a, b in zip(together.ys, alone.ys):
            torch.testing.assert_close(a[i : i + 1], b, rtol=0, atol=1e-9)


def test_a_network_that_does_not_settle_says_which_layer_and_how_fast_it_runs_away():
    net = Net(
        1, [1, 1, 1], activation="linear", output="linear", cost="squared", gain=1.0, dtype=torch.float64
    )
    for path in net.paths:
        path.put(lambda name, value: torch.full_like(value, 2.0 * (name == "weight")))
    moved = net.step(
        {name: row[:, None] for name, row in zip(net.names, torch.eye(3, dtype=torch.float64))},
        torch.zeros(3, 1, dtype=torch.float64),
    )
    radius = float(torch.linalg.eigvals(torch.cat([moved[name] for name in net.names], 1)).abs().max())
    with pytest.raises(
        NotSettling, match=r"output changes .* times.*spectral radius.*lower gain \(now 1\)"
    ) as raised:
        settle(net, torch.ones(1, 1))
    assert raised.value.layer == "output"
    assert raised.value.radius == pytest.approx(radius, rel=0.01)


def test_a_network_of_one_layer_has_settled_at_once():
    found = settle(Net(3, [2]), torch.ones(2, 3))
    assert found.stop.reason == "settled"
    assert found.sweeps == 0


def test_two_sweeps_are_enough_to_see_a_network_run_away(nets):
    """Learning makes a fixed number of sweeps; a change that doubles in them is no settling, and nothing is learned."""
    net, batch = nets.dense(activation="linear", output="linear", gain=8.0), nets.patterns()
    memory, before = Momentum(net, 0.1), net.paths[0].weight.clone()
    with pytest.raises(NotSettling, match=r"after 2 sweeps (hidden1|output) changes .* lower gain \(now 8\)"):
        learn(net, batch[0], batch[1], memory)
    assert torch.equal(net.paths[0].weight, before)
    calm = settle(nets.dense(gain=0.1), batch[0], sweeps=6, tol=None)
    assert len(calm.residuals) == 6
    assert calm.residuals[5] < 1e-3 * calm.residuals[0]


@pytest.mark.parametrize("tol", [None, 1e-6])
def test_a_silent_network_has_settled(tol):
    net = Net(3, [4, 4, 2], rng=0)
    for path in net.paths:
        path.put(lambda name, value: value.abs().neg())  # no unit of relu ever speaks
    found = settle(net, torch.ones(2, 3), sweeps=9, tol=tol)
    assert found.residuals[-1] == 0
    assert not bool(found.ys[0].any())
