"""Agents that hand one another what they have read and thought, instead of text (LatentMAS 2511.20639, C2C 2510.03215).

Both ways have the exchange of text as their control, and both answer in two ways: in words, or as a belief over options,
which is what an agent of a debate is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.latent.backbone import Backbone, Stream, read
from unrolled.latent.methods.cache_to_cache import CacheToCache, shapes
from unrolled.latent.protocol import Reply, exact, follow, speak
from unrolled.latent.text import pad_left
from unrolled.latent.thinker import Thinker


@dataclass
class Relay:
    """A chain of agents: each reads its role after all that was read and thought before it.

    Args:
        thinker: with a method such as `latent_mas`, for all agents; or one for each role, whose models have caches of one
            shape (the same model, or versions of it).
        roles: what each agent is told, in turn; `{question}` is filled in. The last one answers.

    Raises:
        ValueError: no roles, not as many thinkers as roles, or models whose caches differ in shape.
    """

    thinker: Thinker | Sequence[Thinker]
    roles: Sequence[str]

    def __post_init__(self):
        if not self.roles:
            raise ValueError("a relay needs at least one role")
        one = isinstance(self.thinker, Thinker)
        self.thinkers = (
            [self.thinker] * len(self.roles) if isinstance(self.thinker, Thinker) else list(self.thinker)
        )
        if len(self.thinkers) != len(self.roles):
            raise ValueError(
                f"{len(self.thinkers)} thinkers for {len(self.roles)} roles: pass one, or one each"
            )
        for before, after in zip(self.thinkers, () if one else self.thinkers[1:], strict=False):
            alike(before.backbone, after.backbone)

    @torch.no_grad()
    def answer(
        self, question: str, thoughts: int = 8, *, max_new_tokens: int = 64, text: bool = False
    ) -> Reply:
        """What the last agent says.

        Args:
            question: for all.
            thoughts: of each agent; the last one thinks too, before it speaks.
            max_new_tokens: tokens the last one says at most; with `text`, each.
            text: the control: agents say their part in words, and the words are handed on in place of caches.
        """
        stream, made = self._read(question, thoughts, max_new_tokens, text)
        return _say(self.thinkers[-1], stream, made, max_new_tokens)

    @torch.no_grad()
    def belief(
        self,
        question: str,
        options: Sequence[str],
        thoughts: int = 8,
        *,
        max_new_tokens: int = 64,
        text: bool = False,
    ) -> tuple[float, ...]:
        """The last agent's belief: softmax over options of the log-probability of their tokens; arguments as `answer`'s."""
        stream, _ = self._read(question, thoughts, max_new_tokens, text)
        return belief(self.thinkers[-1], stream, options)

    def _read(self, question: str, thoughts: int, words: int, text: bool) -> tuple[Stream, int]:
        if text:
            said = ""
            for t, role in zip(self.thinkers[:-1], self.roles, strict=False):
                prompt = f"{said}{role.format(question=question)}"
                [reply] = t.generate(prompt, 0, max_new_tokens=words)
                said = f"{prompt}\n{reply.text}\n"
            return _begin(self.thinkers[-1], f"{said}{self.roles[-1].format(question=question)}"), 0
        thinking = None
        for t, role in zip(self.thinkers, self.roles, strict=True):
            ids = t.text.question(role.format(question=question), markers=False)
            embeds = t.backbone.embed(torch.tensor([ids], device=t.device))
            if thinking is None:
                _, stream = read(t.backbone, None, embeds)
            else:
                _, stream = follow(t.backbone, thinking, embeds, None)
            thinking = t.method.think(t.backbone, stream, torch.tensor([thoughts], device=t.device))
        assert thinking is not None
        stream = thinking.stream
        if thinking.waiting is not None and thinking.thought is not None:
            _, stream = read(self.thinkers[-1].backbone, stream, thinking.thought[:, None])
        return stream, thoughts * len(self.roles)


@dataclass
class Consult:
    """Two agents with models of their own: the receiver answers with what the sharer has read fused into its cache.

    Args:
        thinker: the receiver, with method `cache_to_cache`; its sharer is the method's `source`.

    Raises:
        TypeError: another method.
    """

    thinker: Thinker

    def __post_init__(self):
        if not isinstance(self.thinker.method, CacheToCache):
            raise TypeError(
                f"Consult takes a thinker with method 'cache_to_cache', got {self.thinker.method.name!r}: "
                "for agents with one model there is Relay"
            )

    @torch.no_grad()
    def answer(self, question: str, *, max_new_tokens: int = 64, text: bool = False) -> Reply:
        """What the receiver says; with `text`, the control, after reading what the sharer has to say in words."""
        return _say(self.thinker, self._read(question, max_new_tokens, text), 0, max_new_tokens)

    @torch.no_grad()
    def belief(
        self, question: str, options: Sequence[str], *, max_new_tokens: int = 64, text: bool = False
    ) -> tuple[float, ...]:
        """The receiver's belief over options, as `Relay.belief`."""
        return belief(self.thinker, self._read(question, max_new_tokens, text), options)

    def _read(self, question: str, words: int, text: bool) -> Stream:
        t = self.thinker
        training = t.training
        t.eval()
        try:
            if text:
                assert isinstance(t.method, CacheToCache)
                sharer = t.method.sharer[0]
                ids = t.text.question(question, markers=False)
                _, stream = read(sharer, None, sharer.embed(torch.tensor([ids], device=t.device)))
                [(said, _)] = speak(
                    sharer, stream, stream.hidden, _greedy, eos=t.text.eos, max_new_tokens=words
                )
                return _begin(t, f"{question}\n{t.text.decode(said)}")
            rows = [t.text.question(question, markers=False)]
            return t.method.ask(t.backbone, rows, t.text.pad, t.device)
        finally:
            t.train(training)


