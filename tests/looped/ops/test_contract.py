"""What an op accepts, refuses and promises beside its numbers."""

import pytest
import torch
from op_cases import F64, MIXERS, arguments, call, gradients, names
from torch.nn import functional as F

from unrolled.instruments.curvature import hvp
from unrolled.instruments.curvature.jet import jet
from unrolled.looped import ops
from unrolled.looped.ops import _chunks

each_mixer = pytest.mark.parametrize("mixer", MIXERS)
each_form = pytest.mark.parametrize("form", ["naive", "recurrent", "chunk"])


def cut(args, rows, tokens):
    """Rows and tokens of the arguments."""
    return {
        name: x if x.ndim == 1 else x[rows] if name == "state" else x[rows, tokens]
        for name, x in args.items()
    }


@each_form
@each_mixer
@pytest.mark.parametrize(("B", "L"), [(0, 5), (2, 0), (1, 1)])
def test_nothing_and_one(mixer, form, B, L):
    args = {name: x.requires_grad_() for name, x in arguments(mixer, B=B, L=L).items()}
    o, state = call(mixer, form, args)
    assert o.shape == (B, L, 3, 5)
    assert state.shape == (B, 3, 4, 5)
    if L == 0:
        torch.testing.assert_close(state, args["state"])
        assert state.data_ptr() != args["state"].data_ptr() or B == 0
    (o.sum() + state.sum()).backward()
    for x in args.values():
        assert x.grad is None or x.grad.shape == x.shape


@each_form
@each_mixer
def test_the_arguments_are_left_alone(mixer, form):
    args = arguments(mixer, L=21)
    before = {name: x.clone() for name, x in args.items()}
    gradients(mixer, form, args, chunk_size=8)
    assert all(torch.equal(args[name], before[name]) for name in args)


@each_form
@each_mixer
def test_no_state_is_a_state_of_zeros(mixer, form):
    args = arguments(mixer)
    zeros = call(mixer, form, args | {"state": torch.zeros_like(args["state"])})
    for found, expected in zip(call(mixer, form, args | {"state": None}), zeros):
        assert torch.equal(found, expected)


@each_form
@pytest.mark.parametrize("side", ["left", "right", "both"])
@each_mixer
def test_padding_changes_nothing(mixer, form, side):
    """Whatever padding holds, NaN too: outputs, state and gradients of real tokens are those without it, bit for bit or nearly."""
    args = arguments(mixer, L=20)
    left = {"left": 9, "right": 0, "both": 4}[side]
    real = slice(left, left + 11)
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[:, real] = True
    for name, x in args.items():
        if name != "state" and x.ndim > 1:
            x[~mask] = torch.nan
    found = gradients(mixer, form, args, chunk_size=8, mask=mask)
    assert not found["o"][~mask].any()
    expected = gradients(mixer, form, cut(args, slice(None), real), seed=1, chunk_size=8)
    o, state = call(mixer, form, cut(args, slice(None), real), chunk_size=8)
    torch.testing.assert_close(found["o"][:, real], o, rtol=0, atol=1e-13)
    torch.testing.assert_close(found["out state"], state, rtol=0, atol=1e-13)
    for name in names(mixer):
        assert found[name].isfinite().all(), name
        if name not in ("state", "g") or (found[name].ndim > 1 and name != "state"):
            assert not found[name][~mask].any(), name
        assert expected[name].isfinite().all()


