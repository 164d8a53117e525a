"""Reasoning by superposition: a constructed two-layer transformer whose thought holds every node reached so far.

Lemma 2 and theorem 1 of "Reasoning by Superposition" (2505.12514): with parameters that know nothing of the graph, the
c-th thought is the normalised sum of the nodes within c steps of the root, and after enough thoughts the greedy answer
is the candidate that can be reached. Here the weights are written down, not trained, and the network is then run like
any other: causal softmax attention, an MLP with a step for its non-linearity, a layer norm without gain.

A prompt is `<s> (source target <e>)*m <Q> c1 c2 <R> root`, then the thoughts, then `<A>`. The residual stream has four
parts: content, two buffers, position.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

SPECIAL = ("<s>", "<e>", "<Q>", "<R>", "<A>")
FREQUENCIES = 32
"""Sine and cosine pairs in the position code."""
SHARPNESS = 60.0
"""What a wrong key falls behind by, at least, before the softmax: e^-60 is below the resolution of float64."""
CANDIDATE = 4.0
"""How strongly `<R>` holds the candidates: more than a thought ever holds a node (at most 2)."""


class Reasoner:
    """The construction, for graphs of at most `n_max` nodes.

    Where ours differs from the paper: its MLP lets through what is at least 1 / (4 n), which a graph with more than 4 n
    edges out of the reached set falls below; ours uses 1 / (4 n^2), n^2 being the most edges there can be. A step at
    `CANDIDATE` + 1 / (2 sqrt n) gives the candidate that is also in the thought its second unit.

    Args:
        n_max: most nodes. Nodes are the integers from 0 to n_max - 1.
        max_length: longest prompt with its thoughts, in tokens.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> reasoner = Reasoner(6)
        >>> edges = [(0, 1), (1, 2), (0, 3), (4, 5)]
        >>> reasoner.support(edges, root=0, thoughts=2)
        [{0}, {0, 1, 3}, {0, 1, 2, 3}]
        >>> reasoner.solve(edges, root=0, candidates=(5, 2), thoughts=2)
        2
        >>> print(reasoner.solve(edges, root=0, candidates=(5, 2), thoughts=1))
        None
    """

    def __init__(self, n_max: int, *, max_length: int = 4096):
        if n_max < 1 or max_length < 8:
            raise ValueError(
                f"n_max must be at least 1 and max_length at least 8, got {n_max} and {max_length}"
            )
        self.n_max = n_max
        self.token = {name: n_max + k for k, name in enumerate(SPECIAL)}
        self.vocabulary = n_max + len(SPECIAL)
        self.eps = 1.0 / (4 * n_max**2)
        self.positions = position_code(max_length)
        self._layers()

    @property
    def width(self) -> int:
        """Of the residual stream: content, two buffers, position."""
        return 3 * self.vocabulary + self.positions.shape[1]

    def _layers(self) -> None:
        """Write down every weight. Rows are what a part of the stream is made from, columns where it goes."""
        V, P = self.vocabulary, self.positions.shape[1]
        self.content, self.first = slice(0, V), slice(V, 2 * V)
        self.second, self.place = slice(2 * V, 3 * V), slice(3 * V, 3 * V + P)
        gap = separation(self.positions)
        heads = (
            ("<e>", 2, self.first, 1.0),
            ("<e>", 1, self.second, 1.0),
            ("<R>", 2, self.second, CANDIDATE),
            ("<R>", 1, self.second, CANDIDATE),
            ("<A>", 1, self.content, 1.0),
        )
        self.heads = [
            self._chooser(name, back, where, scale, SHARPNESS / gap) for name, back, where, scale in heads
        ]

        # Layer 2, one head: a thought asks for the edges whose source it holds, <A> asks for <R>; nobody else asks.
        # The sharpness reaches the faintest source, 1 / sqrt(n); <A> asks twice as loudly as any thought in its content.
        loud = 2 * SHARPNESS * math.sqrt(self.n_max)
        self.query = torch.zeros(self.width, V + 1, dtype=torch.float64)
        self.key = torch.zeros(self.width, V + 1, dtype=torch.float64)
        self.value = torch.zeros(self.width, self.width, dtype=torch.float64)
        for node in range(self.n_max):
            self.query[node, node] = loud
            self.key[V + node, node] = 1.0
        self.query[self.token["<A>"], V] = 3 * loud
        self.key[self.token["<R>"], V] = 1.0
        # Who finds no edge turns to <s>, which holds nothing: it scores half of what the faintest match does.
        self.rest = loud / (2 * math.sqrt(self.n_max))
        self.value[self.second, self.content] = torch.eye(V, dtype=torch.float64)

    def _chooser(self, name: str, back: int, where: slice, scale: float, loud: float):
        """Attention-chooser: from token `name` to the position `back` before it, from all others to `<s>` (lemma 1)."""
        V, P = self.vocabulary, self.positions.shape[1]
        query = torch.zeros(self.width, P + 1, dtype=torch.float64)
        key = torch.zeros(self.width, P + 1, dtype=torch.float64)
        value = torch.zeros(self.width, self.width, dtype=torch.float64)
        query[self.place, :P] = loud * turn_back(back, P)
        key[self.place, :P] = torch.eye(P, dtype=torch.float64)
        others = [token for token in range(V) if token != self.token[name]]
        # A token other than `name`, or a thought (whose content adds up to at least 1), is drawn to <s> by 3 against
        # the largest inner product of two positions, 1. <s> itself has a value of zero.
        query[others, P] = 3.0 * loud
        key[self.token["<s>"], P] = 1.0
        kept = [token for token in range(V) if token != self.token["<s>"]]
        value[kept, [where.start + token for token in kept]] = scale
        return query, key, value

    def embed(self, content: Tensor, start: int = 0) -> Tensor:
        """Content `[..., L, vocabulary]` at positions from `start` on, as a stream `[..., L, width]`."""
        length = content.shape[-2]
        if start + length > self.positions.shape[0]:
            raise ValueError(
                f"{start + length} tokens are more than max_length = {self.positions.shape[0]}; make a Reasoner with a larger one"
            )
        stream = content.new_zeros(*content.shape[:-1], self.width)
        stream[..., self.content] = content
        stream[..., self.place] = self.positions[start : start + length]
        return stream

    def forward(self, stream: Tensor) -> Tensor:
        """The transformer: stream `[L, width]` -> the output of the last position, content `[vocabulary]`."""
        last = stream.shape[0]
        attended = stream.clone()
        later = torch.ones(last, last, dtype=torch.bool).triu(1)
        for query, key, value in self.heads:
            scores = (stream @ query) @ (stream @ key).T
            attended += scores.masked_fill(later, -math.inf).softmax(-1) @ (stream @ value)
        scores = (attended[-1] @ self.query) @ (attended @ self.key).T
        scores = scores + self.rest * stream[:, self.token["<s>"]]
        content = (attended[-1] + scores.softmax(-1) @ (attended @ self.value))[self.content]
        reached = (content >= self.eps).to(content.dtype)
        chosen = (content >= CANDIDATE + 1 / (2 * math.sqrt(self.n_max))).to(content.dtype)
        out = reached + chosen
        return out / out.norm()

    def prompt(
        self, edges: Iterable[tuple[int, int]], root: int, candidates: Sequence[int] = (0, 0)
    ) -> Tensor:
        """Content of the prompt, one-hot, `[3 m + 6, vocabulary]`.

        Raises:
            ValueError: a node outside 0 .. n_max - 1, not two candidates, or a prompt longer than `max_length`.
        """
        edges = [(int(source), int(target)) for source, target in edges]
        if len(candidates) != 2:
            raise ValueError(f"there are two candidates, got {len(candidates)}")
        t = self.token
        ids = [t["<s>"]]
        for source, target in edges:
            ids += [source, target, t["<e>"]]
        nodes = {root, *candidates, *(node for edge in edges for node in edge)}
        wrong = sorted(node for node in nodes if not 0 <= node < self.n_max)
        if wrong:
            raise ValueError(
                f"node {wrong[0]} is not in 0 .. {self.n_max - 1}; make a Reasoner with a larger n_max, or number the nodes anew"
            )
        ids += [t["<Q>"], *candidates, t["<R>"], root]
        return torch.eye(self.vocabulary, dtype=torch.float64)[ids]

    def think(self, prompt: Tensor, thoughts: int) -> Tensor:
        """The thoughts, each fed back as the next input: `[1 + thoughts, vocabulary]`, the root's own token first."""
        if thoughts < 0:
            raise ValueError(f"the number of thoughts must be at least 0, got {thoughts}")
        stream, made = self.embed(prompt), [prompt[-1]]
        for _ in range(thoughts):
            made.append(self.forward(stream))
            stream = torch.cat([stream, self.embed(made[-1][None], start=stream.shape[0])])
        return torch.stack(made)

    def support(self, edges: Iterable[tuple[int, int]], root: int, thoughts: int) -> list[set[int]]:
        """Nodes that each thought holds, [V_0, ..., V_thoughts]; V_0 = {root}, V_c = what is within c steps of it.

        Raises:
            ValueError: a node that does not exist, or a negative number of thoughts.
        """
        made = self.think(self.prompt(edges, root, (root, root)), thoughts)[:, : self.n_max]
        return [set((thought > 0).nonzero().flatten().tolist()) for thought in made]

    def answer(
        self, edges: Iterable[tuple[int, int]], root: int, candidates: Sequence[int], thoughts: int
    ) -> Tensor:
        """Logits over the vocabulary after `<A>`; the nodes come first."""
        prompt = self.prompt(edges, root, candidates)
        content = torch.cat([prompt, self.think(prompt, thoughts)[1:]])
        last = torch.eye(self.vocabulary, dtype=torch.float64)[self.token["<A>"]][None]
        return self.forward(self.embed(torch.cat([content, last])))

    def solve(
        self, edges: Iterable[tuple[int, int]], root: int, candidates: Sequence[int], thoughts: int
    ) -> int | None:
        """The candidate that can be reached from `root` within `thoughts` steps.

        Returns:
            The candidate whose logit is strictly larger than the other's (and than every other node's); None where
            neither leads: not yet reached, both reached, or out of reach.

        Raises:
            ValueError: a node that does not exist, not two candidates, or a negative number of thoughts.
        """
        logits = self.answer(edges, root, candidates, thoughts)
        a, b = (int(candidate) for candidate in candidates)
        best, other = (a, b) if logits[a] > logits[b] else (b, a)
        return best if logits[best] > logits[other] and logits[best] >= logits.max() else None


