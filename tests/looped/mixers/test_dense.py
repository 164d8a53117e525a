"""Attention's gate, and the linear family's wiring written out token by token."""

import pytest
import torch
import torch.nn.functional as F
from looped_models import config, tangled, tokens
from torch import nn

from unrolled.looped import LT2, mixers
from unrolled.looped.config import LINEAR, MIXERS
from unrolled.looped.mixers.attention import Attention
from unrolled.looped.mixers.linear import GatedDelta
from unrolled.looped.span import Span, rotary

F64 = torch.float64


def random(module, seed=0):
    g = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=p.shape[-1] ** -0.5, generator=g)
    return module.double()


def inputs(B=2, L=19, seed=3):
    x = torch.randn(B, L, 32, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return x, Span(0, rotary=rotary(torch.arange(L), 8, 1e4, F64), positions=torch.arange(L), kept=L)


def test_the_gate_starts_at_one_half_and_learns():
    gated, plain = LT2(config("full", layers=1, gate=True)), LT2(config("full", layers=1))
    gate, attention = gated.blocks[0].mixer, plain.blocks[0].mixer
    assert not gate.g.weight.any()
    attention.load_state_dict({k: v for k, v in gate.state_dict().items() if k != "g.weight"})
    x, span = inputs()
    assert torch.equal(gate.double()(x, span), 0.5 * attention.double()(x, span))
    gate(x, span).square().sum().backward()
    assert gate.g.weight.grad.abs().max() > 0


def test_the_gate_is_on_full_attention_alone():
    for kind in MIXERS:
        mixer = mixers.make(kind, config(kind, gate=True))
        assert (type(mixer) is Attention) == (
            isinstance(mixer, Attention) and mixer.g is not None and kind == "full"
        )


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attention_is_the_definition(kv_heads):
    m = random(Attention(config("full", kv_heads=kv_heads)))
    x, span = inputs()
    L = x.shape[1]
    heads = lambda w: (x @ w.weight.T).unflatten(-1, (-1, 8)).transpose(1, 2)  # noqa: E731
    angle = torch.outer(torch.arange(L, dtype=F64), 1e4 ** (-torch.arange(0, 8, 2, dtype=F64) / 8))
    turn = torch.polar(torch.ones_like(angle), angle)

    def turned(y):
        z = torch.complex(y[..., :4], y[..., 4:]) * turn
        return torch.cat([z.real, z.imag], -1)

    q, k, v = turned(heads(m.q)), turned(heads(m.k)), heads(m.v)
    o = torch.zeros_like(q)
    for h in range(4):
        shared = h * kv_heads // 4
        for t in range(L):
            p = (torch.einsum("bd,bsd->bs", q[:, h, t], k[:, shared, : t + 1]) * 8**-0.5).softmax(-1)
            o[:, h, t] = torch.einsum("bs,bsd->bd", p, v[:, shared, : t + 1])
    expected = o.transpose(1, 2).flatten(2) @ m.o.weight.T
    for eager in (False, True):
        span.eager = eager
        assert torch.allclose(m(x, span), expected, atol=1e-12)


def by_hand(m, x, twice=False):
    """The wiring of a linear layer, one token after another, from the docstring of its module."""
    H, dk, dv = m.heads, m.dk, m.dv
    B, L, _ = x.shape
    w = m.conv.weight.split(m.sizes)
    names = ["q", "k", "v"] if m.keyed else ["q", "v"]
    made = {}
    for name, weight in zip(names, w):
        y = x @ getattr(m, name).weight.T
        y = F.conv1d(F.pad(y.mT, (3, 0)), weight[:, None], groups=weight.shape[0]).mT
        made[name] = F.silu(y).unflatten(-1, (H, -1))
    q, v = made["q"], made["v"]
    if m.name in ("mamba2", "gated_delta"):
        g = -m.A_log.exp() * F.softplus(x @ m.a.weight.T + m.dt_bias)
        alpha = g.exp()[..., None].expand(B, L, H, dk)
    elif m.name == "retnet":
        alpha = (1 - 2.0 ** (-5 - torch.arange(H, dtype=F64)))[:, None].expand(B, L, H, dk)
    elif m.name == "gla":
        alpha = torch.sigmoid(m.f2(m.f1(x))).unflatten(-1, (H, dk)) ** (1 / 16)
    elif m.name == "hgrn2":
        alpha = torch.sigmoid(m.f(x)).unflatten(-1, (H, dk))
    elif m.name == "kda":
        step = F.softplus(m.f2(m.f1(x)) + m.dt_bias).unflatten(-1, (H, dk))
        alpha = (-m.A_log.exp()[:, None] * step).exp()
    else:
        alpha = torch.ones(B, L, H, dk, dtype=F64)
    k = made["k"] if m.keyed else 1 - alpha
    beta = None
    if m.delta:
        q, k = (y / (y.square().sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
        beta = torch.sigmoid(x @ m.b.weight.T) * (2 if twice else 1)
    S, out = torch.zeros(B, H, dk, dv, dtype=F64), []
    for t in range(L):
        S = alpha[:, t, :, :, None] * S
        u = v[:, t]
        if beta is not None:
            u = beta[:, t, :, None] * (u - torch.einsum("bhkv,bhk->bhv", S, k[:, t]))
        S = S + k[:, t, :, :, None] * u[:, :, None]
        out.append(torch.einsum("bhkv,bhk->bhv", S, q[:, t]) * dk**-0.5)
    o = torch.stack(out, 1)
    o = o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt() * m.norm.weight
    o = o * F.silu(x @ m.g.weight.T).unflatten(-1, (H, dv))
    return o.flatten(2) @ m.o.weight.T


@pytest.mark.parametrize("kind", LINEAR)
def test_the_wiring(kind):
    m = random(mixers.make(kind, config(kind)))
    for L in (1, 3, 19, 40):
        x, span = inputs(L=L)
        expected = by_hand(m, x)
        for eager in (False, True):
            span.eager = eager
            assert torch.allclose(m(x, span), expected, atol=1e-10)


@pytest.mark.parametrize("kind", [k for k in LINEAR if mixers.make(k, config(k)).delta])
def test_eigenvalues_may_be_negative_in_some_loops(kind):
    m = random(mixers.make(kind, config(kind, neg_eigval=(False, True))))
    x, span = inputs()
    assert torch.allclose(m(x, span), by_hand(m, x), atol=1e-10)
    for loop in (1, 2):
        span.loop = loop
        assert torch.allclose(m(x, span), by_hand(m, x, twice=True), atol=1e-10)


def test_the_flagships_layer():
    """Sizes as in flash-linear-attention: dk = 3/4 d / H, dv = 2 dk, taps 4, no bias."""
    with torch.device("meta"):
        m = GatedDelta(LT2(config()).config.preset("1.3b"))
    assert (m.dk, m.dv) == (96, 192)
    shapes = {name: tuple(p.shape) for name, p in m.named_parameters()}
    assert shapes == {
        "q.weight": (1536, 2048), "k.weight": (1536, 2048), "v.weight": (3072, 2048), "g.weight": (3072, 2048),
        "o.weight": (2048, 3072), "a.weight": (16, 2048), "b.weight": (16, 2048), "conv.weight": (6144, 4),
        "A_log": (16,), "dt_bias": (16,), "norm.weight": (192,),
    }  # fmt: skip


def test_rates_start_where_they_should():
    m = LT2(config("gated_delta", heads=8, width=64)).blocks[0].mixer
    A, dt = m.A_log.exp(), F.softplus(m.dt_bias)
    assert ((A > 0) & (A <= 16)).all()
    assert ((dt >= 0.00099) & (dt <= 0.101)).all()


# --- the state that goes from loop to loop -----------------------------------------------------------------------


class Toy(nn.Module):
    """q = k = 1, v = h, no decay, beta = 1/2, nothing around it: the worked example of a leak."""

    def forward(self, h, S):
        S = S + 0.5 * (h - S)
        return S, S


def test_the_worked_example():
    """Tokens [1, 2], two loops. Fresh: .25, .75; token by token: .5, 1.25; end of sequence carried over: a leak."""
    toy = Toy()

    def fresh(x, start=0.0):
        S, out = start, []
        for h in x:
            o, S = toy(h, S)
            out.append(o)
        return out, S

    first, end = fresh([1.0, 2.0])
    assert first == [0.5, 1.25]
    assert fresh(first)[0] == [0.25, 0.75]
    assert fresh(first, end)[0][0] == 0.875
    leaked, late = fresh([1.0, 4.0])
    assert fresh(leaked, late)[0][0] == 1.375  # the second token reached the first output
    S, out = 0.0, []
    for h in (1.0, 2.0):
        for _ in range(2):
            h, S = toy(h, S)
        out.append(h)
    assert out == [0.5, 1.25]


def worked(carry):
    """The example as a model: one DeltaNet layer whose output is what it reads, exactly, on inputs [h, 0]."""
    shape = config(
        "deltanet", layers=1, loops=2, width=8, heads=1, linear_head_dim=1, expand_v=1.0, conv=0, carry=carry
    )
    return LT2(shape).double().blocks[0].mixer


@pytest.mark.parametrize("carry", [False, True])
def test_the_worked_example_through_a_mixer(carry):
    """q = k = 1 and beta = 1/2 through the real op and the real slots; the state's rows are read out of the cache."""
    from unrolled.looped import Cache

    m = worked(carry)
    one = torch.zeros(1, 1, 8, dtype=F64)
    cache, seen = Cache(), []
    h = {0: [torch.tensor(1.0), torch.tensor(2.0)]}
    slots = [cache.slot(0, loop) for loop in range(2)]
    with torch.no_grad():
        m.b.weight.zero_()  # beta = 1/2
        for t in range(2):
            value = h[0][t].double()
            for loop in range(2):
                home = slots[0] if carry else slots[loop]
                k = torch.ones(1, 1, 1, 1, dtype=F64)
                _, S = m._run(
                    k,
                    k,
                    value.view(1, 1, 1, 1),
                    None,
                    m._beta(one, Span(loop)),
                    home.fixed.get("S"),
                    Span(loop),
                    None,
                )
                home.fixed["S"] = S
                value = S.flatten()[0]
            seen.append(float(value))
    assert seen == ([0.5, 1.25] if carry else [0.25, 0.75])


@pytest.mark.parametrize("pattern", ["deltanet", "gated_delta,full", "kda,window"])
def test_carry_is_causal(pattern):
    model = tangled(LT2(config(pattern, loops=3, carry=True))).double().eval()
    x = tokens(1, 14)
    for t in (0, 5, 12):
        other = x.clone()
        other[:, t + 1 :] = (other[:, t + 1 :] + 1) % 256
        with torch.no_grad():
            a, b = model(x).logits, model(other).logits
        assert torch.equal(a[:, : t + 1], b[:, : t + 1])
        assert (a - b)[:, t + 1 :].abs().max() > 1e-6


def test_carry_is_one_state_for_all_loops_token_by_token():
    """Written out with a dict of states; and it differs from fresh states from the second loop on."""
    model = tangled(LT2(config("gated_delta", layers=2, loops=3, carry=True))).double().eval()
    x, states, outs = tokens(2, 9), {}, []
    from unrolled.looped.cache import Slot

    with torch.no_grad():
        tails = {(i, loop): Slot() for i in range(2) for loop in range(3)}
        for t in range(9):
            h = model.embed(x[:, t : t + 1])
            for loop in range(3):
                before = h
                for i, block in enumerate(model.blocks):
                    home = states.setdefault(i, Slot())
                    y = block.mixer(block.norm1(h), Span(loop, past=t), tails[i, loop], home)
                    h = h + y
                    h = h + block.ffn(block.norm2(h))
                h = h + model.rho[loop] * before
            outs.append(model.read_out(h))
        assert torch.allclose(model(x).logits, torch.cat(outs, 1), atol=1e-10)
        plain = LT2(config("gated_delta", layers=2, loops=3)).double().eval()
        plain.load_state_dict(model.state_dict())
        assert torch.allclose(plain(x, loops=1).logits, model(x, loops=1).logits, atol=1e-10)
        assert (plain(x).logits - model(x).logits).abs().max() > 1e-3


@pytest.mark.parametrize("pattern", ["gated_delta,full", "kda,window,retnet"])
def test_carry_reads_on_pads_and_learns(pattern):
    from unrolled.looped import Cache

    model = tangled(LT2(config(pattern, layers=3, loops=2, carry=True))).double().eval()
    x = tokens(2, 12)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, :5] = False
    whole = model(x).logits
    with torch.no_grad():
        cache = Cache()
        parts = [model(part, cache=cache).logits for part in x.tensor_split([4, 5, 9], 1)]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-9)
    alone = model(x[1:, 5:]).logits[0]
    assert torch.allclose(model(x, mask=mask).logits[1, 5:], alone, atol=1e-9)
    with torch.no_grad():
        cache = Cache()
        parts = [model(x[:, p], mask=mask[:, p], cache=cache).logits for p in (slice(0, 8), slice(8, 12))]
    assert torch.allclose(torch.cat(parts, 1)[1, 5:], alone, atol=1e-9)
    model(x).logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    # one S per linear layer, whatever the number of loops
    assert sum("S" in slot.fixed for slot in cache.slots.values()) == sum(
        k in LINEAR for k in model.config.mixers
    )
