"""All eight mixers: recurrent and chunk against the naive twin, in values and gradients, on friendly and on hostile inputs."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import F64, MIXERS, arguments, call, gradients, names, worst
from torch.nn import functional as F

from unrolled.looped import ops
from unrolled.looped.ops import _gates

GATED = [m for m in MIXERS if "g" in names(m)]
DELTA = [m for m in MIXERS if "beta" in names(m)]
each_mixer = pytest.mark.parametrize("mixer", MIXERS)


@each_mixer
def test_the_three_forms_take_the_same_arguments(mixer):
    op = getattr(ops, mixer)
    first, *rest = (inspect.signature(getattr(op, form)) for form in ("naive", "recurrent", "chunk"))
    assert all(list(s.parameters.values()) == list(first.parameters.values()) for s in rest)


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("chunk_size", [16, 32, 64])
@pytest.mark.parametrize("L", [1, 7, 63, 64, 65, 203])
@each_mixer
def test_chunk_is_recurrent(mixer, L, chunk_size, beta):
    args = arguments(mixer, B=1, L=L, H=2, dk=6, dv=5, beta=beta, gate=0.1)
    o, state = call(mixer, "chunk", args, chunk_size=chunk_size)
    expected, last = call(mixer, "recurrent", args)
    torch.testing.assert_close(o, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-11)


@each_mixer
def test_float32_on_random_keys(mixer):
    args = arguments(mixer, B=1, L=203, H=2, dk=16, dv=8, gate=0.1, beta=1.0, dtype=torch.float32)
    o, state = call(mixer, "chunk", args)
    expected, last = call(mixer, "recurrent", {name: x.double() for name, x in args.items()})
    assert worst({"o": o, "state": state}, {"o": expected, "state": last}) < 2e-6


@pytest.mark.parametrize("form", ["recurrent", "chunk"])
@each_mixer
def test_gradients_are_those_of_table_1(mixer, form):
    args = arguments(mixer, B=2, L=21, H=2, dk=4, dv=3)
    expected = gradients(mixer, "naive", args)
    assert worst(gradients(mixer, form, args, chunk_size=8), expected) < 1e-12


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    mixer=st.sampled_from(MIXERS),
    B=st.integers(1, 2),
    L=st.integers(1, 40),
    H=st.integers(1, 3),
    dk=st.integers(1, 9),
    dv=st.integers(1, 9),
    chunk_size=st.integers(1, 70),
    gate=st.sampled_from([0.01, 1.0, 30.0]),
    holes=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_any_shape_any_mask(mixer, B, L, H, dk, dv, chunk_size, gate, holes, seed):
    args = arguments(mixer, B, L, H, dk, dv, seed=seed, gate=gate)
    rng = torch.Generator().manual_seed(seed)
    options = {}
    if holes:
        options = {
            "mask": torch.rand(B, L, generator=rng) > 0.3,
            "reset": torch.rand(B, L, generator=rng) > 0.8,
        }
    expected = gradients(mixer, "naive", args, **options)
    for form in ("recurrent", "chunk"):
        found = gradients(mixer, form, args, chunk_size=chunk_size, **options)
        for name, x in expected.items():
            torch.testing.assert_close(
                found[name], x, rtol=1e-9, atol=1e-11, msg=lambda m, f=form, n=name: f"{f} {n}: {m}"
            )


@each_mixer
def test_gradcheck(mixer):
    args = {
        name: x.requires_grad_() for name, x in arguments(mixer, B=1, L=20, H=1, dk=3, dv=2, gate=0.3).items()
    }
    op = getattr(ops, mixer).chunk
    assert torch.autograd.gradcheck(lambda *xs: op(**dict(zip(args, xs)), chunk_size=8), tuple(args.values()))


@each_mixer
def test_second_derivatives(mixer):
    args = {
        name: x.requires_grad_() for name, x in arguments(mixer, B=1, L=5, H=1, dk=2, dv=2, gate=0.3).items()
    }
    op = getattr(ops, mixer).chunk
    assert torch.autograd.gradgradcheck(
        lambda *xs: op(**dict(zip(args, xs)), chunk_size=2), tuple(args.values())
    )


@each_mixer
def test_forward_mode(mixer):
    args = arguments(mixer, L=9)
    along = tuple(torch.randn_like(x) for x in args.values())
    slopes = [
        torch.func.jvp(
            lambda *xs, form=form: call(mixer, form, dict(zip(args, xs)), chunk_size=4),
            tuple(args.values()),
            along,
        )[1]
        for form in ("naive", "chunk")
    ]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("strength", [-50.0, -200.0, -2000.0, -torch.inf])
@pytest.mark.parametrize("mixer", [m for m in GATED if m != "retnet"])
def test_a_few_steps_that_forget(mixer, strength):
    args = arguments(mixer, B=1, L=37, H=2, gate=0.05)
    args["g"][:, ::5] = strength
    if args["g"].ndim == 4:
        args["g"][:, 3::5, :, 1] = strength  # one channel alone
    expected = gradients(mixer, "naive", args)
    found = gradients(mixer, "chunk", args, chunk_size=16)
    assert all(x.isfinite().all() for x in found.values())
    assert worst(found, expected) < 1e-12
    narrow = gradients(mixer, "chunk", {name: x.float() for name, x in args.items()}, chunk_size=16)
    assert worst(narrow, expected) < 5e-6


@pytest.mark.parametrize("mixer", ["mamba2", "gated_delta"])
def test_small_decays_beside_large_ones_keep_their_digits(mixer):
    """|G| reaches 2,400 within the chunk: rounded to float32, G_i - G_j would be wrong by 1e-4."""
    args = arguments(mixer, B=1, L=64, H=1, dk=8, dv=8, gate=0.01)
    args["g"][:, 1:33] = -75.0
    o, _ = call(mixer, "chunk", {name: x.float() for name, x in args.items()})
    expected, _ = call(mixer, "recurrent", {name: x.float().double() for name, x in args.items()})
    assert worst({"o": o}, {"o": expected}) < 2e-6


def hostile(kind, B, L, H, dk, rng):
    one = F.normalize(torch.randn(B, 1, H, dk, generator=rng, dtype=F64), dim=-1)
    if kind == "identical":
        return one.expand(B, L, H, dk)
    noise = torch.randn(B, L, H, dk, generator=rng, dtype=F64)
    noise = F.normalize(noise - (noise * one).sum(-1, keepdim=True) * one, dim=-1)
    return 0.9**0.5 * one + 0.1**0.5 * noise  # any two at a cosine of about 0.9


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("kind", ["identical", "cosine 0.9"])
@pytest.mark.parametrize("mixer", DELTA)
def test_keys_that_repeat(mixer, kind, beta):
    """Here the doubling product is off by 1e17 or NaN (fact sheet 6.3); a triangular solve is not."""
    args = arguments(mixer, B=1, L=128, H=2, dk=32, dv=32, gate=1e-3)
    args["k"] = hostile(kind, 1, 128, 2, 32, torch.Generator().manual_seed(3))
    args["beta"] = torch.full((1, 128, 2), beta, dtype=F64)
    expected = call(mixer, "recurrent", args)[0]
    found = call(mixer, "chunk", {name: x.float() for name, x in args.items()})[0]
    assert worst({"o": found}, {"o": expected}) < 5e-5
    wide = gradients(mixer, "recurrent", args)
    assert worst(gradients(mixer, "chunk", args), wide) < 1e-9


@pytest.mark.parametrize("mixer", ["gla", "hgrn2", "kda"])
def test_strong_gates_per_channel_in_float32(mixer):
    """Down to -12 a step: e^-G alone would overflow after 8 tokens."""
    args = arguments(mixer, B=1, L=256, H=2, dk=16, dv=16)
    args["g"] = -12 * torch.rand(1, 256, 2, 16, generator=torch.Generator().manual_seed(0), dtype=F64)
    args["g"][:, :, :, ::3] /= 100
    narrow = {name: x.float() for name, x in args.items()}
    expected = gradients(mixer, "recurrent", {name: x.double() for name, x in narrow.items()})
    found = gradients(mixer, "chunk", narrow)
    assert all(x.isfinite().all() for x in found.values())
    assert worst(found, expected) < 1e-5


@pytest.fixture
def ways(monkeypatch):
    """How often each way of making a chunk was taken."""
    taken = {"Mild": 0, "PerHead": 0, "PerChannel": 0}
    for name in taken:
        way = getattr(_gates, name)

        def of(*args, name=name, made=way.of):
            taken[name] += 1
            return made(*args)

        monkeypatch.setattr(way, "of", staticmethod(of))
    return taken


@pytest.mark.parametrize("mixer", GATED)
def test_both_ways_through_a_chunk(mixer, ways, monkeypatch):
    """Mild gates take the fast way; the one that is exact for any gate gives the same, also for mild ones."""
    args = arguments(mixer, B=2, L=45, H=2, dk=6, dv=5, gate=0.05)
    expected = gradients(mixer, "naive", args)
    assert worst(gradients(mixer, "chunk", args, chunk_size=16), expected) < 1e-12
    assert ways["Mild"] > 0
    assert ways["PerHead"] == ways["PerChannel"] == 0
    monkeypatch.setattr(_gates, "floor", lambda dtype: torch.inf)
    ways["Mild"] = 0
    assert worst(gradients(mixer, "chunk", args, chunk_size=16), expected) < 1e-12
    assert ways["Mild"] == 0
    assert ways["PerChannel" if args["g"].ndim == 4 else "PerHead"] > 0


@pytest.mark.parametrize("mixer", ["mamba2", "gated_delta", "gla", "kda"])
@pytest.mark.parametrize("total", [-40.0, -43.5, -44.0, -60.0])
def test_float32_where_the_ways_part(mixer, total, ways):
    """A chunk's memory falls to e^-43.7 where the fast way ends: both sides of it keep their digits."""
    args = arguments(mixer, B=1, L=64, H=2, dk=8, dv=8, beta=1.0)
    args["g"] = torch.full_like(args["g"], total / 64)
    narrow = {name: x.float() for name, x in args.items()}
    expected = gradients(mixer, "recurrent", {name: x.double() for name, x in narrow.items()})
    found = gradients(mixer, "chunk", narrow)
    assert (ways["Mild"] > 0) == (total > -43.6)
    assert worst(found, expected) < 5e-6


