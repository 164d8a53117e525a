"""Bad input, and the edges of good input: dtypes, autocast, compilation, losses."""

import math

import pytest
import torch
import torch.nn.functional as F
from looped_models import config, made, tangled, tokens

from unrolled import looped, training
from unrolled.core import check_system
from unrolled.looped import LT2, Cache, LT2Config
from unrolled.looped.config import MIXERS

F64 = torch.float64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"tokens": torch.tensor([[1, 256]])},
            ValueError,
            "tokens run from 1 to 256, this model knows 0 to 255",
        ),
        ({"tokens": torch.tensor([[-1]])}, ValueError, "tokens run from -1 to -1"),
        ({"tokens": torch.zeros(1, 3)}, TypeError, "int64 or int32, got torch.float32"),
        (
            {"tokens": torch.zeros(3, dtype=torch.long)},
            ValueError,
            r"\[batch, length\] with length >= 1, got \(3,\)",
        ),
        ({"tokens": torch.zeros(1, 0, dtype=torch.long)}, ValueError, "length >= 1"),
        ({"tokens": [[1, 2]]}, TypeError, "got list"),
        ({}, ValueError, "give tokens or inputs_embeds, one of them"),
        ({"inputs_embeds": torch.zeros(1, 3, 7)}, ValueError, r"\[batch, length, 32\].*got \(1, 3, 7\)"),
        ({"inputs_embeds": torch.zeros(1, 3, 32, dtype=torch.long)}, TypeError, "integers are tokens="),
        (
            {"inputs_embeds": torch.zeros(1, 3, 32, dtype=F64)},
            TypeError,
            "torch.float64 and the model torch.float32: cast",
        ),
        ({"tokens": tokens(1, 3), "loops": 0}, ValueError, "at least 1, got 0"),
        ({"tokens": tokens(1, 3), "loops": True}, ValueError, "whole number"),
        ({"tokens": tokens(1, 3), "logits": "all"}, ValueError, "per_loop"),
        (
            {"tokens": tokens(1, 3), "mask": torch.ones(1, 4).bool()},
            ValueError,
            r"\(1, 4\), expected .* \(1, 3\)",
        ),
        ({"tokens": tokens(1, 3), "mask": torch.ones(1, 3)}, TypeError, "bool .* or integer"),
        ({"tokens": tokens(1, 3), "mask": -torch.ones(1, 3).long()}, ValueError, "numbered from 1"),
        (
            {"tokens": tokens(1, 3), "positions": torch.arange(4)},
            ValueError,
            r"\[length\] or \[batch, length\]",
        ),
        ({"tokens": tokens(1, 3), "positions": torch.tensor([0, 1, -1])}, ValueError, "count from 0, got -1"),
        (
            {"tokens": tokens(1, 3), "positions": torch.tensor([0, 1, 64])},
            ValueError,
            "65 tokens is longer than the 64 positions",
        ),
        (
            {"tokens": tokens(1, 65)},
            ValueError,
            r"65 tokens is longer than the 64 positions.*LT2Config\(context=65\)",
        ),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        LT2(config(context=64))(**options)


def test_a_cache_at_the_end_of_positions():
    model, cache = LT2(config(context=8)), Cache()
    model(tokens(1, 6), cache=cache)
    with pytest.raises(ValueError, match="9 tokens is longer than the 8 positions"):
        model(tokens(1, 3), cache=cache)
    assert (
        LT2(config("gated_delta", context=8))(tokens(1, 30)).logits.shape[1] == 30
    )  # no positions, no limit


