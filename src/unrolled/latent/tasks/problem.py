"""What a task hands out: a question, its reasoning steps, its answer; and the graph behind it, where there is one."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Graph:
    """The directed graph a question was written from.

    Attributes:
        edges: (source, target) pairs of node numbers.
        root: where the walk begins.
        target: the candidate that can be reached.
        other: the candidate that cannot.
        path: a shortest walk from root to target, both included.
        nodes: how many nodes there are; they are numbered from 0.
        names: of the nodes, where they have any.
    """

    edges: tuple[tuple[int, int], ...]
    root: int
    target: int
    other: int
    path: tuple[int, ...]
    nodes: int
    names: tuple[str, ...] = ()

    @property
    def hops(self) -> int:
        """Edges of the shortest walk."""
        return len(self.path) - 1


@dataclass(frozen=True)
class Problem:
    r"""A question with the steps that lead to its answer.

    Attributes:
        question: the text of the question.
        steps: one sentence, or one equation, a step.
        answer: the text of the answer.
        graph: the graph it was written from, where there is one.

    Example:
        >>> Problem("What is 1 + 1?", ("<<1+1=2>>",), "2").text()
        'What is 1 + 1?\n<<1+1=2>>\n### 2'
    """

    question: str
    steps: tuple[str, ...]
    answer: str
    graph: Graph | None = None

    def text(self) -> str:
        """Question, steps and answer as one text, in Coconut's format (2412.06769, dataset.py)."""
        return "\n".join((self.question, *self.steps, f"### {self.answer}"))


def search(edges: Iterable[tuple[int, int]], root: int) -> tuple[dict[int, int], dict[int, int]]:
    """Breadth-first search from `root`.

    Returns:
        The depth of every node that is reached, and the node each was first reached from.

    Example:
        >>> search([(0, 1), (1, 2), (3, 0)], 0)
        ({0: 0, 1: 1, 2: 2}, {1: 0, 2: 1})
    """
    following: dict[int, list[int]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    depth, parent, frontier = {root: 0}, {}, [root]
    while frontier:
        reached = []
        for node in frontier:
            for after in following.get(node, ()):
                if after not in depth:
                    depth[after] = depth[node] + 1
                    parent[after] = node
                    reached.append(after)
        frontier = reached
    return depth, parent