def test_kda_decays_first():
    k, g = (
        torch.tensor([1.0, 1.0]).div(2**0.5).view(1, 1, 1, 2),
        torch.tensor([0.5, 1.0]).log().view(1, 1, 1, 2),
    )
    for form in ("naive", "recurrent", "chunk"):
        args = {"q": k, "k": k, "v": torch.zeros(1, 1, 1, 2), "g": g, "beta": torch.ones(1, 1, 1)}
        _, A = call("kda", form, args, state=torch.eye(2).view(1, 1, 2, 2))
        torch.testing.assert_close(A[0, 0], torch.tensor([[0.25, -0.5], [-0.25, 0.5]]))


@pytest.mark.parametrize(
    ("keys", "beta", "rank"), [("orthonormal", 1, 4), ("same", 1, 1), ("same", 2, 0), ("orthonormal", 2, 4)]
)
def test_rank_of_a_product_of_transitions(keys, beta, rank):
    """With v = 0 and the state the identity, the state that comes back is the product of the A_t: fact sheet section 2."""
    q, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=F64))
    k = (q[:4] if keys == "orthonormal" else q[:1].expand(4, 16)).view(1, 4, 1, 16)
    args = {
        "q": k,
        "k": k,
        "v": torch.zeros(1, 4, 1, 16, dtype=F64),
        "beta": torch.full((1, 4, 1), float(beta), dtype=F64),
    }
    eye = torch.eye(16, dtype=F64)
    _, A = call("deltanet", "chunk", args, state=eye.view(1, 1, 16, 16))
    assert torch.linalg.matrix_rank(eye - A[0, 0], atol=1e-10) == rank
    assert torch.linalg.matrix_norm(A[0, 0], 2) <= 1 + 1e-6
    if beta == 2:
        assert torch.linalg.det(A[0, 0]) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20), beta=st.floats(0, 2), L=st.integers(1, 90))
