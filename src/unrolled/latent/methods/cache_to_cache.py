"""Cache-to-Cache: what another model has read is fused into this one's cache, layer by layer (2510.03215)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.latent.backbone import Backbone, Pairs, Stream, adapt, keys_values, read, with_keys_values
from unrolled.latent.protocol import Cell, Method
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import pad_left


class Fuser(nn.Module):
    """One layer, keys or values: target + gate * scalar * proj(MLP([source ; target])), the scalar a sigmoid a head.

    Args:
        source: heads and width of a head of the cache that is handed over.
        target: of the cache that it is fused into.
        hidden: inner width.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], hidden: int):
        super().__init__()
        self.source, self.target = source, target
        wide, out = source[0] * source[1], target[0] * target[1]
        self.mlp = nn.Sequential(
            nn.Linear(wide + out, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.project, self.scalar = nn.Linear(hidden, out), nn.Linear(hidden, target[0])

    def forward(self, source: Tensor, target: Tensor, gate: Tensor | float) -> Tensor:
        """`[B, heads, T, width]` caches of the same T -> the fused one, of the target's shape.

        Raises:
            ValueError: a shape that the fuser was not made for.
        """
        for name, given, made in (("source", source, self.source), ("target", target, self.target)):
            if (given.shape[1], given.shape[3]) != made or given.shape[2] != target.shape[2]:
                raise ValueError(
                    f"the {name}'s cache has {given.shape[1]} heads of {given.shape[3]} over {given.shape[2]} columns; this fuser was made for "
                    f"{made[0]} heads of {made[1]}, over the {target.shape[2]} columns of the target: make one for these models"
                )
        flat = [cache.transpose(1, 2).flatten(2) for cache in (source, target)]
        inner = self.mlp(torch.cat(flat, -1))
        scalar = self.scalar(inner).sigmoid().transpose(1, 2)[..., None]
        proj = self.project(inner).unflatten(-1, self.target).transpose(1, 2)
        return target + gate * scalar * proj


class CacheToCache(Method):
    """The receiver answers from its own reading of the question, with the sharer's fused into its cache; no thoughts.

    Layers are aligned from the last. A layer's gate is sigmoid((logit + Gumbel) / T) in training, T falling from 1 to 0.001
    (geometrically; the paper does not say how) over `anneal` passes, and in evaluation open or shut by the sign of its
    logit. It begins shut: before training, the receiver answers as if alone. All of a question but its last token is
    fused; the last is read on top, so that the first word said depends on the fused cache.

    Only the fuser learns: the sharer passes no gradient and, unless `freeze` is False, the receiver's weights are frozen.
    The sharer is not saved: `Thinker.from_pretrained(path, source=...)`.

    Args:
        backbone: the receiver.
        source: the sharer, a causal language model with the same token ids; depth, heads and widths may differ.
        hidden: inner width of the fusers. The paper: 1024.
        anneal: training passes until T is smallest. The paper: 1929.
        freeze: whether the receiver's weights stay as they are.
        seed: of the Gumbel noise.

    Raises:
        ValueError: no sharer, or one with other token ids.
        TypeError: a model without keys and values in its cache.
    """

    name, paper = "cache_to_cache", "2510.03215"
    cell = Cell(
        "component: projection",
        "learnable: alignment",
        "compressed: states",
        "post-training: explicit supervision",
        ("collaboration",),
    )
    markers, sequential = False, False

    def __init__(
        self,
        backbone: Backbone,
        source: Any = None,
        hidden: int = 1024,
        anneal: int = 1929,
        freeze: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        if source is None:
            raise ValueError("cache_to_cache needs the model that shares its cache: source=model")
        sharer = adapt(source)
        if sharer.vocabulary != backbone.vocabulary:
            raise ValueError(
                f"the sharer knows {sharer.vocabulary} tokens and the receiver {backbone.vocabulary}: the same ids would be other words; "
                "pass models of one tokenizer"
            )
        # in a list: the sharer is neither trained nor saved with the method
        self.sharer = [sharer]
        self.anneal, self.seed = anneal, seed
        theirs, ours = shapes(sharer), shapes(backbone)
        n = min(len(theirs), len(ours))
        self.fused = range(len(ours) - n, len(ours))
        pairs = list(zip(theirs[-n:], ours[-n:], strict=True))
        like = backbone.weights()[0]
        self.keys = nn.ModuleList([Fuser(s, t, hidden) for s, t in pairs]).to(like)
        self.values = nn.ModuleList([Fuser(s, t, hidden) for s, t in pairs]).to(like)
        self.logit = nn.Parameter(torch.zeros(n).to(like))
        self.passes: Tensor
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        if freeze:
            for weight in (*backbone.model.parameters(),):  # pyright: ignore[reportAttributeAccessIssue]
                weight.requires_grad_(False)

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """No thoughts, no steps: the answer."""
        return 0, ()

    def gates(self) -> Tensor:
        """Of each fused layer, `[layers]`; in training each call is a pass of the annealing."""
        if not self.training:
            return (self.logit > 0).to(self.logit)
        done = int(self.passes)
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + done)
        u = torch.rand(self.logit.shape, generator=rng).clamp(1e-6, 1 - 1e-6).to(self.logit)
        T = 0.001 ** min(1.0, done / max(1, self.anneal))
        self.passes += 1
        return ((self.logit - (-u.log()).log()) / T).sigmoid()

    def fuse(self, source: Pairs, target: Pairs) -> Pairs:
        """Keys and values `[B, heads, T, width]` of every layer of the receiver, with the sharer's in them."""
        if len(source) < len(self.fused) or len(target) != self.fused.stop:
            raise ValueError(
                f"caches of {len(source)} and {len(target)} layers; this fuser was made for {len(self.fused)} or more, and {self.fused.stop}: "
                "make one for these models"
            )
        made, gates, n = list(target), self.gates(), len(self.fused)
        for k, layer in enumerate(self.fused):
            theirs, ours = source[len(source) - n + k], target[layer]
            made[layer] = (
                self.keys[k](theirs[0], ours[0], gates[k]),
                self.values[k](theirs[1], ours[1], gates[k]),
            )
        return made

    def ask(
        self, backbone: Backbone, questions: Sequence[Sequence[int]], pad: int, device: torch.device
    ) -> Stream:
        """Both read the question, all but its last token; the caches are fused; the receiver reads the last.

        Raises:
            ValueError: a question of a single token.
        """
        if min(len(question) for question in questions) < 2:
            raise ValueError("a question of one token leaves nothing to hand over")
        tokens, valid = pad_left([question[:-1] for question in questions], pad, device)
        with torch.no_grad():
            _, shared = read(self.sharer[0], None, self.sharer[0].embed(tokens), valid)
        _, stream = read(backbone, None, backbone.embed(tokens), valid)
        fused = self.fuse(keys_values(shared.cache), keys_values(stream.cache))
        stream = Stream(
            stream.hidden, stream.length, stream.columns, stream.seen, with_keys_values(stream.cache, fused)
        )
        last = torch.tensor([question[-1] for question in questions], device=device)
        return read(backbone, stream, backbone.embed(last)[:, None])[1]


@torch.no_grad()
def shapes(backbone: Backbone) -> list[tuple[int, int]]:
    """Heads, and width of a head, of every layer's cache.

    Raises:
        TypeError: a cache without keys and values.
    """
    token = torch.zeros(1, 1, dtype=torch.long, device=backbone.weights()[0].device)
    _, stream = read(backbone, None, backbone.embed(token))
    return [(keys.shape[1], keys.shape[3]) for keys, _ in keys_values(stream.cache)]
