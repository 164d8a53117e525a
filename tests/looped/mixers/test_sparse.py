"""The sparse mixers against dense twins that choose token by token; the indexer's gradient; memory."""

import pytest
import torch
import torch.nn.functional as F
from looped_models import config, tangled, tokens
from torch import nn

from unrolled.looped import LT2, mixers
from unrolled.looped.mixers._select import keep_top
from unrolled.looped.mixers.attention import Window
from unrolled.looped.mixers.dsa import DSA, divergence
from unrolled.looped.mixers.nsa import NSA
from unrolled.looped.span import Span, rotary
from unrolled.training.gpt import rotate

F64 = torch.float64


def random(module, seed=0):
    g = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=p.shape[-1] ** -0.5, generator=g)
    return module.double()


def inputs(B, L, head_dim, seed=3):
    x = torch.randn(B, L, 32, generator=torch.Generator().manual_seed(seed), dtype=F64)
    at = torch.arange(L)
    return x, Span(0, rotary=rotary(at, head_dim, 1e4, F64), positions=at, kept=L)


# --- DSA ------------------------------------------------------------------------------------------------------------


def dense_dsa(m, x, span):
    """Token by token: score all that came before, take the best, attend to those."""
    c = m.config
    q, k, v = m.project(x, span)
    turn = rotary(span.positions, c.index_dim, 1e4, F64)
    iq = rotate((x @ m.index_q.weight.T).unflatten(-1, (c.index_heads, c.index_dim)).transpose(1, 2), *turn)
    ik = rotate((x @ m.index_k.weight.T)[:, None], *turn)
    iw = x @ m.index_w.weight.T
    B, _, L, d = q.shape
    o, kl = torch.zeros_like(q), 0.0
    for b in range(B):
        for t in range(L):
            score = (
                sum(iw[b, t, j] * F.relu(ik[b, 0, : t + 1] @ iq[b, j, t]) for j in range(c.index_heads))
                / (c.index_heads * c.index_dim) ** 0.5
            )
            order = sorted(range(t + 1), key=lambda s: (-float(score[s].detach()), -s))[: c.index_top_k]
            p = (torch.einsum("hd,hsd->hs", q[b, :, t], k[b][:, order]) * d**-0.5).softmax(-1)
            o[b, :, t] = torch.einsum("hs,hsd->hd", p, v[b][:, order])
            target = p.detach().mean(0)
            kl = kl + (target * (target.log() - score[order].log_softmax(-1))).sum()
    return m.out(o, x), kl / (B * L)


@pytest.mark.parametrize("top_k", [1, 5, 20, 39, 64])
def test_dsa_is_the_definition(top_k):
    m = random(DSA(config("dsa", index_top_k=top_k)))
    x, span = inputs(2, 40, 8)
    expected, kl = dense_dsa(m, x, span)
    assert torch.allclose(m(x, span), expected, atol=1e-10)
    span.learn = True
    assert torch.allclose(m(x, span), expected, atol=1e-10)
    assert torch.allclose(span.aux[0], kl, atol=1e-10)
    g1 = torch.autograd.grad(span.aux[0], [m.index_q.weight, m.index_k.weight, m.index_w.weight])
    g2 = torch.autograd.grad(kl, [m.index_q.weight, m.index_k.weight, m.index_w.weight])
    for a, b in zip(g1, g2):
        assert torch.allclose(a, b, atol=1e-10)


def test_with_all_tokens_dsa_is_full_attention():
    x = tokens(2, 50)
    sparse = LT2(config("dsa", index_top_k=50, loops=3)).eval()
    full = LT2(config("full", loops=3)).eval()
    full.load_state_dict({k: v for k, v in sparse.state_dict().items() if "index" not in k})
    expected = full(x).logits
    assert (sparse(x).logits - expected).abs().max() <= 1e-5
    sparse.train()  # the path that learns spells softmax out
    assert (sparse(x).logits - expected).abs().max() <= 1e-5


