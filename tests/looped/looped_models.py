"""Small models for tests."""

import torch

from unrolled.looped import LT2, LT2Config


def tokens(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))


def config(pattern="interleaved:1:1", **changes):
    """A tiny shape whose windows, blocks and selections are shorter than the tests' sequences."""
    few = {
        "width": 32,
        "hidden": 48,
        "window": 9,
        "block": 8,
        "blocks": 2,
        "index_top_k": 16,
        "index_dim": 8,
        "chunk": 16,
    }
    return LT2Config.preset("tiny", **{"pattern": pattern, **few, **changes})


def tangled(model, seed=1):
    """Weights away from their start: rho and gates at zero would hide mistakes."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1 or p is model.rho or not p.any():
                p.add_(0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return model


def quiet(model):
    """Branches small enough that the residual stream stays of order 1 through all loops."""
    with torch.no_grad():
        for block in model.blocks:
            block.mixer.o.weight.mul_(0.2)
            block.ffn.down.weight.mul_(0.2)
    return model


def made(pattern="interleaved:1:1", **changes):
    """A tangled model in float64, in eval mode."""
    return tangled(LT2(config(pattern, **changes))).double().eval()
