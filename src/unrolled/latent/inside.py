"""Looking at thoughts: what each would have said, how they lie, what can be read from them, which of them decided."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled import instruments
from unrolled.core import Trajectory
from unrolled.instruments import Reading
from unrolled.latent.protocol import exact
from unrolled.latent.tasks.problem import Graph, search
from unrolled.latent.thinker import Thinker

COLLAPSED = 0.98
"""Mean cosine between a problem's thoughts above which they are called collapsed (latent fact sheet, A17)."""


def thought_lens(thinker: Thinker, question: Any, thoughts: int, *, k: int = 5) -> Reading:
    """What each thought would have said, had it been spoken: the head's `k` likeliest tokens.

    Args:
        thinker: any.
        question: as `Thinker.rollout` takes it.
        thoughts: how many.
        k: tokens kept of each.

    Returns:
        The lens's reading, `answer`, `top`, `probability` and `entropy` along t.
    """
    path = thinker.rollout(question, thoughts)
    return instruments.lens(
        path,
        lambda z: exact(thinker.backbone.head(z)).detach(),
        of="thought",
        k=k,
        labels=(lambda token: thinker.text.decode([token])) if thinker.tokenizer is not None else None,
    )


def geometry(thinker: Thinker, path: Trajectory) -> Reading:
    """How thoughts lie: norms beside the embeddings', distance from the vocabulary's centre, and how alike they are.

    Args:
        thinker: whose embeddings to compare with.
        path: of `Thinker.rollout`.

    Returns:
        Along t: `norm` (mean over rows, in units of the mean embedding norm) and `from_centre` (alike). And `cosine`
        and `distance`, means over rows and pairs of thoughts. The status is "collapsed" where the mean cosine is
        above 0.98; a single thought has neither, and they are NaN.
    """
    z = path["thought"].detach().double()
    table = thinker.backbone.weights()[0].detach().double()
    unit = table.norm(dim=-1).mean()
    n = z.shape[0]
    cosine = distance = math.nan
    if n > 1:
        normal = z / z.norm(dim=-1, keepdim=True)
        pairs = torch.triu_indices(n, n, 1)
        products = torch.einsum("ibd,jbd->ijb", normal, normal)
        cosine = float(products[pairs[0], pairs[1]].mean())
        distance = float((z[pairs[0]] - z[pairs[1]]).norm(dim=-1).mean() / unit)
    alike = cosine > COLLAPSED
    reason = ""
    if alike:
        reason = f"the thoughts of a problem are all but one vector (mean cosine {cosine:.3f}): they cannot hold different steps"
    elif n == 1:
        reason = "one thought has no other to be compared with: cosine and distance are NaN"
    return Reading(
        "geometry",
        {
            "norm": z.norm(dim=-1).mean(-1) / unit,
            "from_centre": (z - table.mean(0)).norm(dim=-1).mean(-1) / unit,
            "cosine": cosine,
            "distance": distance,
        },
        "norms and distances of thoughts in units of the mean embedding norm; cosine over pairs of thoughts",
        "mean embedding norms",
        index=("t", path.t),
        status="collapsed" if alike else "ok",
        reason=reason,
    )


def bits(thoughts: Tensor, labels: Tensor, *, ridge: float = 1.0, folds: int = 5, seed: int = 0) -> Reading:
    """Bits that a linear probe can decode from each thought, beside the bits it takes to store it.

    A multinomial logistic probe is fitted on all folds but one and read on that one; the mutual information it proves
    is I >= H(Y) - cross-entropy, which no probe can exceed in expectation. Below 0 the probe has learned nothing.

    Args:
        thoughts: `[N, d]`, or `[K, N, d]` for K thoughts of N problems.
        labels: `[N]` integers: what to decode.
        ridge: penalty on the probe's weights.
        folds: of the cross-validation.
        seed: of the folds.

    Returns:
        Along thoughts: `decodable` (bits), `accuracy`; and `label_entropy`, `raw` (16 d, as stored in bf16), `chance`.

    Raises:
        ValueError: fewer problems than folds, or a single class.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> y = torch.arange(400) % 4
        >>> z = torch.eye(4)[y] * 6 + 0.1 * torch.randn(400, 4, generator=rng)
        >>> found = bits(torch.stack([z, torch.randn(400, 4, generator=rng)]), y)
        >>> [round(float(x), 1) for x in found["decodable"]], found["label_entropy"]
        ([2.0, -0.0], 2.0)
    """
    z = (thoughts[None] if thoughts.ndim == 2 else thoughts).detach().double()
    K, N, d = z.shape
    classes, y = labels.unique(return_inverse=True)
    if len(classes) < 2 or folds > N or folds < 2:
        raise ValueError(
            f"{len(classes)} classes among {N} problems in {folds} folds: a probe needs two classes, and a problem a fold"
        )
    share = torch.bincount(y).double() / N
    entropy = float(-(share * share.log2()).sum())
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    decodable, accuracy = [], []
    for k in range(K):
        nats = right = 0.0
        for held in order.chunk(folds):
            rest = torch.ones(N, dtype=torch.bool)
            rest[held] = False
            mean, spread = z[k][rest].mean(0), z[k][rest].std(0).clamp(min=1e-9)
            probe = _fit((z[k][rest] - mean) / spread, y[rest], len(classes), ridge)
            logits = torch.cat([(z[k][held] - mean) / spread, torch.ones(len(held), 1).double()], 1) @ probe
            nats += float(torch.nn.functional.cross_entropy(logits, y[held], reduction="sum"))
            right += float((logits.argmax(-1) == y[held]).sum())
        decodable.append(entropy - nats / N / math.log(2))
        accuracy.append(right / N)
    return Reading(
        "bits",
        {
            "decodable": torch.tensor(decodable),
            "accuracy": torch.tensor(accuracy),
            "label_entropy": round(entropy, 12),
            "raw": 16 * d,
            "chance": float(share.max()),
        },
        "label entropy minus the held-out cross-entropy of a linear probe, in bits; raw: 16 bits a number",
        "bits",
        index=("thought", torch.arange(1, K + 1)),
        method=f"ridge {ridge:g}, {folds} folds",
        notes=("a lower bound: what a linear probe finds, no more",),
    )