@pytest.mark.parametrize("part", ["input", "mask", "positions"])
def test_mixed_devices(part):
    model, x = LT2(config()), tokens(1, 3)
    given = {"mask": torch.ones(1, 3, dtype=torch.bool), "positions": torch.arange(3)}
    call = (x.to("meta"), {}) if part == "input" else (x, {part: given[part].to("meta")})
    with pytest.raises(ValueError, match="on meta.*on cpu: move one"):
        model(call[0], **call[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 0}, "chunk is a whole number of at least 1, got 0"),
        ({"loops": 0}, "loops is a whole number of at least 1, got 0"),
        ({"width": 30}, "does not divide among 4 heads: set head_dim"),
        ({"head_dim": 7}, "head_dim is even"),
        ({"kv_heads": 3}, "do not share 3 heads"),
        ({"window": 0}, "at least 1 in every loop"),
        ({"window": ()}, "at least 1 in every loop"),
        ({"neg_eigval": (True, 1)}, "a flag, or one per loop"),
        ({"expand_v": 1.1}, "no whole number"),
        ({"pattern": "interleaved:4"}, "is none of interleaved"),
        ({"pattern": "interleaved:0:0"}, "repeats nothing"),
        ({"pattern": "attention"}, "names attention; the mixers are full"),
        ({"conv": -1}, "conv is a size"),
    ],
)
def test_bad_shapes(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_bad_presets():
    with pytest.raises(ValueError, match="no preset 'huge': there are tiny, small, 600m, 1.3b"):
        LT2Config.preset("huge")
    with pytest.raises(ValueError, match="has no widht"):
        LT2Config.from_dict({"widht": 3})
    with pytest.raises(ValueError, match="no mixer 'attn'"):
        looped.mixers.make("attn", LT2Config())


@pytest.mark.parametrize("pattern", MIXERS)
def test_no_rows_and_one_token(pattern):
    model = made(pattern)
    assert model(tokens(0, 5)).logits.shape == (0, 5, 256)
    assert model(tokens(0, 5), mask=torch.ones(0, 5, dtype=torch.bool), cache=Cache()).logits.shape == (
        0,
        5,
        256,
    )
    assert torch.isfinite(model(tokens(2, 1)).logits).all()


@pytest.mark.parametrize("pattern", MIXERS)
def test_not_a_number_stays_in_its_row(pattern):
    model, x = made(pattern), tokens(2, 20)
    vectors = model.embed(x).detach()
    clean = model(inputs_embeds=vectors).logits
    vectors[0, 12, 3] = torch.nan
    out = model(inputs_embeds=vectors).logits
    assert torch.isnan(out[0, 12:]).all()
    assert torch.allclose(out[1], clean[1], atol=1e-12)
    # in padding, it is never read
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0, 12] = False
    assert torch.isfinite(model(inputs_embeds=vectors, mask=mask).logits).all()


# --- precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", MIXERS)
def test_float64_bfloat16_and_autocast(pattern):
    model, x = tangled(LT2(config(pattern, layers=1, loops=2))).eval(), tokens(2, 40)
    exact = LT2.forward(tangled(LT2(config(pattern, layers=1, loops=2))).double().eval(), x).logits
    single = model(x).logits
    assert exact.dtype == F64
    # a head whose output nearly cancels is blown up by its norm, in any order of float32: single tokens stand out
    off = (single - exact).abs().amax(-1)
    assert off.median() < 1e-5
    assert off.max() < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        cache = Cache()
        out = model(x, cache=cache)
        assert torch.isfinite(out.logits).all()
        kinds = {name: value.dtype for slot in cache.slots.values() for name, value in slot.tensors()}
        assert kinds.get("S", torch.float32) == torch.float32  # whatever autocast does to the rest
        assert kinds.get("k", torch.bfloat16) == torch.bfloat16
        model(tokens(2, 1), cache=cache)
    scale = exact.abs().max()
    half = tangled(LT2(config(pattern, layers=1, loops=2))).bfloat16().eval()
    cache = Cache()
    low = half(x, cache=cache).logits
    assert low.dtype == torch.bfloat16
    half(tokens(2, 1), cache=cache)
    if pattern not in ("nsa", "dsa"):  # their choices may fall otherwise in low precision
        assert (out.logits - exact).abs().amax(-1).median() < 0.05 * scale
        assert (low - exact).abs().amax(-1).median() < 0.05 * scale


@pytest.mark.parametrize("pattern", MIXERS)
def test_training_in_bfloat16_reaches_every_parameter(pattern):
    model, x = LT2(config(pattern, loops=2, gate=True)), tokens(2, 40)
    with torch.autocast("cpu", torch.bfloat16):
        total, count = looped.loss(model, (x[:, :-1], x[:, 1:]))
    (total / count).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert p.grad.any() or "index" in name, name