def test_unit_keys_never_stretch(seed, beta, L):
    args = arguments("gated_delta", B=1, L=L, H=1, dk=5, dv=5, seed=seed, gate=0.2)
    args |= {"v": torch.zeros_like(args["v"]), "beta": torch.full_like(args["beta"], beta)}
    args["state"] = torch.eye(5, dtype=F64).view(1, 1, 5, 5)
    _, A = call("gated_delta", "chunk", args, chunk_size=16)
    assert torch.linalg.matrix_norm(A[0, 0], 2) <= 1 + 1e-6


@each_mixer
def test_a_long_sequence(mixer):
    args = arguments(mixer, B=1, L=3000, H=1, dk=4, dv=4, gate=0.01, beta=1.0, dtype=torch.float32)
    o, state = call(mixer, "chunk", args)
    expected, last = call(mixer, "recurrent", {name: x.double() for name, x in args.items()})
    assert worst({"o": o, "state": state}, {"o": expected, "state": last}) < 5e-6


@each_mixer
def test_split_anywhere_and_carried_on(mixer):
    args = arguments(mixer, L=50)
    whole, last = call(mixer, "chunk", args, chunk_size=16)
    state, outs = args["state"], []
    for a, b in ((0, 0), (0, 13), (13, 14), (14, 50)):
        part = {name: x[:, a:b] if x.ndim > 1 else x for name, x in args.items()} | {"state": state}
        o, state = call(mixer, "recurrent" if b - a == 1 else "chunk", part, chunk_size=16)
        outs.append(o)
    torch.testing.assert_close(torch.cat(outs, 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)
