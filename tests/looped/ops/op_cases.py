"""Arguments for every mixer."""

import torch
from torch.nn import functional as F

from unrolled.looped import ops

MIXERS = ["linear", "retnet", "mamba2", "gla", "hgrn2", "deltanet", "gated_delta", "kda"]
F64 = torch.float64
NAMES = {
    "linear": "q k v",
    "retnet": "q k v g",
    "mamba2": "q k v g",
    "gla": "q k v g",
    "hgrn2": "q v g",
    "deltanet": "q k v beta",
    "gated_delta": "q k v g beta",
    "kda": "q k v g beta",
}


def names(mixer):
    """Of a mixer's arguments, in order, the state last."""
    return [*NAMES[mixer].split(), "state"]


def arguments(mixer, B=2, L=11, H=3, dk=4, dv=5, *, seed=0, dtype=F64, beta=2.0, gate=1.0):
    """Random ones, the state last: unit keys, beta in [0, `beta`], g about -`gate`."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=F64)

    g = {"retnet": (H,), "mamba2": (B, L, H), "gated_delta": (B, L, H)}.get(mixer, (B, L, H, dk))
    made = {
        "q": draw(B, L, H, dk),
        "k": F.normalize(draw(B, L, H, dk), dim=-1),
        "v": draw(B, L, H, dv),
        "g": -gate * draw(*g).exp(),
        "beta": beta * draw(B, L, H).sigmoid(),
        "state": draw(B, H, dk, dv),
    }
    return {name: made[name].to(dtype) for name in names(mixer)}


def call(mixer, form, args, **options):
    """Run one form of a mixer."""
    return getattr(getattr(ops, mixer), form)(**args, **options)


def gradients(mixer, form, args, seed=1, **options):
    """o and the state, then the gradient of a random projection of both with respect to every argument."""
    args = {name: x.detach().clone().requires_grad_() for name, x in args.items()}
    o, state = call(mixer, form, args, **options)
    rng = torch.Generator().manual_seed(seed)
    given = [torch.randn(x.shape, generator=rng, dtype=F64).to(x.dtype) for x in (o, state)]
    found = torch.autograd.grad((o, state), list(args.values()), given)
    return {"o": o.detach(), "out state": state.detach(), **dict(zip(args, found))}


def worst(found, expected):
    """The largest error, as a fraction of the largest entry of the same tensor."""
    return max(
        float(
            (found[name].double() - expected[name].double()).abs().max()
            / (expected[name].double().abs().max() + 1e-30)
        )
        for name in expected
    )