@pytest.mark.parametrize(
    "pattern",
    [
        "interleaved:1:1",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("kda", "window", "gla", "retnet")),
    ],
)
def test_compilation_changes_nothing(pattern):
    """The whole forward and backward in one graph, traced as the compiler sees it."""
    model, x = made(pattern, loops=2), tokens(2, 24)
    model.train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    a, b = model(x).logits, compiled(x).logits
    assert torch.allclose(a, b, atol=1e-10)
    plain = torch.autograd.grad(a.square().sum(), list(model.parameters()), allow_unused=True)
    traced = torch.autograd.grad(b.square().sum(), list(model.parameters()), allow_unused=True)
    for p, t in zip(plain, traced):
        assert (p is None) == (t is None)
        assert p is None or torch.allclose(p, t, atol=1e-8)
    torch._dynamo.reset()


# --- losses ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_of_the_last_loop_or_of_each():
    model, x, y = made(loops=3), tokens(2, 12), tokens(2, 12, seed=4)
    y[0, :5] = -100
    out = model(x)
    each = [
        F.cross_entropy(model.read_out(h).flatten(0, 1), y.flatten(), reduction="sum").item()
        for h in out.hidden_per_loop
    ]
    assert [v.item() for v in model.loss((x, y))] == pytest.approx([each[2], 19])
    assert model.loss((x, y), per_loop=True)[0].item() == pytest.approx(sum(each) / 3)
    assert model.loss((x, y), per_loop=[0, 1, 3])[0].item() == pytest.approx(each[1] / 4 + 3 * each[2] / 4)
    assert model.loss((x, y), loops=2)[0].item() == pytest.approx(
        F.cross_entropy(model(x, loops=2).logits.flatten(0, 1), y.flatten(), reduction="sum").item()
    )
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, :5] = False
    assert model.loss((x, y, mask))[1] == 19
    with pytest.raises(ValueError, match="one weight per loop, 3 here"):
        model.loss((x, y), per_loop=[1.0])
    with pytest.raises(ValueError, match="one shape"):
        model.loss((x, y[:, :4]))
    assert torch.allclose(model(x, logits="per_loop").logits[1], model.read_out(out.hidden_per_loop[1]))


def test_the_indexers_loss_counts_per_token():
    model, x = tangled(LT2(config("dsa"))), tokens(2, 30)
    batch = (x[:, :-1], x[:, 1:])
    plain, count = model.loss(batch, index_loss=0.0)
    assert model.loss(batch)[0].item() == pytest.approx(
        (plain + count * model(batch[0]).aux).item(), rel=1e-5
    )


def test_it_trains():
    """A tiny model learns a period of four within 60 steps."""
    model = LT2(LT2Config.preset("tiny", loops=2))
    x = torch.tensor([[3, 1, 4, 1]]).repeat(4, 6)
    fit = training.fit(
        model,
        lambda step: (x[:, :-1], x[:, 1:]),
        looped.loss,
        torch.optim.AdamW(model.parameters(), lr=1e-2),
        steps=60,
        clip=1.0,
    )
    assert fit.history["loss"][0] > 0.5 * math.log(256)
    assert fit.history["loss"][-1] < 0.3
    assert model.generate(x[:1, :8], 8, temperature=0).tokens[0].tolist() == [3, 1, 4, 1] * 4


# --- the loop as a system -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["interleaved:1:1", "kda,window", "gla,dsa"])
def test_the_loop_is_a_system(pattern):
    from unrolled import rollout

    model, x = made(pattern, loops=3), tokens(2, 9)
    system = model.block_system()
    check_system(system, x)
    path = rollout(system, x, 5)
    for t, h in enumerate(model(x, loops=5).hidden_per_loop, 1):
        assert torch.allclose(path["h"][t], h, atol=1e-9)
    assert torch.equal(system.init(model.embed(x))["h"], model.embed(x))
    with pytest.raises(ValueError, match="no block system"):
        LT2(config(carry=True)).block_system()


def test_explanations_name_every_layer():
    model = LT2(config("gated_delta,full,window,nsa,dsa,hgrn2", layers=6))
    told = model.explain()
    assert [layer.mixer for layer in told] == list(model.config.mixers)
    assert all(layer.implementation and layer.reason for layer in told)
    assert str(told).count("\n") == 5
