"""The plan of one token's way is the blocks' own computation."""

import pytest
import torch
from looped_models import config, made, tangled, tokens

from unrolled.looped import LT2, Cache, LT2Config
from unrolled.looped._decode import Plan

PATTERNS = (
    "full",
    "window",
    "linear",
    "deltanet",
    "gated_delta",
    "mamba2",
    "kda,full,gated_delta",
    "nsa,gated_delta",
)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_plan_is_the_block(pattern, kv_heads):
    model = made(
        pattern,
        layers=pattern.count(",") + 2,
        loops=3,
        kv_heads=kv_heads,
        gate=True,
        neg_eigval=(False, True),
        window=(9, 5),
    )
    x = tokens(3, 40)
    with torch.no_grad():
        a, b = Cache(), Cache()
        model(x[:, :7], cache=a)
        model(x[:, :7], cache=b)
        for t in range(7, 40):
            with model.decoding():
                assert model.plan is not None
                found = model(x[:, t : t + 1], cache=a)
            expected = model(x[:, t : t + 1], cache=b)
            assert torch.allclose(found.logits, expected.logits, atol=1e-10)
    assert model.plan is None
    assert a.bytes() == b.bytes()
    for key, slot in a.slots.items():
        for (name, x), (other, y) in zip(slot.tensors(), b.slots[key].tensors()):
            assert name == other
            assert torch.allclose(x, y, atol=1e-10)


def test_rows_that_have_read_unequally_much():
    model, x = made("gated_delta,full,mamba2", layers=3, loops=2), tokens(2, 20)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, :5] = False
    with torch.no_grad(), model.decoding():
        cache = Cache()
        model(x[:, :12], mask=mask, cache=cache)
        parts = torch.cat([model(x[:, t : t + 1], cache=cache).logits for t in range(12, 20)], 1)
    for i, start in enumerate((0, 5)):
        assert torch.allclose(parts[i], model(x[i : i + 1, start:]).logits[0, 12 - start :], atol=1e-10)


def test_the_plan_has_a_step_for_the_layers_it_names():
    model = LT2(
        config("full,window,linear,deltanet,gated_delta,mamba2,kda,gla,retnet,hgrn2,nsa,dsa", layers=12)
    )
    assert [step is not None for step in Plan(model).steps] == [True] * 6 + [False] * 6


def test_a_plan_leaves_a_fork_alone_and_takes_no_part_in_gradients():
    model, x = made("gated_delta,full"), tokens(2, 9)
    with torch.no_grad():
        cache = Cache()
        model(x[:, :6], cache=cache)
        fork = cache.clone()
        with model.decoding():
            for t in range(6, 9):
                model(x[:, t : t + 1], cache=cache)
        assert torch.allclose(model(x[:, 6:], cache=fork).logits, model(x).logits[:, 6:], atol=1e-10)
    with model.decoding():
        cache = Cache()
        vectors = model.embed(x).detach().requires_grad_()
        total = sum(
            model(inputs_embeds=vectors[:, t : t + 1], cache=cache).logits.square().sum() for t in range(9)
        )
        (found,) = torch.autograd.grad(total, vectors)
    (expected,) = torch.autograd.grad(model(inputs_embeds=vectors).logits.square().sum(), vectors)
    assert torch.allclose(found, expected, atol=1e-8)


def test_when_a_plan_is_made():
    model = tangled(LT2(config()))
    assert Plan.fits(model)
    assert not Plan.fits(LT2(config(sandwich=True)))
    assert not Plan.fits(LT2(config()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not Plan.fits(model)
    with torch.device("meta"):
        assert not Plan.fits(LT2(LT2Config.preset("1.3b")))
    with pytest.raises(RuntimeError, match="mine"), model.decoding():
        raise RuntimeError("mine")
    assert model.plan is None