@each_form
@each_mixer
def test_packed_sequences_are_sequences(mixer, form):
    lengths = [5, 1, 9, 6]
    args = arguments(mixer, B=1, L=sum(lengths), gate=0.2)
    packed = {name: x.clone().requires_grad_() for name, x in args.items()}
    o, state = call(mixer, form, packed, reset=ops.starts(lengths), chunk_size=8)
    apart, at, states = {name: x.clone().requires_grad_() for name, x in args.items()}, 0, []
    outs = []
    for n in lengths:
        piece = {x: y if y.ndim == 1 else y[:, at : at + n] for x, y in apart.items() if x != "state"}
        o_, s_ = call(mixer, form, piece, chunk_size=8)
        outs.append(o_)
        states.append(s_)
        at += n
    torch.testing.assert_close(o, torch.cat(outs, 1), rtol=0, atol=1e-13)
    torch.testing.assert_close(state, states[-1], rtol=0, atol=1e-13)
    weight = torch.randn(o.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    (o * weight).sum().backward()
    (torch.cat(outs, 1) * weight).sum().backward()
    for name in names(mixer)[:-1]:
        torch.testing.assert_close(packed[name].grad, apart[name].grad, rtol=1e-10, atol=1e-12)
    assert not packed["state"].grad.any()


def test_starts():
    assert ops.starts([1, 2]).tolist() == [[True, True, False]]
    with pytest.raises(ValueError, match="expected at least 1 each"):
        ops.starts([2, 0])
    with pytest.raises(ValueError, match="for a row of 3 tokens"):
        ops.starts(torch.tensor([2, 2]), total=3)


@each_mixer
def test_nan_stays_in_its_row_and_head(mixer):
    args = arguments(mixer, B=2, L=20, H=3)
    clean = {form: call(mixer, form, args, chunk_size=8)[0] for form in ("recurrent", "chunk")}
    args["v"][1, 10, 2, 0] = torch.nan
    for form, first in (("naive", 10), ("recurrent", 10), ("chunk", 8)):
        o, state = call(mixer, form, args, chunk_size=8)
        bad = torch.zeros_like(o, dtype=torch.bool)
        bad[1, first:, 2] = True
        assert not o[~bad].isnan().any()
        assert o[1, 10:, 2].isnan().any(-1).all(), "NaN may not vanish"
        assert state[1, 2].isnan().any()
        if form in clean:
            torch.testing.assert_close(o[~bad], clean[form][~bad], rtol=0, atol=1e-13)


@each_form
@each_mixer
def test_bfloat16_and_autocast_keep_a_float32_state(mixer, form):
    args = arguments(mixer, L=70, gate=0.1, dtype=torch.bfloat16) | {"state": None}
    exact, last = call(mixer, form, {n: None if x is None else x.float() for n, x in args.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, state = call(mixer, form, args)
    assert o.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    torch.testing.assert_close(state, last, rtol=0, atol=1e-5)  # nothing was rounded on the way
    torch.testing.assert_close(o.float(), exact, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("mixer", ["gated_delta", "kda", "mamba2"])
def test_gradients_under_autocast(mixer):
    args = arguments(mixer, L=70, gate=0.1, dtype=torch.float32)
    expected = gradients(mixer, "chunk", args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(mixer, "chunk", args)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@each_mixer
def test_strides_do_not_matter(mixer):
    args = arguments(mixer, L=40)
    turned = {
        n: x.flip(0).flip(0) if x.ndim == 1 else x.transpose(0, 1).contiguous().transpose(0, 1)
        for n, x in args.items()
    }
    expected = gradients(mixer, "chunk", args, chunk_size=16)
    found = gradients(mixer, "chunk", turned, chunk_size=16)
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def bad(**changes):
    return {"q": torch.zeros(2, 5, 3, 4), "k": torch.zeros(2, 5, 3, 4), "v": torch.zeros(2, 5, 3, 6)} | {
        "g": torch.zeros(2, 5, 3), "beta": torch.zeros(2, 5, 3)
    } | changes  # fmt: skip


@each_form
@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"chunk_size": 0}, ValueError, "chunk_size is 0; it counts tokens: pass 1 or more"),
        ({"chunk_size": 2.0}, ValueError, "chunk_size is 2.0"),
        ({"q": torch.zeros(2, 5, 4)}, ValueError, r"q is \[2, 5, 4\] .*; expected \[B, L, H, dk\]"),
        ({"q": torch.zeros(2, 5, 3, 4, dtype=torch.long)}, TypeError, "expected floating point"),
        ({"k": torch.zeros(2, 5, 3, 3)}, ValueError, r"k is \[2, 5, 3, 3\].*expected \[2, 5, 3, 4\]"),
        ({"v": torch.zeros(2, 4, 3, 6)}, ValueError, r"v is .*expected \[2, 5, 3, dv\]"),
        ({"g": torch.zeros(2, 5, 3, 4)}, ValueError, r"g is \[2, 5, 3, 4\].*expected \[2, 5, 3\]"),
        ({"beta": torch.zeros(2, 5)}, ValueError, "beta is"),
        ({"beta": None}, TypeError, "beta is missing"),
        ({"g": None}, TypeError, "g is missing"),
        ({"state": torch.zeros(2, 3, 6, 4)}, ValueError, r"state is .*expected \[2, 3, 4, 6\]"),
        ({"state": torch.zeros(2, 3, 4, 6).bfloat16()}, TypeError, "state has to be torch.float32"),
        ({"v": torch.zeros(2, 5, 3, 6).bfloat16()}, TypeError, "v is torch.bfloat16 and q torch.float32"),
        ({"g": torch.zeros(2, 5, 3, dtype=F64)}, TypeError, "cast one of them"),
        ({"mask": torch.ones(2, 5)}, TypeError, "mask has to be torch.bool"),
        ({"reset": torch.ones(5, dtype=torch.bool)}, ValueError, r"reset is .*expected \[2, 5\]"),
        ({"k": torch.zeros(2, 5, 3, 4, device="meta")}, ValueError, "k is on meta and q on cpu; move one"),
    ],
)
def test_bad_input_is_told(form, changes, error, says):
    with pytest.raises(error, match=says):
        call("gated_delta", form, bad(**changes))


def test_bad_gates_of_retnet():
    args = arguments("retnet") | {"g": torch.zeros(2)}
    with pytest.raises(ValueError, match="one for each of q's 3 heads"):
        call("retnet", "chunk", args)
    with pytest.raises(ValueError, match=r"expected \[B, L, H, dk\]"):
        ops.retnet.chunk(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3))


