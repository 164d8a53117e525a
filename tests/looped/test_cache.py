"""Reading on from a cache is reading at once: split anywhere, padded, reordered, cropped, forked, saved, with gradients."""

import copy

import pytest
import torch
from looped_models import config, made, tangled, tokens

from unrolled.core import Settled
from unrolled.looped import LT2, Cache, LT2Config
from unrolled.looped.cache import attention_bytes, linear_bytes
from unrolled.looped.config import MIXERS

KINDS = MIXERS
MIXED = "gated_delta,full,window,kda"


def close(a, b, tol=1e-9):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tol, (a - b).abs().max()


@pytest.mark.parametrize("pattern", [*KINDS, MIXED])
def test_a_prompt_split_anywhere(pattern):
    model, x = made(pattern, layers=4 if "," in pattern else 1, loops=2), tokens(2, 50)
    whole = model(x).logits
    for cuts in ([1, 2, 3], [13, 14, 30], [37], [49], list(range(1, 50, 7))):
        with torch.no_grad():
            cache = Cache()
            parts = [model(part, cache=cache).logits for part in x.tensor_split(cuts, 1)]
        close(torch.cat(parts, 1), whole)
        assert cache.lengths == [50, 50]
        assert len(cache) == 50


@pytest.mark.parametrize(
    ("pattern", "side"),
    [*((kind, "middle") for kind in KINDS), (MIXED, "left"), (MIXED, "right"), (MIXED, "middle")],
)
def test_padded_rows_are_the_rows_alone(pattern, side):
    """Also what garbage stands in the padding, and when reading on from the cache."""
    model = made(pattern, layers=4 if "," in pattern else 1, loops=2)
    rows = [tokens(n, seed=n) for n in (30, 7, 19)]
    rng = torch.Generator().manual_seed(5)
    mask = torch.zeros(3, 36, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = torch.arange(len(row)) + {"left": 36 - len(row), "right": 0, "middle": 2}[side]
        if side == "middle":
            at = torch.randperm(36, generator=rng)[: len(row)].sort().values
        mask[i, at] = True
    x = tokens(3, 36, seed=9)
    for i, row in enumerate(rows):
        x[i, mask[i]] = row
    alone = [model(row[None]).logits[0] for row in rows]
    out = model(x, mask=mask).logits
    for i in range(3):
        close(out[i, mask[i]], alone[i])
    assert not out[~mask].any()
    with torch.no_grad():
        for cut in (0, 5, 20, 35):
            cache = Cache()
            parts = [
                model(x[:, part], mask=mask[:, part], cache=cache).logits
                for part in (slice(0, cut), slice(cut, cut + 1), slice(cut + 1, 36))
                if x[:, part].shape[1]
            ]
            out = torch.cat(parts, 1)
            for i in range(3):
                close(out[i, mask[i]], alone[i])
            assert cache.lengths == [30, 7, 19]
            # then the same tokens for all, without a mask, one by one and together
            more = tokens(3, 24, seed=11)
            longer = torch.cat([model(more[:, t : t + 1], cache=cache).logits for t in range(12)], 1)
            longer = torch.cat([longer, model(more[:, 12:], cache=cache).logits], 1)
            for i, row in enumerate(rows):
                close(longer[i], model(torch.cat([row, more[i]])[None]).logits[0, len(row) :])


@pytest.mark.parametrize("pattern", [*KINDS, MIXED])
def test_packed_sequences_are_the_sequences_alone(pattern):
    model = made(pattern, layers=4 if "," in pattern else 1, loops=2)
    x = tokens(2, 30)
    mask = torch.tensor([[1] * 4 + [2] * 16 + [0] * 3 + [3] * 7, [7] * 29 + [0]])
    out = model(x, mask=mask).logits
    for row, part in ((0, slice(0, 4)), (0, slice(4, 20)), (0, slice(23, 30)), (1, slice(0, 29))):
        close(out[row, part], model(x[row, part][None]).logits[0])
    assert not out[mask == 0].any()


def test_positions_count_tokens_not_places():
    model, x = made("full"), tokens(1, 12)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, :5] = False
    given = torch.arange(12)[None] - 5
    close(
        model(x, mask=mask, positions=given.clamp(min=0)).logits,
        model(x, mask=mask).logits,
    )
    close(model(x, positions=torch.arange(12)).logits, model(x).logits)
    assert (model(x, positions=2 * torch.arange(12)).logits - model(x).logits).abs().max() > 1e-3


