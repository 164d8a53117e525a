"""Tiny float64 models (at most 500 parameters) with their dense Hessians."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, fused):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.fused = fused

    def forward(self, x):
        q, k, v = (part.unsqueeze(1) for part in self.qkv(x).chunk(3, -1))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            y = scores.masked_fill(mask, float("-inf")).softmax(-1) @ v
        return self.out(y.squeeze(1))


class Block(nn.Module):
    def __init__(self, width, fused, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, fused)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.drop(self.attention(self.norm(x)))
        return x + self.drop(self.down(F.gelu(self.up(x))))


class TinyGPT(nn.Module):
    """Two blocks of width 4 over 7 tokens, head tied to the embedding: 332 parameters."""

    def __init__(self, *, fused=False, dropout=0.0, width=4, vocab=7, depth=2, tied=True):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, fused, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def token_loss(model, batch):
    """Summed cross entropy and the number of targets that are not -100."""
    x, y = batch
    logits = model(x)
    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-100, reduction="sum")
    return loss, int((y != -100).sum())


@pytest.fixture
def gpt():
    """gpt(**options) -> a float64 TinyGPT, the same for the same options."""

    def make(seed=0, **options):
        torch.manual_seed(seed)
        return TinyGPT(**options).double()

    return make


@pytest.fixture
def loss_fn():
    return token_loss


@pytest.fixture
def tokens():
    """tokens(n, length, seed) -> (x, y)."""

    def make(n=3, length=5, seed=0, vocab=7):
        rng = torch.Generator().manual_seed(seed)
        made = torch.randint(vocab, (n, length + 1), generator=rng)
        return made[:, :-1].contiguous(), made[:, 1:].contiguous()

    return make


@pytest.fixture
def random_update():
    """random_update(model, scale, seed) -> name -> Z."""

    def make(model, scale=0.05, seed=1):
        rng = torch.Generator().manual_seed(seed)
        return {
            name: scale * torch.randn(p.shape, generator=rng, dtype=torch.float64).to(p.dtype)
            for name, p in model.named_parameters()
            if p.requires_grad
        }

    return make


@pytest.fixture
def dense():
    """dense(model, loss_fn, batches) -> (names, G, H) of the mean loss, from torch.autograd.functional.hessian."""

    def make(model, loss_fn, batches):
        named = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        sizes = [p.numel() for p in named.values()]
        assert sum(sizes) <= 500

        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = model

            def forward(self):
                pairs = [loss_fn(self.inner, batch) for batch in batches]
                return sum(s for s, _ in pairs) / sum(n for _, n in pairs)

        wrapped = Wrapped()

        def of(flat):
            parts = flat.split(sizes)
            swap = {f"inner.{name}": part.view_as(p) for (name, p), part in zip(named.items(), parts)}
            return torch.func.functional_call(wrapped, swap, ())

        flat = torch.cat([p.reshape(-1) for p in named.values()])
        hessian = torch.autograd.functional.hessian(of, flat)
        gradient = torch.autograd.functional.jacobian(of, flat)
        return list(named), gradient, hessian

    return make