def position_code(length: int) -> Tensor:
    """Sines and cosines of `FREQUENCIES` angles per position, of unit norm, `[length, 2 FREQUENCIES]`."""
    # Angles spread evenly over (0, pi) tell far positions apart as well as near ones, over 2 FREQUENCIES positions and
    # more; golden-ratio steps keep them from agreeing again.
    turn = math.pi * torch.remainder(
        torch.arange(1, FREQUENCIES + 1, dtype=torch.float64) * 0.6180339887498949, 1.0
    )
    angle = torch.arange(length, dtype=torch.float64)[:, None] * turn
    return torch.cat([angle.sin(), angle.cos()], 1) / math.sqrt(FREQUENCIES)


def turn_back(steps: int, width: int) -> Tensor:
    """The matrix R with p_i R = p_{i - steps}: a rotation of every sine and cosine pair."""
    half = width // 2
    turn = math.pi * torch.remainder(torch.arange(1, half + 1, dtype=torch.float64) * 0.6180339887498949, 1.0)
    sin, cos = torch.diag((steps * turn).sin()), torch.diag((steps * turn).cos())
    return torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)], 0)


def separation(positions: Tensor) -> float:
    """1 - the largest inner product of two different positions."""
    products = positions @ positions[0]
    return float(1 - products[1:].max())
