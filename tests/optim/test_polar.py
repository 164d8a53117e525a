import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.optim._muon import _zeropower_via_newtonschulz

from unrolled.optim import polar

METHODS = list(polar.METHODS)
ITERATED = ["ns5", "polar_express", "ns12"]
SHAPES = [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1), (1, 1), (33, 20)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_unit_norm(s: torch.Tensor) -> torch.Tensor:
    """[n] singular values -> [n, 2, 2] turned matrices of Frobenius norm 1 with singular values s and sqrt(1 - s^2)."""
    u, v = (torch.linalg.qr(random(2, 2, seed=k))[0] for k in (1, 2))
    return u @ torch.diag_embed(torch.stack([s, (1 - s**2).sqrt()], dim=-1)) @ v.mT


def passed_through(method: str, s: torch.Tensor) -> torch.Tensor:
    """The scalar map that a method applies to a normalised singular value, read from real matrices."""
    g = with_unit_norm(s)
    u, values, vh = torch.linalg.svd(g)
    out = (u.mT @ polar.orthogonalize(g, method) @ vh.mT).diagonal(dim1=-2, dim2=-1)
    which = (values - s[:, None]).abs().argmin(-1, keepdim=True)
    return out.gather(-1, which)[:, 0]


@pytest.mark.parametrize(
    ("method", "floor", "low", "high"),
    [
        ("svd", 1e-6, 1.0, 1.0),
        ("ns5", 0.01, 0.682, 1.1344),
        # At s = .001 itself; on a grid that starts at .001005 the lowest values read .473 and .850.
        ("ns5", 0.001, 0.4705, 1.2024),
        ("polar_express", 0.001, 0.8466, 1.1411),
        ("polar_express", 0.00102, 0.8589, 1.1411),
        ("ns12", 0.001, 1.0, 1.0),
    ],
)
def test_band_of_output_singular_values(method: str, floor: float, low: float, high: float) -> None:
    out = passed_through(method, torch.logspace(math.log10(floor), 0, 40_001, dtype=torch.float64)[:-1])
    assert out.min() == pytest.approx(low, abs=3e-4)
    assert out.max() == pytest.approx(high, abs=3e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_singular_vectors_whatever_the_shape(method: str, shape: tuple[int, int]) -> None:
    g = random(*shape)
    o = polar.orthogonalize(g, method)
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    core = u.mT @ o @ vh.mT
    assert o.shape == g.shape
    assert o.dtype == g.dtype
    torch.testing.assert_close(core - torch.diag(core.diagonal()), torch.zeros_like(core), rtol=0, atol=1e-10)
    assert (core.diagonal() > 0).all()
    low, high = {"svd": (1, 1), "ns12": (1, 1), "ns5": (0.4, 1.21), "polar_express": (0.3, 1.15)}[method]
    if (s / s.norm()).min() > 1e-3:
        assert core.diagonal().min() > low - 1e-9
        assert core.diagonal().max() < high + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_transposition_and_rotation_commute_with_it(method: str) -> None:
    g, (q, _) = random(5, 8), torch.linalg.qr(random(5, 5, seed=3))
    o = polar.orthogonalize(g, method)
    torch.testing.assert_close(polar.orthogonalize(g.mT, method), o.mT, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(polar.orthogonalize(q @ g, method), q @ o, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(polar.orthogonalize(-g, method), -o, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2.0**-14, 0.037, 1.0e6, 2.0**60])
def test_scale_invariance(method: str, scale: float) -> None:
    g = random(7, 5)
    limit = polar.orthogonalize(2.0**40 * g, method)
    # Polar Express adds 1e-6 to the norm, a relative change of s; its map has |s p'(s)| <= 207.3 (2 vectors a mode).
    change = 1e-6 / (1.02 * scale * g.norm().item()) if method == "polar_express" else 0.0
    scaled = polar.orthogonalize(scale * g, method)
    torch.testing.assert_close(scaled, limit, rtol=0, atol=1e-10 + 207.3 * change)


@pytest.mark.parametrize("method", ["ns5", "ns12"])
def test_below_the_floor_of_the_norm_the_direction_shrinks(method: str) -> None:
    g = random(4, 4)
    tiny = polar.orthogonalize(g * (1e-12 / g.norm()), method)
    assert 0 < tiny.norm() < 0.1
    assert polar.svd(g * (1e-12 / g.norm())).norm() == pytest.approx(2.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_zero_matrix_gives_zero(method: str, dtype: torch.dtype) -> None:
    o = polar.orthogonalize(torch.zeros(3, 4, 2, dtype=dtype), method)
    assert o.dtype == dtype
    assert torch.equal(o, torch.zeros_like(o))


@pytest.mark.parametrize("method", METHODS)
def test_rank_deficient_matrix_keeps_its_null_space(method: str) -> None:
    a, b = random(8, 3), random(3, 6, seed=1)
    g = a @ b
    o = polar.orthogonalize(g, method)
    values = torch.linalg.svdvals(o)
    assert (values[3:] < 1e-10).all()
    assert (values[:3] > 0.4).all()
    null = torch.linalg.svd(g)[2][3:]
    torch.testing.assert_close(o @ null.mT, torch.zeros(8, 3, dtype=g.dtype), rtol=0, atol=1e-10)
    if method == "svd":
        torch.testing.assert_close(values[:3], torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_members(method: str) -> None:
    g = random(2, 3, 4, 7) * torch.logspace(-3, 3, 6, dtype=torch.float64).reshape(2, 3, 1, 1)
    o = polar.orthogonalize(g, method)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(o[i, j], polar.orthogonalize(g[i, j], method), rtol=1e-10, atol=1e-12)
    assert polar.orthogonalize(torch.zeros(0, 4, 3), method).shape == (0, 4, 3)


@pytest.mark.parametrize("method", METHODS)
def test_many_matrices_of_mixed_shape_equal_one_by_one(method: str) -> None:
    shapes = [(3, 5), (5, 3), (4, 4), (2, 3, 5), (3, 5), (1, 7)]
    matrices = [random(*shape, seed=k) for k, shape in enumerate(shapes)]
    matrices.append(random(3, 5, seed=9).float())
    for g, o in zip(matrices, polar.orthogonalize_all(matrices, method)):
        assert o.dtype == g.dtype
        torch.testing.assert_close(o, polar.orthogonalize(g, method), rtol=1e-5 if g.dtype == torch.float32 else 1e-9,
                                   atol=1e-6 if g.dtype == torch.float32 else 1e-11)  # fmt: skip
    assert polar.orthogonalize_all([]) == []


@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (33, 33), (7, 200), (1, 5), (5, 1)])
def test_ns5_in_bfloat16_is_that_of_torch_bit_for_bit(shape: tuple[int, int]) -> None:
    for seed in range(10):
        g = random(*shape, seed=seed, dtype=torch.float32) * 10.0 ** (seed - 5)
        expected = _zeropower_via_newtonschulz(g, polar.JORDAN, 5, 1e-7)
        assert torch.equal(polar.ns5(g, dtype=torch.bfloat16), expected.float())
        assert torch.equal(polar.ns5(torch.stack([g, -g]), dtype=torch.bfloat16)[0], expected.float())


@pytest.mark.parametrize("method", ITERATED)
def test_bfloat16_stays_in_a_widened_band(method: str) -> None:
    g = random(64, 96, dtype=torch.float32)
    o = polar.orthogonalize(g, method, dtype=torch.bfloat16)
    values, exact = torch.linalg.svdvals(o), torch.linalg.svdvals(polar.orthogonalize(g, method))
    low, high = {"ns5": (0.682, 1.134), "polar_express": (0.850, 1.141), "ns12": (1.0, 1.0)}[method]
    assert low - 0.05 < values.min() <= values.max() < high + 0.05
    assert (values - exact).abs().max() < 0.05
    assert polar.orthogonalize(g.bfloat16(), method).dtype == torch.bfloat16


def test_bfloat16_asked_of_svd_is_computed_in_float32() -> None:
    g = random(6, 6, dtype=torch.float32)
    assert torch.equal(polar.svd(g, dtype=torch.bfloat16), polar.svd(g))
    o = polar.svd(g.bfloat16())
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(torch.linalg.svdvals(o.float()), torch.ones(6), rtol=0, atol=0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
def test_gradients_forward_reverse_and_second(method: str, shape: tuple[int, ...]) -> None:
    g = random(*shape).requires_grad_()
    fn = polar.METHODS[method]
    assert gradcheck(fn, g, check_forward_ad=True)
    assert gradgradcheck(fn, g, check_fwd_over_rev=True)


def test_derivative_of_the_exact_factor_is_finite_where_singular_values_coincide() -> None:
    eye = torch.eye(4, dtype=torch.float64).requires_grad_()
    assert gradcheck(polar.svd, eye, check_forward_ad=True)
    direction = random(4, 4)
    _, tangent = torch.func.jvp(polar.svd, (eye.detach(),), (direction,))
    # At the identity: (D - D^T) / 2, the projection on the tangent space of the rotations.
    torch.testing.assert_close(tangent, (direction - direction.mT) / 2)


def test_derivative_of_the_exact_factor_along_constant_rank() -> None:
    a, b, da, db = random(5, 2), random(2, 4, seed=1), random(5, 2, seed=2), random(2, 4, seed=3)
    g, direction, h = a @ b, da @ b + a @ db, 1e-6
    _, tangent = torch.func.jvp(polar.svd, (g,), (direction,))
    ends = [polar.svd((a + e * da) @ (b + e * db)) for e in (h, -h)]
    torch.testing.assert_close(tangent, (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-8)


def test_exact_factor_is_the_gradient_of_the_nuclear_norm() -> None:
    g = random(5, 7).requires_grad_()
    (gradient,) = torch.autograd.grad(torch.linalg.svdvals(g).sum(), g)
    torch.testing.assert_close(polar.svd(g), gradient)


def test_vmap() -> None:
    g = random(3, 4, 5)
    for fn in polar.METHODS.values():
        torch.testing.assert_close(torch.vmap(fn)(g), fn(g), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_visible_and_in_its_place(method: str, bad: float) -> None:
    g = random(2, 3, 4)
    g[0, 1, 1] = bad
    o = polar.orthogonalize(g, method)
    assert o[0].isnan().any()
    torch.testing.assert_close(o[1], polar.orthogonalize(g[1], method), rtol=1e-10, atol=1e-12)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"rows, cols.*\(3,\).*AdamW"):
        polar.ns5(torch.ones(3))
    with pytest.raises(TypeError, match="int64"):
        polar.svd(torch.ones(3, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="complex"):
        polar.ns12(torch.ones(3, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="'polarexpress'.*did you mean 'polar_express'"):
        polar.orthogonalize(torch.ones(2, 2), "polarexpress")
    with pytest.raises(TypeError, match="floating-point dtype"):
        polar.ns5(torch.ones(2, 2), dtype=torch.int32)
