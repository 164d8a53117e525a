"""What a search in thoughts leaves to be looked at: the nodes each thought holds, their weight, the frontier on the graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.latent.tasks import Graph
from unrolled.runs import Run

TOP = 6
"""Nodes shown of a thought."""


def show(run: Run, graph: Graph, thoughts: Tensor, reached: Sequence[set[int]]) -> None:
    """Leave the panels of one problem.

    Args:
        run: where they go.
        graph: what was asked about.
        thoughts: `[T, nodes]`, amplitude of every node in every thought.
        reached: per thought, the nodes that breadth-first search has reached.
    """
    names = [str(name) for name in graph.names]
    timed: dict[str, Any] = {"unit": "thought", "t": range(len(thoughts))}
    share = thoughts.double().clamp_min(0).square()
    share = share / share.sum(-1, keepdim=True).clamp_min(1e-30)
    p, best = share.topk(min(TOP, len(names)), -1)
    run.save_exhibit(
        "1-frontier", "frontier", title="Frontier on the graph", **timed,
        data={"nodes": names, "edges": [list(edge) for edge in graph.edges], "start": graph.root, "goals": [graph.target, graph.other],
              "weight": "amplitude in the thought"},
        arrays={"weight": thoughts.clamp_min(0), "truth": torch.tensor([[float(k in held) for k in range(len(names))] for held in reached])},
        caption=f"Each thought holds every node within as many steps of {names[graph.root]}; asked for is {names[graph.target]} or {names[graph.other]} "
        "(the first is right).",
    )  # fmt: skip
    run.save_exhibit(
        "2-lens", "lens", title="Thought lens", **timed, arrays={"probability": p[:, None]},
        data={"text": [[[names[int(k)] for k in row]] for row in best], "row": "thought"},
        caption="The nodes each thought holds most of, by the share of its squared amplitude.",
    )  # fmt: skip
    run.save_exhibit(
        "3-norms", "lines", title="Thoughts: norm and size", **timed,
        arrays={"norm": thoughts.norm(dim=-1), "nodes held": (thoughts > 1e-3).sum(-1).float()},
        caption="The norm stays while ever more nodes share it.",
    )  # fmt: skip
