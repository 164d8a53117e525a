"""Tasks: what they show has the statistics they promise, and bad requests are refused."""

import itertools
import math

import pytest
import torch

from unrolled.cortex.tasks import objrec, ra25, reber


@pytest.mark.parametrize("seed", range(5))
def test_ra25_patterns_are_sparse_and_apart(seed):
    for x in ra25.patterns(rng=seed):
        assert x.shape == (25, 25)
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert (x.sum(1) == 6).all()
        shared = (x @ x.T).triu(1)
        assert shared.max() <= 6 - 3


def test_ra25_patterns_follow_the_seed_and_do_not_pair_with_themselves():
    a, b, c = ra25.patterns(rng=1), ra25.patterns(rng=1), ra25.patterns(rng=2)
    assert torch.equal(a.inputs, b.inputs)
    assert torch.equal(a.outputs, b.outputs)
    assert not torch.equal(a.inputs, c.inputs)
    assert not torch.equal(a.inputs, a.outputs)


def test_ra25_minimum_difference_is_what_keeps_patterns_apart():
    near = [float((x @ x.T).triu(1).max()) for s in range(20) for x in ra25.patterns(100, min_diff=0, rng=s)]
    assert max(near) > 3  # without it, patterns that share more do come up


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"active": 0}, "active"),
        ({"active": 30}, "active"),
        ({"min_diff": 7}, "min_diff"),
        ({"pairs": 0}, "pairs"),
        ({"min_diff": 6}, "no room"),  # 25 disjoint patterns of 6 do not fit 25 units
    ],
)
def test_ra25_impossible_patterns_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        ra25.patterns(**changes)


def test_ra25_order_shows_every_pair_before_any_again():
    shown = ra25.order(25, 100, 3)
    assert all(shown[i : i + 25].unique().numel() == 25 for i in range(0, 100, 25))
    assert len(ra25.order(25, 32, 0)) == 32


def test_ra25_a_unit_at_one_half_counts_as_off():
    act, target = torch.tensor([[0.5, 0.51, 0.2]]), torch.tensor([[0.0, 1.0, 1.0]])
    assert ra25.wrong(act, target).tolist() == [[False, False, True]]


def test_ra25_epoch_counts_errors_before_learning_and_testing_changes_nothing():
    net = ra25.network(seed=0).build()
    pairs = ra25.patterns(rng=0)
    before = {name: path.lwt.clone() for name, path in net.paths.items()}
    went = ra25.epoch(net, pairs, torch.arange(2), learn=False)
    assert 0 < went.unit_error < 1
    assert went.error == 1.0
    assert all(torch.equal(before[name], path.lwt) for name, path in net.paths.items())
    ra25.epoch(net, pairs, torch.arange(2))
    assert not torch.equal(before["Input->Hidden1"], net.paths["Input->Hidden1"].lwt)


def test_reber_strings_are_the_grammar_s():
    s = reber.stream(4000, data=1, rng=0)
    strings = [f"B{rest}" for rest in reber.spell(s.letters[:, 0]).split("B")[1:-1]]
    assert len(strings) > 400
    assert all(reber.grammatical(string) for string in strings)
    assert len(set(strings)) > 20


@pytest.mark.parametrize("string", ["BTXS", "BTSXT", "TSXSE", "BPVVEE", "", "BB"])
def test_reber_refuses_what_is_no_string(string):
    assert not reber.grammatical(string)


def test_reber_branches_are_even_and_streams_independent():
    s = reber.stream(3000, data=8, rng=1)
    branch = s.states == 2
    share = float((s.letters[branch] == reber.LETTERS.index("S")).float().mean())
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / int(branch.sum()))
    assert not torch.equal(s.letters[:, 0], s.letters[:, 1])
    assert (s.allowed.sum(-1) == torch.where((s.states == 0) | (s.states == 6), 1, 2)).all()


def test_reber_chance_of_a_memoryless_guess_is_the_stationary_chain_s():
    # stationary distribution of the states, from the chain itself
    p = torch.zeros(7, 7, dtype=torch.float64)
    for state, choices in reber.GRAMMAR.items():
        for _, after in choices:
            p[state, 0 if after == 7 else after] += 1 / len(choices)
    pi = torch.linalg.matrix_power(p + 0.01 * torch.eye(7, dtype=torch.float64), 4000)[0]
    pi = pi / pi.sum()
    allowed = {x: sum(float(pi[s]) for s, c in reber.GRAMMAR.items() if x in dict(c)) for x in reber.LETTERS}
    share = reber.chance(40_000)
    assert share["constant"] == pytest.approx(max(allowed.values()), abs=0.01)
    assert share["guess"] == pytest.approx(sum(allowed.values()) / 7, abs=0.005)
    # per last letter: the state is known only where the letter tells it
    after: dict[str, dict[int, float]] = {}
    for state, choices in reber.GRAMMAR.items():
        for letter, nxt in choices:
            to = after.setdefault(letter, {})
            nxt = 0 if nxt == 7 else nxt
            to[nxt] = to.get(nxt, 0.0) + float(pi[state]) / len(choices)
    best = sum(
        max(sum(w for s, w in to.items() if x in dict(reber.GRAMMAR[s])) for x in reber.LETTERS)
        for to in after.values()
    )
    assert share["last letter"] == pytest.approx(best, abs=0.01)
    assert best < 0.75


def test_reber_ties_and_silence_are_no_prediction():
    allowed = torch.ones(1, 7, dtype=torch.bool)
    assert not reber.correct(torch.zeros(1, 7), allowed).item()


def test_reber_refuses_bad_numbers():
    with pytest.raises(ValueError, match="data=0"):
        reber.stream(3, data=0)


