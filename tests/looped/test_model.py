"""The model against its formulas."""

import pytest
import torch
import torch.nn.functional as F
from looped_models import config, quiet, tangled, tokens

from unrolled.looped import LT2, Cache, LT2Config
from unrolled.looped.config import MIXERS

F64 = torch.float64


def test_the_flagship_has_exactly_these_parameters():
    """LT2 2605.20670: the 1.3b shape, counted by hand from the wiring of every layer."""
    with torch.device("meta"):
        model, gated = LT2(LT2Config.preset("1.3b")), LT2(LT2Config.preset("1.3b", gate=True))
        untied = LT2(LT2Config.preset("1.3b", tied=False))
    size = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert size(model.blocks[0]) == 59_863_264
    assert size(model.blocks[4]) == 51_384_320
    assert size(gated.blocks[4]) == 55_578_624
    assert size(model.blocks) == 1_223_212_768
    assert size(model.norm) == 2_048
    assert model.rho.numel() == 8_192
    assert size(model.embed) == 262_668_288
    assert size(model) == 1_485_891_296
    assert size(untied) == 1_748_559_584
    assert [i for i, kind in enumerate(model.config.mixers) if kind == "full"] == [4, 9, 14, 19]


def test_loops_with_rho_zero_are_a_stack_of_copies():
    """Bitwise: looping is nothing but applying the same blocks again."""
    model = LT2(config(loops=3))
    copies = LT2(config(loops=1, layers=6, pattern="gated_delta,full"))
    copies.load_state_dict(
        {
            **{k: v for k, v in model.state_dict().items() if not k.startswith(("blocks", "rho"))},
            **{
                k.replace(f"blocks.{i}", f"blocks.{i + 2 * loop}"): v
                for k, v in model.state_dict().items()
                for i in (0, 1)
                for loop in range(3)
                if k.startswith(f"blocks.{i}.")
            },
            "rho": torch.zeros(1, 32),
        }
    )
    x = tokens(2, 20)
    assert torch.equal(model(x).logits, copies(x).logits)
    assert torch.equal(model(x, loops=1).logits, LT2(config(loops=1))(x).logits)


def test_loops_cost_one_row_of_rho_each():
    sizes = [sum(p.numel() for p in LT2(config(loops=T)).parameters()) for T in (1, 2, 4)]
    assert sizes[1] - sizes[0] == 32
    assert sizes[2] - sizes[0] == 3 * 32


def test_the_loop_is_the_formula():
    model = tangled(LT2(config(loops=2))).double()
    x = tokens(1, 7)
    h = model.embed(x)
    out = model(x, loops=4)
    from unrolled.looped.span import Span, rotary

    for loop in range(4):
        after = h
        for block in model.blocks:
            after = block(after, Span(loop, rotary=rotary(torch.arange(7), 8, 1e4, F64)))
        h = after + model.rho[min(loop, 1)] * h  # beyond T, the last row
        assert torch.allclose(out.hidden_per_loop[loop], h, atol=1e-12)
    assert torch.allclose(out.hidden, F.rms_norm(h, (32,), model.norm.weight, 1e-6), atol=1e-12)
    assert torch.allclose(out.logits, out.hidden @ model.embed.weight.T, atol=1e-12)
    assert torch.allclose(model.read_out(out.hidden_per_loop[-1]), out.logits, atol=1e-12)


@pytest.mark.parametrize("pattern", [*MIXERS, "interleaved:4:1"])
@pytest.mark.parametrize("loops", [1, 2, 4])
def test_decoding_equals_reading_at_once(pattern, loops):
    """A prompt of 37, then 29 single tokens, float32, hidden states of order 1."""
    layers = 5 if ":" in pattern else 1
    model = tangled(LT2(config(pattern, layers=layers, loops=loops))).eval()
    if layers == 5:
        quiet(model)
    x = tokens(2, 66)
    with torch.no_grad():
        out = model(x)
        assert 0.2 < out.hidden_per_loop[-1].square().mean().sqrt() < 4
        whole = out.logits
        cache = Cache()
        parts = [model(x[:, :37], cache=cache).logits]
        parts += [model(x[:, t : t + 1], cache=cache).logits for t in range(37, 66)]
    assert (torch.cat(parts, 1) - whole).abs().max() <= 1e-4


@pytest.mark.parametrize("pattern", [*MIXERS, "interleaved:1:1"])
@pytest.mark.parametrize("loops", [1, 3])
def test_the_future_is_not_seen(pattern, loops):
    model = tangled(LT2(config(pattern, loops=loops))).double().eval()
    x = tokens(1, 40)
    for t in (0, 7, 22, 38):
        other = x.clone()
        other[:, t + 1 :] = (other[:, t + 1 :] + 1) % 256
        with torch.no_grad():
            a, b = model(x).logits, model(other).logits
        assert (a - b)[:, : t + 1].abs().max() <= 1e-9
        assert (a - b)[:, t + 1 :].abs().max() > 1e-6
