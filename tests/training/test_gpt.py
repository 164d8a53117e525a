"""The GPT against a twin that loops over positions and heads, and against what a causal model must do."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from unrolled.training import gpt
from unrolled.training.gpt import GPT, GPTConfig

TINY = GPTConfig(layers=2, heads=2, width=8, context=12, vocab=11)


def model64(**changes) -> GPT:
    return GPT(GPTConfig(**{**vars(TINY), **changes}), rng=3).double()


def tokens(batch=2, length=9, vocab=11, seed=0):
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def twin(model: GPT, row: torch.Tensor) -> torch.Tensor:
    """Logits of one sequence, position by position, head by head, from the named parameters alone."""
    config, w = model.config, dict(model.named_parameters())
    size = config.width // config.heads

    def norm(x, gain=None):
        x = x / torch.sqrt((x * x).sum() / len(x) + config.norm_eps)
        return x if gain is None else x * gain

    def turn(x, t):
        out = [None] * size
        for i in range(size // 2):
            angle = t * config.rope_base ** (-2 * i / size)
            a, b = x[i], x[i + size // 2]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + size // 2] = a * math.sin(angle) + b * math.cos(angle)
        return torch.stack(out)

    stream = [w["embed.weight"][token] for token in row]
    for layer in range(config.layers):
        at = f"blocks.{layer}."
        inside = [norm(x, w[at + "norm1.weight"]) for x in stream]
        heads = []
        for h in range(config.heads):
            part = slice(h * size, (h + 1) * size)
            q = [turn((w[at + "attn.q.weight"] @ x)[part], t) for t, x in enumerate(inside)]
            k = [turn((w[at + "attn.k.weight"] @ x)[part], t) for t, x in enumerate(inside)]
            v = [(w[at + "attn.v.weight"] @ x)[part] for x in inside]
            if config.qk_norm:
                q, k = [norm(x) for x in q], [norm(x) for x in k]
            rows = []
            for t in range(len(row)):
                weights = torch.stack([q[t] @ k[s] / math.sqrt(size) for s in range(t + 1)]).exp()
                rows.append(sum(a * v[s] for s, a in enumerate(weights / weights.sum())))
            heads.append(rows)
        stream = [
            x + w[at + "attn.o.weight"] @ torch.cat([head[t] for head in heads]) for t, x in enumerate(stream)
        ]
        for t, x in enumerate(stream):
            up = w[at + "ffn.up.weight"] @ norm(x, w[at + "norm2.weight"])
            gelu = up * (1 + torch.erf(up / math.sqrt(2))) / 2
            stream[t] = x + w[at + "ffn.down.weight"] @ gelu
    return torch.stack([w["embed.weight"] @ norm(x, w["norm.weight"]) for x in stream])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_equals_the_naive_twin_in_values_and_gradients(attention, qk_norm):
    model = model64(attention=attention, qk_norm=qk_norm)
    for parameter in model.parameters():  # gains of 1 would hide a misplaced gain
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    batch = torch.cat([tokens(), torch.zeros(1, 9, dtype=torch.long)])  # one row of identical keys
    slow = torch.stack([twin(model, row) for row in batch])
    fast = model(batch)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)
    probe = torch.randn(fast.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    parameters = list(model.parameters())
    want = torch.autograd.grad((slow * probe).sum(), parameters)
    got = torch.autograd.grad((fast * probe).sum(), parameters)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("config", "layers", "width", "vocab", "exact"),
    [
        (gpt.tiny(), 2, 64, 256, 115_008),
        (gpt.small(), 4, 128, 256, 820_352),
        (gpt.gpt124m(), 12, 768, 50_257, 123_551_232),
    ],
)
def test_parameter_counts(config, layers, width, vocab, exact):
    with torch.device("meta"):
        model = GPT(config, rng=None)
    counted = sum(p.numel() for p in model.parameters())
    assert counted == vocab * width + layers * (12 * width**2 + 2 * width) + width == exact


def test_names_serve_recipes():
    names = [name for name, p in GPT(gpt.tiny()).named_parameters() if p.ndim == 2]
    assert len([n for n in names if re.search(r"attn\.[vo]\.", n)]) == 4
    assert len([n for n in names if re.search(r"attn\.[qk]\.", n)]) == 4
    assert len([n for n in names if re.search(r"ffn\.", n)]) == 4
    assert [n for n in names if not n.startswith("blocks.")] == ["embed.weight"]
    assert "blocks.0.attn.q.weight" in names


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_no_position_sees_a_later_one(attention):
    model, row = model64(attention=attention), tokens(1, 12)
    base = model(row)
    for t in range(1, 12):
        other = row.clone()
        other[0, t] = (row[0, t] + 1) % 11
        moved = model(other)
        assert torch.equal(moved[:, :t], base[:, :t])
        assert (moved[:, t:] - base[:, t:]).abs().amax(-1).min() > 1e-6


def test_positions_matter_only_by_difference():
    x = torch.randn(1, 1, 1, 8, dtype=torch.float64)
    y = torch.randn(1, 1, 1, 8, dtype=torch.float64)
    cos, sin = gpt.rotary_angles(20, 8, 100.0, x)

    def score(t, s):
        return (gpt.rotate(x, cos[t], sin[t]) * gpt.rotate(y, cos[s], sin[s])).sum()

    torch.testing.assert_close(score(3, 1), score(17, 15), rtol=1e-12, atol=1e-13)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    torch.testing.assert_close(gpt.rotate(x, cos[9], sin[9]).norm(), x.norm())


def test_late_positions_survive_bfloat16():
    like = torch.zeros((), dtype=torch.bfloat16)
    cos, _ = gpt.rotary_angles(1024, 64, 10_000.0, like)
    exact, _ = gpt.rotary_angles(1024, 64, 10_000.0, like.double())
    assert (cos.double() - exact).abs().max() < 2**-8  # rounding of the result, not of the angle


def test_gradients_by_finite_differences():
    model = model64(attention="eager", layers=1, width=4, heads=1, vocab=5, qk_norm=True)
    batch = tokens(1, 4, 5), tokens(1, 4, 5, seed=1)
    names, values = zip(*model.named_parameters())

    def total(*leaves):
        run = lambda x: torch.func.functional_call(model, dict(zip(names, leaves)), (x,))  # noqa: E731
        return gpt.loss(run, batch)[0]

    leaves = tuple(v.detach().clone().requires_grad_() for v in values)
    assert gradcheck(total, leaves)
    assert gradgradcheck(total, leaves)


def test_rms_norm_is_twice_differentiable_both_ways():
    norm = gpt.RMSNorm(6).double()
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(norm, (x,), check_fwd_over_rev=True)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (6,), norm.weight, norm.eps), rtol=1e-13, atol=1e-14)
    assert norm(torch.zeros(1, 6, dtype=torch.float64)).isfinite().all()


def test_loss_sums_counts_and_leaves_out():
    model = model64()
    x, y = tokens(), tokens(seed=1)
    y[0, :5] = -100
    summed, count = gpt.loss(model, (x, y))
    logp = model(x).log_softmax(-1)
    by_hand = -sum(logp[b, t, y[b, t]] for b in range(2) for t in range(9) if y[b, t] >= 0)
    torch.testing.assert_close(summed, by_hand, rtol=1e-13, atol=1e-13)
    assert count == 13
    empty, none = gpt.loss(model, (x, torch.full_like(y, -100)))
    assert empty == 0
    assert none == 0


def test_a_fresh_model_knows_nothing():
    model = GPT(gpt.small())
    x = tokens(4, 64, 256)
    summed, count = gpt.loss(model, (x, tokens(4, 64, 256, seed=1)))
    # Logits have variance 1/3 at the start, which costs 1/6 nat over a uniform guess.
    assert abs((summed / count).item() - (math.log(256) + 1 / 6)) < 0.15


def test_half_precision_loss_is_summed_in_single():
    model = GPT(gpt.tiny()).bfloat16()
    assert gpt.loss(model, (tokens(), tokens(seed=1)))[0].dtype == torch.float32


def test_the_seed_decides_the_weights_and_dropout_follows_the_mode():
    same = zip(GPT(TINY, rng=5).parameters(), GPT(TINY, rng=5).parameters())
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(GPT(TINY, rng=5).embed.weight, GPT(TINY, rng=6).embed.weight)
    model = GPT(GPTConfig(**{**vars(TINY), "dropout": 0.5}))
    assert not torch.equal(model(tokens()), model(tokens()))
    model.eval()
    assert torch.equal(model(tokens()), model(tokens()))


def test_generate():
    model, start = GPT(TINY, rng=1), tokens(2, 3)
    model.train()
    made = model.generate(start, 20, rng=4)
    assert model.training
    assert made.shape == (2, 23)  # past the context of 12
    assert torch.equal(made[:, :3], start)
    assert torch.equal(made, model.generate(start, 20, rng=4))
    assert not torch.equal(made, model.generate(start, 20, rng=5))
    greedy = model.generate(start, 1, temperature=0)
    assert torch.equal(greedy[:, -1], model(start)[:, -1].argmax(-1))
    assert torch.equal(greedy, model.generate(start, 1, top_k=1, rng=9))
    assert torch.equal(model.generate(start, 0), start)
    with pytest.raises(ValueError, match="temperature"):
        model.generate(start, 1, temperature=-1.0)


def test_sampling_follows_the_softmax():
    model, start = GPT(TINY, rng=1), tokens(1, 3).expand(4000, 3)
    drawn = model.generate(start, 1, temperature=2.0, rng=0)[:, -1].bincount(minlength=11) / 4000
    wanted = (model(start[:1])[0, -1] / 2.0).softmax(-1).detach()
    assert (drawn - wanted).abs().max() < 4 * 0.5 / 4000**0.5


def test_bad_input_is_named():
    model = GPT(TINY)
    with pytest.raises(ValueError, match=r"tokens run from 3 to 11, this model knows 0 to 10"):
        model(torch.tensor([[3, 11]]))
    with pytest.raises(ValueError, match="tokens run from -1"):
        model(torch.tensor([[-1, 2]]))
    with pytest.raises(ValueError, match=r"13 tokens is longer than the context of 12"):
        model(tokens(1, 13))
    with pytest.raises(TypeError, match=r"int64 or int32, got torch.uint8: pass tokens.long\(\)"):
        model(tokens().to(torch.uint8))
    with pytest.raises(ValueError, match=r"\[batch, length\]"):
        model(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="one shape"):
        gpt.loss(model, (tokens(), tokens()[:, 1:]))
    assert model(tokens().int()).shape == (2, 9, 11)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"layers": 0}, "layers is at least 1"),
        ({"width": 10, "heads": 4}, "width 10 and 4 heads"),
        ({"width": 6, "heads": 2}, "must be even"),
        ({"attention": "flash"}, "sdpa"),
        ({"dropout": 1.0}, "probability"),
        ({"hidden": -1}, "hidden"),
    ],
)
def test_impossible_shapes(bad, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**{**vars(TINY), **bad})
