"""Generation against the whole sequence read again for every token, and beam search against all continuations."""

import itertools

import pytest
import torch
from looped_models import config, made, tokens

from unrolled.looped import LT2, Cache, LT2Config, Sampling
from unrolled.looped.sampling import Drawer

MIXED = "gated_delta,full,window,kda"


@torch.no_grad()
def greedy(model, row, length):
    for _ in range(length):
        row = torch.cat([row, model(row[None]).logits[0, -1:].argmax(-1)])
    return row


@pytest.mark.parametrize("pattern", ["full", "gated_delta", MIXED])
def test_greedy_is_the_likeliest_token_each_time(pattern):
    model, x = made(pattern, layers=4 if "," in pattern else 1), tokens(2, 11)
    out = model.generate(x, 15, temperature=0)
    for i in range(2):
        assert torch.equal(out.tokens[i], greedy(model, x[i], 15))
    assert out.lengths == [15, 15]
    assert out.stop.reason == "length"
    assert len(out.cache) == 11 + 14
    logits = model(out.tokens).logits.log_softmax(-1)
    expected = logits[:, 10:-1].gather(-1, out.tokens[:, 11:, None])[..., 0]
    assert torch.allclose(out.log_probs.double(), expected, atol=1e-5)


@pytest.mark.parametrize(("side", "prefill"), [("left", None), ("right", None), ("left", 4), ("right", 1)])
def test_a_padded_batch_is_its_rows_alone(side, prefill):
    model = made(MIXED, layers=4)
    rows = [tokens(n, seed=n) for n in (9, 3, 14)]
    x, mask = torch.zeros(3, 14, dtype=torch.long), torch.zeros(3, 14, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = slice(14 - len(row), None) if side == "left" else slice(0, len(row))
        x[i, at], mask[i, at] = row, True
    out = model.generate(x, 6, mask=mask.long(), temperature=0, prefill=prefill)
    for i, row in enumerate(rows):
        assert torch.equal(out.tokens[i, 14:], greedy(model, row, 6)[len(row) :])
    seeds = [3, 4, 5]
    drawn = model.generate(x, 8, mask=mask, rng=seeds)
    for i, row in enumerate(rows):
        alone = model.generate(row[None], 8, rng=[seeds[i]])
        assert torch.equal(drawn.tokens[i, 14:], alone.tokens[0, len(row) :])


def test_going_on_from_a_cache():
    model, x = made(MIXED, layers=4), tokens(1, 8)
    first = model.generate(x, 6, temperature=0)
    more = model.generate(first.tokens[:, -1:], 5, temperature=0, cache=first.cache)
    assert torch.equal(
        torch.cat([first.tokens, more.tokens[:, 1:]], 1), model.generate(x, 11, temperature=0).tokens
    )


def test_stop_tokens_and_streaming():
    model, x = made("gated_delta"), tokens(2, 8)
    free = model.generate(x, 20, temperature=0).tokens[:, 8:]
    end = int(free[0, 4])
    seen = []
    out = model.generate(
        x, 20, temperature=0, stop=end, on_token=lambda new, step: seen.append((step, new.clone()))
    )
    for i in range(2):
        hits = (free[i] == end).nonzero()
        n = int(hits[0]) + 1 if len(hits) else 20
        assert out.lengths[i] == n
        assert torch.equal(out.tokens[i, 8 : 8 + n], free[i, :n])
        assert (out.tokens[i, 8 + n :] == end).all()
        assert not out.log_probs[i, n:].any()
    assert [step for step, _ in seen] == list(range(len(seen)))
    assert torch.equal(torch.stack([new for _, new in seen], 1), out.tokens[:, 8:])
    one = model.generate(x[:1], 20, temperature=0, stop=[end])
    assert one.stop.reason == "stop token"
    assert one.tokens.shape[1] == 8 + one.lengths[0]


def test_seeds():
    model, x = made("gated_delta"), tokens(2, 8)
    a, b, c = (model.generate(x, 12, rng=seed).tokens for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    world = torch.get_rng_state()
    model.generate(x, 3, rng=1)
    assert torch.equal(world, torch.get_rng_state())


def test_draws_follow_the_probabilities():
    """Frequencies of 200,000 draws within five standard deviations, for every filter."""
    logits = torch.tensor([2.0, 1.5, 1.5, 0.0, -1.0, -torch.inf])
    n = 200_000
    for rule in (
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(top_k=2),
        Sampling(top_p=0.7),
        Sampling(min_p=0.3),
        Sampling(2.0, 4, 0.9, 0.2),
    ):
        p = rule.probabilities(logits)
        drawn = rule.draw(logits.expand(n, -1), Drawer(0, n))
        frequency = torch.bincount(drawn, minlength=6) / n
        assert (frequency[p == 0] == 0).all()
        assert ((frequency - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


def test_filters_by_hand():
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    keep = lambda rule: rule.probabilities(p.log()).tolist()  # noqa: E731
    assert keep(Sampling(top_k=2)) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert keep(Sampling(top_p=0.71)) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0])
    assert keep(Sampling(top_p=0.05)) == pytest.approx([1, 0, 0, 0])
    assert keep(Sampling(min_p=0.5)) == pytest.approx([0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0])
    assert keep(Sampling(temperature=0)) == [1, 0, 0, 0]
    assert keep(Sampling(temperature=0.5)) == pytest.approx([16 / 30, 9 / 30, 4 / 30, 1 / 30])
    assert keep(Sampling(top_k=3, top_p=0.7)) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    tied = Sampling(top_k=1).probabilities(torch.zeros(4))
    assert tied.count_nonzero() == 1


# --- beams ----------------------------------------------------------------------------------------------------------


def few(pattern="full,gated_delta"):
    return made(pattern, vocab_size=5, loops=2)


@torch.no_grad()
def total(model, prompt, words):
    logits = model(torch.cat([prompt, torch.tensor(words)])[None]).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + i, w]) for i, w in enumerate(words))