@pytest.mark.parametrize("pattern", ["full", "gated_delta", MIXED])
def test_vectors_in_place_of_tokens(pattern):
    model, x = made(pattern, loops=2), tokens(2, 20)
    vectors = model.embed(x)
    whole = model(x)
    close(model(inputs_embeds=vectors).logits, whole.logits)
    out = model(inputs_embeds=vectors, logits=False)
    assert out.logits is None
    close(out.hidden, whole.hidden)
    cache = Cache()
    with torch.no_grad():
        model(x[:, :9], cache=cache)
        close(
            model(inputs_embeds=vectors[:, 9:], cache=cache, positions=torch.arange(9, 20)).logits,
            whole.logits[:, 9:],
        )


@pytest.mark.parametrize("pattern", [*KINDS, MIXED])
def test_gradients_flow_through_a_cache(pattern):
    """Continuous thoughts are trained so: a hidden state is fed back while earlier keys and states still take gradients."""
    model, x = made(pattern, layers=4 if "," in pattern else 1, loops=2), tokens(2, 14)
    vectors = model.embed(x).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model(inputs_embeds=vectors).logits.square().sum(), vectors)
    cache, total = Cache(), 0.0
    for part in vectors.tensor_split([5, 6, 7, 11], 1):
        total = total + model(inputs_embeds=part, cache=cache).logits.square().sum()
    (found,) = torch.autograd.grad(total, vectors)
    close(found, expected, 1e-8 * float(expected.abs().max()))


def test_a_cache_with_gradients_survives_being_read_without():
    model, x = made("full,gated_delta"), tokens(1, 12)
    vectors = model.embed(x).detach().requires_grad_()
    cache = Cache()
    out = model(inputs_embeds=vectors[:, :8], cache=cache).logits
    with torch.no_grad():
        model(x[:, 8:9], cache=cache)
    with torch.inference_mode():
        model(x[:, 9:10], cache=cache)
    with torch.no_grad():
        last = model(x[:, 10:], cache=cache).logits
    close(last, model(x).logits[:, 10:])
    out.sum().backward()


@pytest.mark.parametrize("pattern", [*KINDS, MIXED])
def test_fork_reorder_save(pattern, tmp_path):
    model, x = made(pattern, layers=4 if "," in pattern else 1, loops=2), tokens(3, 40)
    whole = model(x).logits
    with torch.no_grad():
        cache = Cache()
        model(x[:, :22], cache=cache)
        fork, detached = cache.clone(), cache.detach()
        other = tokens(3, 9, seed=3)
        model(other, cache=fork)
        path = cache.save(tmp_path / "cache.safetensors")
        close(model(x[:, 22:], cache=cache).logits, whole[:, 22:])
        close(model(x[:, 22:], cache=detached).logits, whole[:, 22:])
        close(model(x[:, 22:], cache=Cache.load(path, model)).logits, whole[:, 22:])
        moved = Cache.load(path, model)
        moved.reorder([2, 0, 0, 1])
        assert moved.batch == 4
        close(model(x[[2, 0, 0, 1], 22:], cache=moved).logits, whole[[2, 0, 0, 1], 22:])
        close(
            model(x[:, 22:], cache=fork).logits,
            model(torch.cat([x[:, :22], other, x[:, 22:]], 1)).logits[:, 31:],
        )


def test_ragged_rows_reorder_and_crop():
    model = made("full", loops=2)
    x = tokens(2, 20)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, :8] = False
    with torch.no_grad():
        cache = Cache()
        model(x, mask=mask, cache=cache)
        cache.reorder([1, 1])
        assert cache.lengths == [12, 12]
        cache.crop(10)
        assert len(cache) == 10
        close(
            model(x[:1, 18:].expand(2, 2), cache=cache).logits[0],
            model(torch.cat([x[1:, 8:18], x[:1, 18:]], 1)).logits[0, 10:],
        )


