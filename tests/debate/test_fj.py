"""Golden values of the debate fact sheet (2605.25929), acceptance tests A1, A3 and A4, and the contract of a system."""

import math

import pytest
import torch
from _cases import F64, debates, system

from unrolled import check_system, rollout
from unrolled.core import Settled
from unrolled.debate import FJ
from unrolled.instruments import influence, settling, spectrum

W = [[0, 0.7, 0.3], [0.6, 0, 0.4], [0.9, 0.1, 0]]
A1 = FJ([0.5, 0.2, 0.1], [0.25, 0.5, 0.4], W)
S = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], dtype=F64)


def close(found, expected, tolerance=1e-9):
    return torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), atol=tolerance, rtol=0)


def test_a1_matrices():
    close(A1.H, [[0.125, 0.2625, 0.1125], [0.24, 0.4, 0.16], [0.486, 0.054, 0.36]])
    close(A1.spectral_radius, 0.7165114963)
    close(
        A1.M,
        [
            [0.8039581058, 0.1491357707, 0.0469061235],
            [0.49553428, 0.4329285271, 0.0715371929],
            [0.6523163914, 0.1497783204, 0.1979052882],
        ],
    )
    close(A1.pi, [0.6506029257, 0.2439475394, 0.1054495349])
    assert A1.status == "ok"


def test_a1_trajectory():
    path = rollout(A1, S, steps=5)["state"]
    close(path[1], [[0.56375, 0.21625, 0.22], [0.328, 0.356, 0.316], [0.4456, 0.1676, 0.3868]])
    close(path[5, 0], [0.6517646859, 0.1726012231, 0.1756340911])
    close(A1.equilibrium(S)[0], [0.6776842511, 0.1643449206, 0.1579708282])
    close(path[5], (A1.M_T(5) @ S).tolist(), 1e-14)


def test_rows_of_influence_sum_to_one_and_converge():
    for T in (0, 1, 3, 200):
        close(A1.M_T(T).sum(-1), [1.0, 1.0, 1.0], 1e-12)
    close(A1.M_T(200), A1.M.tolist(), 1e-12)
    with pytest.raises(ValueError, match="counts rounds from 0, got -1"):
        A1.M_T(-1)


def test_a3_degroot_is_the_limit_of_vanishing_stubbornness():
    limit = FJ([0.0, 0, 0], A1.alpha, W)
    assert limit.status == "degroot"
    close(limit.pi, [0.345323741, 0.3938848921, 0.2607913669])
    assert (FJ([1e-9] * 3, A1.alpha, W).pi - limit.pi).abs().max() < 1e-7
    assert limit.spectral_radius.item() == pytest.approx(1)
    close(rollout(limit, S, steps=400).final, limit.equilibrium(S).tolist(), 1e-12)


def test_a4_friedkin_johnsen_1999():
    fj = FJ.from_two_term(
        (0.780, 0.785, 0, 0.714),
        [
            [0.220, 0.120, 0.360, 0.300],
            [0.147, 0.215, 0.344, 0.294],
            [0, 0, 1, 0],
            [0.090, 0.178, 0.446, 0.286],
        ],
    )
    x0 = torch.tensor([25.0, 25, 75, 85], dtype=F64)
    close(fj.equilibrium(x0), [60.02084883, 59.98396594, 75, 74.98620494], 1e-6)
    close(fj.M[0], [0.279398, 0.045019, 0.551413, 0.12417], 1e-6)
    assert fj.gamma[2] == 1
    assert math.isnan(fj.alpha[2])
    assert fj.W[2].isnan().all()
    assert not fj.W[[0, 1, 3]].isnan().any()
    close(rollout(fj, x0, steps=300).final, fj.equilibrium(x0).tolist(), 1e-9)


def test_two_groups_without_stubborn_members():
    pairs = FJ([0, 0, 0, 0], [0.5] * 4, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    assert pairs.status == "reducible"
    assert "0, 1; 2, 3" in pairs.reason
    half = [[0.5, 0.5, 0, 0]] * 2 + [[0, 0, 0.5, 0.5]] * 2
    close(pairs.M, half, 1e-12)


def test_a_stubborn_listener_of_a_closed_group():
    """Agents 0 and 1 hear only one another and are not stubborn; agent 2 is, and hears them: M is a limit."""
    W = [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]]
    mixed = FJ([0, 0, 0.3], [0.2, 0.6, 0.1], W)
    near = FJ([1e-7, 1e-7, 0.3], [0.2, 0.6, 0.1], W)
    assert (mixed.status, near.status) == ("reducible", "ok")
    torch.testing.assert_close(mixed.M, near.M, atol=2e-6, rtol=0)
    close(rollout(mixed, S, steps=500).final, mixed.equilibrium(S).tolist(), 1e-12)