def test_the_indexer_learns_and_nothing_else_does_from_its_loss():
    model = tangled(LT2(config("dsa", loops=2)))
    out = model(tokens(2, 40))
    named = dict(model.named_parameters())
    grads = dict(
        zip(named, torch.autograd.grad(out.aux, list(named.values()), allow_unused=True, retain_graph=True))
    )
    for name, grad in grads.items():
        if "index" in name:
            assert grad.abs().max() > 0, name
        else:
            assert grad is None or not grad.any(), name
    of_logits = torch.autograd.grad(out.logits.sum(), list(named.values()), allow_unused=True)
    for name, grad in zip(named, of_logits):
        assert (grad is None or not grad.any()) == ("index" in name), name
    assert model.eval()(tokens(2, 40)).aux is None


def test_an_indexer_that_learns_finds_what_attention_looks_at():
    """200 steps on the divergence alone: the chosen tokens hold more of the attention than before."""
    torch.manual_seed(0)
    m = DSA(config("dsa", index_top_k=8)).float()
    for p in m.parameters():
        nn.init.normal_(p, std=2 * p.shape[-1] ** -0.5, generator=torch.Generator().manual_seed(p.numel()))
    x, span = inputs(4, 48, 8)
    x, span.rotary = x.float(), tuple(t.float() for t in span.rotary)

    def held():
        q, k, _ = m.project(x, span)
        p = (
            (q @ k.mT * 8**-0.5)
            .masked_fill(torch.ones(48, 48, dtype=torch.bool).triu(1), -torch.inf)
            .softmax(-1)
            .mean(1)
        )
        iq, ik, iw = m.index(x, span)
        score = torch.einsum("bljs,blj->bls", F.relu(torch.einsum("bljc,bsc->bljs", iq, ik[:, 0])), iw)
        score = score.masked_fill(torch.ones(48, 48, dtype=torch.bool).triu(1), -torch.inf)
        return (p * keep_top(score, 8))[:, 8:].sum(-1).mean()

    before = held()
    adam = torch.optim.Adam([p for name, p in m.named_parameters() if "index" in name], lr=1e-2)
    span.learn = True
    for _ in range(200):
        span.aux.clear()
        m(x, span)
        adam.zero_grad()
        span.aux[0].backward()
        adam.step()
    assert held() > before + 0.1


