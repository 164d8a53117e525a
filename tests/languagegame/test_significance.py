"""The three tests against closed forms, brute force and SciPy; and their power where it is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from unrolled.languagegame import significance as s
from unrolled.languagegame._properties import (
    HYPOTHESES,
    NETWORKS,
    PRIMITIVES,
    PROPERTIES,
    _closes,
    computed,
    hypotheses,
    labels,
    properties,
)  # fmt: skip
from unrolled.languagegame.games import GAMES
from unrolled.sbml import models


def test_the_published_numbers():
    """Fact sheet, F8."""
    assert s.sign_test(13, 16) == pytest.approx(0.0212708, rel=1e-5)
    assert s.sign_test(14, 16) == pytest.approx(0.00418091, rel=1e-5)
    assert s.sign_test(15, 16) == pytest.approx(0.000518799, rel=1e-5)
    assert s.sign_test(16, 16) == pytest.approx(3.0518e-5, rel=1e-4)
    assert s.wilson(14, 16) == pytest.approx((0.63977, 0.96502), abs=1e-5)
    assert s.fisher([[4, 0], [3, 7]]) == pytest.approx(0.0699301, rel=1e-6)
    done = s.permutation_test(range(1, 15), (0, 1, 2, 3))
    assert (done.labellings, done.difference, done.p) == (1001, -7.0, pytest.approx(2 / 1001))
    assert s.least_fisher_p(14, 4) > 0.05


@pytest.mark.parametrize("trials", [1, 7, 16])
def test_the_sign_test_is_scipys(trials):
    for wins in range(trials + 1):
        assert s.sign_test(wins, trials) == pytest.approx(stats.binomtest(wins, trials).pvalue, rel=1e-12)
        low, high = stats.binomtest(wins, trials).proportion_ci(method="wilson")
        assert s.wilson(wins, trials) == pytest.approx((low, high), abs=1e-12)


def test_permutations_are_all_of_them():
    rng = np.random.default_rng(0)
    values, members = rng.integers(1, 6, 8).astype(float), (1, 4, 5)
    mine = values[list(members)].mean() - np.delete(values, members).mean()
    every = [
        values[list(c)].mean() - np.delete(values, c).mean() for c in itertools.combinations(range(8), 3)
    ]
    done = s.permutation_test(values.tolist(), members)
    assert done.p == pytest.approx(np.mean(np.abs(every) >= abs(mine) - 1e-9))
    assert done.less == pytest.approx(np.mean(np.array(every) <= mine + 1e-9))
    assert done.greater == pytest.approx(np.mean(np.array(every) >= mine - 1e-9))
    u = stats.mannwhitneyu(values[list(members)], np.delete(values, members)).statistic
    assert done.r == pytest.approx(1 - 2 * u / 15)


def test_false_discoveries():
    p = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205]
    by_hand = [min(p[j] * 8 / (j + 1) for j in range(i, 8)) for i in range(8)]
    assert s.adjusted(p) == pytest.approx(by_hand)
    mixed = s.adjusted([0.01, math.nan, 0.02])
    assert math.isnan(mixed[1])
    assert mixed[0] == pytest.approx(0.02)


def test_power_is_the_chance_of_passing():
    """No effect: the size of the test; a sure effect: certainty, where the test can reach its threshold at all."""
    assert s.sign_power(0.5, 16) == pytest.approx(0.0212708, rel=1e-4)
    assert s.sign_power(1.0, 16, tests=13) == 1.0
    assert s.sign_power(1.0, 4) == 0.0
    assert s.sign_power(0.9, 16) == pytest.approx(stats.binom.sf(12, 16, 0.9) + stats.binom.cdf(3, 16, 0.9))
    assert math.isnan(s.detectable(lambda share: s.sign_power(share, 4), top=1.0))


def test_simulated_power_grows_with_the_effect_and_knows_what_is_out_of_reach():
    none, strong = (s.simulated_power(effect, 5, tests=(13, 16, 13), draws=40) for effect in (0.0, 6.0))
    assert none["ranks"] <= 0.1
    assert strong["ranks"] == 1.0
    assert strong["sign"] == 1.0
    # Among the paper's 104 rank tests a lone effect of five members is out of reach: 2 / C(14, 5) > 0.05 / 104.
    assert s.simulated_power(50.0, 5, draws=10)["ranks"] == 0.0
    assert s.simulated_power(50.0, 4, draws=10)["contingency"] == 0.0


def test_a_shared_quality_makes_the_sign_test_reject_too_often():
    """Games are not independent trials: the same fourteen networks play them all."""
    false = s.simulated_power(0.0, 4, shared=3.0, noise=1.0, tests=(1, 208, 104), draws=200)["sign"]
    assert false > 0.2
    assert s.simulated_power(0.0, 4, shared=0.0, noise=1.0, tests=(1, 208, 104), draws=200)["sign"] < 0.08


def test_the_omnibus_is_uniform_without_an_effect_and_small_with_one():
    table = labels()
    rng = torch.Generator().manual_seed(0)
    none = [
        s.omnibus(torch.randn(14, 4, generator=rng).double(), table, permutations=200, seed=k)
        for k in range(20)
    ]
    assert 0.25 < float(np.mean(none)) < 0.75
    strong = table[:, 5].double()[:, None] * 10 + torch.randn(14, 4, generator=rng).double()
    assert s.omnibus(strong, table, permutations=1000) < 0.05


@pytest.mark.parametrize(("wins", "trials"), [(-1, 3), (4, 3)])
def test_impossible_counts(wins, trials):
    with pytest.raises(ValueError, match="between 0 and the 3 trials"):
        s.sign_test(wins, trials)


@pytest.mark.parametrize("members", [(), range(5), (0, 0), (7,), (-1,)])
def test_impossible_members(members):
    with pytest.raises(ValueError, match="distinct indices"):
        s.permutation_test(range(5), members)


# --- properties ---------------------------------------------------------------------------------------------------------


def test_the_table_names_networks_and_games_that_exist():
    assert set(NETWORKS) == set(models.PAPER) - {"lorenz"}
    assert len(PROPERTIES) == 13
    assert all(set(members) <= set(NETWORKS) for members in PROPERTIES.values())
    assert all(set(played) <= set(GAMES) for played in PRIMITIVES.values())
    assert set(PROPERTIES["oscillatory"]) | set(PROPERTIES["non-oscillatory"]) == set(NETWORKS)
    assert all(name in PROPERTIES and primitive in PRIMITIVES for name, primitive, _ in HYPOTHESES)


def test_a_planted_property_is_found_by_those_tests_that_can():
    rng = torch.Generator().manual_seed(1)
    scores = (
        torch.randn(14, 16, generator=rng) + 10 * labels()[:, 10:11].float()
    )  # phosphorylation: five members
    rows = {row.property: row for row in properties(scores)}
    found = rows["phosphorylation"]
    assert found.wins == 16
    assert found.q < 0.05
    assert found.q_ranks < 0.05
    assert found.best_contingency < 0.5
    assert found.least_contingency == pytest.approx(0.020979, rel=1e-4)
    assert rows["cell fate"].least_contingency > 0.4
    assert rows["cell fate"].to_dict()["members"] == 2


def test_scores_that_are_not_finite_are_named():
    scores = torch.zeros(14, 2)
    scores[3, 1] = float("nan")
    with pytest.raises(ValueError, match="leloup1999 are not finite"):
        properties(scores)
    with pytest.raises(ValueError, match=r"\[14 networks, games\]"):
        properties(torch.zeros(3, 2))


def test_hypotheses_look_only_at_their_games():
    scores = torch.randn(14, 2, generator=torch.Generator().manual_seed(0))
    made = hypotheses(scores, ["cartpole", "swimmer"])
    assert [row["games"] for row in made] == [1, 1, 1, 1, 0]
    assert math.isnan(made[-1]["p"])
    better = labels()[:, 5].double()[:, None].expand(14, 2)
    row = next(r for r in hypotheses(better, ["cartpole", "swimmer"]) if r["property"] == "circadian")
    assert row["p"] == pytest.approx(1 / 1001)


def test_loops_with_a_negative_product():
    assert _closes(torch.tensor([[-1.0, 1.0], [-1.0, -1.0]]))
    assert not _closes(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
    assert not _closes(torch.tensor([[-1.0, -1.0], [-1.0, -1.0]]))
    assert not _closes(torch.diag(torch.tensor([-1.0, -1.0, -1.0])))
    ring = torch.zeros(3, 3)
    ring[1, 0], ring[2, 1], ring[0, 2] = 1, 1, -1
    assert _closes(ring)


@pytest.mark.parametrize(
    ("name", "oscillatory", "bistable", "conservation"),
    [
        pytest.param("tyson1999", True, False, False, marks=pytest.mark.slow),
        ("gardner2000", False, True, False),
    ],
)
def test_what_networks_show(name, oscillatory, bistable, conservation):
    made = computed(models.named(name), starts=8)
    assert (made.oscillatory, made.bistable, made.conservation) == (oscillatory, bistable, conservation)
    assert all(made.agrees(name).values())
