"""Zipf-PCFG: synthetic language whose word frequencies have a dial, s (curvature fact sheet 2606.04662, section 2).

>>> grammar = lite(s=1.0, seed=0)
>>> grammar.vocab, grammar.sample(8, rng=0).shape
(256, torch.Size([8]))
>>> train, val = grammar.corpus(5000, rng=1), grammar.at(0.0).corpus(500, rng=2)  # validation is always at s = 0
>>> x, y = train.batches(batch=2, context=16)(0)

A sentence is derived from a probabilistic context-free grammar over grammatical classes; each class then emits a word that
also depends on the latent topic of the sentence; a sentence ends with EOS. Within a class and a topic, word
probabilities are proportional to base_prob * rank^-s, renormalised.

| from the sources | our choices, each a parameter |
|---|---|
| 4,411 words and EOS: 4,412 tokens | the productions: `phrases`, `productions`, `recursion` (none are published) |
| 20 grammatical classes, 30 latent topics | classes of equal size |
| topic-specific base probabilities | drawn from a symmetric Dirichlet of `concentration` 1 (uniform on the simplex) |
| base_prob * rank^-s within class and topic, s in {0, .5, 1} | rank by base probability within class and topic (`rank`) |
| validation at s = 0 while training s varies | topics: each sentence keeps the last topic with probability `topic_stay` |

Whatever does not depend on s (productions, base draws) depends on `seed` alone: `grammar.at(s)` turns the dial and nothing
else. The marginals have closed forms (`class_usage`, `eos_rate`, `unigram`), which the tests hold the samples to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.core import seeds
from unrolled.training.corpus import Corpus

_CHUNK = 4096  # sentences derived at a time: stays in the cache


def zipf_pcfg(
    s: float = 0.0,
    *,
    words: int = 4411,
    classes: int = 20,
    topics: int = 30,
    concentration: float = 1.0,
    rank: str = "topic",
    topic_stay: float = 0.85,
    phrases: int = 8,
    productions: int = 4,
    recursion: float = 0.3,
    seed: int = 0,
) -> "ZipfPCFG":
    """Draw a grammar; by default of the paper's size.

    Args:
        s: exponent of the reweighting, rank^-s; 0 leaves the base probabilities.
        words: without EOS.
        classes: grammatical classes; words are dealt out evenly.
        topics: latent topics.
        concentration: of the Dirichlet of base probabilities, per class and topic; large values make them uniform.
        rank: `"topic"` ranks the words of a class by base probability anew in each topic; `"class"` gives a class one
            order for all topics, so that some words are rare everywhere.
        topic_stay: probability that a sentence keeps the topic of the last one; else it is drawn uniformly.
        phrases: nonterminals.
        productions: right-hand sides for each.
        recursion: expected number of sentences embedded directly in a sentence, in [0, 1).
        seed: of productions and base probabilities.

    Raises:
        ValueError: sizes below 1, fewer words than classes, or probabilities out of range.

    Example:
        >>> zipf_pcfg().vocab
        4412
    """
    _check(s, words, classes, topics, concentration, rank, topic_stay, phrases, productions, recursion)
    draw = np.random.default_rng(seed)
    rules = _rules(draw, classes, phrases, productions, recursion)
    sizes = torch.tensor([len(part) for part in np.array_split(np.arange(words), classes)])
    gamma = torch.from_numpy(draw.standard_gamma(concentration, (topics, words)))
    base = gamma.clamp(min=torch.finfo(torch.float64).tiny)  # tiny concentrations underflow
    config = {
        "words": words, "classes": classes, "topics": topics, "concentration": concentration, "rank": rank,
        "topic_stay": topic_stay, "phrases": phrases, "productions": productions, "recursion": recursion, "seed": seed,
    }  # fmt: skip
    return ZipfPCFG(float(s), config, rules, sizes, base)


def lite(s: float = 0.0, *, seed: int = 0, **changes: Any) -> "ZipfPCFG":
    """A grammar for two CPU cores: 255 words and EOS (one byte), 8 classes, 8 topics.

    Args:
        s: exponent.
        seed: of the grammar.
        changes: any argument of `zipf_pcfg`.

    Example:
        >>> round(lite().sentence_length, 1)
        13.4
    """
    return zipf_pcfg(s, **{"words": 255, "classes": 8, "topics": 8, "phrases": 5, "seed": seed, **changes})


class Sample(NamedTuple):
    """Tokens with what made them, each `[n]`; EOS has class -1."""

    tokens: Tensor
    classes: Tensor
    topics: Tensor


@dataclass(frozen=True, eq=False)
class ZipfPCFG:
    """A grammar with its emission probabilities; made by `zipf_pcfg`.

    Attributes:
        s: exponent.
        config: every other number it was drawn from.
        rules: for each nonterminal, its right-hand sides with their probabilities; symbols below `phrases` are
            nonterminals (0 starts), the others classes.
        sizes: `[classes]` words of each class; their token ids are consecutive.
        base: `[topics, words]` unnormalised base probabilities.
    """

    s: float
    config: dict[str, Any]
    rules: tuple[tuple[tuple[float, tuple[int, ...]], ...], ...]
    sizes: Tensor
    base: Tensor

    @property
    def words(self) -> int:
        """Words, without EOS."""
        return self.base.shape[1]

    @property
    def vocab(self) -> int:
        """Tokens, with EOS."""
        return self.words + 1

    @property
    def eos(self) -> int:
        """The token that ends a sentence: the last id."""
        return self.words

    def at(self, s: float) -> "ZipfPCFG":
        """The same grammar with another exponent.

        Example:
            >>> a, b = lite(s=1.0).at(0.0), lite(s=0.0)
            >>> torch.equal(a.sample(50, rng=3), b.sample(50, rng=3))
            True
        """
        _check_exponent(s)
        return ZipfPCFG(float(s), self.config, self.rules, self.sizes, self.base)

    @cached_property
    def word_class(self) -> Tensor:
        """`[words]` the class of each word."""
        return torch.repeat_interleave(torch.arange(len(self.sizes)), self.sizes)

    @cached_property
    def ranks(self) -> Tensor:
        """`[topics, words]` rank of each word within its class, from 1."""
        starts = (self.sizes.cumsum(0) - self.sizes)[self.word_class]
        if self.config["rank"] == "class":
            return (torch.arange(self.words) - starts + 1).expand(self.base.shape)
        order = torch.stack([
            torch.argsort(self.word_class.double() - row / (row.max() + 1), stable=True) for row in self.base
        ])  # fmt: skip
        places = torch.empty_like(order).scatter_(1, order, torch.arange(self.words).expand(order.shape))
        return places - starts + 1

    @cached_property
    def emission(self) -> Tensor:
        """`[topics, words]` P(word | its class, topic): each class sums to 1."""
        weights = self.base * self.ranks.double() ** -self.s
        totals = torch.zeros(len(weights), len(self.sizes), dtype=torch.float64)
        totals.index_add_(1, self.word_class, weights)
        return weights / totals[:, self.word_class]

    @cached_property
    def expected_counts(self) -> Tensor:
        """`[classes]` expected words of each class in a sentence: counts e solve e = start + M^T e over nonterminals."""
        n, classes = len(self.rules), len(self.sizes)
        made = torch.zeros(n, n + classes, dtype=torch.float64)
        for i, sides in enumerate(self.rules):
            for probability, side in sides:
                for symbol in side:
                    made[i, symbol] += probability
        start = torch.zeros(n, dtype=torch.float64)
        start[0] = 1
        expansions = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - made[:, :n].T, start)
        return made[:, n:].T @ expansions

    @property
    def sentence_length(self) -> float:
        """Expected words in a sentence, without EOS."""
        return float(self.expected_counts.sum())

    @property
    def eos_rate(self) -> float:
        """Share of EOS among tokens."""
        return 1 / (1 + self.sentence_length)

    @property
    def class_usage(self) -> Tensor:
        """`[classes]` share of each class among words."""
        return self.expected_counts / self.expected_counts.sum()

    @property
    def unigram(self) -> Tensor:
        """`[vocab]` share of each token in a long sample (topics are equally frequent)."""
        word = self.class_usage[self.word_class] * self.emission.mean(0) * (1 - self.eos_rate)
        return torch.cat([word, torch.tensor([self.eos_rate], dtype=torch.float64)])

    def sample(self, n: int, *, rng: int | torch.Generator) -> Tensor:
        """`[n]` tokens (int16, or int32 for large vocabularies) from the start of a sentence.

        Example:
            >>> grammar = lite()
            >>> torch.equal(grammar.sample(99, rng=5), grammar.sample(200, rng=5)[:99])
            True
        """
        return torch.cat([part.tokens for part in self._parts(n, rng)])[:n]

    def corpus(self, n: int, *, rng: int | torch.Generator) -> Corpus:
        """A sample as a corpus for `training`: `grammar.corpus(n, rng=0).batches(batch=..., context=...)`."""
        return Corpus.from_tokens(
            self.sample(n, rng=rng), vocab=self.vocab, source=f"Zipf-PCFG, s = {self.s:g}"
        )

    def sample_latent(self, n: int, *, rng: int | torch.Generator) -> Sample:
        """A sample together with the class and topic of every token.

        Raises:
            ValueError: n below 1.
        """
        return Sample(*(torch.cat(columns)[:n] for columns in zip(*self._parts(n, rng))))

    def _parts(self, n: int, rng: int | torch.Generator) -> Iterator[Sample]:
        """Samples of a fixed number of sentences until there are n tokens: a longer sample begins like a shorter one."""
        if n < 1:
            raise ValueError(f"a sample has at least one token, got n={n}")
        generator = seeds.generator(rng)
        dtype = torch.int16 if self.vocab <= 2**15 else torch.int32
        have, topic = 0, torch.randint(self.config["topics"], (), generator=generator)
        while have < n:
            symbols, sentence = self._derive(_CHUNK, generator)
            per_sentence = self._topics(_CHUNK, topic, generator)
            topic, topics = per_sentence[-1], per_sentence[sentence]
            tokens, classes = self._emit(symbols, topics, generator)
            yield Sample(tokens.to(dtype), classes.to(torch.int16), topics.to(torch.int16))
            have += len(tokens)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Productions as arrays: cumulative probability (offset by the nonterminal), lengths, right-hand sides, and the
        row that leaves a terminal (a class, or the end) as it is.
        """
        n, terminals = len(self.rules), len(self.sizes) + 1
        sides = [side for group in self.rules for _, side in group]
        cumulative = torch.cat([
            i + torch.tensor([p for p, _ in group], dtype=torch.float64).cumsum(0) for i, group in enumerate(self.rules)
        ])  # fmt: skip
        ends = torch.tensor([len(group) for group in self.rules]).cumsum(0) - 1
        cumulative[ends] = torch.arange(1.0, n + 1, dtype=torch.float64)  # sums to 1 but for rounding
        keep = len(sides) + torch.arange(terminals)
        sides += [(n + i,) for i in range(terminals)]
        lengths = torch.tensor([len(side) for side in sides])
        table = torch.zeros(len(sides), int(lengths.max()), dtype=torch.int16)
        for row, side in zip(table, sides):
            row[: len(side)] = torch.tensor(side, dtype=torch.int16)
        return cumulative, lengths, table, keep

    def _derive(self, sentences: int, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Expand that many start symbols at once; classes from 0 (EOS is `classes`), and the sentence of each."""
        cumulative, lengths, table, keep = self._tables
        n = len(self.rules)
        symbols = torch.tensor([0, n + len(self.sizes)], dtype=torch.int16).repeat(sentences)
        sentence = torch.arange(sentences).repeat_interleave(2)
        while True:
            open_ = (symbols < n).nonzero()[:, 0]
            if not len(open_):
                return (symbols - n).long(), sentence
            u = torch.rand(len(open_), generator=rng, dtype=torch.float64)
            row = keep[(symbols - n).clamp(min=0).long()]
            row[open_] = torch.searchsorted(cumulative, symbols[open_].double() + u, right=True)
            size = lengths[row]
            source = torch.repeat_interleave(torch.arange(len(symbols)), size)
            place = torch.arange(len(source)) - (size.cumsum(0) - size)[source]
            symbols = table[row[source], place]
            sentence = sentence[source]

    def _topics(self, sentences: int, last: Tensor, rng: torch.Generator | None) -> Tensor:
        """Topic of each sentence: the last switch decides."""
        switches = torch.rand(sentences, generator=rng) >= self.config["topic_stay"]
        fresh = torch.randint(self.config["topics"], (sentences,), generator=rng)
        latest = torch.where(switches, torch.arange(sentences), -1).cummax(0).values
        return torch.where(latest < 0, last, fresh[latest.clamp(min=0)])

    @cached_property
    def _cumulative(self) -> Tensor:
        """`[topics * words]` cumulative emission, offset by topic * classes + class: one sorted array to search."""
        running = self.emission.cumsum(1)
        ends = self.sizes.cumsum(0) - 1
        before = torch.cat([torch.zeros(len(running), 1, dtype=torch.float64), running[:, ends[:-1]]], dim=1)
        within = (running - before[:, self.word_class]).clamp(max=1.0)
        within[:, ends] = 1.0
        pair = torch.arange(len(running))[:, None] * len(self.sizes) + self.word_class
        return (within + pair).flatten()

    def _emit(self, classes: Tensor, topics: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        end = classes == len(self.sizes)
        u = torch.rand(len(classes), generator=rng, dtype=torch.float64)
        pair = topics * len(self.sizes) + classes.clamp(max=len(self.sizes) - 1)
        found = torch.searchsorted(self._cumulative, pair.double() + u, right=True) - topics * self.words
        return torch.where(end, self.eos, found), torch.where(end, -1, classes)


def _rules(
    draw: np.random.Generator, classes: int, phrases: int, productions: int, recursion: float
) -> tuple[tuple[tuple[float, tuple[int, ...]], ...], ...]:
    """Random productions of 2 to 4 symbols.

    Phrases point to later phrases and to classes, each of which is reachable; one phrase may embed a whole sentence between
    two classes, with the probability that makes `recursion` true.
    """
    sides = [[list[int]() for _ in range(productions)] for _ in range(phrases)]

    def put(phrase: int, symbol: int) -> None:
        sides[phrase][draw.integers(productions)].append(symbol)

    for phrase in range(1, phrases):
        put(int(draw.integers(phrase)), phrase)
    for i, word_class in enumerate(draw.permutation(classes)):
        put(i % phrases, phrases + int(word_class))
    for phrase, group in enumerate(sides):
        for side in group:
            for _ in range(int(draw.integers(2, 5)) - len(side)):
                deeper = phrase + 1 < phrases and draw.random() < 0.4
                low, high = (phrase + 1, phrases) if deeper else (phrases, phrases + classes)
                side.append(int(draw.integers(low, high)))
            draw.shuffle(side)
    rules = [
        [(float(p), tuple(side)) for p, side in zip(draw.dirichlet(np.full(productions, 2.0)), group)]
        for group in sides
    ]
    counts = np.zeros(phrases)
    counts[0] = 1.0
    for i, group in enumerate(rules):
        for p, side in group:
            for symbol in side:
                if symbol < phrases:
                    counts[symbol] += p * counts[i]
    host = int(counts.argmax())
    share = recursion / counts[host]
    before, after = (phrases + int(c) for c in draw.integers(classes, size=2))
    if share:
        rules[host] = [((1 - share) * p, side) for p, side in rules[host]] + [(share, (before, 0, after))]
    return tuple(tuple(group) for group in rules)


def _check_exponent(s: float) -> None:
    if not 0.0 <= s < float("inf"):
        raise ValueError(f"s is an exponent of at least 0 (the paper's are 0, .5 and 1), got {s}")


def _check(
    s: float, words: int, classes: int, topics: int, concentration: float, rank: str, topic_stay: float, phrases: int,
    productions: int, recursion: float,
) -> None:  # fmt: skip
    _check_exponent(s)
    sizes = {"classes": classes, "topics": topics, "phrases": phrases, "productions": productions}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is at least 1, got {size}")
    if words < classes:
        raise ValueError(f"every class needs a word: got {words} words for {classes} classes")
    if rank not in ("topic", "class"):
        raise ValueError(f"rank is 'topic' or 'class', got {rank!r}")
    if not concentration > 0:
        raise ValueError(f"concentration is positive, got {concentration}")
    if not 0.0 <= topic_stay <= 1.0 or not 0.0 <= recursion < 1.0:
        raise ValueError(
            f"topic_stay lies in [0, 1] and recursion in [0, 1), got {topic_stay} and {recursion}"
        )
