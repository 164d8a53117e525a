import time

import pytest
import torch

from unrolled.optim import data
from unrolled.training.corpus import Corpus


@pytest.fixture(scope="module")
def big() -> data.Sample:
    return data.lite(s=1.0).sample_latent(400_000, rng=0)


def share(values: torch.Tensor, n: int) -> torch.Tensor:
    return torch.bincount(values.long(), minlength=n).double() / len(values)


def test_size_of_the_paper() -> None:
    grammar = data.zipf_pcfg(0.5)
    assert grammar.vocab == 4412
    assert grammar.eos == 4411
    assert grammar.emission.shape == (30, 4411)
    assert len(grammar.sizes) == 20
    assert grammar.sizes.sum() == 4411
    assert grammar.sizes.max() - grammar.sizes.min() <= 1


@pytest.mark.parametrize("rank", ["topic", "class"])
@pytest.mark.parametrize("s", [0.0, 0.5, 1.0])
def test_emission_is_base_times_rank_to_the_minus_s_in_each_class_and_topic(rank: str, s: float) -> None:
    grammar = data.lite(s, rank=rank)
    for topic in range(8):
        for word_class in range(8):
            of = grammar.word_class == word_class
            base = grammar.base[topic, of]
            if rank == "topic":
                order = base.argsort(descending=True).argsort() + 1
            else:
                order = torch.arange(1, len(base) + 1)
            weights = base * order.double() ** -s
            torch.testing.assert_close(
                grammar.emission[topic, of], weights / weights.sum(), rtol=1e-12, atol=0
            )


def test_at_s_zero_the_base_probabilities_are_left_alone() -> None:
    grammar = data.lite(0.0)
    totals = torch.zeros(8, 8, dtype=torch.float64).index_add_(1, grammar.word_class, grammar.base)
    torch.testing.assert_close(grammar.emission, grammar.base / totals[:, grammar.word_class])


def test_a_uniform_base_gives_exactly_zipfs_law() -> None:
    """The dial is the slope of log frequency against log rank; in a sample too."""
    for s in (0.0, 0.5, 1.0):
        grammar = data.lite(s, concentration=1e9, rank="class")
        of = grammar.word_class == 0
        x = grammar.ranks[0, of].double().log()
        slope = ((x - x.mean()) * grammar.emission[0, of].log()).sum() / (x - x.mean()).square().sum()
        assert slope.item() == pytest.approx(-s, abs=1e-4)
        counts = torch.bincount(grammar.sample(300_000, rng=1).long(), minlength=256)[:255][of].double()
        measured = ((x - x.mean()) * counts.log()).sum() / (x - x.mean()).square().sum()
        assert measured.item() == pytest.approx(-s, abs=0.03)


def test_turning_the_dial_makes_the_lower_half_of_a_class_rarer() -> None:
    """Half the words by rank hold half the uses at s = 0, about 1 - sqrt(1/2) at .5, and ln 2 / H_n at 1."""
    grammar = data.lite(rank="class", concentration=1e9)
    of = grammar.word_class == 1
    n = int(of.sum())
    low = grammar.ranks[0, of] > n / 2
    shares = [grammar.at(s).emission[0, of][low].sum().item() for s in (0.0, 0.5, 1.0)]
    harmonic = sum(1 / k for k in range(1, n + 1))
    assert shares == pytest.approx([0.5, 1 - 0.5**0.5, 0.693 / harmonic], rel=0.15)


def test_the_dial_leaves_the_grammar_alone() -> None:
    a, b = data.lite(0.0), data.lite(1.0)
    assert a.rules == b.rules
    assert torch.equal(a.base, b.base)
    one, other = (g.sample_latent(2000, rng=7) for g in (a, b))
    assert torch.equal(one.classes, other.classes)
    assert torch.equal(one.topics, other.topics)
    assert not torch.equal(one.tokens, other.tokens)


def test_class_usage_and_sentence_length_follow_the_closed_form(big: data.Sample) -> None:
    grammar = data.lite()
    words = big.classes[big.classes >= 0]
    torch.testing.assert_close(share(words, 8), grammar.class_usage, rtol=0, atol=0.003)
    ends = (big.tokens == grammar.eos).double().mean().item()
    assert ends == pytest.approx(grammar.eos_rate, rel=0.02)
    assert grammar.class_usage.sum() == pytest.approx(1.0)