def test_enough_beams_find_the_best_of_all():
    model = few()
    x = torch.tensor([[1, 2, 3, 0], [4, 4, 1, 0]])
    out = model.generate(x, 3, beams=125)
    for i in range(2):
        best = max(itertools.product(range(5), repeat=3), key=lambda words: total(model, x[i], list(words)))
        assert out.tokens[i, 4:].tolist() == list(best)
        assert float(out.log_probs[i]) == pytest.approx(total(model, x[i], list(best)), abs=1e-5)


def test_beams_are_the_textbook_search():
    model = few()
    x = torch.tensor([[1, 2, 3, 0]])
    beams = [((), 0.0)]
    for _ in range(6):
        grown = [((*words, w), total(model, x[0], [*words, w])) for words, _ in beams for w in range(5)]
        beams = sorted(grown, key=lambda beam: -beam[1])[:3]
    out = model.generate(x, 6, beams=3)
    assert out.tokens[0, 4:].tolist() == list(beams[0][0])
    assert out.cache.batch == 1


def test_a_finished_beam_goes_on_competing():
    model = few()
    x, end = torch.tensor([[1, 2, 3, 0]]), 2
    out = model.generate(x, 4, beams=700, stop=end, length_penalty=0.7)
    best, best_score = [], -torch.inf
    for n in range(1, 5):
        for words in itertools.product(range(5), repeat=n):
            if end in words[:-1] or (n < 4 and words[-1] != end):
                continue
            if (score := total(model, x[0], list(words)) / n**0.7) > best_score:
                best, best_score = list(words), score
    assert out.lengths == [len(best)]
    assert out.tokens[0, 4 : 4 + len(best)].tolist() == best


# --- misuse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "at least 0 .0 is greedy., got -1.0"),
        ({"top_k": 0}, "keeps at least 1 token, got 0"),
        ({"top_p": 0.0}, r"top_p is a probability in \(0, 1\]"),
        ({"min_p": 1.5}, r"min_p is a probability in \(0, 1\]"),
        ({"beams": 0}, "beams >= 1"),
        ({"prefill": 0}, "prefill >= 1"),
        ({"stop": 900}, "stop tokens are 0 to 255"),
        ({"rng": [1]}, "2 rows, got 1 seeds"),
        ({"mask": torch.tensor([[True] * 4, [False] * 4])}, "all padding"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LT2(config()).generate(tokens(2, 4), 3, **options)


def test_not_a_number_ends_it():
    model = LT2(config())
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    out = model.generate(tokens(1, 4), 5)
    assert (out.stop.reason, out.stop.step, out.tokens.shape[1]) == ("nonfinite", 0, 4)


def test_nothing_to_add():
    out = LT2(LT2Config.preset("tiny")).generate(tokens(2, 4), 0)
    assert torch.equal(out.tokens, tokens(2, 4))


def test_training_mode_is_left_as_it_was():
    model = LT2(config())
    model.generate(tokens(1, 4), 2, cache=Cache())
    assert model.training