def test_it_keeps_the_contract_of_a_system():
    checks = check_system(A1, torch.stack([S, S.flip(0)]))
    assert {c.name for c in checks if c.status == "skip"} == {"run", "donates"}


def test_shapes_of_beliefs():
    x = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
    close(A1.step(x, x), (A1.gamma * x + A1.H @ x).tolist(), 1e-15)
    torch.testing.assert_close(A1.step(S[None], S[None])[0], A1.step(S, S))
    for wrong in (torch.zeros(2), torch.zeros(2, 3), torch.zeros(3, 2, 4), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="for 3 agents give"):
            A1.init(wrong)


def test_gradients_flow_through_the_closed_forms():
    gamma = torch.tensor([0.5, 0.2, 0.1], dtype=F64, requires_grad=True)
    alpha = torch.tensor([0.25, 0.5, 0.4], dtype=F64, requires_grad=True)
    weights = torch.tensor(W, dtype=F64)
    assert torch.autograd.gradcheck(lambda g, a: FJ(g, a, weights).M, (gamma, alpha))
    assert torch.autograd.gradcheck(lambda g, a: FJ(g, a, weights).M_T(4), (gamma, alpha))


def test_undefined_entries_do_not_spoil_the_gradient():
    gamma = torch.tensor([1.0, 0.5], dtype=F64, requires_grad=True)
    FJ(gamma, [math.nan, 0.5], [[math.nan] * 2, [1, 0]]).M.sum().backward()
    assert gamma.grad.isfinite().all()


def test_instruments_agree_with_the_closed_forms():
    rng = torch.Generator().manual_seed(0)
    fj = system(5, rng)
    B0 = debates(fj, 4, 1, 1, rng)[0, 0]
    reading = influence(fj, B0, steps=4, wrt="input")
    assert reading.method == "exact (linear)"
    blocks = reading["jacobian"].permute(1, 3, 0, 2).diagonal(dim1=0, dim2=1)
    for k in range(4):
        assert (blocks[..., k] - fj.M_T(4)).abs().max() < 1e-10
    gradient = influence(fj, B0, steps=4, wrt="input", method="gradient")
    assert (gradient["jacobian"] - reading["jacobian"]).abs().max() < 1e-10
    path = rollout(fj, B0, steps=400, until=Settled(1e-13))
    slow = settling(path)
    assert slow["kind"] == "fixed point"
    assert slow["rate"] == pytest.approx(float(fj.spectral_radius), abs=1e-3)
    assert spectrum(fj, B0, input=B0)["radius"] == pytest.approx(float(fj.spectral_radius), abs=1e-8)


def test_readouts():
    path = rollout(A1, torch.stack([S, S]), steps=2, record=["belief", "spread"])
    assert path["belief"].shape == (3, 2, 3, 3)
    close(path["spread"][0], [0.7, 0.7], 1e-15)


@pytest.mark.parametrize(
    ("gamma", "alpha", "weights", "told"),
    [
        ([0.5, 0.5], [0.5], [[0, 1], [1, 0]], r"shapes \(2,\), \(1,\) and \(2, 2\)"),
        ([0.5], [0.5], [[0.0]], "at least two agents"),
        ([1.5, 0.5], [0.5, 0.5], [[0, 1], [1, 0]], r"gamma lies in \[0, 1\]"),
        ([0.5, 0.5], [-0.5, 0.5], [[0, 1], [1, 0]], r"alpha lies in \[0, 1\]"),
        ([0.5, 0.5], [math.nan, 0.5], [[0, 1], [1, 0]], "NaN only where gamma is 1"),
        ([math.nan, 0.5], [0.5, 0.5], [[0, 1], [1, 0]], r"gamma lies in \[0, 1\]"),
        ([0.5, 0.5], [0.5, 0.5], [[0.2, 0.8], [1, 0]], "W has a diagonal"),
        ([0.5, 0.5], [0.5, 0.5], [[0, 0.97], [1, 0]], "divide each row by its sum"),
        ([0.5, 0.5], [0.5, 0.5], [[0, math.nan], [1, 0]], "negative or missing"),
        ([0.5] * 3, [0.5] * 3, [[0, 2, -1], [1, 0, 0], [1, 0, 0]], "negative or missing"),
    ],
)
def test_bad_parameters(gamma, alpha, weights, told):
    with pytest.raises(ValueError, match=told):
        FJ(gamma, alpha, weights)


def test_bad_two_term():
    with pytest.raises(ValueError, match=r"give \[n\] and \[n, n\]"):
        FJ.from_two_term([0.5], [[0, 1], [1, 0]])