def test_expected_counts_by_hand() -> None:
    """S -> a b (1/2) | a S b (1/2): the counts are those of a geometric number of nestings, 2 each."""
    rules = (((0.5, (1, 2)), (0.5, (1, 0, 2))),)
    grammar = data.lite()
    by_hand = data.ZipfPCFG(
        0.0, {**grammar.config, "topics": 1}, rules, torch.tensor([1, 1]), torch.ones(1, 2).double()
    )
    assert by_hand.expected_counts.tolist() == pytest.approx([2.0, 2.0])
    assert by_hand.eos_rate == pytest.approx(0.2)
    text = "".join("ab."[t] for t in by_hand.sample(60_000, rng=0).tolist())
    sentences = text.split(".")[:-1]
    assert all(sentence == "a" * (len(sentence) // 2) + "b" * (len(sentence) // 2) for sentence in sentences)
    lengths = torch.tensor([len(sentence) // 2 for sentence in sentences]).double()
    assert lengths.mean().item() == pytest.approx(2.0, rel=0.03)
    assert (lengths == 1).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_embedding_of_sentences_is_as_asked() -> None:
    for recursion in (0.0, 0.3, 0.6):
        grammar = data.lite(recursion=recursion)
        n = len(grammar.rules)
        made = torch.zeros(n, n, dtype=torch.float64)
        for i, group in enumerate(grammar.rules):
            for p, side in group:
                for symbol in side:
                    if symbol < n:
                        made[i, symbol] += p
        start = torch.zeros(n, dtype=torch.float64)
        start[0] = 1
        expansions = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - made.T, start)
        assert expansions[0].item() == pytest.approx(1 / (1 - recursion))


def test_words_given_class_and_topic_follow_the_emission(big: data.Sample) -> None:
    grammar = data.lite(1.0)
    for topic in range(8):
        for word_class in (0, 3, 7):
            chosen = big.tokens[(big.topics == topic) & (big.classes == word_class)].long()
            of = grammar.word_class == word_class
            counts, p = torch.bincount(chosen, minlength=256)[:255][of].double(), grammar.emission[topic, of]
            assert counts.sum() == len(chosen) > 500
            chi = ((counts - len(chosen) * p).square() / (len(chosen) * p))[p * len(chosen) > 5]
            # Pearson's sum has mean k and variance 2 k
            assert chi.sum() < len(chi) + 5 * (2 * len(chi)) ** 0.5


def test_unigram_closed_form(big: data.Sample) -> None:
    grammar = data.lite(1.0)
    assert grammar.unigram.sum() == pytest.approx(1.0)
    measured = share(big.tokens, 256)
    assert (measured - grammar.unigram).abs().sum() / 2 < 0.02
    wrong = data.lite(0.0).unigram
    assert (measured - wrong).abs().sum() / 2 > 0.05


def test_topics_persist_as_asked_and_are_equally_frequent(big: data.Sample) -> None:
    grammar = data.lite(1.0)
    ends = (big.tokens == grammar.eos).nonzero()[:, 0]
    per_sentence = big.topics[ends]
    kept = (per_sentence[1:] == per_sentence[:-1]).double().mean().item()
    assert kept == pytest.approx(0.85 + 0.15 / 8, abs=0.01)
    torch.testing.assert_close(share(per_sentence, 8), torch.full((8,), 1 / 8).double(), rtol=0, atol=0.03)
    within = big.topics[1:] == big.topics[:-1]
    assert within[big.tokens[:-1] != grammar.eos].all()


@pytest.mark.parametrize("stay", [0.0, 1.0])
def test_extreme_topic_processes(stay: float) -> None:
    sample = data.lite(topic_stay=stay).sample_latent(50_000, rng=2)
    assert len(sample.topics.unique()) == (1 if stay else 8)


def test_every_class_of_every_grammar_is_used() -> None:
    for seed in range(20):
        for grammar in (data.lite(seed=seed), data.zipf_pcfg(seed=seed, words=60)):
            assert (grammar.class_usage > 0).all()
            assert 2 <= grammar.sentence_length < 200


def test_seeds() -> None:
    grammar = data.lite(1.0)
    a, b, c = (grammar.sample(3000, rng=seed) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(data.lite(1.0, seed=4).base, data.lite(0.5, seed=4).base)
    assert not torch.equal(data.lite(seed=4).base, data.lite(seed=5).base)
    assert torch.equal(grammar.sample(100_000, rng=3)[:70_000], grammar.sample(70_000, rng=3))
    assert torch.equal(grammar.sample(10, rng=torch.Generator().manual_seed(1)), a[:10])


def test_tokens_are_small_integers_in_range() -> None:
    tokens = data.zipf_pcfg(1.0).sample(20_000, rng=0)
    assert tokens.dtype == torch.int16
    assert tokens.min() >= 0
    assert tokens.max() == 4411
    assert data.lite(words=40_000).sample(10, rng=0).dtype == torch.int32


def test_corpus_feeds_training() -> None:
    corpus = data.lite(0.5).corpus(4000, rng=0)
    assert isinstance(corpus, Corpus)
    assert corpus.vocab == 256
    assert corpus.source == "Zipf-PCFG, s = 0.5"
    x, y = corpus.batches(batch=3, context=20)(0)
    assert x.dtype == torch.int64
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_a_million_tokens_of_the_full_grammar_take_a_second_or_two() -> None:
    grammar = data.zipf_pcfg(1.0)
    start = time.process_time()
    grammar.sample(1_000_000, rng=0)
    assert time.process_time() - start < 5  # 0.5 s on one free core


def test_extreme_concentration_stays_finite() -> None:
    grammar = data.lite(1.0, concentration=1e-3)
    assert grammar.emission.isfinite().all()
    torch.testing.assert_close(grammar.unigram.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert grammar.sample(5000, rng=0).max() <= 255


def test_bad_input() -> None:
    for bad, message in [
        ({"s": -1.0}, "exponent of at least 0"), ({"words": 5}, "5 words for 20 classes"), ({"topics": 0}, "topics is at"),
        ({"rank": "word"}, "'topic' or 'class'"), ({"concentration": 0.0}, "positive"), ({"recursion": 1.0}, r"\[0, 1\)"),
        ({"topic_stay": 1.5}, "topic_stay"), ({"phrases": 0}, "phrases is at least 1"), ({"productions": 0}, "productions"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            data.zipf_pcfg(**bad)
    with pytest.raises(ValueError, match="exponent"):
        data.lite().at(float("nan"))
    with pytest.raises(ValueError, match="n=0"):
        data.lite().sample(0, rng=0)