def test_crop():
    model, x = made("full", loops=2), tokens(2, 20)
    with torch.no_grad():
        cache = Cache()
        model(x, cache=cache)
        cache.crop(13)
        close(model(x[:, 13:], cache=cache).logits, model(x).logits[:, 13:])
        cache.crop(0)
        assert cache.bytes() == 0
        linear = Cache()
        made("gated_delta")(x, cache=linear)
        with pytest.raises(ValueError, match="recurrent state, which cannot go back"):
            linear.crop(3)
        window = Cache()
        made("window")(x, cache=window)
        with pytest.raises(ValueError, match="dropped tokens before 12"):
            window.crop(3)
        with pytest.raises(ValueError, match="crop keeps 0 to 20"):
            linear.crop(21)


@pytest.mark.parametrize("loops", [1, 3])
@pytest.mark.parametrize("length", [5, 60])
def test_bytes_are_the_formula(loops, length):
    """LT2 2605.20670, table 1: constant in L for linear layers, bounded for windows, linear for full attention."""
    H, dk, dv = 4, 6, 12
    linear = linear_bytes(2, H, dk, dv, 4)
    assert linear == 2 * (H * dk * dv + (2 * H * dk + H * dv) * 3) * 4
    expected = {
        "gated_delta": linear,
        "full": 2 * length * 2 * 4 * 8 * 4,
        "window": attention_bytes(2, length, 4, 8, window=9),
        "gated_delta,full": linear + attention_bytes(2, length, 4, 8),
    }
    for pattern, one in expected.items():
        model = LT2(config(pattern, loops=loops, layers=pattern.count(",") + 1))
        with torch.no_grad():
            together, apart = Cache(), Cache()
            model(tokens(2, length), cache=together)
            for t in range(length):
                model(tokens(2, length)[:, t : t + 1], cache=apart)
        assert together.bytes() == apart.bytes() == loops * one
        assert one <= apart.bytes(allocated=True) / loops <= 4 * one + 40_000


def test_a_window_cache_stops_growing():
    model, sizes = LT2(config("window,gated_delta", loops=2)), []
    with torch.no_grad():
        cache = Cache()
        for _ in range(200):
            model(tokens(1, 1), cache=cache)
            sizes.append(cache.bytes(allocated=True))
    assert max(sizes) == max(sizes[:40])
    assert cache.bytes() <= max(sizes)
    assert len(cache) == 200


# --- early exit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [*KINDS, MIXED])
def test_what_leaves_early_is_made_up_for(pattern, tmp_path):
    """Tokens that end their loops early leave the same memory behind as if they had not, whenever it is asked for."""
    model = made(pattern, layers=4 if "," in pattern else 1, loops=4)
    x = tokens(2, 30)
    full = model(x)
    depths = [4, 2, 2, 3, 2, 4, 3, 2, 2, 2, 4]
    with torch.no_grad():
        cache = Cache()
        model(x[:, :19], cache=cache)
        for t, depth in enumerate(depths, start=19):
            out = model(x[:, t : t + 1], cache=cache, until=At(depth))
            assert out.loops == depth
            close(out.hidden_per_loop[-1], full.hidden_per_loop[depth - 1][:, t : t + 1])
        cache = Cache()
        model(x[:, :19], cache=cache)
        for t in range(19, 28):
            model(x[:, t : t + 1], cache=cache, until=At(2))
        assert {loop: w.h.shape[1] for loop, w in cache.waiting.items()} == {2: 9}
        late = Cache.load(cache.save(tmp_path / "waiting.safetensors"), model)
        close(model(x[:, 28:], cache=cache).logits, full.logits[:, 28:])
        assert not cache.waiting
        model.catch_up(late)
        assert not late.waiting
        assert [count.longest for count in late.counts] == [28] * 4
        close(model(x[:, 28:], cache=late).logits, full.logits[:, 28:])


