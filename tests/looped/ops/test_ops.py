"""All eight mixers: recurrent and chunk against the naive twin."""

import pytest
import torch

from unrolled.looped import ops

MIXERS = ["linear", "retnet", "mamba2", "gla", "hgrn2", "deltanet", "gated_delta", "kda"]
F64 = torch.float64


def arguments(mixer, B=2, L=11, H=3, dk=4, dv=5, *, seed=0, dtype=F64, negative=True):
    """Random arguments of a mixer, and a state."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=F64)

    q, v, state = draw(B, L, H, dk), draw(B, L, H, dv), draw(B, H, dk, dv)
    k = torch.nn.functional.normalize(draw(B, L, H, dk), dim=-1)
    head, channel = -draw(B, L, H).exp(), -draw(B, L, H, dk).exp()
    beta = (2 if negative else 1) * draw(B, L, H).sigmoid()
    made = {
        "linear": (q, k, v),
        "retnet": (q, k, v, -draw(H).exp()),
        "mamba2": (q, k, v, head),
        "gla": (q, k, v, channel),
        "hgrn2": (q, v, channel),
        "deltanet": (q, k, v, beta),
        "gated_delta": (q, k, v, head, beta),
        "kda": (q, k, v, channel, beta),
    }[mixer]
    return tuple(x.to(dtype) for x in made), state.to(dtype)


@pytest.mark.parametrize("form", ["recurrent", "chunk"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_fast_forms_agree_with_table_1(mixer, form):
    args, state = arguments(mixer)
    op = getattr(ops, mixer)
    o, S = op.naive(*args, state=state)
    o_, S_ = getattr(op, form)(*args, state=state, chunk_size=4)
    torch.testing.assert_close(o_, o, rtol=0, atol=1e-13)
    torch.testing.assert_close(S_, S, rtol=0, atol=1e-13)