def belief(thinker: Thinker, stream: Stream, options: Sequence[str]) -> tuple[float, ...]:
    """Softmax over options of log p(option's tokens | everything read), for the one row of a stream.

    Raises:
        ValueError: fewer than two options, or one of no tokens.
    """
    ids = [thinker.text.encode(option) for option in options]
    if len(ids) < 2 or not all(ids):
        raise ValueError(
            f"a belief is over two options or more, of at least a token each; got {list(options)}"
        )
    scores = []
    for tokens in ids:
        row = torch.tensor([tokens], device=thinker.device)
        hidden = stream.hidden[:, None]
        if len(tokens) > 1:
            after, _ = read(
                thinker.backbone, stream.fork(thinker.backbone), thinker.backbone.embed(row[:, :-1])
            )
            hidden = torch.cat([hidden, after], 1)
        log_p = exact(thinker.backbone.head(hidden)).log_softmax(-1)
        scores.append(log_p.gather(-1, row[..., None]).sum())
    return tuple(torch.stack(scores).double().softmax(0).tolist())


def alike(one: Backbone, other: Backbone) -> None:
    """Refuse to hand a cache from one model to another of a different shape.

    Raises:
        ValueError: they differ in width, vocabulary, or the layers, heads or widths of their caches.
    """
    if one is other:
        return
    found = [(shapes(b), b.width, b.vocabulary) for b in (one, other)]
    if found[0] != found[1]:
        told = [
            f"{len(layers)} layers of {layers[0][0]} heads of {layers[0][1]}, width {width}, {vocabulary} tokens"
            for layers, width, vocabulary in found
        ]
        raise ValueError(
            f"a cache cannot be handed from a model with {told[0]} to one with {told[1]}: use models of one shape, hand on text "
            "(text=True), or fit a fuser (method cache_to_cache)"
        )


def _greedy(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


def _begin(thinker: Thinker, prompt: str) -> Stream:
    """Read a prompt, with nothing but its words."""
    tokens, valid = pad_left([thinker.text.question(prompt, markers=False)], thinker.text.pad, thinker.device)
    return read(thinker.backbone, None, thinker.backbone.embed(tokens), valid)[1]


def _say(thinker: Thinker, stream: Stream, thoughts: int, most: int) -> Reply:
    [(said, why)] = speak(
        thinker.backbone, stream, stream.hidden, _greedy, eos=thinker.text.eos, max_new_tokens=most
    )
    return Reply(thinker.text.decode(said), tuple(said), thoughts, why)