def test_padding_after_an_early_exit():
    model, x = made("gated_delta,full", loops=3), tokens(2, 16)
    mask = torch.tensor([[True] * 4, [True, False, True, False]])
    with torch.no_grad():
        cache = Cache()
        model(x[:, :10], cache=cache)
        for t in (10, 11):
            model(x[:, t : t + 1], cache=cache, until=At(2))
        out = model(x[:, 12:], mask=mask, cache=cache).logits
    close(out[0], model(x[:1]).logits[0, 12:])
    close(out[1, [0, 2]], model(x[1:, [*range(13), 14]]).logits[0, 12:])
    with pytest.raises(ValueError, match="without padding"):
        model(x, mask=torch.tensor([[True] * 16, [False] + [True] * 15]), until=Settled(0.1))


class At(Settled):
    """Ends the loops at a given one."""

    def __init__(self, loop):
        super().__init__(0.0)
        self.loop = loop

    def __call__(self, before, after, step):
        from unrolled.core import Stop

        return Stop("settled", step) if step >= self.loop else None


def test_settled_ends_the_loops():
    """A stack whose blocks add nothing settles at once; tolerance 0 never does on another."""
    model = LT2(config(loops=6))
    still = LT2(config(loops=6))
    with torch.no_grad():
        for block in still.blocks:
            block.mixer.o.weight.zero_()
            block.ffn.down.weight.zero_()
    x = tokens(1, 5)
    assert still(x, until=Settled(0.0)).loops == 2
    assert model(x, until=Settled(0.0)).loops == 6
    assert model(x, until=Settled(1e9)).loops == 2
    out = model.generate(x, 8, temperature=0, until=Settled(1e9))
    assert out.loops.tolist() == [6] + [2] * 7
    assert out.passes.tolist() == [0] + [2] * 7
    assert torch.equal(
        still.generate(x, 8, temperature=0, until=Settled(0.0)).tokens,
        still.generate(x, 8, temperature=0).tokens,
    )


# --- misuse ---------------------------------------------------------------------------------------------------------


def test_a_cache_knows_whose_it_is(tmp_path):
    model, other = LT2(config()), LT2(config())
    cache, x = Cache(), tokens(2, 5)
    model(x, cache=cache)
    with pytest.raises(ValueError, match=r"filled by another model .of the same shape"):
        other(x, cache=cache)
    with pytest.raises(ValueError, match="filled with loops=4, the call has loops=2"):
        model(x, cache=cache, loops=2)
    with pytest.raises(ValueError, match="holds 2 rows, the call has 3"):
        model(tokens(3, 5), cache=cache)
    with pytest.raises(ValueError, match="indices of rows, 0 to 1"):
        cache.reorder([2])
    with pytest.raises(ValueError, match="nothing in this cache"):
        Cache().save(tmp_path / "x")
    path = cache.save(tmp_path / "x")
    with pytest.raises(ValueError, match="another shape"):
        Cache.load(path, LT2(LT2Config.preset("tiny")))
    with pytest.raises(ValueError, match="no cache in common"):
        model(x, mask=torch.tensor([[1, 1, 2, 2, 2]] * 2), cache=Cache())


@pytest.mark.parametrize("seed", range(4))
def test_float32_padding_within_1e_5(seed):
    """Of the largest logit, and no more than half of what float32 itself is off by (padding is exact in float64)."""
    x, mask = tokens(3, 40), torch.ones(3, 40, dtype=torch.bool)
    mask[1, :20] = mask[2, 15:] = False
    model = tangled(LT2(config("interleaved:4:1", layers=5), rng=seed)).eval()
    exact = copy.deepcopy(model).double()
    padded = model(x, mask=mask).logits
    for i in range(3):
        row = x[i, mask[i]][None]
        alone, truth = model(row).logits[0], exact(row).logits[0]
        moved = (padded[i, mask[i]] - alone).abs().max()
        assert moved <= 1e-5 * truth.abs().max()
        assert moved <= 0.5 * (alone - truth).abs().max()