@each_mixer
def test_compiles_whole(mixer):
    """One graph, forward and backward, at two lengths."""
    compiled = torch.compile(getattr(ops, mixer).chunk, fullgraph=True, backend="aot_eager")
    for L in (9, 30):
        args = {n: x.requires_grad_() for n, x in arguments(mixer, L=L).items()}
        o, state = compiled(**args, chunk_size=8)
        found = torch.autograd.grad(o.sum() + state.square().sum(), list(args.values()))
        o_, state_ = call(mixer, "chunk", args, chunk_size=8)
        expected = torch.autograd.grad(o_.sum() + state_.square().sum(), list(args.values()))
        torch.testing.assert_close((o, state, *found), (o_, state_, *expected))


def test_compiles_with_masks_and_one_step():
    args = arguments("gated_delta", L=9)
    options = {"mask": torch.rand(2, 9) > 0.3, "reset": torch.rand(2, 9) > 0.7}
    compiled = torch.compile(ops.gated_delta.chunk, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**args, **options), call("gated_delta", "chunk", args, **options))
    step = torch.compile(ops.gated_delta.recurrent, fullgraph=True, backend="aot_eager")
    args = arguments("gated_delta", L=1)
    torch.testing.assert_close(step(**args), call("gated_delta", "recurrent", args))


@pytest.mark.parametrize("mixer", ["linear", "mamba2", "gated_delta", "kda"])
def test_the_operator_keeps_torch_s_rules(mixer):
    args = {n: x.requires_grad_() for n, x in arguments(mixer, L=9).items()}
    inputs = (*(args.get(n) for n in ("q", "k", "v", "g", "beta", "state")), 8)
    torch.library.opcheck(torch.ops.unrolled.looped_chunks.default, inputs)
    _, _, marks = torch.ops.unrolled.looped_chunks(*inputs)
    given = torch.ones_like(args["v"]), torch.ones_like(args["state"])
    torch.library.opcheck(
        torch.ops.unrolled.looped_chunks_backward.default,
        (*given, *inputs[:-1], marks, 8),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("mixer", ["mamba2", "gated_delta", "kda"])
def test_blocks_do_not_show(mixer, monkeypatch):
    """One chunk to a block, or all: the same numbers, but for rounding."""
    args = arguments(mixer, L=50)
    expected = gradients(mixer, "chunk", args, chunk_size=8)
    monkeypatch.setattr(_chunks._blocks, "CACHE", 1)
    assert len(_chunks._blocks.blocks(args["q"], args["v"], 8)) == 7
    found = gradients(mixer, "chunk", args, chunk_size=8)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-11, atol=1e-13)


def test_repeats_bit_for_bit():
    args = arguments("gated_delta", L=70, dtype=torch.float32)
    first, again = (gradients("gated_delta", "chunk", args) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_keys_need_no_unit_length():
    args = arguments("gated_delta", L=20)
    args["k"] = 0.5 * F.normalize(args["k"] + 1, dim=-1)
    torch.testing.assert_close(
        call("gated_delta", "chunk", args, chunk_size=8), call("gated_delta", "naive", args)
    )


class Mixer(torch.nn.Module):
    """The least model with a gated delta rule in it."""

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Linear(8, 26)

    def forward(self, x):
        q, k, v, g, beta = self.project(x).split([8, 8, 8, 1, 1], -1)
        q, k, v = q[:, :, None], F.normalize(k, dim=-1)[:, :, None], v[:, :, None]
        return ops.gated_delta.chunk(q, k, v, F.logsigmoid(g), beta.sigmoid(), chunk_size=8)[0]


def test_second_order_instruments_see_through_it():
    """Twice backward, forward over reverse, and the Taylor pass: three ways to <Z,HZ>, one number."""
    torch.manual_seed(0)
    model, x = Mixer().double(), torch.randn(2, 20, 8, dtype=F64)
    update = {name: 0.01 * torch.randn_like(p) for name, p in model.named_parameters()}

    def loss(model, batch):
        return model(batch).square().sum(), len(batch)

    def along(method):
        product = hvp.hessian_vector_product(model, loss, update, batches=[x], method=method)[2]
        return sum(float((product[name] * z).sum()) for name, z in update.items())

    expected = jet(model, loss, update, [x]).quad
    assert along(hvp.double_backward) == pytest.approx(expected, rel=1e-10)
    assert along(hvp.forward_over_reverse) == pytest.approx(expected, rel=1e-10)


@pytest.mark.slow
def test_compiles_to_machine_code():
    compiled = torch.compile(Mixer(), fullgraph=True)
    x = torch.randn(2, 20, 8)
    torch.testing.assert_close(compiled(x), compiled._orig_mod(x))
    compiled(x).sum().backward()
    found = compiled._orig_mod.project.weight.grad.clone()
    compiled._orig_mod.zero_grad()
    compiled._orig_mod(x).sum().backward()
    torch.testing.assert_close(found, compiled._orig_mod.project.weight.grad)
