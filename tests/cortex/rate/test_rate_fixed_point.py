"""Fixed point: integers and nothing else, unbiased rounding, what a difference of rounded phases loses."""

import pytest
import torch

from unrolled.cortex.rate import Momentum, Net, centered, changes, generec, learn
from unrolled.cortex.rate.fixed_point import Weights, rounded, traces, unit

TASK = torch.eye(6), torch.tensor([0, 1, 2, 0, 1, 2])


def made(**options):
    return Net(6, [24, 3], rng=0, **options)


@pytest.mark.parametrize("most", [1e-30, 0.3, 1.0, 126.9, 127.0, 127.1, 1e20])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_unit_is_the_least_power_of_two_that_covers(most, bits):
    worth, top = unit(most, bits), 2 ** (bits - 1) - 1
    assert worth * top >= most > worth / 2 * top
    assert torch.frexp(torch.tensor(worth, dtype=torch.float64)).mantissa == 0.5


def test_unit_of_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="diverged"):
        unit(float("nan"), 8)


def test_rounding_by_chance_has_the_right_mean_and_never_moves_whole_numbers():
    rng = torch.Generator().manual_seed(0)
    x = torch.tensor([-2.0, -0.75, 0.0, 0.01, 3.0])
    many = torch.stack([rounded(x, rng) for _ in range(20_000)])
    assert (many.mean(0) - x).abs().max() < 4 * 0.5 / 20_000**0.5
    assert torch.equal(many[:, [0, 2, 4]], x[[0, 2, 4]].expand(20_000, 3))


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("extra", [0, 8])
def test_weights_are_heard_as_few_integers_before_and_after_learning(bits, extra):
    net = made()
    weights = Weights(net, 0.5, bits, extra=extra)
    for _ in range(5):
        for path in net.paths:
            worth = weights.worth[f"{path.name}.weight"] * 2**extra
            q = path.weight / worth
            assert torch.equal(q, q.round())
            assert q.abs().max() <= 2 ** (bits - 1) - 1
        learn(net, *TASK, weights)


def test_small_changes_add_up_by_chance_and_vanish_to_the_nearest():
    small = {"hidden1.weight": torch.full((24, 6), 0.01)}
    moved = {}
    for name, rng in (("chance", 0), ("nearest", None)):
        net = made()
        weights = Weights(net, 1.0, rng=rng)
        worth = weights.worth["hidden1.weight"]
        assert worth > 0.02  # so that a change is less than half of the least bit
        start = net.paths[0].weight.clone()
        for _ in range(100):
            weights.apply(net, small, 0.1)
        moved[name] = float((net.paths[0].weight - start).mean())
    assert moved["nearest"] == 0
    assert moved["chance"] == pytest.approx(0.1, rel=0.1)


def test_bits_below_the_least_are_kept_but_not_heard():
    net = made()
    weights = Weights(net, 1.0, extra=8, rng=None)
    start, kept = net.paths[0].weight.clone(), weights.integers["hidden1.weight"].clone()
    worth = weights.worth["hidden1.weight"]
    weights.apply(net, {"hidden1.weight": torch.full((24, 6), 3 * worth)})
    assert torch.equal(weights.integers["hidden1.weight"], kept + 3)
    assert weights.integers["hidden1.weight"].dtype == torch.int16
    weights.apply(net, {"hidden1.weight": torch.full((24, 6), 253 * worth)})
    assert torch.equal(net.paths[0].weight, start + 256 * worth)


def test_weights_stop_at_the_bound_and_say_so():
    net = made()
    weights = Weights(net, 1.0, headroom=1.0)
    weights.apply(net, {name: torch.full_like(value, 1e9) for name, value in net.tensors().items()})
    assert weights.saturated == 1.0
    assert all(float(q.max()) <= 127 for n, q in weights.integers.items() if n.endswith("weight"))


def test_learning_goes_on_bit_equal_from_a_checkpoint():
    def fresh():
        net = made()
        return net, Weights(net, 0.5)

    (net, weights), (again, back) = fresh(), fresh()
    for _ in range(3):
        learn(net, *TASK, weights)
    again.put(net.tensors())
    back.load_state_dict(weights.state_dict())
    for _ in range(3):
        learn(net, *TASK, weights)
        learn(again, *TASK, back)
    assert all(torch.equal(a, b) for a, b in zip(net.tensors().values(), again.tensors().values()))


def test_a_change_of_16_bits_is_close_to_the_exact_one_and_of_2_bits_is_not():
    net = made()
    exact = changes(net, *TASK).changes["hidden1.weight"]
    off = {}
    for bits in (2, 8, 16):
        near = changes(net, *TASK, rule=traces(centered, bits, rng=None)).changes["hidden1.weight"]
        off[bits] = float((near - exact).norm() / exact.norm())
    assert off[16] < 1e-3 < off[8] < 0.05 < off[2]


@pytest.mark.parametrize("rule", [centered, generec])
def test_a_difference_of_rounded_phases_loses_a_weak_nudge_but_not_a_clamp(rule):
    net = made()

    def off(beta, subtract):
        exact = changes(net, *TASK, rule=rule, beta=beta).changes["output.weight"]
        near = changes(net, *TASK, rule=traces(rule, 8, subtract=subtract, rng=None), beta=beta).changes[
            "output.weight"
        ]
        return float((near - exact).norm() / exact.norm())

    assert off(0.001, False) < 0.05
    assert off(0.001, True) > 0.5
    assert off(1.0, True) < 0.05


def test_integers_learn_what_floats_learn():
    net, control = made(), made()
    weights, memory = Weights(net, 0.5), Momentum(control, 0.5, 0.0)
    rule = traces(centered)
    for _ in range(150):
        ours, theirs = learn(net, *TASK, weights, rule=rule), learn(control, *TASK, memory)
    assert ours.wrong == theirs.wrong == 0
    assert weights.bytes < 0.4 * 4 * sum(v.numel() for v in net.tensors().values())


@pytest.mark.parametrize("bits", [1, 17, 8.0])
def test_odd_numbers_of_bits_are_refused(bits):
    with pytest.raises(ValueError, match="2 to 16"):
        traces(centered, bits)
    with pytest.raises(ValueError, match="2 to 16"):
        Weights(made(), 0.1, bits)


def test_bad_rates_and_changes_are_refused_and_nothing_moves():
    with pytest.raises(ValueError, match="rate above 0"):
        Weights(made(), 0.0)
    net = made()
    weights = Weights(net, 0.1)
    before = {name: value.clone() for name, value in net.tensors().items()}
    with pytest.raises(ValueError, match="not finite"):
        weights.apply(net, {name: value * float("nan") for name, value in net.tensors().items()})
    assert all(torch.equal(value, before[name]) for name, value in net.tensors().items())