def _fit(x: Tensor, y: Tensor, classes: int, ridge: float) -> Tensor:
    """Ridge logistic regression `[d + 1, classes]` by L-BFGS; the intercept is free."""
    x = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    weights = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (
            torch.nn.functional.cross_entropy(x @ weights, y, reduction="sum")
            + 0.5 * ridge * weights[:-1].square().sum()
        )
        value.backward()
        return value

    optimizer.step(loss)
    return weights.detach()


GROUPS = ("not reachable", "reachable", "frontier", "optimal")
"""Nodes at step c: out of reach; nearer than c; exactly c away; c away and on a shortest path to the target."""


def frontier(thoughts: Tensor, graphs: Sequence[Graph], nodes: Tensor) -> Reading:
    """Inner products of thoughts with node embeddings, by where the node lies (2505.12514, table 5).

    Args:
        thoughts: `[K, N, d]`, thought c of N problems.
        graphs: of the N problems.
        nodes: `[nodes, d]`, embeddings of the graphs' node numbers.

    Returns:
        Along thoughts: a mean for each of `GROUPS`; NaN where a group is empty in every graph.
    """
    K = thoughts.shape[0]
    products = torch.einsum("knd,vd->knv", thoughts.double(), nodes.double())
    sums, counts = torch.zeros(len(GROUPS), K).double(), torch.zeros(len(GROUPS), K).double()
    for b, graph in enumerate(graphs):
        ahead, _ = search(graph.edges, graph.root)
        behind, _ = search([(t, s) for s, t in graph.edges], graph.target)
        present = {node for edge in graph.edges for node in edge}
        for node in present:
            for c in range(1, K + 1):
                depth = ahead.get(node)
                if depth is None:
                    group = 0
                elif depth != c:
                    group = 1
                else:
                    group = 3 if depth + behind.get(node, 10**6) == graph.hops else 2
                sums[group, c - 1] += products[c - 1, b, node]
                counts[group, c - 1] += 1
    means = torch.where(counts > 0, sums / counts.clamp(min=1), torch.nan)
    empty = [GROUPS[g] for g in range(len(GROUPS)) if bool((counts[g] == 0).any())]
    return Reading(
        "frontier",
        {name.replace(" ", "_"): means[g] for g, name in enumerate(GROUPS)},
        "mean inner product of thought c with the embeddings of nodes, by their distance from the root",
        "1",
        index=("thought", torch.arange(1, K + 1)),
        reason=f"no node is {', '.join(empty)} at some step: NaN there" if empty else "",
    )


@torch.no_grad()
def decided(thinker: Thinker, question: Any, thoughts: int) -> Reading:
    """Which thought decided: how far the next token's distribution moves when one thought is replaced by the others' mean.

    Everything after the replaced thought is thought anew, so the reading holds a thought's effect through its successors.

    Args:
        thinker: any.
        question: one, as `Thinker.rollout` takes it.
        thoughts: how many, at least two.

    Returns:
        Along thoughts: `kl`, nats, from the untouched distribution after the last thought.

    Raises:
        ValueError: fewer than two thoughts.
    """
    if thoughts < 2:
        raise ValueError(
            f"with {thoughts} thoughts there is no other to put in one's place: ask for two or more"
        )
    system = thinker.system(room=thoughts)
    rows = tuple(thinker._question(q) for q in ([question] if isinstance(question, str) else question))  # pyright: ignore[reportPrivateUsage]

    def end(replaced: int | None, mean: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        state, read = system.init(rows), []
        for k in range(thoughts):
            if k == replaced:
                state = {**state, "thought": mean}
            read.append(state["thought"])
            state = system.step(state)
        return exact(thinker.backbone.head(state["hidden"])).log_softmax(-1), read

    base, made = end(None, None)
    moved = []
    for k in range(thoughts):
        mean = torch.stack([z for j, z in enumerate(made) if j != k]).mean(0)
        other, _ = end(k, mean)
        moved.append(float((base.exp() * (base - other)).sum(-1).mean()))
    return Reading(
        "decided",
        {"kl": torch.tensor(moved, dtype=torch.float64)},
        "KL from the untouched next-token distribution when thought t is replaced by the mean of the others",
        "nats",
        index=("thought", torch.arange(1, thoughts + 1)),
        method="ablation",
    )