def still(n):
    one = torch.ones(n, dtype=torch.float64)
    return objrec.Transforms(0 * one, 0 * one, one, 0 * one)


def test_objrec_objects_are_all_choices_of_three_segments():
    expected = {frozenset(c) for c in itertools.combinations(objrec.SEGMENTS, 3)}
    assert {frozenset(o) for o in objrec.OBJECTS} == expected
    assert len(objrec.OBJECTS) == 20


def test_objrec_pictures_of_different_objects_differ_and_repeat():
    x = objrec.images(torch.arange(20), still(20)).flatten(1)
    assert torch.pdist(x).min() > 1
    assert torch.equal(x, objrec.images(torch.arange(20), still(20)).flatten(1))


def test_objrec_a_shift_of_a_quarter_moves_five_pixels():
    one = torch.ones(1, dtype=torch.float64)
    moved = objrec.Transforms(0.25 * one, -0.25 * one, one, 0 * one)
    a, b = objrec.images(torch.tensor([4]), still(1))[0], objrec.images(torch.tensor([4]), moved)[0]
    assert torch.allclose(torch.roll(a, (-5, 5), (0, 1)), b, atol=1e-6)


def test_objrec_scale_scales_and_a_quarter_turn_turns():
    one = torch.ones(1, dtype=torch.float64)
    small = objrec.images(torch.tensor([2]), objrec.Transforms(0 * one, 0 * one, 0.7 * one, 0 * one))[0]
    rows = (small > 0.5).any(1).nonzero().flatten()
    assert abs((int(rows.max()) - int(rows.min())) - 0.7 * 24) <= 2
    turned = objrec.images(torch.tensor([2]), objrec.Transforms(0 * one, 0 * one, one, 90 * one))[0]
    assert torch.allclose(turned, torch.rot90(objrec.images(torch.tensor([2]), still(1))[0], -1), atol=1e-6)


def test_objrec_objects_stay_in_the_picture():
    x = objrec.images(torch.arange(20).repeat(20), objrec.transforms(400, rng=3))
    border = torch.cat([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], 1)
    assert border.max() == 0


def test_objrec_v1_tells_horizontal_from_vertical():
    horizontal, vertical = objrec.v1(objrec.images(torch.tensor([13, 6]), still(2)))  # three bars each
    assert horizontal[..., 0].sum() > 4 * horizontal[..., 2].sum()
    assert vertical[..., 2].sum() > 4 * vertical[..., 0].sum()


def test_objrec_v1_of_a_turned_picture_is_turned():
    picture = objrec.images(torch.tensor([13]), still(1))
    turned = objrec.v1(torch.rot90(picture, 1, (1, 2)))[..., 2, :]
    length = objrec.v1(picture)[..., 2, :]
    assert torch.allclose(turned, torch.rot90(length, 1, (1, 2))[..., [2, 3, 0, 1]], atol=1e-5)


def test_objrec_v1_is_in_range_and_blind_to_a_blank_image():
    b = objrec.batch(32, rng=0)
    assert float(b.inputs.min()) >= 0
    assert b.inputs.amax(1).tolist() == [1.0] * 32
    assert 0.04 < float((b.inputs > 0.3).float().mean()) < 0.12  # the layer's nominal activity is 0.08
    assert objrec.v1(torch.zeros(1, 40, 40)).abs().sum() == 0
    assert objrec.v1(torch.full((1, 40, 40), 0.7)).abs().max() < 1e-4


def test_objrec_batches_cover_the_objects_and_name_them():
    b = objrec.batch(400, rng=1)
    assert b.objects.unique().numel() == 20
    assert torch.equal(objrec.named(b.outputs), b.objects)
    assert objrec.named(torch.zeros(1, 100)).tolist() == [-1]
    assert int(objrec.batch(200, objects=18, rng=0).objects.max()) == 17


def test_objrec_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="objects are 0 to 19"):
        objrec.images(torch.tensor([20]), still(1))
    with pytest.raises(ValueError, match="divide"):
        objrec.v1(torch.zeros(1, 42, 42))


def test_objrec_tiles_wrap_and_overlap():
    net = objrec.network(v4=2)
    mask = net["V1->V4"].mask
    assert mask.shape == (2000, 196)
    assert (mask.sum(0) == 16 * 20).all()
    # pool (0, 0) of V4 sees rows and columns -1 to 2 of V1's pools
    seen = mask[:, 0].reshape(10, 10, 20).all(-1)
    assert seen.nonzero().tolist() == [[y, x] for y in (0, 1, 2, 9) for x in (0, 1, 2, 9)]
    assert (mask.reshape(100, 20, 49, 4).any((1, 3)).sum(1) >= 1).all()  # nothing of V1 is unseen
    share = float(net["V1->IT"].mask.float().mean())
    assert abs(share - 0.1) < 0.005


def test_objrec_network_is_active_and_learns_where_it_says():
    net = objrec.network(seed=0, v4=3)
    went = objrec.epoch(net, 4, 0, data=2)
    assert went.error > 0.5
    assert 0.03 < went.activity["V1"] < 0.12
    for name in ("V4", "IT"):
        assert 0.002 < went.activity[name] < 0.2, name
    changed = {
        n: float((p.lwt - objrec.network(seed=0, v4=3).build()[n].lwt).abs().max())
        for n, p in net.paths.items()
    }
    assert all(value > 0 for value in changed.values()), changed
    assert net["IT->Output"].params.lrate == 0.05
    assert net["V1->IT"].params.swts.adapt is False
    before = {n: p.lwt.clone() for n, p in net.paths.items()}
    objrec.epoch(net, 2, 0, data=2, learn=False)
    assert all(torch.equal(before[n], p.lwt) for n, p in net.paths.items())