def test_dsa_never_holds_all_scores(monkeypatch):
    """The largest tensor anyone makes stays of order L * block, in training too."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.size = max(self.size, made.numel())
            return made

    monkeypatch.setattr("unrolled.looped.mixers._select.BUDGET", 2**17)
    L = 1024
    m = DSA(config("dsa", index_top_k=16)).float()
    x, span = inputs(1, L, 8)
    span.rotary, span.learn = tuple(t.float() for t in span.rotary), True
    with Largest() as watch:
        y = m(x.float().requires_grad_(), span)
        (y.sum() + span.aux[0]).backward()
    assert watch.size <= 2**17 < L * L


def test_ties_go_to_the_later():
    score = torch.tensor([[0.0, 0.0, 1.0, 0.0, -1.0], [-torch.inf] * 5])
    assert keep_top(score, 2).tolist() == [
        [False, False, True, True, False],
        [False, False, False, True, True],
    ]
    assert keep_top(score, 9).all()
    wide = torch.randint(0, 4, (50, 300), generator=torch.Generator().manual_seed(0)).float()
    assert (keep_top(wide, 77).sum(-1) == 77).all()


def test_divergence_by_hand():
    p, score = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.0, 0.0]])
    assert float(divergence(p, score)) == pytest.approx(
        0.25 * -1.386294 + 0.75 * -0.287682 + 0.693147, abs=1e-6
    )


# --- NSA ------------------------------------------------------------------------------------------------------------


def dense_nsa(m, x, span):
    c = m.config
    q, k, v = m.project(x, span)
    B, H, L, d = q.shape
    group = H // c.kv_heads
    g = torch.sigmoid(m.mix(x)).view(B, L, 3, H)
    o = torch.zeros_like(q)
    for b in range(B):
        for t in range(L):
            for h in range(c.kv_heads):
                K, V, done = k[b, h], v[b, h], (t + 1) // c.block
                means = [K[j * c.block : (j + 1) * c.block].mean(0) for j in range(done)]
                mean_v = [V[j * c.block : (j + 1) * c.block].mean(0) for j in range(done)]
                worth = torch.zeros(t // c.block + 1, dtype=F64)
                heads = range(h * group, (h + 1) * group)
                for i in heads:
                    if done:
                        p = (torch.stack(means) @ q[b, i, t] * d**-0.5).softmax(-1)
                        o[b, i, t] += g[b, t, 0, i] * (p @ torch.stack(mean_v))
                        worth[:done] += p.detach()
                worth[t // c.block] = torch.inf
                chosen = sorted(range(len(worth)), key=lambda j: (-float(worth[j]), -j))[: c.blocks]
                seen = [s for j in chosen for s in range(j * c.block, min((j + 1) * c.block, t + 1))]
                near = list(range(max(0, t - c.window_at(0) + 1), t + 1))
                for i in heads:
                    for which, among in ((1, seen), (2, near)):
                        p = (K[among] @ q[b, i, t] * d**-0.5).softmax(-1)
                        o[b, i, t] += g[b, t, which, i] * (p @ V[among])
    return m.out(o, x)


@pytest.mark.parametrize("blocks", [1, 2, 3, 20])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_nsa_is_the_definition(blocks, kv_heads):
    m = random(NSA(config("nsa", block=5, blocks=blocks, kv_heads=kv_heads)))
    x, span = inputs(2, 43, 8)
    x.requires_grad_()
    found, expected = m(x, span), dense_nsa(m, x, span)
    assert torch.allclose(found, expected, atol=1e-10)
    (a,), (b,) = (torch.autograd.grad(y.square().sum(), x) for y in (found, expected))
    assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("kind", ["dsa", "nsa"])
def test_small_blocks_of_queries_change_nothing(kind, monkeypatch):
    m = random(mixers.make(kind, config(kind, index_top_k=7)))
    x, span = inputs(2, 45, 8)
    x.requires_grad_()
    span.learn = True
    whole = m(x, span)
    (expected,) = torch.autograd.grad(whole.square().sum(), x)
    monkeypatch.setattr("unrolled.looped.mixers._select.BUDGET", 2000)
    parts = m(x, span)
    assert torch.allclose(parts, whole, atol=1e-12)
    assert torch.allclose(torch.autograd.grad(parts.square().sum(), x)[0], expected, atol=1e-12)
    if span.aux:
        assert torch.allclose(span.aux[0], span.aux[1], atol=1e-12)


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5])
def test_windows_reach_as_far_as_loops_times_window(T):
    """One layer of window w=4, T loops: out[t] depends on x[s] exactly when 0 <= t - s <= T (w - 1)."""
    model = tangled(LT2(config("window", layers=1, loops=T, window=4))).double()
    L = 24
    x = torch.randn(1, L, 32, generator=torch.Generator().manual_seed(0), dtype=F64).requires_grad_()
    h = model(inputs_embeds=x, logits=False).hidden_per_loop[-1]
    for t in (0, 5, 23):
        (g,) = torch.autograd.grad(h[0, t].sum(), x, retain_graph=True)
        reached = g[0].abs().amax(-1) > 0
        assert reached.tolist() == [0 <= t - s <= 3 * T for s in range(L)]


def test_windows_may_differ_from_loop_to_loop():
    model = tangled(LT2(config("window", layers=1, loops=3, window=(8, 3, 2)))).double()
    x = torch.randn(1, 20, 32, generator=torch.Generator().manual_seed(0), dtype=F64).requires_grad_()
    (g,) = torch.autograd.grad(model(inputs_embeds=x, loops=4, logits=False).hidden[0, 19].sum(), x)
    assert int((g[0].abs().amax(-1) > 0).sum()) == 1 + 7 + 2 + 1 + 1  # the last entry goes on


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("eager", [False, True])
def test_blocks_of_a_window_are_the_masked_matrix(kv_heads, eager):
    m = random(Window(config("window", window=7, kv_heads=kv_heads)))
    for L in (1, 6, 7, 8, 14, 15, 40):
        x, span = inputs(2, L, 8)
        span.eager = eager
        q, k, v = m.project(x, span)
        k, v = (y.repeat_interleave(4 // kv_heads, 1) for y in (k, v))
        t = torch.arange(L)
        seen = (t[None] <= t[:, None]) & (t[None] > t[:, None] - 7)
        p = (q @ k.mT * 8**-0.5).masked_fill(~seen, -torch.inf).softmax(-1)
        assert torch.allclose(m(x, span), m.out(p @ v, x), atol=1e-12)
