"""Acceptance tests A1 (confidence) and A2, the identities behind theorems 2.4 and 2.5, and bad input."""

import math

import pytest
import torch
from _cases import F64, dirichlet

from unrolled.debate import FJ, advantage, alignment, ambiguity, confidence, relative_confidence, route

FJ3 = FJ([0.5, 0.2, 0.1], [0.25, 0.5, 0.4], [[0, 0.7, 0.3], [0.6, 0, 0.4], [0.9, 0.1, 0]])
S = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], dtype=F64)


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=F64), atol=tolerance, rtol=0)


def test_a1_confidence_and_routing():
    close(confidence(S), [0.4183281343, 0.0627694368, 0.2701533008])
    close(relative_confidence(S), [1.5484842605, 0.232347473, 1])
    close(route(S, 3), [0.5037073863, 0.1733511705, 0.3229414432])
    close(route(S, math.inf), [1, 0, 0])
    close(route(S, -math.inf), [0, 1, 0])
    close(route(S, 0), [1 / 3] * 3)


def test_ties_are_shared_and_missing_beliefs_get_no_weight():
    same = S[[0, 0, 1]].clone()
    close(route(same, math.inf), [0.5, 0.5, 0])
    same[0] = math.nan
    for beta in (0.0, 2.0, -2.0, math.inf, -math.inf):
        weights = route(same, beta)
        assert weights[0] == 0
        assert weights.sum().item() == pytest.approx(1)
    assert confidence(same)[0].isnan()
    assert relative_confidence(same)[1:].isfinite().all()
    assert alignment(same).isnan().tolist() == [True, False, False]


def test_a2_ambiguity_on_a1():
    reading = ambiguity(FJ3.pi, S, 0)
    close(reading["risk"], [0.06, 0.98, 1.34])
    for name, value in {
        "loss": 0.264838623, "average": 0.4194071409, "diversity": 0.1545685179, "regret": 0.3594071409,
    }.items():  # fmt: skip
        close(reading[name], value)


def test_a2_identity_on_random_cases():
    rng = torch.Generator().manual_seed(1)
    for n, K in ((2, 2), (5, 10), (9, 4)):
        beliefs, pi = dirichlet(0.5, 400, n, K, rng=rng), dirichlet(1.0, 400, n, rng=rng)
        y = torch.randint(0, K, (400,), generator=rng)
        r = ambiguity(pi, beliefs, y)
        assert (r["loss"] - (r["average"] - r["diversity"])).abs().max() < 1e-12
        mix = (pi[..., None] * beliefs).sum(1)
        direct = (mix - torch.nn.functional.one_hot(y, K)).square().sum(-1)
        assert (r["loss"] - direct).abs().max() < 1e-12


def test_theorems_are_identities():
    rng = torch.Generator().manual_seed(2)
    beliefs, pi = dirichlet(0.5, 300, 5, 4, rng=rng), dirichlet(1.0, 300, 5, rng=rng)
    static = dirichlet(1.0, 5, rng=rng)
    for y in (torch.randint(0, 4, (300,), generator=rng), dirichlet(1.0, 300, 4, rng=rng)):
        terms = advantage(pi, beliefs, y, static=static)
        for name in ("over_best", "over_static"):
            assert (terms[name] - terms[f"realised_{name}"]).abs().max() < 1e-12
        best = ambiguity(pi, beliefs, y)["risk"].mean(0)
        assert terms["best_agent"] == int(best.argmin())
        assert (terms["specialisation"] >= 0).all()
        assert (terms["regret"] >= 0).all()


def test_advantage_to_frame_has_a_row_per_question():
    frame = advantage([0.2, 0.3, 0.5], S[None].repeat(4, 1, 1), torch.tensor([0, 1, 2, 0])).to_frame()
    assert len(frame) == 4
    assert frame.attrs["best_agent"] in (0, 1, 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: confidence([[1.0], [1.0]]), "at least two options"),
        (lambda: confidence([[0.5, 0.47]]), "sums to 0.97"),
        (lambda: confidence([[1.2, -0.2]]), "no distribution"),
        (lambda: relative_confidence([[0.5, 0.5]]), "at least two"),
        (lambda: alignment([[0.5, 0.5]]), "at least two"),
        (lambda: route(S, math.nan), "beta is NaN"),
        (lambda: ambiguity([0.5, 0.5], S, 0), "2 weights for 3 agents"),
        (lambda: ambiguity([0.5, 0.5, 0.5], S, 0), "sum to 1"),
        (lambda: ambiguity([1, 0, 0], S, 3), "option 3; there are 3"),
        (lambda: ambiguity([1, 0, 0], S, torch.tensor([0, 1])), "one option per question"),
        (lambda: advantage([1, 0, 0], S, 0), r"\[Q, n, K\]"),
        (
            lambda: advantage([1, 0, 0], (S * math.nan)[None], torch.tensor([0])),
            r"missing in questions \[0\]",
        ),
    ],
)
def test_bad_input(call, told):
    with pytest.raises(ValueError, match=told):
        call()
